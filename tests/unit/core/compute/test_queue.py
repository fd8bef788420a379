"""The tasks that wait for a slot: who is offered, whoever left the queue meanwhile."""

from __future__ import annotations

import pytest

from minireduce.core.compute.locality import Homes, Level, Spot
from minireduce.core.compute.queue import LOOK_AHEAD_TASKS_MAX, TaskQueue
from minireduce.core.compute.task import Task
from minireduce.ids import JobId, TaskId, TaskKind

HERE = Spot("here", "/rack")


def waiting(count: int) -> tuple[TaskQueue, list[Task]]:
    queue = TaskQueue()
    tasks = [Task(TaskId(JobId("job-00000a-1"), 0, TaskKind.MAP, n), 0, 1) for n in range(count)]
    for task in tasks:
        queue.push(task, Homes(("elsewhere",), ("/rack",)))
    return queue, tasks


@pytest.mark.parametrize("level", [Level.RACK, Level.ANY])
def test_a_worker_passes_over_unsuitable_tasks_only_and_not_over_those_that_have_left(level):
    queue, tasks = waiting(LOOK_AHEAD_TASKS_MAX + 10)
    for task in tasks[1:-1]:
        task.leave_queue()
    assert queue.choose(level, HERE, lambda task: task is not tasks[0]) is tasks[-1]
    assert queue.choose(level, HERE, lambda _: True) is tasks[0]


@pytest.mark.parametrize("level", [Level.RACK, Level.ANY])
def test_a_worker_for_which_the_first_are_unsuitable_gets_none(level):
    queue, tasks = waiting(LOOK_AHEAD_TASKS_MAX + 1)
    assert queue.choose(level, HERE, lambda task: task is tasks[-1]) is None
    assert queue.choose(level, HERE, lambda task: task is tasks[-2]) is tasks[-2]


def test_of_those_that_were_tried_before_only_such_as_wait_are_offered():
    queue, tasks = waiting(LOOK_AHEAD_TASKS_MAX + 10)
    for task in tasks:
        task.leave_queue()
        task.launch("w1", 0.0)
        queue.push(task)
    for task in tasks[1:-1]:
        task.leave_queue()
    assert queue.again() == [tasks[0], tasks[-1]]
