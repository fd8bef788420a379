"""Read and write blocks on one host, each beside a bare loop that does the same work on a plain file.

    python bench/block_io.py [--mib 256] [--rounds 5]

Read: a client reads a stored file from end to end, beside a loop that reads a file in pieces of 64 KiB and computes the
CRC32C of each. Write: a client stores a file in blocks of 64 MiB, on one worker and on three workers of this host,
beside a loop that writes a file in pieces of 64 KiB, computes the CRC32C of each and syncs at the end. All in turn, on
the same disk and in the same run. Three replicas are three times the work on one disk, so their measure is a third.

Printed are medians of MB/s by the clock, of CPU seconds of all processes, and the share of the bare loop by both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from scenes.cluster import ProcessCluster

from minireduce.client.connection import Connection
from minireduce.core.storage.views import FileStatus

PIECE_BYTES = 1 << 16
GOALS = {"read": 0.9, "write, one replica": 0.8, "write, three replicas": 0.8 / 3}


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
            with cluster.files.write("/read", replication=1) as file:
                file.write(data)
            (root / "bare").write_bytes(data)
            works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "read": (lambda: read_bare(root / "bare"), cluster.read),
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
