"""The page through which a worker watches a task."""

from __future__ import annotations

import os

from minireduce.attempt.progress import STATUS_BYTES_MAX, ProgressPage, make_page


def test_what_one_side_writes_the_other_reads():
    worker, descriptor = make_page()
    task = ProgressPage(descriptor)
    os.close(descriptor)
    task.clear(1000)
    task.at_input(2)
    task.at_record(7, 512)
    task.has_read(250)
    task.say("half way")
    seen = worker.read()
    assert (seen.records, seen.offset, seen.input_index, seen.fraction) == (7, 512, 2, 0.25)
    assert seen.status == "half way"
    task.close()
    worker.close()


def test_a_new_task_forgets_the_place_of_the_one_before_but_still_beats():
    page, descriptor = make_page()
    os.close(descriptor)
    page.at_record(9, 9)
    page.say("old")
    beats = page.read().beats
    page.clear(0)
    seen = page.read()
    assert (seen.records, seen.offset, seen.status, seen.fraction) == (0, -1, "", 0.0)
    assert seen.beats > beats
    page.close()


def test_a_long_status_is_cut_to_its_limit():
    page, descriptor = make_page()
    os.close(descriptor)
    page.say("ö" * 1000)
    assert page.read().status == "ö" * (STATUS_BYTES_MAX // 2)
    page.close()
