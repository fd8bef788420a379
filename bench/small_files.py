"""Store, open and read many small files, beside a raw loop that writes and syncs as many on the same disk.

    python bench/small_files.py [--files 1000] [--bytes 1000] [--workers 2]

A cluster of its own on loopback, in a temporary directory. Each line gives files a second, the goal where there is one,
how often the raw loop would have done it in that time (it writes a file, syncs it, and at the end syncs the directory),
and microseconds of CPU a file of the master, of all workers and of this client, which other programs hardly change.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from scenes.cluster import ProcessCluster

from minireduce.client.local_copies import FILES_AT_ONCE

FILES_PER_CALL = 16
OPENS_ALONE = f"opens, each alone, {FILES_AT_ONCE} threads"
PUTS_ALONE = f"put, each alone, {FILES_AT_ONCE} threads"
OPENS_TOGETHER = f"opens, {FILES_PER_CALL} a call"
WRITES_TOGETHER = f"open_many to write, {FILES_PER_CALL} a call"
PUTS_TOGETHER = f"the same, {FILES_AT_ONCE} threads"
GOALS = {PUTS_ALONE: 1000, PUTS_TOGETHER: 3000, OPENS_ALONE: 1500, OPENS_TOGETHER: 10_000}  # files a second


def timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


class CpuTimes:
    """CPU seconds of the master, of all workers and of this process."""

    def __init__(self, cluster: ProcessCluster) -> None:
        self.masters: list[psutil.Process] = []
        self.workers: list[psutil.Process] = []
        for name, daemon in cluster.daemons.items():
            root = psutil.Process(daemon.process.pid)
            kept = self.masters if name == "master" else self.workers
            kept.extend((root, *root.children(recursive=True)))

    def settle(self) -> None:
        """Wait until the cluster has started in full: what its processes load meanwhile is no file's cost."""
        before = self.now()[:2]
        while True:
            time.sleep(1)
            now = self.now()[:2]
            if all(now_s - before_s < 0.05 for before_s, now_s in zip(before, now, strict=True)):
                return
            before = now

    def now(self) -> tuple[float, float, float]:
        def used(processes: list[psutil.Process]) -> float:
            times = [process.cpu_times() for process in processes]
            return sum(each.user + each.system for each in times)

        return used(self.masters), used(self.workers), time.process_time()


def write_raw(directory: Path, count: int, data: bytes) -> None:
    directory.mkdir()
    for number in range(count):
        with (directory / f"f{number}").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="small-files-") as folder:
        root = Path(folder)
        raw_s = timed(lambda: write_raw(root / "raw", options.files, os.urandom(options.bytes)))
        print(f"{'raw loop':<34}{options.files / raw_s:>10.0f} files/s")
        (root / "cluster").mkdir()
        with ProcessCluster(root / "cluster", workers=options.workers) as cluster, cluster.connect() as connection:
            files = connection.fs
            paths = [f"/raw/f{number}" for number in range(options.files)]
            batches = [paths[begin : begin + FILES_PER_CALL] for begin in range(0, len(paths), FILES_PER_CALL)]

            def put_alone(path: str) -> None:
                files.put_stream((root / "raw" / path.rpartition("/")[2]).open("rb"), "/alone" + path)

            def write_together(batch: list[str], below: str = "/together") -> None:
                with files.open_many([below + path for path in batch], "wb") as streams:
                    for path, stream in zip(batch, streams, strict=True):
                        stream.write((root / "raw" / path.rpartition("/")[2]).read_bytes())

            def read_together(batch: list[str]) -> None:
                with files.open_many(batch) as streams:
                    for stream in streams:
                        stream.read()

            def put_each_alone() -> None:
                with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
                    list(pool.map(put_alone, paths))

            def write_batches_at_once() -> None:
                with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
                    list(pool.map(lambda batch: write_together(batch, "/at-once"), batches))

            def open_each_alone() -> None:
                with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
                    list(pool.map(lambda path: files.open(path).close(), paths))

            measured: dict[str, Callable[[], object]] = {
                PUTS_ALONE: put_each_alone,
                WRITES_TOGETHER: lambda: [write_together(batch) for batch in batches],
                PUTS_TOGETHER: write_batches_at_once,
                "put": lambda: files.put(root / "raw", "/raw"),
                "get": lambda: files.get("/raw", root / "back"),
                "opens, one by one": lambda: [files.open(path).close() for path in paths],
                OPENS_ALONE: open_each_alone,
                OPENS_TOGETHER: lambda: [[stream.close() for stream in files.open_many(batch)] for batch in batches],
                f"read, {FILES_PER_CALL} a call": lambda: [read_together(batch) for batch in batches],
                "rm -r": lambda: files.rm("/raw", recursive=True),
            }
            cpu = CpuTimes(cluster)
            cpu.settle()
            report(measured, cpu, options.files, raw_s)


def report(measured: dict[str, Callable[[], object]], cpu: CpuTimes, count: int, raw_s: float) -> None:
    print(f"{'what':<34}{'files/s':>9}{'goal':>8}{'raw loops':>11}{'master us':>11}{'workers us':>12}{'client us':>11}")
    for name, what in measured.items():
        before = cpu.now()
        took_s = timed(what)
        master, workers, client = (
            (after_s - before_s) / count * 1e6 for before_s, after_s in zip(before, cpu.now(), strict=True)
        )
        goal = f"{GOALS[name]:,}" if name in GOALS else ""
        print(
            f"{name:<34}{count / took_s:>9,.0f}{goal:>8}{took_s / raw_s:>11.2f}"
            f"{master:>11.0f}{workers:>12.0f}{client:>11.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
