"""What a task holds stays under its limit, whatever it is that grows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from minireduce import Sum
from minireduce.engine import keys, memory
from minireduce.engine.combine import Combiner
from minireduce.engine.context import TaskContext
from minireduce.engine.gather_columns import column_buffer
from minireduce.engine.kinds import Kinds
from minireduce.engine.memory import MemoryWatch, anonymous_bytes, deep_bytes, held_bytes, newest_bytes

LIMIT_BYTES = 16 << 20

PROGRAM = """
import json, sys, threading
from pathlib import Path
from minireduce import Collect, Identity, Job, Max, Sum
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.index import read_index
from minireduce.engine.map import run_map
from minireduce.engine.memory import anonymous_bytes
from minireduce.engine.merge import RunSlice
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace

def lengths(key, values):
    yield key, sum(len(value) for value in values)

def many_keys(number):
    yield number % 50_021, f"{number:1000d}"

def one_key(number):
    yield "all", f"{number:1000d}"

def distinct_words(number):
    for place in range(6):
        yield f"a rather long word number {number} {place}", 1

def large(number):
    yield number % 3, f"{number:0{len_large}d}"

count, len_large = int(sys.argv[4]), int(sys.argv[2]) // 32
jobs = {
    "large values": Job(large, lengths),
    "large values given on": Job(large, Identity()),
    "large sorted values": Job(large, lengths, sort_values=True),
    "the largest of large values": Job(large, Max()),
    "values of many keys": Job(many_keys, lengths),
    "values of one key": Job(one_key, lengths),
    "sorted values of one key": Job(one_key, lengths, sort_values=True),
    "states of many keys": Job(distinct_words, Sum()),
    "collected values": Job(many_keys, Collect()),
}
step, limit, folder = jobs[sys.argv[1]].steps[0], int(sys.argv[2]), Path(sys.argv[3])
idle = peak = anonymous_bytes()
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, anonymous_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
counters, runs = [], []
for index in range(2):
    directory = folder / str(index)
    directory.mkdir()
    context = TaskContext(idle_bytes=idle)
    run_map(step, range(index * count, (index + 1) * count), 1,
            Workplace(directory, "part", "pairs", limit, context, RealDisk()))
    counters.append(context.counters.get(("minireduce", "SPILLED_RECORDS"), 0))
    runs.append(RunSlice(directory / "output.data", *read_index(directory / "output.index")[0], index))
context = TaskContext(idle_bytes=idle)
made = run_reduce(step, runs, Workplace(folder, "part", "pairs", limit, context, RealDisk()))
done.set()
watcher.join()
print(json.dumps({"over_idle": peak - idle, "spilled": min(counters), "records": made.records}))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the kernel's count of memory")
@pytest.mark.parametrize(
    ("job", "records"),
    [
        ("values of many keys", 50_021),
        ("values of one key", 1),
        ("sorted values of one key", 1),
        ("states of many keys", 960_000),
        ("collected values", 50_021),
    ],
)
def test_ten_times_the_limit_goes_through_within_the_limit(job: str, records: int, tmp_path: Path) -> None:
    seen = gone_through(job, LIMIT_BYTES, tmp_path, 80_000)
    assert seen["records"] == records
    assert seen["spilled"] > 0
    assert seen["over_idle"] < 1.1 * LIMIT_BYTES


