"""Many alike travel as one, and nobody can tell from what arrives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.core.messages import AttemptKilled, AttemptSucceeded, Down, DropJob, LaunchAttempt, Up
from minireduce.core.spec import NumberRange
from minireduce.core.task_data import LargestKey, PartitionInput, RecordPlace, TaskOutput
from minireduce.errors import RequestError
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.proto import messages_pb2
from minireduce.wire.codec import decode, encode

JOBS = ("job-abcdef-1", "job-abcdef-2")


def _attempt(index: int, job: str = JOBS[0], kind: TaskKind = TaskKind.MAP) -> AttemptId:
    return AttemptId(TaskId(job, 0, kind, index), index % 3)


def _end(index: int, **changes: Any) -> AttemptSucceeded:
    end = AttemptSucceeded(_attempt(index), TaskOutput(b"d" * 16, 0, 0), (("g", "n", 1),), busy_s=index / 8)
    return replace(end, **changes)


ENDS = st.builds(
    _end,
    st.integers(0, 5),
    attempt=st.builds(_attempt, st.integers(0, 9), st.sampled_from(JOBS), st.sampled_from(TaskKind)),
    output=st.sampled_from([TaskOutput(b"d" * 16, 0, 0), TaskOutput(b"e" * 16, 9, 1)]),
    counters=st.sampled_from([(), (("g", "n", 1),)]),
    input_bytes=st.integers(0, 1),
    largest_key=st.sampled_from([None, None, LargestKey("k", 1, 0.5)]),
)
LAUNCHES = st.builds(
    LaunchAttempt,
    st.builds(_attempt, st.integers(0, 9), st.sampled_from(JOBS), st.sampled_from(TaskKind)),
    st.sampled_from([NumberRange(0, 1), NumberRange(5, 9), PartitionInput(0, 3)]),
    st.sampled_from([False, False, True]),
    st.sampled_from([(), (), (RecordPlace(1, 2),)]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ENDS | st.just(AttemptKilled(_attempt(0))), max_size=12))
def test_reports_arrive_as_they_were_said_whatever_travelled_together(reports):
    up = Up(1, 2, 3, tuple(reports))
    assert decode(Up, encode(up)) == up


@settings(max_examples=200, deadline=None)
@given(st.lists(LAUNCHES | st.just(DropJob(JOBS[0])), max_size=12))
def test_commands_arrive_as_they_were_said_whatever_travelled_together(commands):
    down = Down(1, 2, 3, tuple(commands))
    assert decode(Down, encode(down)) == down


def test_a_hundred_ends_that_are_alike_take_one_report_of_the_message():
    message = messages_pb2.Up.FromString(encode(Up(1, 1, 0, tuple(map(_end, range(100))))))
    assert len(message.reports) == 1


def test_columns_of_different_lengths_are_refused():
    message = messages_pb2.Up.FromString(encode(Up(1, 1, 0, (_end(0), _end(1)))))
    message.reports[0].attempts_succeeded.numbers.append(7)
    with pytest.raises(RequestError):
        decode(Up, message.SerializeToString())
