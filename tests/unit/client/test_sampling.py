"""Where the records are taken from by which ranges of keys are chosen."""

from __future__ import annotations

import io

from minireduce import Count, Job, Range
from minireduce.client.inputs import InputFile, Inputs
from minireduce.client.sampling import choose
from minireduce.client.stored_inputs import StoredFile


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
