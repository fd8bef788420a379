"""Read and write blocks on one host, each beside a bare loop that does the same work on a plain file.

    python bench/block_io.py [--mib 256] [--rounds 5]

Read: a client reads a stored file from end to end, beside a loop that reads a file in pieces of 64 KiB and computes the
CRC32C of each; so does a task, by what a task process opens, from what its worker gives (whose part is a thread here).
Write: a client stores a file in blocks of 64 MiB, on one worker and on three workers of this host, beside a loop that
writes a file in pieces of 64 KiB, computes the CRC32C of each and syncs at the end. All in turn, on the same disk and
in the same run. Three replicas are three times the work on one disk, so their measure is a third.

Printed are medians of MB/s by the clock, of CPU seconds of all processes, and the share of the bare loop by both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from scenes.cluster import ProcessCluster

from minireduce.attempt.conversation import FromTask, RangeBytes, ToTask
from minireduce.attempt.framing import TaskSocket, to_frame
from minireduce.attempt.inputs import open_stored
from minireduce.client.connection import Connection
from minireduce.core.storage.views import FileStatus
from minireduce.core.task_data import StoredInput
from minireduce.disk import RealDisk
from minireduce.engine.read import BLOCK_BYTES
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.wire import methods
from minireduce.wire.file_questions import GetBlocks
from minireduce.worker.input_reader import InputReader

PIECE_BYTES = 1 << 16
GOALS = {"read by a client": 0.9, "read by a task": 0.9, "write, one replica": 0.8, "write, three replicas": 0.8 / 3}


def read_bare(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            google_crc32c.value(piece)


def write_bare(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb", buffering=0) as file:
        for begin in range(0, len(data), PIECE_BYTES):
            piece = data[begin : begin + PIECE_BYTES]
            google_crc32c.value(piece)
            file.write(piece)
        os.fsync(file.fileno())
    descriptor = os.open(path.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class Cluster:
    """A cluster, its processes, and the files that are stored in it."""

    def __init__(self, processes: ProcessCluster, connection: Connection, data: bytes) -> None:
        self.files = connection.fs
        self.data = data
        roots = [psutil.Process(each.process.pid) for each in processes.daemons.values()]
        self.processes = [each for root in roots for each in (root, *root.children(recursive=True))]

    def cpu_s(self) -> float:
        times = [process.cpu_times() for process in self.processes]
        return sum(each.user + each.system for each in times)

    def write(self, replicas: int) -> None:
        def store() -> FileStatus:
            with self.files.write("/written", overwrite=True, replication=replicas) as file:
                file.write(self.data)
            assert file.status is not None
            return file.status

        assert store().length == len(self.data)

    def read(self) -> None:
        with self.files.read("/read") as reader:
            assert sum(len(piece) for piece in reader.pieces(0, len(self.data))) == len(self.data)


class TaskReads:
    """A stored file as a task reads it: every block is on its worker."""

    path = "/of-a-task"

    def __init__(self, connection: Connection, folder: Path, length: int) -> None:
        found = connection.call(methods.GET_BLOCKS, GetBlocks(self.path, 0, length, ""))
        sources = tuple(block.source for block in found.blocks)
        first = sources[0]
        name = f"{first.replica.block_id}.{first.replica.generation}.data"
        data_dir = next(folder.rglob(name)).parents[2]
        self._reader = InputReader(RealDisk(), [data_dir], first.workers[0], None, print)
        self._stored = StoredInput(self.path, 0, length, length, sources)
        self._length = length

    def read(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            worker = threading.Thread(target=asyncio.run, args=(self._give(TaskSocket(theirs, FromTask), theirs),))
            worker.start()
            with open_stored(self.path, self._length, TaskSocket(ours, ToTask)) as file:
                assert sum(iter(lambda: len(file.read(BLOCK_BYTES)), 0)) == self._length
            ours.shutdown(socket.SHUT_RDWR)
            worker.join()

    async def _give(self, task: TaskSocket, connection: socket.socket) -> None:
        attempt = AttemptId(TaskId("job-abcdef-1", 0, TaskKind.MAP, 0), 0)
        self._reader.begin(attempt, (self._stored,), "")
        while (asked := await asyncio.to_thread(task.receive)) is not None:
            given = await self._reader.read(attempt, asked)
            if isinstance(given, bytes):
                connection.sendall(to_frame(RangeBytes(given)))
            else:
                with given.file:
                    socket.send_fds(connection, [to_frame(given.here)], [given.file.fileno()])
        self._reader.end(attempt)


def measured(what: Callable[[], object], cpu_elsewhere_s: Callable[[], float]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU here and elsewhere."""
    os.sync()  # what earlier runs left to be written is not this run's
    own, elsewhere, began = time.process_time(), cpu_elsewhere_s(), time.perf_counter()
    what()
    took_s = time.perf_counter() - began
    return took_s, time.process_time() - own + cpu_elsewhere_s() - elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = os.urandom(options.mib << 20)
    with tempfile.TemporaryDirectory(prefix="block-io-") as folder:
        root = Path(folder)
        (root / "cluster").mkdir()
        with ProcessCluster(root / "cluster", workers=3) as processes, processes.connect() as connection:
            cluster = Cluster(processes, connection, data)
            for path, replicas in (("/read", 1), (TaskReads.path, 3)):  # for a task, on every worker
                with cluster.files.write(path, replication=replicas) as file:
                    file.write(data)
            (root / "bare").write_bytes(data)
            task_reads = TaskReads(connection, root / "cluster", len(data))
            works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "read by a client": (lambda: read_bare(root / "bare"), cluster.read),
                "read by a task": (lambda: read_bare(root / "bare"), task_reads.read),
                "write, one replica": (lambda: write_bare(root / "raw", data), lambda: cluster.write(1)),
                "write, three replicas": (lambda: write_bare(root / "raw", data), lambda: cluster.write(3)),
            }
            report(works, cluster, options.rounds, options.mib * 1.048576)


def report(
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]], cluster: Cluster, rounds: int, mb: float
) -> None:
    head = f"{'what':<24}{'bare MB/s':>11}{'ours MB/s':>11}{'share':>8}{'bare CPU s':>12}{'ours CPU s':>12}{'share':>8}"
    print(f"{head}{'goal':>8}")
    for name, pair in works.items():
        rows: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
        for number in range(rounds + 1):
            for what, kept in zip(pair, rows, strict=True):
                row = measured(what, cluster.cpu_s)
                if number:  # the first is a warm-up
                    kept.append(row)
        (bare_s, bare_cpu_s), (ours_s, ours_cpu_s) = (
            tuple(statistics.median(column) for column in zip(*kept, strict=True)) for kept in rows
        )
        print(
            f"{name:<24}{mb / bare_s:>11.0f}{mb / ours_s:>11.0f}{bare_s / ours_s:>8.2f}"
            f"{bare_cpu_s:>12.2f}{ours_cpu_s:>12.2f}{bare_cpu_s / ours_cpu_s:>8.2f}{GOALS[name]:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
