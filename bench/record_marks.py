"""What it costs that each record's position is written down before user code sees it: a map over 16 MiB of text, with
and without, by turns; beside it the bare loop over the same lines. The best of each counts.

    python bench/record_marks.py [REPETITIONS]
"""

from __future__ import annotations

import io
import mmap
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from minireduce import Job, Sum, Text
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.map import run_map
from minireduce.engine.read import open_records

LINE = b"the quick brown fox jumps over the lazy dog and on\n"
DATA = LINE * ((16 << 20) // len(LINE))
RECORDS = len(DATA) // len(LINE)


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def loop() -> None:
    """Every line is read and split, and nothing else: no map is faster."""
    counts: dict[str, int] = {}
    for line in DATA.decode().split("\n"):
        for word in line.split():
            counts[word] = counts.get(word, 0) + 1


def mapped(marks: memoryview | None) -> None:
    job = Job(words, Sum())
    context = TaskContext(marks=marks)
    with tempfile.TemporaryDirectory() as folder:
        records = open_records(io.BytesIO(DATA), offset=0, length=len(DATA), input_format=Text(), context=context)
        run_map(
            job.steps[0],
            records,
            directory=Path(folder),
            partitions=4,
            memory_limit_bytes=1 << 30,
            context=context,
            disk=RealDisk(),
        )


def main() -> None:
    page = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
    ways: dict[str, Callable[[], None]] = {
        "bare loop": loop,
        "map, unmarked": lambda: mapped(None),
        "map, marked": lambda: mapped(page[:1]),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 7):
        for name, run in ways.items():
            began_s = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began_s)
    for name, seconds in best.items():
        print(f"{name:<15}{seconds:8.3f} s of CPU  {seconds / RECORDS * 1e9:7.0f} ns a record")
    cost_ns = (best["map, marked"] - best["map, unmarked"]) / RECORDS * 1e9
    print(
        f"marking costs {cost_ns:.0f} ns a record, {cost_ns / (best['map, unmarked'] / RECORDS * 1e9):.1%} of the map"
    )


if __name__ == "__main__":
    main()
