"""`kill -9` of the master around its commits, while a client writes, appends, renames, changes and removes files.

The client goes on with the master that is started again, and notices nothing: each thing that it asked for has happened
once. `SCRIPT` makes about a dozen commits; each night the master dies at every one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce import failpoints
from minireduce.client.fs import FileSystem

SITES = ("store.before_rows", "store.before_commit", "store.after_commit")
COMMITS = range(1, 13)
COMMITS_ALWAYS = (2, 7)
DATA = bytes(range(256)) * 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("commits"), workers=1) as running:
        yield running


@contextmanager
def armed(cluster: ProcessCluster, orders: str, strikes: Path) -> Iterator[None]:
    """The master obeys `orders`, and is started again without them once it has died of them."""
    site = orders.partition("=")[0]
    plain = dict(cluster.environment)
    cluster.environment.update({"MINIREDUCE_FAILPOINTS": orders, "MINIREDUCE_FAILPOINTS_DIR": str(strikes)})
    cluster.kill("master")
    cluster.start_master()
    cluster.environment.clear()
    cluster.environment.update(plain)
    victim = cluster.daemons["master"].process

    def start_again() -> None:
        victim.wait(60)
        cluster.kill("master")
        cluster.start_master()

    nurse = threading.Thread(target=start_again)
    nurse.start()
    try:
        yield
    finally:
        nurse.join(60)
    assert failpoints.strikes(strikes) == {site: 1}


def do_script(files: FileSystem, top: str) -> None:
    """What a client may do to files, one thing after the other."""
    files.mkdir(f"{top}/kept")
    with files.open(f"{top}/a", "wb") as stream:
        stream.write(DATA)
    with files.open(f"{top}/a", "ab") as stream:
        stream.write(b"more")
    files.put_many([(f"{top}/small/{number}", bytes([number])) for number in range(3)])
    files.mv(f"{top}/a", f"{top}/kept")
    files.change(f"{top}/kept/a", mode=0o600)
    files.setrep(f"{top}/kept/a", 2)
    files.rm(f"{top}/small/1", skip_trash=True)
    files.rm(f"{top}/small/2")
    with files.open(f"{top}/end", "wb") as stream:
        stream.write(b"the end")


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    "number",
    [pytest.param(each, marks=() if each in COMMITS_ALWAYS else pytest.mark.nightly) for each in COMMITS],
)
def test_what_a_client_does_happens_once_though_the_master_dies_at_a_commit(cluster, tmp_path, site, number):
    top = f"/{site}-{number}"
    strikes = tmp_path / "strikes"
    strikes.mkdir()
    with cluster.connect() as connection:
        files = FileSystem(connection)
        files.ls("/")  # a master that has answered once is waited for
        with armed(cluster, f"{site}=kill@{number}", strikes):
            do_script(files, top)
        found = {each.path[len(top) :]: each for each in files.walk(top) if not each.is_directory}
        assert sorted(found) == ["/end", "/kept/a", "/small/0"]
        assert (found["/kept/a"].mode, found["/kept/a"].replication) == (0o600, 2)
        assert {name: read(files, f"{top}{name}") for name in found} == {
            "/end": b"the end",
            "/kept/a": DATA + b"more",
            "/small/0": b"\0",
        }


def read(files: FileSystem, path: str) -> bytes:
    with files.open(path) as stream:
        return stream.read()
