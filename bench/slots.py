"""How much faster a job gets with more slots: from one to as many as there are cores, in both lanes.

Words of the same text are counted on an embedded cluster with one slot, two, four and so on, everything warm, as many
reducers as slots, the output written and synced within the time. Each round takes all numbers of slots in turn. Beside
the lanes stands what the machine gives: a bare Python loop over lines in as many processes at once, which share nothing
but caches and memory; and as many clusters of one slot at once, each with a text of its own, which share no work either
but use as much memory as the lanes do. `--write FOLDER` leaves the table and a plot there.

    python bench/slots.py [--mebibytes 128] [--rounds 5] [--slots-max 16] [--write FOLDER]
"""

from __future__ import annotations

import argparse
import os
import runpy
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Process, get_context
from pathlib import Path
from typing import TYPE_CHECKING

from limits import loop_over_lines
from text_input import make_text

from minireduce import Job, LocalCluster

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from threading import Barrier

JOBS = Path(__file__).resolve().parent.parent / "jobs"
LANES = {"records": JOBS / "wordcount.py", "columns": JOBS / "wordcount_columns.py"}
BARE = "bare loop"
APART_RUNS = 3
SLOTS_MAX = 16
SIZE, MARGIN = 360, 48  # of the plot
COLOURS = {"records": "#246", "columns": "#282", BARE: "#999"}

Seconds = dict[str, dict[int, list[float]]]
"""What each round took, by lane and number of slots."""


