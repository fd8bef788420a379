"""Names that try to lead out of where they belong: in every path parameter, and in every field that names a file."""

from __future__ import annotations

import dataclasses
import http.client
import io
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.auth import scopes, tokens
from minireduce.auth.joining import split_address
from minireduce.auth.policy import Authenticator
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads
from minireduce.client.fs import FileSystem
from minireduce.client.store_paths import name_of
from minireduce.core.storage.requests import (
    AppendFile,
    ChangeAttributes,
    CreateFile,
    HurryRepair,
    MakeDirectory,
    RemovePath,
    RenamePath,
)
from minireduce.errors import RequestError
from minireduce.ids import parse_attempt_id
from minireduce.web.app import make_app as make_pages
from minireduce.wire import methods
from minireduce.wire.file_questions import GetBlocks, GetHealth, GetStatus, GetSummary, ListDirectory
from minireduce.wire.questions import GetResult
from minireduce.worker.block_routes import BlockRoutes
from minireduce.worker.block_server import make_app as make_block_server

CALL_S = 20
CANARY = b"nobody may read this"
UP = 12

NAMES = [
    "..",
    ".",
    "../" * UP + "etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "%2e%2e",
    "%2e%2e%2f" * UP + "etc%2fpasswd",
    "..%2f" * UP + "etc%2fpasswd",
    "%2fetc%2fpasswd",
    "%252e%252e%252f" * UP + "etc%252fpasswd",
    "..%5c..%5c",
    "..\\..\\canary",
    "%5c%5cserver%5cshare",
    "%00",
    "canary%00.txt",
    "%c0%ae%c0%ae%2fcanary",
    "%ff%fe",
    "%0d%0aX-Injected:%20yes",
    "~",
    "~root",
    "$(touch%20pwned)",
    "%7Btouch,pwned%7D",
    "canary",
    "A" * 4096,
    "%41" * 2000,
]
"""As they stand in the path of a request."""

PLAIN_NAMES = ["%2e%2e", "..\\..\\canary", "~", "$(touch pwned)", "-rf", "A" * 255, "a b", "…", "%00", "*", "CON"]
"""Harmless in the block store, where they are names like any other."""

REFUSED_NAMES = ["..", ".", "a/../../b", "a\0b", "a\nb", "\x7f", "A" * 256, "A" * 4096, "/".join("a" * 200)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("names")
    for folder in (place, place.parent):
        (folder / "canary").write_bytes(CANARY)
    return place


@pytest.fixture(scope="module")
def cluster(root: Path) -> Iterator[ProcessCluster]:
    """A cluster whose worker holds the output of a job, so that there is something to be led away from."""
    home = root / "cluster"
    home.mkdir()
    with ProcessCluster(home, workers=1, settings={"MINIREDUCE_TASK_USER": "root"}) as started:
        yield started


@pytest.fixture(scope="module")
def job(cluster: ProcessCluster, root: Path) -> str:
    """A job whose parts and logs stay on the worker."""
    (root / "in.txt").write_text("a b a\n")
    wordcount = Path(__file__).parents[2] / "jobs" / "wordcount.py"
    submitted = cluster.command("submit", str(wordcount), str(root / "in.txt"), "--detach")
    out, err = submitted.communicate(timeout=60)
    assert submitted.returncode == 0, err
    waiting = cluster.command("wait", out.decode().strip())
    assert waiting.communicate(timeout=60) is not None
    assert waiting.returncode == 0
    return out.decode().strip()


def listing(root: Path) -> set[str]:
    """All that is there but what daemons keep in their own directories."""
    own = {"master", "worker-1"}
    return {
        str(path)
        for place in (root, root.parent)
        for path in (place.iterdir() if place == root.parent else place.rglob("*"))
        if not own & set(path.parts)
    }


def raw(address: str, line: str, token: str) -> tuple[int, bytes, bytes]:
    """Status, head and body of the answer to a request whose first line is sent as it stands."""
    with socket.create_connection(split_address(address), timeout=CALL_S) as connection:
        head = f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("utf-8", "surrogateescape"))
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    return int(head_bytes.split(b" ", 2)[1]), head_bytes, body


