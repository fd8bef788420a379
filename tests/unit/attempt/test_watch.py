"""The page follows the task while it runs, and nothing is written for a task that is over."""

from __future__ import annotations

import os

import pytest

from minireduce.attempt.progress import make_page
from minireduce.attempt.watch import Watch
from minireduce.engine.context import TaskContext


@pytest.fixture
def watch():
    page, descriptor = make_page()
    os.close(descriptor)
    yield Watch(page)
    page.close()


def test_the_place_is_that_of_the_record_in_work(watch):
    context = TaskContext()
    with watch.over(context, 40):
        records = context.walk(["a", "b", "c"], lambda index: 100 + index)
        next(records)
        next(records)
        context.bytes_read = 10
        context.status = "busy"
        watch.note()
        seen = watch.page.read()
    assert (seen.records, seen.offset, seen.fraction, seen.status) == (2, 101, 0.25, "busy")


def test_each_record_is_noted_before_it_is_handed_out_where_places_must_be_exact(watch):
    context = TaskContext()
    with watch.over(context, 0):
        walked = context.walk(["a", "b"], lambda index: 100 + index)
        places = [watch.page.read().offset for _ in watch.noting_each(walked)]
    assert places == [100, 101]


def test_nothing_is_written_between_tasks(watch):
    context = TaskContext()
    with watch.over(context, 0):
        next(context.walk(["a"], None))
    watch.page.clear(0)
    watch.note()
    assert watch.page.read().records == 0
