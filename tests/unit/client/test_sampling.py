"""Where the records are taken from by which ranges of keys are chosen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from minireduce import Count, Identity, Job, Numbers, Pairs, Range, Sum, columns
from minireduce.client.inputs import InputFile, Inputs
from minireduce.client.sampling import choose
from minireduce.client.stored_inputs import StoredFile
from minireduce.engine.read import read_pairs, sampled_pairs


def first(line):
    yield line, 1


def test_a_stored_file_is_sampled_in_the_store_and_a_local_one_here():
    opened = []

    def open_file(name):
        opened.append(name)
        return io.BytesIO(b"a\nb\nc\nd\n")

    inputs = Inputs((StoredFile("/logs/x", 8, 5), InputFile("/home/y", 8, "f")), 0)
    bounds = choose(Job(first, Count(), partition=Range(), reducers=2), inputs, 2, open_file)
    assert set(opened) == {"mr:///logs/x", "/home/y"}
    assert len(bounds) == 1


def by_count(word, count):
    yield count, word


def by_count_in_columns(batch):
    return columns.pairs(batch["value"], batch["key"])


@pytest.mark.parametrize(
    "make",
    [
        lambda words: Job(by_count, Identity(), input=words, partition=Range()),
        lambda words: Job(map_batch=by_count_in_columns, reduce=Identity(), input=words, partition=Range()),
    ],
    ids=["records", "columns"],
)
def test_an_earlier_result_is_sampled_and_sorted_through_all_parts(make):
    words = Job(lambda n: [(f"w{n % 3001}", n)], Sum(), input=Numbers(30_000)).run(inline=True, reducers=3)
    found = make(words).run(inline=True, reducers=4)
    assert list(found) == sorted((total, word) for word, total in words)
    shares = [
        len(list(read_pairs(io.BytesIO(path.read_bytes()), name=path.name))) / 3001 for path in found.part_files()
    ]
    assert len(shares) == 4
    assert max(shares) < 0.4


def test_frames_are_taken_from_all_of_a_part_and_no_more_than_asked_for():
    made = Job(lambda n: [(n, "x" * 90)], Identity(), input=Numbers(60_000)).run(inline=True, reducers=1)
    path = Path(made.part_files()[0])
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        every = list(sampled_pairs(stream, "part", 1, allow_pickle=False))
        some = list(sampled_pairs(stream, "part", size_bytes // 5, allow_pickle=False))
    assert sum(map(len, every)) == 60_000
    assert len(every) > 15
    assert 4 <= len(some) <= 6
    assert some[0][0][0] == 0
    assert some[-1][0][0] > 40_000


def test_a_part_that_cannot_be_read_leaves_the_bounds_to_the_others():
    inputs = Inputs((), 0, parts=(InputFile("/absent", 9, "f"), InputFile("/damaged", 9, "f")))

    def open_file(name):
        if name == "/absent":
            raise FileNotFoundError(name)
        return io.BytesIO(b"no part at all")

    assert choose(Job(by_count, Count(), input=Pairs(), partition=Range()), inputs, 2, open_file) == ()
