"""One of four workers at a tenth of its speed: how much longer does a job take, with backup attempts and without?

Four real worker processes of one slot each. One of them is slowed down as a whole, tasks included: its process tree is
stopped for 90 ms and runs for 10 ms, over and over. Tasks sleep in slices of 5 ms, since a stop does not lengthen one
long sleep; so the cores of this machine are no limit. Four workers of which one does a tenth do the work of 3.1, so the
work alone takes 4 / 3.1 = 1.29 times as long as undisturbed.

Each run has a cluster of its own, which knows nothing yet of how fast its workers are.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from minireduce import Job, LocalCluster, Sum

WORKERS = 4
SLICE_S = 0.005
LINES_PER_TASK = 20
LINE = "%07d\n"
STOPPED_S, RUNNING_S = 0.09, 0.01


def slowly(line: str) -> Iterator[tuple[str, int]]:
    """Half of nothing, for as long as the line says: so many slices."""
    for _ in range(int(line)):
        time.sleep(0.005)
    yield "slices", int(line)


class Slowed:
    """Stops the tree of a process for nine tenths of the time."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._send(signal.SIGSTOP)
            self._is_over.wait(STOPPED_S)
            self._send(signal.SIGCONT)
            self._is_over.wait(RUNNING_S)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._root, *self._root.children(recursive=True)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)


@dataclass
class Case:
    """One way to run the job, and what its runs took."""

    name: str
    is_slowed: bool
    speculation: bool
    wall_s: list[float] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


def a_worker() -> int:
    """The process of one of the workers that were started here."""
    children = psutil.Process().children()
    return next(child.pid for child in children if any("worker_main" in word for word in child.cmdline()))


def run(case: Case, text: Path, tasks: int) -> None:
    with LocalCluster(workers=WORKERS, slots=1) as cluster:
        options = {"master": cluster, "split_size": LINES_PER_TASK * len(LINE % 0)}
        Job(slowly, Sum()).run(
            str(text), speculation=False, **options
        ).close()  # so that each worker has its zygote warm
        with Slowed(a_worker()) if case.is_slowed else contextlib.nullcontext():
            started = time.perf_counter()
            result = Job(slowly, Sum()).run(str(text), speculation=case.speculation, **options)
            case.wall_s.append(time.perf_counter() - started)
        assert list(result) == [("slices", sum(map(int, text.read_text().split())))]
        case.counters = dict(result.counters["minireduce"])
        result.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--task-s", type=float, default=0.8)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    cases = [
        Case("undisturbed", is_slowed=False, speculation=True),
        Case("one worker at a tenth, with backups", is_slowed=True, speculation=True),
        Case("one worker at a tenth, without", is_slowed=True, speculation=False),
    ]
    with tempfile.TemporaryDirectory() as folder:
        slices = round(options.task_s / SLICE_S / LINES_PER_TASK)
        text = Path(folder, "slices.txt")
        text.write_text(LINE % slices * LINES_PER_TASK * options.tasks)
        for _ in range(options.rounds):
            for case in cases:
                run(case, text, options.tasks)
                print(f"  {case.name}: {case.wall_s[-1]:.2f} s", flush=True)
    base = statistics.median(cases[0].wall_s)
    print(f"\n{options.tasks} tasks of {options.task_s:g} s, {WORKERS} workers; work alone takes 1.29 times as long\n")
    print("| what | median s | times undisturbed | backups | of which won |")
    print("|---|---|---|---|---|")
    for case in cases:
        median = statistics.median(case.wall_s)
        backups = case.counters.get("NUM_BACKUP_MAPS", 0) + case.counters.get("NUM_BACKUP_REDUCES", 0)
        won = case.counters.get("NUM_BACKUPS_WON", 0)
        print(f"| {case.name} | {median:.2f} | {median / base:.2f} | {backups} | {won} |")


if __name__ == "__main__":
    main()
