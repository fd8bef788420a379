"""What is read and written more than once where memory is short: no more than it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minireduce.engine.merge import Passes, RunSlice

MEMORY_MIB = 64
INPUT_MIB = 4 * MEMORY_MIB

PROGRAM = """
import json, sys
import numpy as np
from pathlib import Path
from minireduce import FixedWidth, Identity, Job, Range, columns
from minireduce.disk import RealDisk

RealDisk.sync = lambda _, file: file.flush()
folder, mib = Path(sys.argv[1]), int(sys.argv[2])
records = np.random.default_rng(5).integers(32, 127, size=(mib << 20) // 100 * 100, dtype=np.uint8)
(folder / "in").write_bytes(records)
size_bytes = len(records)

def cut(batch):
    return columns.pairs(columns.cut(batch["record"], 0, 10), columns.cut(batch["record"], 10, 100))

def moved():
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"]), int(lines["wchar"])

job = Job(map_batch=cut, reduce=Identity(), input=FixedWidth(100), output=FixedWidth(100), partition=Range())
before = moved()
result = job.run(folder / "in", inline=True, reducers=2, memory_limit=sys.argv[3])
after = moved()
keys = [key for key, _ in result.head(1000)]
print(json.dumps({
    "read": (after[0] - before[0]) / size_bytes,
    "written": (after[1] - before[1]) / size_bytes,
    "is_sorted": keys == sorted(keys),
    "records": result.counters["minireduce"]["REDUCE_OUTPUT_RECORDS"] - size_bytes // 100,
}))
"""


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs the kernel's count of bytes")
def test_sorting_four_times_the_memory_limit_reads_and_writes_each_byte_twice(tmp_path: Path) -> None:
    arguments = [str(tmp_path), str(INPUT_MIB), f"{MEMORY_MIB}MiB"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=100
    )
    seen = json.loads(done.stdout)
    assert seen["is_sorted"]
    assert seen["records"] == 0
    assert seen["read"] < 2.5  # what frames add is a ninth of such records; keys of the sample and modules are read too
    assert seen["written"] < 2.3


@given(st.lists(st.integers(0, 100), max_size=300), st.integers(4, 20), st.integers(4, 20))
def test_passes_leave_few_enough_runs_and_read_no_more_than_all_of_them_each_time(
    lengths: list[int], at_once: int, runs_max: int
) -> None:
    passes = Passes(at_once, runs_max)
    left, rounds = len(lengths), 0
    while groups := passes.groups(left):
        assert max(groups) <= at_once
        assert sum(groups) <= left
        left -= sum(groups) - len(groups)
        rounds += 1
    assert left <= max(runs_max, 1)
    assert left == min(len(lengths), runs_max)  # no more was brought together than it took
    runs = [RunSlice(0, 0, length, order) for order, length in enumerate(lengths)]
    assert 0 <= passes.share_read_before(runs) <= rounds


def test_one_run_too_many_costs_two_of_them() -> None:
    assert Passes(10, 10).groups(11) == [2]
    assert Passes(10, 10).groups(10) == []
    assert Passes(10, 10).groups(40) == [10, 10, 10, 4]
    assert Passes(25, 10).groups(30) == [21]
