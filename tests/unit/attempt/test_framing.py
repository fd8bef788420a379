"""Messages between worker and task process arrive as they were sent, and a stream out of step is noticed."""

from __future__ import annotations

import socket

import pytest

from minireduce.attempt import framing
from minireduce.attempt.conversation import (
    Finished,
    Fork,
    FromTask,
    LoadProgram,
    MapTask,
    Raised,
    ReadRange,
    ReduceTask,
    RunFile,
    RunTask,
    StoredFile,
    ToTask,
    ToZygote,
)
from minireduce.core.spec import LocalFiles, LocalRange, Program
from minireduce.core.task_data import RecordPlace, TaskError, TaskOutput
from minireduce.core.work.bad_records import Care
from minireduce.errors import Corruption, InvariantViolation, RequestError
from minireduce.ids import AttemptId, TaskId, TaskKind

ATTEMPT = AttemptId(TaskId("job-000001-1", 0, TaskKind.MAP, 3), 1)
LOCAL = LocalFiles("machine", (LocalRange("/a", 0, 10, "10:1:2"), LocalRange("/b", 5, 6, "11:3:4")))


def run_task(work: MapTask | ReduceTask) -> RunTask:
    care = Care(is_place_exact=True, is_careful=True, skips=(RecordPlace(7, 120),))
    return RunTask(ATTEMPT, work, "/data", output_text=True, memory_limit_bytes=1 << 20, care=care)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ToTask, run_task(MapTask(LOCAL, 4))),
        (ToTask, run_task(MapTask(StoredFile("/x", 0, 5, 9), 0))),
        (ToTask, run_task(ReduceTask((RunFile("/m0", 7, 8, 0), RunFile("/m1", 0, 0, 1))))),
        (ToTask, LoadProgram(Program("source", b"\x00\xff", "ab", parameters=(("n", "1"),)))),
        (FromTask, Finished(TaskOutput(b"d", 9, 2, b"\x01\x00"), (("g", "n", 1),))),
        (FromTask, Raised(TaskError("raised", "ValueError", "no", offset=4))),
        (FromTask, ReadRange("/x", 1, 2)),
        (ToZygote, Fork(7, "nobody")),
    ],
)
def test_every_message_comes_out_as_it_went_in(kind, message):
    assert framing.decode(kind, framing.encode(message)) == message


def test_a_message_of_the_other_direction_is_refused():
    with pytest.raises(Corruption):
        framing.decode(FromTask, framing.encode(run_task(MapTask(LOCAL, 4))))


def test_messages_arrive_one_by_one_until_the_other_end_closes():
    ours, theirs = socket.socketpair()
    with theirs:
        task = framing.TaskSocket(theirs, ToTask)
        with ours:
            ours.sendall(framing.to_frame(LoadProgram(Program("source", b"x" * 1000, ""))))
            ours.sendall(framing.to_frame(run_task(MapTask(LOCAL, 1))))
            assert isinstance(task.receive(), LoadProgram)
            assert task.receive() == run_task(MapTask(LOCAL, 1))
            ours.sendall(b"\x00\x00")  # a length cut short by the worker's end
        assert task.receive() is None


def test_a_length_beyond_the_limit_is_a_stream_out_of_step():
    with pytest.raises(InvariantViolation, match="out of step"):
        framing.frame_length(b"\xff\xff\xff\xff")


def test_a_message_too_long_to_send_is_refused_before_it_leaves(monkeypatch):
    monkeypatch.setattr(framing, "FRAME_BYTES_MAX", 100)
    with pytest.raises(RequestError, match="over the limit of 100"):
        framing.to_frame(LoadProgram(Program("source", b"x" * 100, "")))
