"""Unit tests of minireduce.core.compute.load."""

from __future__ import annotations

from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.task import Attempt, AttemptState, Task
from minireduce.ids import AttemptId, TaskId, TaskKind

JOB, OTHER = "job-3f9a01-1", "job-3f9a01-2"


def place(load: WorkerLoad, job: str, step: int, kind: TaskKind, index: int) -> Attempt:
    task = Task(TaskId(job, step, kind, index), 0, 0)
    attempt = Attempt(AttemptId(task.id, 0), "worker-1", 0.0)
    load.add(task, attempt)
    return attempt


def test_only_reduces_of_the_same_step_keep_a_reduce_from_gathering():
    load = WorkerLoad(slots=2)
    place(load, JOB, 1, TaskKind.REDUCE, 0)
    place(load, OTHER, 0, TaskKind.REDUCE, 0)
    place(load, JOB, 0, TaskKind.MAP, 0)
    assert load.gathering_for(JOB, 0) == 0
    started = place(load, JOB, 0, TaskKind.REDUCE, 0)
    place(load, JOB, 0, TaskKind.REDUCE, 1)
    assert load.gathering_for(JOB, 0) == 2
    load.start(Task(started.id.task, 0, 0))
    started.become(AttemptState.RUNNING, 1.0)
    assert load.gathering_for(JOB, 0) == 1
    assert load.slots_used == 2
