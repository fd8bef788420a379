"""Files in the block store of a real cluster: every verb, lost workers, damaged replicas, a master that restarts."""

from __future__ import annotations

import contextlib
import io
import json
import random
import time
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem
from minireduce.errors import AlreadyExists, Corruption, NotFound, RequestError
from minireduce.wire import methods
from minireduce.wire.file_questions import DescribeStore

SETTINGS = {"MINIREDUCE_REPAIR_DELAY_S": "1", "MINIREDUCE_WORKER_LOST_S": "2", "MINIREDUCE_BLOCK_SIZE": "1MiB"}
WAIT_S = 30.0
DATA = random.Random(7).randbytes(3 * (1 << 20) + 4321)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("fs"), workers=4, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def files(cluster):
    with cluster.connect() as connection:
        system = FileSystem(connection)
        for entry in system.ls("/"):
            system.rm(entry.path, recursive=True, skip_trash=True)
        yield system


def run(cluster, *arguments, stdin=None):
    process = cluster.command(*arguments)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, out, err.decode()


def holders(files: FileSystem, path: str) -> list[set[str]]:
    return [set(block.source.workers) for block in files.blocks(path).blocks]


def wait_until(what, files: FileSystem) -> None:
    """Look until `what` holds; the master is asked again and again, which takes its time."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, files._connection.call(methods.DESCRIBE_STORE, DescribeStore())


def test_every_verb_of_the_command_line(cluster, files, tmp_path):
    source = tmp_path / "a.bin"
    source.write_bytes(DATA)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "one.txt").write_text("one\n")
    (tmp_path / "tree" / "deep" / "two.txt").write_text("two\n")
    (tmp_path / "tree" / "deep" / "empty").touch()

    status, _, err = run(cluster, "fs", "put", str(source), "/a.bin")
    assert (status, err.startswith("stored 3.0 MiB in ")) == (0, True), err
    assert run(cluster, "fs", "put", str(tmp_path / "tree"), "mr:///tree")[0] == 0
    status, out, _ = run(cluster, "fs", "ls", "--json", "/")
    assert status == 0
    assert [(entry["path"], entry["length"]) for entry in json.loads(out)] == [("/a.bin", len(DATA)), ("/tree", 0)]
    status, out, _ = run(cluster, "fs", "ls", "-R", "/tree")
    assert [line.split()[-1] for line in out.decode().splitlines()] == [
        "/tree/deep",
        "/tree/deep/empty",
        "/tree/deep/two.txt",
        "/tree/one.txt",
    ]
    assert run(cluster, "fs", "cat", "/tree/*.txt", "/tree/deep/t?o.txt")[1] == b"one\ntwo\n"
    assert run(cluster, "fs", "get", "/a.bin", str(tmp_path / "back"))[0] == 0
    assert (tmp_path / "back").read_bytes() == DATA
    assert run(cluster, "fs", "get", "/tree", str(tmp_path / "tree2"))[0] == 0
    assert (tmp_path / "tree2" / "deep" / "two.txt").read_text() == "two\n"
    assert (tmp_path / "tree2" / "deep" / "empty").read_bytes() == b""

    assert run(cluster, "fs", "mkdir", "/x/y")[0] == 2
    assert run(cluster, "fs", "mkdir", "-p", "/x/y")[0] == 0
    assert run(cluster, "fs", "mv", "/a.bin", "/x/y")[0] == 0
    status, out, _ = run(cluster, "fs", "stat", "--json", "/x/y/a.bin")
    (described,) = json.loads(out)
    assert described["length"] == len(DATA)
    assert [len(block["workers"]) for block in described["blocks"]] == [3, 3, 3, 3]
    assert run(cluster, "fs", "rm", "/x")[0] == 2
    assert run(cluster, "fs", "rm", "-r", "/x")[0] == 0
    status, _, err = run(cluster, "fs", "stat", "/x")
    assert status == 2
    assert "/x does not exist" in err
    assert "Traceback" not in err
    assert run(cluster, "fs", "rm", "-f", "/x")[0] == 0


def test_a_stream_of_unknown_length_is_stored(files):
    assert files.put_stream(io.BytesIO(DATA), "/stream").length == len(DATA)
    with files.open("/stream") as stream:
        assert stream.read() == DATA
    with files.open("/stream") as stream:
        for offset in (0, 1, (1 << 20) - 3, (1 << 20), len(DATA) - 5):
            stream.seek(offset)
            assert stream.read(7) == DATA[offset : offset + 7]


def test_a_file_is_seen_whole_or_not_at_all(files):
    with contextlib.suppress(ZeroDivisionError), files.open("/f", "wb") as stream:
        stream.write(DATA)
        raise ZeroDivisionError
    assert not files.exists("/f")
    files.put_stream(io.BytesIO(b"first"), "/f")
    with pytest.raises(AlreadyExists):
        files.put_stream(io.BytesIO(b"second"), "/f")
    with files.open("/f", "wb", overwrite=True) as stream:
        stream.write(b"second")
        with files.open("/f") as old:
            assert old.read() == b"first"
    with files.open("/f") as new:
        assert new.read() == b"second"


def test_errors_say_what_is_wrong(files, tmp_path):
    files.put_stream(io.BytesIO(b"x"), "/f")
    with pytest.raises(NotFound):
        files.open("/missing")
    with pytest.raises(RequestError, match="directory"):
        files.open("/")
    with pytest.raises(RequestError, match="is a file"):
        files.put_stream(io.BytesIO(b"x"), "/f/g")
    with pytest.raises(RequestError, match="slash"):
        files.stat("relative")
    with pytest.raises(NotFound):
        files.put(tmp_path / "missing", "/g")
    (tmp_path / "there").touch()
    with pytest.raises(AlreadyExists):
        files.get("/f", tmp_path / "there")


def test_a_damaged_replica_is_never_delivered_and_is_replaced(cluster, files):
    files.put_stream(io.BytesIO(DATA), "/f")
    (first, *_) = files.blocks("/f").blocks
    replica = first.source.replica
    name = f"{replica.block_id}.{replica.generation}.data"
    damaged = {}
    for worker in first.source.workers[:2]:
        (path,) = (cluster.root / cluster.daemon_of(worker)).glob(f"blocks/*/{name}")
        damaged[worker] = path
        with path.open("r+b") as file:
            file.seek(1000)
            file.write(bytes([DATA[1000] ^ 255]))
    with files.open("/f") as stream:
        assert stream.read() == DATA

    def is_mended() -> bool:
        block = files.blocks("/f").blocks[0]
        good = [
            path.read_bytes() == DATA[: 1 << 20]
            for worker in block.source.workers
            for path in (cluster.root / cluster.daemon_of(worker)).glob(f"blocks/*/{name}")
        ]
        return good == [True] * 3

    wait_until(is_mended, files)


def test_damage_everywhere_is_an_error_and_not_wrong_bytes(cluster, files):
    files.put_stream(io.BytesIO(DATA), "/f")
    replica = files.blocks("/f").blocks[0].source.replica
    for path in cluster.root.glob(f"*/blocks/*/{replica.block_id}.{replica.generation}.data"):
        with path.open("r+b") as file:
            file.write(b"?" * 10)
    with files.open("/f") as stream, pytest.raises(Corruption, match="no good replica"):
        stream.read()


def test_a_write_goes_on_when_a_worker_dies_and_its_replicas_are_made_anew(cluster, files):
    with files.open("/f", "wb") as stream:
        stream.write(DATA[: 2 << 20])
        victim = _any_holder(cluster)
        dead = next(worker for worker in cluster.workers() if cluster.daemon_of(worker) == victim)
        cluster.kill(victim)
        stream.write(DATA[2 << 20 :])
    with files.open("/f") as stream:
        assert stream.read() == DATA
    wait_until(lambda: all(len(workers - {dead}) == 3 for workers in holders(files, "/f")), files)
    assert cluster.workers()[dead].state == "lost"
    cluster.start_worker(victim)
    cluster.await_worker(victim)
    with files.open("/f") as stream:
        assert stream.read() == DATA


def test_files_outlive_a_master_and_a_write_in_progress_goes_on(cluster, files):
    files.put_stream(io.BytesIO(DATA), "/before")
    with files.open("/during", "wb") as stream:
        stream.write(DATA[: 2 << 20])
        cluster.kill("master")
        cluster.start_master()
        stream.write(DATA[2 << 20 :])
    for path in ("/before", "/during"):
        with files.open(path) as stream:
            assert stream.read() == DATA
    wait_until(lambda: all(len(workers) == 3 for workers in holders(files, "/during")), files)


def test_many_files_are_opened_with_one_question(files, tmp_path):
    for number in range(20):
        (tmp_path / f"f{number}").write_bytes(DATA[: number * 1000])
    assert files.put(tmp_path, "/many") == sum(number * 1000 for number in range(20))
    streams = files.open_many([f"/many/f{number}" for number in range(20)])
    assert [len(stream.read()) for stream in streams] == [number * 1000 for number in range(20)]
    for stream in streams:
        stream.close()
    with pytest.raises(NotFound):
        files.open_many(["/many/f1", "/many/missing"])


def _any_holder(cluster) -> str:
    """A worker's process that holds some block."""
    return next(path.parts[len(cluster.root.parts)] for path in sorted(Path(cluster.root).glob("worker-*/blocks/*/*")))
