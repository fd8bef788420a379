"""Reduces go where most of their input is, when that is skewed."""

from __future__ import annotations

from scenes.machine import FakeCluster

from minireduce.core.messages import AttemptSucceeded
from minireduce.core.task_data import TaskOutput
from minireduce.ids import TaskKind


def reduces_of(worker):
    return [attempt.task.index for attempt in worker.attempts() if attempt.task.kind is TaskKind.REDUCE]


def placed(sizes):
    """Where two reduces go when each of three workers made one map output with these sizes (log2) of the partitions."""
    cluster = FakeCluster(reduce_start_fraction=1.0)
    workers = [cluster.worker(f"w{n}", slots=1, machine_id=f"m{n}") for n in range(3)]
    cluster.submit(maps=3, reducers=2, machine_id="")
    for worker, size in zip(workers, sizes, strict=True):
        worker.say(*(AttemptSucceeded(a, TaskOutput(b"d", 10, 1, bytes(size)), ()) for a in worker.attempts()))
    return {worker.name: reduces_of(worker) for worker in workers}


def test_a_reduce_goes_to_the_worker_that_holds_most_of_its_partition():
    assert placed([(20, 30), (20, 20), (30, 20)]) == {"w0": [1], "w1": [], "w2": [0]}


def test_a_few_bytes_are_worth_no_detour():
    assert placed([(1, 10), (1, 1), (10, 1)]) == {"w0": [0], "w1": [1], "w2": []}


def test_without_skew_the_least_busy_workers_take_them():
    assert placed([(10, 10)] * 3) == {"w0": [0], "w1": [1], "w2": []}
