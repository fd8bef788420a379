"""Kernels by their names: the same as those of `pyarrow.compute`, which no usual job has a task load."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from minireduce.engine import kernels

TEXTS = pa.array(["b", "", "ä", "b", "a\0", "a"])


def test_they_give_what_the_functions_of_pyarrow_give() -> None:
    assert kernels.sort_indices(TEXTS).equals(pc.array_sort_indices(TEXTS))
    assert kernels.cast(TEXTS, pa.large_binary()).equals(TEXTS.cast(pa.large_binary()))
    assert kernels.call("take", TEXTS, pa.array([5, 0])).equals(TEXTS.take(pa.array([5, 0])))
    assert kernels.call("value_counts", TEXTS).equals(TEXTS.value_counts())
    assert kernels.call("dictionary_encode", TEXTS).equals(TEXTS.dictionary_encode())
    assert kernels.call("not_equal", TEXTS[1:], TEXTS[:-1]).equals(pc.not_equal(TEXTS[1:], TEXTS[:-1]))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        kernels.cast(pa.array(np.array([1.5])), pa.int64())


PROGRAM = """
import sys
from minireduce import Bytes, FixedWidth, Identity, Job, Range, Sum, columns

def words(batch):
    return columns.pairs(columns.words(batch["line"]), 1)

def cut(batch):
    return columns.pairs(columns.cut(batch["record"], 0, 10), columns.cut(batch["record"], 10, 100))

def each(line):
    for word in line.split():
        yield word, 1

jobs = {
    "words": Job(map_batch=words, reduce=Sum()),
    "records": Job(each, reduce=Sum()),
    "sort": Job(
        map_batch=cut, reduce=Identity(), input=FixedWidth(100), output=FixedWidth(100), partition=Range()
    ),
}
job = jobs[sys.argv[1]].run(sys.argv[2], output=sys.argv[3], inline=True, reducers=2)
job.close()
print("pyarrow.compute" in sys.modules, "pyarrow._compute" in sys.modules)
"""


@pytest.mark.parametrize("lane", ["words", "records", "sort"])
def test_tasks_do_not_load_a_function_for_each_kernel(lane: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(lane)
    if lane == "sort":
        content = np.random.default_rng(1).integers(0, 256, 100 * 20_000, np.uint8).tobytes()
    else:
        content = b"".join(b"%d %d\n" % (number, -number) for number in range(100_000))
    (folder / "input").write_bytes(content)
    arguments = [sys.executable, "-c", PROGRAM, lane, str(folder / "input"), str(folder / "out")]
    found = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "True"]
