"""What it costs that the position of records is written down before user code sees them.

First alone: an iteration over records without marks, with one for each, and with one for a quick block; beside the bare
store into shared memory in a loop that does nothing else. Then within a map over 16 MiB of text, beside the bare loop
over the same lines. By turns; the best of each counts, in CPU time.

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
from unittest.mock import patch

from minireduce import Job, Sum, Text
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.map import run_map
from minireduce.engine.read import open_records
from minireduce.engine.workplace import Workplace

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
        run_map(job.steps[0], records, 4, Workplace(Path(folder), "part", "pairs", 1 << 30, context, RealDisk()))


def counted() -> None:
    for _ in range(RECORDS):
        pass


def stored(marks: memoryview) -> None:
    """The least that a mark can cost in Python."""
    for position in range(RECORDS):
        marks[0] = position


def walked(lines: list[str], marks: memoryview | None) -> None:
    context = TaskContext(marks=marks)
    list(context.walk(lines[:1]))  # from which it learns how long they take
    for _ in context.walk(lines):
        pass


def each_marked(run: Callable[[], None]) -> None:
    with patch("minireduce.engine.context.MARKED_TOGETHER_S", 0.0):
        run()


def marked_together(run: Callable[[], None]) -> None:
    with patch("minireduce.engine.context.MARKED_TOGETHER_S", float("inf")):
        run()


def main() -> None:
    marks = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")[:2]
    lines = DATA.decode().splitlines()
    ways: dict[str, Callable[[], None]] = {
        "an empty loop": counted,
        "a bare store in it": lambda: stored(marks),
        "records, unmarked": lambda: walked(lines, None),
        "records, each marked": lambda: each_marked(lambda: walked(lines, marks)),
        "records, marked together": lambda: marked_together(lambda: walked(lines, marks)),
        "bare loop over lines": loop,
        "map, unmarked": lambda: mapped(None),
        "map, each marked": lambda: each_marked(lambda: mapped(marks)),
        "map, marked": lambda: mapped(marks),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 7):
        for name, run in ways.items():
            began_s = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began_s)
    ns = {name: seconds / RECORDS * 1e9 for name, seconds in best.items()}
    for name in ways:
        print(f"{name:<25}{ns[name]:7.0f} ns a record")
    print(f"the store costs {ns['a bare store in it'] - ns['an empty loop']:.0f} ns")
    print(f"marking costs {ns['records, each marked'] - ns['records, unmarked']:.0f} ns a record, where each has one")
    print(f"the map with marks takes {ns['map, marked'] / ns['map, unmarked'] - 1:+.1%} of the time without")


if __name__ == "__main__":
    main()
