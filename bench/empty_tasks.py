"""Empty tasks: how many a second a small cluster does, and what each process pays for one.

A map-only job without output over `--tasks` splits of numbers, one number each: the user's map is called once a task
and yields nothing. The cluster is a real one with `--workers` workers of one slot each, and each task is a row in the
master's synced metadata. The time is that of the whole job, from before its submission until it has succeeded; one job
before it, which is not counted, warms the daemons (a job forks processes of its own, so those are counted).
Beside it, where they are installed (bench/peers/requirements.txt): Ray, Dask and PySpark, which keep no row.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from minireduce import Job, Numbers

PEERS = {"ray": "ray_empty_tasks.py", "distributed": "dask_empty_tasks.py", "pyspark": "pyspark_empty_tasks.py"}
PEER_TASKS = {"ray": 10_000, "distributed": 5_000, "pyspark": 500}


def nothing(number: int) -> Iterator[tuple[int, int]]:
    if number < 0:
        yield number, number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="the Python that has the peers")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    print(f"python -c pass: {_python_ms():.0f} ms; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with _cluster(options.workers) as address:
        _run(2_000, address)
        rates = [_round(options.tasks, address) for _ in range(options.rounds)]
    print(f"minireduce: {sorted(rates)[len(rates) // 2]:,.0f} tasks/s (median of {len(rates)})")
    for package, script in {} if options.no_peers else PEERS.items():
        if subprocess.run([options.peers, "-c", f"import {package}"], capture_output=True, check=False).returncode:
            print(f"SKIPPED {package}: {options.peers} has it not (bench/peers/requirements.txt)")
            continue
        path = Path(__file__).parent / "peers" / script
        subprocess.run([options.peers, str(path), str(PEER_TASKS[package]), str(options.workers)], check=True)


def _run(tasks: int, address: str) -> float:
    """The wall time of one job of so many tasks."""
    job = Job(nothing, input=Numbers(tasks, splits=tasks), memory_limit="256MiB")
    began_s = time.perf_counter()
    result = job.run(master=address)
    wall_s = time.perf_counter() - began_s
    assert result.counters["minireduce"]["MAP_INPUT_RECORDS"] == tasks
    result.close()
    return wall_s


def _round(tasks: int, address: str) -> float:
    before = _cpu_seconds()
    wall_s = _run(tasks, address)
    after = _cpu_seconds()
    print(f"  {tasks:,} tasks in {wall_s:.2f} s: {tasks / wall_s:,.0f} tasks/s; CPU a task by process:")
    for name in after:
        spent_s = after[name] - before.get(name, 0.0)
        print(f"    {name:<14} {spent_s / tasks * 1e6:7.1f} us")
    return tasks / wall_s


def _cpu_seconds() -> dict[str, float]:
    """CPU time so far by kind of process, of this process and all below it."""
    spent: dict[str, float] = {}
    for process in [psutil.Process(), *_descendants()]:
        try:
            times = process.cpu_times()
            name = _kind(process)
        except psutil.NoSuchProcess:
            continue
        spent[name] = spent.get(name, 0.0) + times.user + times.system
        if name == "zygotes":  # task processes that have ended count among its children
            spent["tasks"] = spent.get("tasks", 0.0) + times.children_user + times.children_system
    return spent


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _kind(process: psutil.Process) -> str:
    if process.pid == os.getpid():
        return "client"
    name = process.name()
    if name.startswith("minireduce-task"):
        return "tasks"
    if name.startswith("minireduce-zygo"):
        return "zygotes"
    if name.startswith("mr-blocks"):
        return "block servers"
    command = " ".join(process.cmdline())
    return "master" if "master_main" in command else "workers"


@contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """A cluster with its data on disk, in a home of its own."""
    from minireduce import config
    from minireduce.launch import local_cluster

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        os.environ |= {"HOME": folder, "XDG_RUNTIME_DIR": folder}
        os.environ.pop("MINIREDUCE_MASTER", None)
        running = local_cluster.up(config.load({}), workers=workers, port=0, http_port=0, data_dir=Path(folder, "data"))
        try:
            yield running.address
        finally:
            local_cluster.down()


def _python_ms() -> float:
    took = []
    for _ in range(5):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        took.append(time.perf_counter() - began_s)
    return sorted(took)[2] * 1000


if __name__ == "__main__":
    main()