def gone_through(job: str, limit_bytes: int, folder: Path, records_a_map: int) -> dict[str, int]:
    """What two maps and a reduce held beyond what they began with, and how many pairs were spilled and given."""
    arguments = [job, str(limit_bytes), str(folder), str(records_a_map)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=100
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the kernel's count of memory")
@pytest.mark.parametrize("limit_bytes", [LIMIT_BYTES, 64 << 20])
@pytest.mark.parametrize(
    ("job", "records"),
    [
        ("large values", 3),
        ("large values given on", 320),
        ("large sorted values", 3),
        ("the largest of large values", 3),
    ],
)
def test_values_that_are_a_good_part_of_the_limit_go_through_within_it(
    job: str, records: int, limit_bytes: int, tmp_path: Path
) -> None:
    seen = gone_through(job, limit_bytes, tmp_path, 160)
    assert seen["records"] == records
    assert (seen["spilled"] > 0) == (job != "the largest of large values")
    assert seen["over_idle"] < 1.1 * limit_bytes


COLUMNAR_LIMIT_BYTES = 64 << 20

COLUMNAR_PROGRAM = """
import json, sys, threading
from pathlib import Path
import numpy as np
import pyarrow as pa
import pyarrow.compute
from minireduce import Identity, Job, Numbers, Sum, columns
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.disk_rates import DiskRates
from minireduce.engine.frame_compression import compression_for
from minireduce.engine.index import read_index
from minireduce.engine.map import run_map
from minireduce.engine.memory import anonymous_bytes
from minireduce.engine.merge import RunSlice
from minireduce.engine.read_batches import number_batches
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace

def texts(numbers, width):
    digits = numbers[:, None] // 10 ** np.arange(width - 1, -1, -1, dtype=np.float64).astype(np.int64) % 10
    raw = pa.py_buffer(np.ascontiguousarray(digits.astype(np.uint8) + 48))
    return pa.Array.from_buffers(pa.binary(width), len(numbers), [None, raw])

def numbers_of(batch):
    return np.frombuffer(batch["number"].buffers()[1], np.int64, batch.num_rows)

def wide_values(batch):
    numbers = numbers_of(batch)
    rows = np.full((len(numbers), 500), 65, np.uint8)
    value = pa.Array.from_buffers(pa.binary(500), len(numbers), [None, pa.py_buffer(rows)])
    return columns.pairs(texts(numbers * 7919 % 50_021, 8), value)

def many_states(batch):
    return columns.pairs(texts(numbers_of(batch), 18), 1)

def whole(batch):
    return columns.pairs(batch["key"], batch["value"])

jobs = {
    "groups in columns": Job(map_batch=wide_values, reduce_batch=whole, input=Numbers(1)),
    "pairs in columns": Job(map_batch=wide_values, reduce=Identity(), input=Numbers(1)),
    "states in columns": Job(map_batch=many_states, reduce=Sum(), input=Numbers(1)),
}
step, limit, folder = jobs[sys.argv[1]].steps[0], int(sys.argv[2]), Path(sys.argv[3])
count = int(sys.argv[4])
compression = compression_for(sys.argv[5], limit, DiskRates())
idle = peak = anonymous_bytes()
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, anonymous_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
counters, runs = [], []
for index in range(2):
    directory = folder / str(index)
    directory.mkdir()
    context = TaskContext(idle_bytes=idle, compression=compression)
    run_map(step, number_batches(index * count, (index + 1) * count, context=context), 1,
            Workplace(directory, "part", "pairs", limit, context, RealDisk()))
    counters.append(context.counters["minireduce", "SPILLED_RECORDS"])
    runs.append(RunSlice(directory / "output.data", *read_index(directory / "output.index")[0], index))
context = TaskContext(idle_bytes=idle, compression=compression)
made = run_reduce(step, runs, Workplace(folder, "part", "pairs", limit, context, RealDisk()))
done.set()
watcher.join()
print(json.dumps({"over_idle": peak - idle, "spilled": min(counters), "records": made.records}))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the kernel's count of memory")
@pytest.mark.parametrize(
    ("job", "count", "compression"),
    [
        ("pairs in columns", 150_000, "never"),
        ("pairs in columns", 150_000, "always"),
        ("groups in columns", 150_000, "never"),
        ("groups in columns", 150_000, "always"),
        ("states in columns", 1_500_000, "never"),
    ],
)
def test_columns_of_several_times_the_limit_go_through_within_it(
    job: str, count: int, compression: str, tmp_path: Path
) -> None:
    arguments = [job, str(COLUMNAR_LIMIT_BYTES), str(tmp_path), str(count), compression]
    done = subprocess.run(
        [sys.executable, "-c", COLUMNAR_PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=100
    )
    seen = json.loads(done.stdout)
    assert seen["records"] == 2 * count
    assert seen["spilled"] > 0
    assert seen["over_idle"] < 1.1 * COLUMNAR_LIMIT_BYTES


def test_a_buffer_is_full_by_its_own_count_or_by_that_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    anonymous = 50
    monkeypatch.setattr(memory, "anonymous_bytes", lambda: anonymous)
    watch = MemoryWatch(100)
    assert not watch.is_full(29)
    assert watch.is_full(31)
    anonymous = 50 + 56
    assert watch.is_full(5)
    assert not watch.is_full(3)  # spilling so little would free nothing
    assert not MemoryWatch(100, idle_bytes=60).is_full(5)


@pytest.mark.parametrize(
    "values", [["x" * 100] * 1000, [["x" * 50, "y" * 50]] * 1000, [{"a": ("x" * 30, 1)}] * 1000, list(range(1000))]
)
def test_an_estimate_is_of_the_right_order(values: list[Any]) -> None:
    exact = sum(map(deep_bytes, values))
    assert exact / 2 <= held_bytes(values) <= exact * 3


def test_a_dict_is_judged_by_its_newest_entries() -> None:
    assert newest_bytes({}) == 0
    table = dict.fromkeys(range(1000), 0)
    small = newest_bytes(table)
    table |= dict.fromkeys(("x" * 1000 + str(i) for i in range(64)), 0)
    assert newest_bytes(table) > 7 * small


def test_the_kernel_counts_what_is_allocated() -> None:
    before = anonymous_bytes()
    held = bytearray(b"x") * (32 << 20)
    assert anonymous_bytes() - before > 30 << 20
    del held


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the kernel's count of memory")
@pytest.mark.parametrize("aggregation", [None, Sum()], ids=["pairs", "sums"])
def test_many_arrays_of_one_row_take_about_what_their_rows_take(aggregation: Sum | None) -> None:
    rows = 50_000
    kinds = Kinds()
    buffer = column_buffer(kinds, aggregation, 1)
    number = pa.array(range(rows))
    before = anonymous_bytes()
    for index in range(rows):
        buffer.take_columns(number[index : index + 1], number[index : index + 1])
    assert anonymous_bytes() - before < 20 << 20
    gathered = buffer.drain(lambda _, encoded: np.zeros(len(encoded), np.int64))
    values = [value for _, piece in chain.from_iterable(gathered.sections(1)) for value in piece]
    assert values == list(range(rows))


@pytest.mark.parametrize(("value", "pairs_max"), [("x" * 100_000, 16), (["y" * 100] * 50, 320), (1, 4096)])
def test_a_combine_hands_on_what_it_gave_before_that_is_much(value: object, pairs_max: int) -> None:
    def twice(key: str, values: Iterator[object]) -> Iterator[tuple[str, object]]:
        for each in values:
            yield key, each
            yield key, each

    texts = keys.sortable_all([f"{number:05}" for number in range(4000)])
    pieces = list(Combiner(twice, TaskContext()).section(texts, [value] * len(texts)))
    assert max(len(kept) for kept, _ in pieces) <= pairs_max + 1
    assert [text for kept, _ in pieces for text in kept] == [text for text in texts for _ in range(2)]
