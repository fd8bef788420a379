"""Workers that die, hang or run full while a file is written: the write goes on, and no acknowledged byte is lost."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from scenes.cluster import ProcessCluster

from minireduce import failpoints
from minireduce.client import block_io
from minireduce.client.fs import FileSystem
from minireduce.core.storage.views import PlacedBlock

SETTINGS = {
    "MINIREDUCE_REPAIR_DELAY_S": "1",
    "MINIREDUCE_WORKER_LOST_S": "2",
    "MINIREDUCE_BLOCK_SIZE": "4MiB",
    "MINIREDUCE_TRASH_KEPT_S": "0",
}
WAIT_S = 60.0
DATA = random.Random(5).randbytes(9 << 20)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"


def family_of(cluster: ProcessCluster, name: str) -> list[psutil.Process]:
    root = psutil.Process(cluster.daemons[name].process.pid)
    return [root, *root.children(recursive=True)]


def is_whole(files: FileSystem, path: str, replicas: int) -> bool:
    return all(len(block.good) >= replicas for block in files.health(path).blocks)


@contextlib.contextmanager
def in_the_middle_of_a_block(monkeypatch, strike: Callable[[PlacedBlock], None]) -> Iterator[list[PlacedBlock]]:
    """While this holds, `strike` is called once, when half of the first block has been sent."""
    struck: list[PlacedBlock] = []
    placed_now: list[PlacedBlock] = []
    send, gathered = block_io.BlockDoors.send, block_io._gathered

    def sending(doors, placed, data):
        placed_now[:] = [placed]
        return send(doors, placed, data)

    def slowed(data):
        for number, piece in enumerate(gathered(data)):
            if number == 2 and not struck:
                struck.append(placed_now[0])
                strike(placed_now[0])
            yield piece

    with monkeypatch.context() as patched:
        patched.setattr(block_io.BlockDoors, "send", sending)
        patched.setattr(block_io, "_gathered", slowed)
        yield struck
    assert struck, "nothing was struck"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("writes"), workers=4, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def files(cluster):
    with cluster.connect() as connection:
        yield FileSystem(connection)


@pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_write_outlives_each_worker_of_its_pipeline(cluster, files, monkeypatch, position):
    killed: list[str] = []

    def kill(placed: PlacedBlock) -> None:
        name = cluster.daemon_of(placed.targets[position].worker)
        family = family_of(cluster, name)
        cluster.kill(name)
        for process in family[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        killed.append(name)

    path = f"/killed-{position}"
    with in_the_middle_of_a_block(monkeypatch, kill):
        files.put_stream(io.BytesIO(DATA), path)
    with files.open(path) as stream:
        assert stream.read() == DATA
    wait_until(lambda: is_whole(files, path, 3), "three replicas on the workers that are left")
    cluster.start_worker(killed[0])
    cluster.await_worker(killed[0])


@pytest.mark.parametrize(
    "position", [2, pytest.param(1, marks=pytest.mark.nightly), pytest.param(0, marks=pytest.mark.nightly)]
)
def test_a_write_outlives_a_worker_that_hangs(cluster, files, monkeypatch, position):
    stopped: list[psutil.Process] = []

    def stop(placed: PlacedBlock) -> None:
        stopped.extend(family_of(cluster, cluster.daemon_of(placed.targets[position].worker)))
        for process in stopped:
            process.send_signal(signal.SIGSTOP)

    path = f"/stopped-{position}"
    try:
        with in_the_middle_of_a_block(monkeypatch, stop):
            files.put_stream(io.BytesIO(DATA), path)
        with files.open(path) as stream:
            assert stream.read() == DATA
        wait_until(lambda: is_whole(files, path, 3), "three replicas on the workers that go on")
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("workers", [1, 2, pytest.param(3, marks=pytest.mark.nightly), 4])
def test_a_small_cluster_writes_with_what_it_has(tmp_path, monkeypatch, workers):
    """Until one worker is left, one more is killed in the middle of each write, which goes on with those that live."""
    with (
        ProcessCluster(tmp_path, workers=workers, settings=SETTINGS) as cluster,
        cluster.connect() as connection,
    ):
        files = FileSystem(connection)
        files.put_stream(io.BytesIO(DATA), "/f0")
        assert is_whole(files, "/f0", min(3, workers))
        killed: list[str] = []

        def kill(placed: PlacedBlock) -> None:
            names = [cluster.daemon_of(target.worker) for target in placed.targets]
            name = next(name for name in reversed(names) if name not in killed)
            cluster.kill(name)
            killed.append(name)

        for number in range(1, workers):
            with in_the_middle_of_a_block(monkeypatch, kill):
                files.put_stream(io.BytesIO(DATA), f"/f{number}")
            with files.open(f"/f{number}") as stream:
                assert stream.read() == DATA
        assert len(killed) == workers - 1


# ── at exact moments ────────────────────────────────────────────────────────────────────────────────────────────────


class Armed:
    """A cluster of three, of which one worker is started anew with a failpoint; and what was acknowledged."""

    def __init__(self, cluster: ProcessCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.acknowledged: dict[str, bytes] = {}
        self.serial = 0

    @contextlib.contextmanager
    def worker(self, orders: str) -> Iterator[Path]:
        """While this holds, worker-1 obeys `orders`. Fails when they did not strike."""
        self.serial += 1
        strikes = self.folder / str(self.serial)
        strikes.mkdir()
        self.restart({"MINIREDUCE_FAILPOINTS": orders, "MINIREDUCE_FAILPOINTS_DIR": str(strikes)})
        yield strikes
        name = orders.partition("=")[0]
        wait_until(lambda: failpoints.strikes(strikes)[name] == 1, f"{orders} struck")
        self.restart({})

    def restart(self, environment: dict[str, str]) -> None:
        self.cluster.kill("worker-1")
        before = dict(self.cluster.environment)
        self.cluster.environment.update(environment)
        try:
            self.cluster.start_worker("worker-1")
        finally:
            self.cluster.environment.clear()
            self.cluster.environment.update(before)
        self.cluster.await_worker("worker-1")

    def put(self, files: FileSystem, path: str, data: bytes) -> None:
        files.put_stream(io.BytesIO(data), path)
        self.acknowledged[path] = data

    def assert_all_there(self, files: FileSystem) -> None:
        for path, data in self.acknowledged.items():
            wait_until(lambda path=path: is_whole(files, path, 3), f"three replicas of {path}")
            with files.open(path) as stream:
                assert stream.read() == data, path


@pytest.fixture(scope="module")
def armed(tmp_path_factory):
    root = tmp_path_factory.mktemp("armed")
    (root / "strikes").mkdir()
    with ProcessCluster(root, workers=3, settings=SETTINGS) as cluster:
        yield Armed(cluster, root / "strikes")


WRITING = (
    "replica.before_write",
    "replica.before_sync",
    "replica.before_rename",
    "replica.between_renames",
    "replica.before_directory_sync",
    "replica.after_directory_sync",
)


@pytest.fixture
def armed_files(armed):
    with armed.cluster.connect() as connection:
        yield FileSystem(connection)


@pytest.mark.parametrize("site", WRITING)
def test_nothing_acknowledged_is_lost_when_a_server_is_killed_while_it_writes(armed, armed_files, site):
    with armed.worker(f"{site}=kill"):
        armed.put(armed_files, f"/{site}", DATA[: 1 << 20])
    armed.assert_all_there(armed_files)


@pytest.mark.parametrize("site", ["append.after_link", *WRITING[-2:]])
def test_nothing_acknowledged_is_lost_when_a_server_is_killed_while_it_appends(armed, armed_files, site):
    path = f"/append-{site}"
    armed.put(armed_files, path, DATA[:100_000])
    with armed.worker(f"{site}=kill"):
        with armed_files.open(path, "ab") as stream:
            stream.write(DATA[100_000:250_000])
        armed.acknowledged[path] = DATA[:250_000]
    armed.assert_all_there(armed_files)


@pytest.mark.parametrize("site", ["replica.before_remove", "replica.between_removes"])
def test_a_server_that_is_killed_while_it_deletes_takes_nothing_else_along(armed, armed_files, site):
    armed.put(armed_files, f"/kept-{site}", DATA[:70_000])
    armed_files.put_stream(io.BytesIO(DATA[:80_000]), f"/gone-{site}")
    with armed.worker(f"{site}=kill"):
        armed_files.rm(f"/gone-{site}")
        wait_until(lambda: has_struck(armed, site), site)
    assert not armed_files.exists(f"/gone-{site}")
    armed.assert_all_there(armed_files)


def has_struck(armed: Armed, site: str) -> bool:
    return failpoints.strikes(armed.folder / str(armed.serial))[site] == 1


def test_nothing_is_lost_when_a_server_is_killed_while_it_sends_a_copy(armed, armed_files):
    (source,) = [worker for worker in armed.cluster.workers() if armed.cluster.is_daemon_of("worker-1", worker)]
    with armed.worker("copy.before_send=kill"):
        armed_files.put_stream(io.BytesIO(DATA[:90_000]), "/copied", replication=1)
        armed.acknowledged["/copied"] = DATA[:90_000]
        for number in range(20):  # chance decides who holds the one replica
            if armed_files.blocks("/copied").blocks[0].source.workers == (source,):
                break
            armed_files.rm("/copied", skip_trash=True)
            armed_files.put_stream(io.BytesIO(DATA[:90_000]), "/copied", replication=1)
            assert number < 19, "the armed worker never got the replica"
        armed_files.setrep("/copied", 3)
        wait_until(lambda: has_struck(armed, "copy.before_send"), "copying")
    armed.assert_all_there(armed_files)


@pytest.mark.nightly
def test_nothing_is_lost_when_a_server_is_killed_while_it_compacts(armed, armed_files):
    names = [f"/packed/{number}" for number in range(40)]
    contents = {name: DATA[number * 1000 : (number + 1) * 1000] for number, name in enumerate(names)}
    with armed.worker("repack.before_send=kill"):
        for generation in range(6):  # chance decides who is told to pack
            armed_files.put_many([(f"{name}.{generation}", data) for name, data in contents.items()])
            for name in names[:30]:
                armed_files.rm(f"{name}.{generation}")
            armed.acknowledged.update({f"{name}.{generation}": contents[name] for name in names[30:]})
        wait_until(lambda: has_struck(armed, "repack.before_send"), "compaction")
    armed.assert_all_there(armed_files)


def test_a_worker_whose_disk_is_full_is_left_out_and_the_write_goes_on(armed, armed_files):
    with armed.worker("replica.before_write=full"):
        armed.put(armed_files, "/full", DATA)
    armed.assert_all_there(armed_files)
    assert os.environ.get("MINIREDUCE_FAILPOINTS") is None
