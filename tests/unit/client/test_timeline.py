"""Attempts in rows, and the trace that is made of them."""

from __future__ import annotations

import json
from itertools import pairwise

from minireduce.client.timeline import lay_out, to_trace
from minireduce.core.spec import OutputKind
from minireduce.core.views import AttemptView, JobState, JobView, TaskView
from minireduce.ids import AttemptId, TaskId, TaskKind

JOB = JobView("job-3f9a01-1", "words", JobState.SUCCEEDED, OutputKind.TEXT, "/out", 0.0, 9.0, 1.0, (), ())


def task(index, *attempts, kind=TaskKind.MAP):
    """(worker, launched, started, ended, state) for each attempt."""
    name = TaskId(JOB.job, 0, kind, index)
    views = tuple(
        AttemptView(AttemptId(name, number), worker, state, 1.0, ended - launched, "", False, launched, started)
        for number, (worker, launched, started, ended, state) in enumerate(attempts)
    )
    return TaskView(name, "done", views)


def rows(bars):
    return [(b.worker, b.is_waiting, b.row, b.attempt.attempt.task.index, b.begin_s, b.end_s) for b in bars]


def test_attempts_that_overlap_take_a_row_each_and_a_free_row_is_used_again():
    bars = lay_out(
        [
            task(0, ("w1", 0.0, 0.0, 3.0, "succeeded")),
            task(1, ("w1", 0.0, 0.0, 1.0, "succeeded")),
            task(2, ("w1", 1.0, 1.0, 2.0, "succeeded")),
            task(3, ("w2", 0.0, 0.0, 1.0, "failed"), ("w1", 2.0, 2.0, 4.0, "succeeded")),
        ]
    )
    assert rows(bars) == [
        ("w1", False, 0, 0, 0.0, 3.0),
        ("w1", False, 1, 1, 0.0, 1.0),
        ("w1", False, 1, 2, 1.0, 2.0),
        ("w1", False, 1, 3, 2.0, 4.0),
        ("w2", False, 0, 3, 0.0, 1.0),
    ]


def test_the_time_in_which_an_attempt_waits_for_its_input_takes_no_slot():
    bars = lay_out(
        [
            task(0, ("w1", 0.0, 2.0, 3.0, "succeeded"), kind=TaskKind.REDUCE),
            task(1, ("w1", 0.0, -1.0, 2.5, "lost"), kind=TaskKind.REDUCE),
        ]
    )
    assert rows(bars) == [
        ("w1", False, 0, 0, 2.0, 3.0),
        ("w1", True, 0, 0, 0.0, 2.0),
        ("w1", True, 1, 1, 0.0, 2.5),
    ]


def test_the_trace_has_a_named_thread_for_each_row_and_no_two_slices_of_it_overlap():
    tasks = [
        task(index, (f"w{index % 3}", index / 10, index / 10 + 0.05, index / 10 + 0.3, "succeeded"))
        for index in range(60)
    ]
    trace = json.loads(json.dumps(to_trace(JOB, lay_out(tasks))))
    events = trace["traceEvents"]
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    assert {(event["pid"], event["tid"]) for event in slices} == named
    assert len([event for event in slices if not event["name"].startswith("waits")]) == 60
    for row in named:
        own = sorted((e["ts"], e["ts"] + e["dur"]) for e in slices if (e["pid"], e["tid"]) == row)
        assert all(before[1] <= after[0] for before, after in pairwise(own))


def test_how_an_attempt_ended_is_seen_in_its_colour():
    states = ["succeeded", "failed", "lost", "killed", "running"]
    tasks = [task(index, ("w1", index, index, index + 1, state)) for index, state in enumerate(states)]
    slices = [event for event in to_trace(JOB, lay_out(tasks))["traceEvents"] if event["ph"] == "X"]
    assert [event["cat"] for event in slices] == states
    assert len({event["cname"] for event in slices}) == len(states)
