"""A million files: how much memory the master needs, how long it takes to start, and how long a removal holds it up.

The metadata are written by the store itself, in commits of a thousand files: directories of a thousand files each, one
block a file (or, with `--packed`, a thousand files a block). Then a real master process is started on them, and taken
are the time until it serves and its peak memory, beside the same for an empty data directory and for `python -c pass`.
In a process of its own the machine is made from the same rows; `--workers` workers then join, each listing its share of
three replicas of every block, and the directory of all files is removed: taken are the memory with all replicas, and
the longest `advance` from the removal until the last inode is collected, beside one sort of a million integers.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from minireduce.core.cluster import (
    ClusterState,
    HelloReceived,
    Persist,
    RequestReceived,
    SendDown,
    Ticked,
    UpReceived,
)
from minireduce.core.effects import Row
from minireduce.core.messages import Hello, Up, WorkerProfile
from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.requests import RemovePath
from minireduce.launch import daemon
from minireduce.master.store import FILE_NAME, open_store

PER_DIRECTORY = 1000
REPLICATION = 3
TOP = 2
MEMORY_MIB_GOAL, START_S_GOAL = 1024, 10


def commits(files: int, *, is_packed: bool) -> Iterator[tuple[Row, ...]]:
    """The rows of a million files, as commits of a thousand files would write them."""
    rng = random.Random(1)
    number, block = TOP + 1, 1
    yield (inode(TOP, 1, "data", "directory"),)
    for begin in range(0, files, PER_DIRECTORY):
        directory, container = number, number + 1
        number += 2
        rows = [inode(directory, TOP, f"part={begin // PER_DIRECTORY:05d}", "directory")]
        at = 0
        for index in range(begin, min(begin + PER_DIRECTORY, files)):
            length = rng.randrange(1, 1 << 14) if is_packed else rng.randrange(1, 64 << 20)
            packed = (container, at) if is_packed else (0, 0)
            rows.append(inode(number, directory, f"events-{index:07d}.parquet", "file", length, *packed))
            at += length
            if not is_packed:
                rows.append(Row("blocks", (block,), (number, 0, 1, length, 1)))
                block += 1
            number += 1
        if is_packed:
            rows.append(Row("blocks", (block,), (container, 0, 1, at, 1)))
            block += 1
        rows += [
            Row("settings", ("inodes_reserved",), (str(number + 1000),)),
            Row("settings", ("blocks_reserved",), (str(block + 1000),)),
        ]
        yield tuple(rows)


def inode(
    number: int, parent: int, name: str, kind: str, length: int = 0, packed_in: int = 0, packed_at: int = 0
) -> Row:
    sizes = (length, 64 << 20, REPLICATION) if kind == "file" else (0, 0, 0)
    mode = 0o644 if kind == "file" else 0o755
    values = (parent, name, kind, 1.7e9 + number, *sizes, "ada", mode, packed_in, packed_at)
    return Row("inodes", (number,), values)


def fill(directory: Path, files: int, *, is_packed: bool) -> None:
    """Write the metadata of so many files."""
    begun, cpu = time.perf_counter(), time.process_time()
    store = open_store(directory)
    rows = 0
    for txid, commit in enumerate(commits(files, is_packed=is_packed), 1):
        store.write([Persist(store.epoch, txid, commit)])
        rows += len(commit)
    store.close()
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    mib = (directory / FILE_NAME).stat().st_size / (1 << 20)
    print(f"written: {rows:,} rows in {wall:.1f} s ({cpu / rows * 1e6:.1f} us of CPU a row), {mib:.0f} MiB on disk")


def start_master(directory: Path, name: str) -> None:
    """Start a real master on `directory` and say how long it takes and what it needs."""
    arguments = ["--data-dir", str(directory), "--token-file", str(directory.parent / "token"), "--port", "0"]
    log = directory.parent / "master.log"
    begun = time.perf_counter()
    master = daemon.start(daemon.MASTER, [*arguments, "--http-port", "0"], name="master", log=log)
    try:
        master.ready()
        wall = time.perf_counter() - begun
        status = Path(f"/proc/{master.process.pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        stat = Path(f"/proc/{master.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        peak, now = (int(fields[field].split()[0]) / 1024 for field in ("VmHWM", "VmRSS"))
        goals = f" (goals: {START_S_GOAL} s, {MEMORY_MIB_GOAL} MiB)"
        print(
            f"master on {name}: serves after {wall:.2f} s ({cpu:.2f} s of CPU), {now:.0f} MiB, peak {peak:.0f}{goals}"
        )
    finally:
        daemon.stop([master])


def decide(directory: Path, workers: int) -> None:
    """The machine alone: memory with all replicas known, and the longest `advance` of a removal of everything."""
    store = open_store(directory)
    begun = time.process_time()
    gc.disable()  # as `start_master` does
    state = ClusterState(
        cluster_id=store.cluster_id,
        epoch=store.epoch,
        txid=store.txid,
        settings=ClusterSettings(trash_kept_s=0.0, worker_lost_s=1e6),
        rows=store.load(),
        make_read_token=lambda _: "",
        now=0.0,
    )
    print(f"machine: made in {time.process_time() - begun:.2f} s of CPU, {rss_mib():.0f} MiB; peak {peak_mib():.0f}")
    gc.freeze()
    gc.enable()
    store.close()
    blocks = [
        Replica(view.replica.block_id, view.replica.generation, view.replica.length)
        for view in state.storage.block_views()
    ]
    for number in range(workers):
        held = tuple(r for r in blocks if any((r.block_id + n) % workers == number for n in range(REPLICATION)))
        profile = WorkerProfile(f"worker-{number}", 1, f"m{number}", "/r", 2, 1 << 30, f"h{number}:1", "0.1", "cp311")
        begun = time.process_time()
        state.advance(HelloReceived(number + 1, Hello(profile, 0, 0, 0, 0, replicas=held)), 1.0)
        print(f"worker {number} listed {len(held):,} replicas in {time.process_time() - begun:.2f} s of CPU")
    del blocks, held
    print(f"machine: with all replicas {rss_mib():.0f} MiB")
    begun = time.perf_counter()
    sorted(random.Random(2).sample(range(1 << 30), 1_000_000))
    print(f"beside it: one sort of a million integers, {time.perf_counter() - begun:.3f} s")
    found = state.storage.status("/data")
    ticks, now, took, cpu = 0, 1.1, 0.0, 0.0
    request = RequestReceived(1, RemovePath("/data", found.inode, recursive=True, skip_trash=True), 1.7e9)
    begun = time.perf_counter()
    state.advance(request, now)
    removal = time.perf_counter() - begun
    while state.storage.inodes_to_collect:
        now += 0.1
        begun, cpu_begun = time.perf_counter(), time.thread_time()
        actions = state.advance(Ticked(1.7e9), now)
        took, cpu = max(took, time.perf_counter() - begun), max(cpu, time.thread_time() - cpu_begun)
        ticks += 1
        for action in actions:  # workers acknowledge what they are told, or all of it would be kept to be said again
            if isinstance(action, SendDown):
                state.advance(UpReceived(action.stream, Up(action.down.session, 0, action.down.number)), now)
    print(
        f"removal: {removal * 1000:.2f} ms, then {ticks:,} ticks, "
        f"the longest `advance` {took * 1000:.1f} ms, {cpu * 1000:.1f} ms of CPU"
    )


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--packed", action="store_true", help="a thousand files a block, as small files are stored")
    parser.add_argument("--decide", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.decide is not None:
        decide(options.decide, options.workers)
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        fill(root / "full", options.files, is_packed=options.packed)
        start_master(root / "empty", "an empty directory")
        start_master(root / "full", f"{options.files:,} files")
        command = [sys.executable, __file__, "--decide", str(root / "full"), "--workers", str(options.workers)]
        subprocess.run(command, check=True)
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        print(f"beside it: python -c pass, {time.perf_counter() - begun:.3f} s")


if __name__ == "__main__":
    main()
