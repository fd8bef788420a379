"""Two attempts of a deterministic map agree on the digest of their pairs, however much memory each of them had.

On this rests what the master does when digests differ: it takes the map function for one that is not deterministic.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from minireduce import Agg, Collect, Count, Distinct, First, Job, Max, Mean, Min, Sum, TopK
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.map import run_map
from minireduce.engine.workplace import Workplace

RNG = random.Random(3)
WORDS = [f"w{RNG.randint(0, 12)}" for _ in range(400)]
NUMBERS = [
    RNG.choice([RNG.uniform(-1e3, 1e3), 10.0 ** RNG.randint(-30, 30), -(10.0 ** RNG.randint(-30, 30))]) for _ in WORDS
]


def floats(index):
    yield WORDS[index], NUMBERS[index]


def ints(index):
    yield WORDS[index], index % 7 - 3


def summed(key, values):
    yield key, sum(values)


REDUCERS = {
    "plain": Job(ints, summed),
    "combined": Job(ints, summed, combine=summed),
    "grouped": Job(ints, summed, sort=False),
    "values sorted": Job(ints, summed, sort_values=True),
    "sum of ints": Job(ints, Sum()),
    "sum of floats": Job(floats, Sum()),
    "mean of floats": Job(floats, Mean()),
    "extremes": Job(floats, Agg(least=Min(), most=Max(), n=Count())),
    "top": Job(ints, TopK(3)),
    "distinct": Job(ints, Distinct()),
    "first": Job(floats, First()),
    "collected": Job(floats, Collect()),
    "several": Job(floats, Agg(total=Sum(), mean=Mean(), top=TopK(2))),
}


def digest(job, directory: Path, limit: int) -> tuple[bytes, int]:
    directory.mkdir()
    context = TaskContext()
    made = run_map(
        job.steps[0], range(len(WORDS)), 3, Workplace(directory, "part", "pairs", limit, context, RealDisk())
    )
    return made.digest, context.counters.get(("minireduce", "SPILLED_RECORDS"), 0)


@pytest.mark.parametrize("name", REDUCERS)
def test_how_often_a_map_spilled_does_not_show_in_its_digest(name, tmp_path):
    job = REDUCERS[name]
    whole, spilled = digest(job, tmp_path / "whole", 1 << 30)
    assert spilled == 0
    for limit in (1_000, 3_000):
        cut, spilled = digest(job, tmp_path / str(limit), limit)
        assert cut == whole, limit
        assert spilled > 0, limit