def main() -> None:
    """Take the curve, print it, and write it where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots-max", type=int, default=min(SLOTS_MAX, os.cpu_count() or 1))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    text = asked.work / f"text-{asked.mebibytes}.txt"
    make_text(text, asked.mebibytes << 20)
    jobs: dict[str, Job] = {lane: runpy.run_path(str(path), run_name=lane)["job"] for lane, path in LANES.items()}
    numbers = numbers_of_slots(asked.slots_max)
    seconds: Seconds = {lane: {slots: [] for slots in numbers} for lane in (*LANES, BARE)}
    for number in range(asked.rounds):
        for slots in numbers:
            with LocalCluster(slots=slots) as cluster:
                for lane, job in jobs.items():
                    seconds[lane][slots].append(_took(job, text, asked.work / "slots-out", cluster, slots))
            seconds[BARE][slots].append(_bare(text, slots))
        print(f"  round {number} done", flush=True)
    apart = {slots: _apart(asked.work, asked.mebibytes, slots) for slots in numbers}
    table = f"{report(seconds, asked.mebibytes)}\n\n{report_apart(apart)}"
    print(f"\n{table}")
    if asked.write is not None:
        asked.write.mkdir(parents=True, exist_ok=True)
        (asked.write / "slots.md").write_text(f"{table}\n", encoding="utf-8")
        (asked.write / "slots.svg").write_text(draw(speed_ups(seconds), numbers), encoding="utf-8")


def numbers_of_slots(most: int) -> list[int]:
    """One, two, and so on by doubling, and the most that there are."""
    return [*(1 << bit for bit in range(most.bit_length()) if 1 << bit < most), most]


def _took(job: Job, text: Path, output: Path, cluster: LocalCluster, slots: int) -> float:
    """Seconds of the second of two runs: the first finds no task process."""

    def run() -> None:
        job.run(str(text), output=str(output), overwrite=True, master=cluster, reducers=slots).close()

    run()
    return _seconds(run)


def _bare(text: Path, slots: int) -> float:
    """Seconds for the lines of one text in a process, and of as many texts in as many at once, each a share of that."""

    def run() -> None:
        processes = [Process(target=loop_over_lines, args=(text,)) for _ in range(slots)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()

    return _seconds(run) / slots


def _apart(work: Path, mebibytes: int, clusters: int) -> dict[str, float]:
    """Seconds, by lane, of clusters of one slot at once, each with a text of half the size: the median of all."""
    share = work / f"text-{mebibytes // 2}.txt"
    make_text(share, mebibytes << 19)
    spawning = get_context("spawn")
    barrier, took = spawning.Barrier(clusters), spawning.Queue()
    outputs = [work / f"slots-out-{number}" for number in range(clusters)]
    processes = [spawning.Process(target=_one_apart, args=(share, output, barrier, took)) for output in outputs]
    for process in processes:
        process.start()
    found: dict[str, list[float]] = {lane: [] for lane in LANES}
    for _ in range(clusters * len(LANES) * APART_RUNS):
        lane, seconds = took.get()
        found[lane].append(seconds)
    for process in processes:
        process.join()
    return {lane: statistics.median(each) for lane, each in found.items()}


def _one_apart(text: Path, output: Path, barrier: Barrier, took: Queue[tuple[str, float]]) -> None:
    with LocalCluster(slots=1) as cluster:
        for lane, path in LANES.items():
            job = runpy.run_path(str(path), run_name=lane)["job"]
            for number in range(APART_RUNS + 1):
                barrier.wait()

                def run(job: Job = job) -> None:
                    job.run(str(text), output=str(output), overwrite=True, master=cluster, reducers=1).close()

                seconds = _seconds(run)
                if number:  # the first finds no task process
                    took.put((lane, seconds))


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def speed_ups(seconds: Seconds) -> dict[str, dict[int, float]]:
    """How many times as fast as with one slot, by medians."""
    medians = {lane: {slots: statistics.median(took) for slots, took in each.items()} for lane, each in seconds.items()}
    return {lane: {slots: each[1] / took for slots, took in each.items()} for lane, each in medians.items()}


def report(seconds: Seconds, mebibytes: int) -> str:
    """Seconds, their spread, and speed-ups as Markdown."""
    faster = speed_ups(seconds)
    rounds = len(next(iter(seconds[BARE].values())))
    lines = [
        f"{mebibytes} MiB, {rounds} rounds, {os.cpu_count()} cores",
        "",
        "| slots | records, s | times one slot | columns, s | times one slot | bare loop, times one process |",
        "|---|---|---|---|---|---|",
    ]
    for slots in seconds[BARE]:
        cells = [str(slots)]
        for lane in LANES:
            took = seconds[lane][slots]
            cells.append(f"{statistics.median(took):.2f} ({min(took):.2f} to {max(took):.2f})")
            cells.append(f"{faster[lane][slots]:.2f}")
        lines.append(f"| {' | '.join([*cells, f'{faster[BARE][slots]:.2f}'])} |")
    return "\n".join(lines)


def report_apart(seconds: dict[int, dict[str, float]]) -> str:
    """How much more clusters that have nothing to do with each other get done than one alone, as Markdown."""
    lines = ["| clusters of one slot | records, times one | columns, times one |", "|---|---|---|"]
    for clusters, each in seconds.items():
        times = [f"{clusters * seconds[1][lane] / each[lane]:.2f}" for lane in LANES]
        lines.append(f"| {clusters} | {' | '.join(times)} |")
    return "\n".join(lines)


def draw(faster: dict[str, dict[int, float]], numbers: list[int]) -> str:
    """The speed-ups as SVG, beside a line for twice the speed with twice the slots."""
    most = max(numbers)
    whole = SIZE + 2 * MARGIN

    def at(slots: float, times: float) -> str:
        return f"{MARGIN + SIZE * slots / most:.1f},{MARGIN + SIZE - SIZE * times / most:.1f}"

    size = f'viewBox="0 0 {whole} {whole}" width="{whole}" height="{whole}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect width="{whole}" height="{whole}" fill="white"/>',
        f'<text x="{MARGIN}" y="20" font-size="14">How many times as fast as with one slot</text>',
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#bbb"/>',
        f'<polyline points="{at(0, 0)} {at(most, most)}" fill="none" stroke="#ccc" stroke-dasharray="3 3"/>',
    ]
    for slots in numbers:
        x, y = at(slots, 0).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 14:.1f}" text-anchor="middle">{slots}</text>')
        x, y = at(0, slots).split(",")
        parts.append(f'<text x="{float(x) - 6:.1f}" y="{y}" text-anchor="end">{slots}</text>')
    for place, (lane, curve) in enumerate(faster.items()):
        points = " ".join(at(slots, times) for slots, times in curve.items())
        colour = COLOURS[lane]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{MARGIN + 10}" y="{MARGIN + 18 + 15 * place}" fill="{colour}">{lane}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
