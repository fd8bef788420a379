"""Where the time of each lane goes: the parts of a whole run, and what its tasks do within them.

Counting words and finding lines by records and by columns, and sorting, each on an embedded cluster of two slots that
starts and ends with the run, as `minireduce submit` does it. The parts follow one another; beside maps and reduces
stands the share of that time in which a slot had nothing to do. Then each job runs once more in this process under a
profiler: the functions that take most of its time by themselves, kernels among them, as shares of the whole. It makes
calls dearer than they are, so it says too much of functions in Python that are called for each record.

    python bench/lanes.py [--mebibytes 128] [--rounds 5] [--jobs NAME...]
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gensort import RECORD_BYTES, make
from text_input import make_text

from minireduce import Job
from minireduce.core.views import AttemptView
from minireduce.ids import TaskKind
from minireduce.launch.embedded import EmbeddedCluster
from minireduce.wire import methods
from minireduce.wire.questions import ListTasks

HERE = Path(__file__).resolve().parent
JOBS = {
    "words by records": HERE.parent / "jobs" / "wordcount.py",
    "words by map_records": HERE / "peers" / "jobs" / "wordcount_whole.py",
    "words by columns": HERE.parent / "jobs" / "wordcount_columns.py",
    "lines by records": HERE / "peers" / "jobs" / "grep.py",
    "lines by map_records": HERE / "peers" / "jobs" / "grep_whole.py",
    "lines by columns": HERE / "peers" / "jobs" / "grep_columns.py",
    "sort": HERE.parent / "jobs" / "terasort.py",
}
SORT = "sort"
SLOTS = 2
FUNCTIONS_SHOWN = 14
MODULES = "minireduce.cli.submit, minireduce.launch.session, minireduce.client.publish"

Parts = dict[str, list[float]]
"""Seconds, or shares, of each round by name, in the order in which they follow one another."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    inputs = {name: _input(asked.work, asked.mebibytes, is_sort=name == SORT) for name in asked.jobs}
    figures: dict[str, Parts] = {name: {} for name in asked.jobs}
    for number in range(asked.rounds + 1):
        for name in asked.jobs:
            found = parts_of_a_run(load(JOBS[name]), inputs[name], asked.work / "lanes-out")
            for part, value in found.items() if number else ():  # the first one warms caches
                figures[name].setdefault(part, []).append(value)
    print(f"{asked.mebibytes} MiB, {SLOTS} slots, medians of {asked.rounds} rounds, {os.cpu_count()} cores\n")
    parts = list(dict.fromkeys(part for each in figures.values() for part in each))
    print(f"| part | {' | '.join(asked.jobs)} |\n|{'---|' * (1 + len(asked.jobs))}")
    for part in parts:
        cells = (f"{statistics.median(each[part]):.2f}" if part in each else "" for each in figures.values())
        print(f"| {part} | {' | '.join(cells)} |")
    for name in asked.jobs:
        print(f"\n{name}, in this process:\n")
        print(profile(load(JOBS[name]), inputs[name], asked.work / "lanes-out"))


def load(path: Path) -> Job:
    job: Job = runpy.run_path(str(path), run_name=path.stem)["job"]
    return job


def _input(folder: Path, mebibytes: int, *, is_sort: bool) -> Path:
    path = folder / f"{'records' if is_sort else 'text'}-{mebibytes}"
    if not is_sort:
        make_text(path, mebibytes << 20)
    elif not path.exists():
        make(path, (mebibytes << 20) // RECORD_BYTES, ascii=True)
    return path


def parts_of_a_run(job: Job, source: Path, output: Path) -> dict[str, float]:
    """Seconds of each part of a run that begins with no cluster, and how idle its slots were."""
    shutil.rmtree(output, ignore_errors=True)
    parts: dict[str, float] = {}
    last_s = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal last_s
        now_s = time.perf_counter()
        parts[part] = now_s - last_s
        last_s = now_s

    subprocess.run([sys.executable, "-c", f"import {MODULES}"], check=True)
    lap("Python and the client's modules")
    cluster = EmbeddedCluster(slots=SLOTS)
    try:
        handle = job.submit(str(source), output=str(output), master=cluster, reducers=SLOTS)
        lap("cluster starts, job submitted")
        handle.follow()
        lap("maps and reduces, as seen by the client")
        with cluster.connect() as connection:
            tasks = connection.call(methods.LIST_TASKS, ListTasks(handle.id))
        last_s = time.perf_counter()
        handle.publish()
        lap("output put in place")
    finally:
        cluster.close()
    lap("cluster ends")
    parts["all of it"] = sum(parts.values())
    for kind, name in ((TaskKind.MAP, "maps"), (TaskKind.REDUCE, "reduces")):
        attempts = [each for task in tasks for each in task.attempts if each.attempt.task.kind is kind]
        if attempts:
            parts |= _span(name, attempts)
    return parts


def _span(name: str, attempts: list[AttemptView]) -> dict[str, float]:
    """From the start of the first to the end of the last, and the share of it in which slots were idle."""
    stretches = [(each.started_at_s, each.launched_at_s + each.elapsed_s) for each in attempts]
    span_s = max(end for _, end in stretches) - min(start for start, _ in stretches)
    busy_s = sum(end - start for start, end in stretches)
    return {f"of that {name}": span_s, f"slots idle during {name}, share": max(0.0, 1 - busy_s / (SLOTS * span_s))}


def profile(job: Job, source: Path, output: Path) -> str:
    """The functions that take most time by themselves while the job runs in this process, as a table."""
    shutil.rmtree(output, ignore_errors=True)
    profiler = cProfile.Profile()
    with profiler:
        job.run(str(source), output=str(output), inline=True, reducers=SLOTS).close()
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    own = {where: took[2] for where, took in stats.items()}
    total_s = sum(own.values())
    lines = [f"| function | share of {total_s:.2f} s |", "|---|---|"]
    for where in sorted(own, key=own.__getitem__, reverse=True)[:FUNCTIONS_SHOWN]:
        path, line, function = where
        place = f"`{Path(path).parent.name}/{Path(path).name}` {function}" if line else function.strip("{}")
        lines.append(f"| {place} | {own[where] / total_s:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
