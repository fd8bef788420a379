"""The page follows the task while it runs, and nothing is written for a task that is over."""

from __future__ import annotations

import os

import pytest

from minireduce.attempt.progress import make_page
from minireduce.attempt.watch import Watch
from minireduce.core.task_data import LargestKey
from minireduce.engine import keys
from minireduce.engine.context import LargestGroup, TaskContext


@pytest.fixture
def watch():
    page, descriptor = make_page()
    os.close(descriptor)
    yield Watch(page)
    page.close()


def test_the_place_is_that_of_the_record_in_work(watch):
    context = TaskContext()
    with watch.over(context, 40):
        records = context.walk(["a", "b", "c"], lambda index: 100 + index, size_bytes=30)
        next(records)
        next(records)
        context.status = "busy"
        watch.note()
        seen = watch.page.read()
    assert (seen.records, seen.offset, seen.fraction, seen.status) == (2, 101, 0.25, "busy")


def test_each_record_is_noted_before_it_is_handed_out_where_places_must_be_exact(watch):
    context = TaskContext(marks=watch.page.marks, on_each=watch.note_record)
    with watch.over(context, 0):
        walked = context.walk(["a", "b"], lambda index: 100 + index)
        seen = [watch.page.read() for _ in walked]
    assert [(page.mark, page.offset, page.proof, page.record) for page in seen] == [
        (0, 100, 100, "'a'"),
        (1, 101, 101, "'b'"),
    ]


def test_a_record_that_is_in_work_for_two_looks_is_shown_since_it_may_never_end(watch):
    context = TaskContext(marks=watch.page.marks)
    with watch.over(context, 0):
        walked = context.walk(["a", "b"], lambda index: 100 + index)
        next(walked)
        watch.look()
        next(walked)
        watch.look()
        assert watch.page.read().record == ""
        watch.look()
        seen = watch.page.read()
    assert (seen.mark, seen.proof, seen.record) == (1, 101, "'b'")


def test_the_mark_is_that_of_the_record_in_work_without_anybody_noting_it(watch):
    context = TaskContext(marks=watch.page.marks)
    with watch.over(context, 0):
        marks = [watch.page.read().mark for block in (["a", "b"], ["c"]) for _ in context.walk(block)]
    assert marks == [0, 1, 2]


def test_quick_records_share_the_mark_of_their_block_and_slow_ones_have_one_each(watch, monkeypatch):
    context = TaskContext(marks=watch.page.marks)
    with watch.over(context, 0):
        seen = []
        for limit_s, block in ((1e9, ["a", "b"]), (1e9, ["c", "d", "e"]), (0.0, ["f", "g"])):
            monkeypatch.setattr("minireduce.engine.context.MARKED_TOGETHER_S", limit_s)
            for _ in context.walk(block):
                page = watch.page.read()
                seen.append((page.mark, page.marked))
    assert seen == [(0, 1), (1, 1), (2, 3), (2, 3), (2, 3), (5, 1), (6, 1)]


def test_a_process_that_user_code_ends_tells_which_of_the_records_under_a_mark_it_was(watch, monkeypatch):
    monkeypatch.setattr("minireduce.engine.context.MARKED_TOGETHER_S", 1e9)
    context = TaskContext(marks=watch.page.marks)
    with watch.over(context, 0):
        list(context.walk(["a"]))
        records = context.walk(["b", "c", "d"], lambda index: 100 + index)
        next(records)
        next(records)
        watch.note_last()
        seen = watch.page.read()
        assert (seen.mark, seen.marked, seen.offset) == (2, 1, 101)
        with context.between_records():
            watch.note_last()
            assert watch.page.read().mark == -1


def test_each_look_is_counted_so_that_a_worker_can_tell_what_is_said_still_holds(watch):
    with watch.over(TaskContext(), 0):
        watch.look()
        watch.look()
        assert watch.page.read().looks == 2


def test_the_place_of_an_earlier_record_is_not_told_for_that_of_the_marked_one(watch):
    context = TaskContext(marks=watch.page.marks)
    with watch.over(context, 0):
        walked = context.walk(["a", "b"], lambda index: 100 + index)
        next(walked)
        watch.note_record()
        next(walked)
        seen = watch.page.read()
    assert (seen.mark, seen.offset, seen.proof, seen.record) == (1, -1, 0, "")


def test_no_record_is_marked_during_work_between_records(watch):
    context = TaskContext(marks=watch.page.marks)
    with watch.over(context, 0):
        next(context.walk(["a", "b"]))
        with context.between_records():
            assert watch.page.read().mark == -1
        assert watch.page.read().mark == 0


def test_nothing_is_written_between_tasks(watch):
    context = TaskContext()
    with watch.over(context, 0):
        next(context.walk(["a"], None))
    watch.page.clear(0)
    watch.note()
    assert watch.page.read().records == 0


def test_a_key_with_much_of_its_partition_is_told_with_its_share_and_a_small_one_is_not(watch):
    context = TaskContext(largest=LargestGroup(1000))
    with watch.over(context, 1000):
        context.largest.meet(keys.sortable_all(["few"])[0], 3, 50.0)
        watch.note()
        assert watch.page.read().largest_key is None
        context.largest.meet(keys.sortable_all(["many"])[0], 700, 600.0)
    assert watch.page.read().largest_key == LargestKey("'many'", 700, 0.6)
    with watch.over(TaskContext(), 10):
        assert watch.page.read().largest_key is None


def test_what_a_finished_task_read_is_on_the_page_without_waiting_for_a_look(watch):
    context = TaskContext()
    with watch.over(context, 10):
        list(context.walk(["a"], size_bytes=5))
        context.walk([], size_bytes=5)
    assert watch.page.read().fraction == 0.5