def attacks(app, good: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Method, pattern and path for each parameter of each route and each name, the other parameters being good."""
    for method, pattern in sorted({(route.method, route.resource.canonical) for route in app.router.routes()}):
        for parameter in re.findall(r"{(\w+)}", pattern):
            for name in NAMES:
                yield method, pattern, pattern.format(**{**good, parameter: name})


def check(address: str, token: str, app, good: dict[str, str], forbidden: list[bytes]) -> int:
    tried = 0
    for method, pattern, path in attacks(app, good):
        status, head, body = raw(address, f"{method} {path}", token)
        tried += 1
        assert 400 <= status < 500, (method, path[:200], status, body[:200])
        assert b"\nX-Injected" not in head
        for secret in forbidden:
            assert secret not in body, (method, pattern, path[:200])
    return tried


SECRETS = [CANARY, b"root:x:0", b"root:"]


def test_no_name_in_a_path_leads_out_of_a_workers_directory(cluster: ProcessCluster, job: str, root: Path) -> None:
    with cluster.connect() as connection:
        result = connection.call(methods.GET_RESULT, GetResult(job))
    (part,) = result.parts
    assert parse_attempt_id(str(part.attempt)) == part.attempt
    secret = scopes.cluster_secret(cluster.tokens.require_worker())
    write = scopes.make(secret, BlockAccess(1, 1, BlockMode.WRITE, int(time.time()) + 600))
    read = scopes.make(secret, JobReads(job, int(time.time()) + 600))
    app = make_block_server(Path(), Authenticator(tokens.Tokens(), time.time), BlockRoutes(None, "w1", None, None))
    good = {"attempt": str(part.attempt), "partition": "0", "name": "stdout", "block": "1", "generation": "1"}
    whole = http.client.HTTPConnection(part.address, timeout=CALL_S)
    whole.request("GET", f"/outputs/{part.attempt}/part", headers={"Authorization": f"Bearer {read}"})
    assert whole.getresponse().status == 200, "where nothing is to be had, nothing was shown"
    whole.close()
    before = listing(root)
    tried = check(part.address, read, app, good, SECRETS) + check(part.address, write, app, good, SECRETS)
    assert tried >= 2 * 10 * len(NAMES)
    assert listing(root) == before


def test_no_name_in_a_path_leads_the_pages_astray(cluster: ProcessCluster, job: str, root: Path) -> None:
    address = re.search(r"pages on (\S+)", (cluster.root / "master.log").read_text())[1]
    app = make_pages(None, Authenticator(tokens.Tokens(), time.time), [], is_secure=False)
    before = listing(root)
    tried = check(address, cluster.tokens.require_client(), app, {"job": job, "task": f"{job}_s0_m00000"}, SECRETS)
    assert tried >= 3 * len(NAMES)
    assert listing(root) == before


def every_path_of_the_store(name: str) -> Iterator[tuple]:
    """Each request that names a file by path, naming it so."""
    yield methods.GET_STATUS, GetStatus(name)
    yield methods.LIST_DIRECTORY, ListDirectory(name)
    yield methods.GET_SUMMARY, GetSummary(name)
    yield methods.CHANGE_ATTRIBUTES, ChangeAttributes(name, 1, mode=0o600)
    yield methods.GET_BLOCKS, GetBlocks(name, 0, 1)
    yield methods.GET_HEALTH, GetHealth(name)
    yield methods.HURRY_REPAIR, HurryRepair(name, 1)
    yield methods.APPEND_FILE, AppendFile(name, 1, "lease")
    yield methods.MAKE_DIRECTORY, MakeDirectory(name, True)
    yield methods.REMOVE_PATH, RemovePath(name, 1, True)
    yield methods.RENAME_PATH, RenamePath(name, "/target", 1, False)
    yield methods.RENAME_PATH, RenamePath("/source", name, 1, False)
    if name:  # without one: a block that small files share, which name themselves later
        yield methods.CREATE_FILE, CreateFile(name, "lease", "key")


def test_a_path_of_the_store_that_is_none_is_refused_by_every_request(cluster: ProcessCluster, root: Path) -> None:
    before = listing(root)
    asked = set()
    with cluster.connect() as connection:
        for bad in [*(f"/{name}" for name in REFUSED_NAMES), "", "relative", "..", "\\server", "C:\\x", "mr:///a"]:
            for method, request in every_path_of_the_store(bad):
                with pytest.raises(RequestError) as refused:
                    connection.call(method, request)
                assert type(refused.value) is RequestError, (bad, refused.value)  # and not only not found
                asked.add(method.name)
    naming = {
        method.name
        for method in methods.METHODS
        if method.service == "Files" and {"path", "source", "target"} & set(field_names(method.request))
    }
    assert asked == naming, "a request that names a path is not tried"
    assert listing(root) == before


def field_names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def test_names_of_the_store_stay_names_when_they_come_to_a_local_disk(
    cluster: ProcessCluster, root: Path, tmp_path: Path
) -> None:
    before = listing(root)
    with cluster.connect() as connection:
        store = FileSystem(connection)
        for name in PLAIN_NAMES:
            store.put_stream(io.BytesIO(name.encode()), f"/plain/{name}")
        assert sorted(name_of(entry.path) for entry in store.ls("/plain")) == sorted(PLAIN_NAMES)
        store.get("/plain", tmp_path / "got")
    got = {path.name: path.read_text() for path in (tmp_path / "got").iterdir()}
    assert got == {name: name for name in PLAIN_NAMES}
    assert list(tmp_path.iterdir()) == [tmp_path / "got"]
    assert listing(root) == before
