"""Each reason for which nothing of a job runs is told, and none while something of it does."""

from __future__ import annotations

import pytest
from scenes.machine import FakeCluster, stored_file, stored_splits

MIB = 1 << 20


def waits_for(cluster: FakeCluster, job: str) -> str:
    told: str = cluster.machine.views.job(job, cluster.now).waiting_for
    return told


def test_a_job_waits_for_a_worker_until_one_comes_and_then_for_nothing() -> None:
    cluster = FakeCluster()
    job = cluster.submit("k")
    assert waits_for(cluster, job) == "a worker: none is connected"
    cluster.worker("w1")
    assert waits_for(cluster, job) == ""


def test_a_job_says_that_all_slots_are_taken() -> None:
    cluster = FakeCluster()
    cluster.submit("first", maps=10)
    cluster.worker("w1", slots=1)
    assert waits_for(cluster, cluster.submit("second")) == "a free slot"


def test_a_job_says_that_a_slot_is_free_but_no_memory_and_how_much_it_lacks() -> None:
    cluster = FakeCluster()
    cluster.submit("first", maps=1, memory_bytes=3 * MIB)
    cluster.worker("w1", slots=4, memory_bytes=4 * MIB)
    second = cluster.submit("second", maps=1, memory_bytes=2 * MIB)
    assert waits_for(cluster, second) == "2 MiB of memory on a worker with a free slot"
    third = cluster.submit("third", maps=1, memory_bytes=5 * MIB)
    assert waits_for(cluster, third) == "a worker with 5 MiB of memory for a task: the largest, w1, has 4 MiB"


def test_a_job_says_for_how_long_it_lets_slots_pass_that_are_far_from_its_input() -> None:
    cluster = FakeCluster(rows=stored_file(1), locality_wait_node_s=3.0, locality_wait_rack_s=1.0)
    near = cluster.worker("near", slots=1, blocks=(1,), machine_id="m1", rack="/a")
    cluster.submit("first", maps=1, machine_id="m1")
    assert len(near.attempts()) == 1
    far = cluster.worker("far", slots=1, machine_id="m2", rack="/b")
    job = cluster.submit("second", splits=stored_splits(1))
    assert far.attempts() == []
    assert waits_for(cluster, job) == "a slot near its input, for 4.0 s more at most"
    cluster.pass_time(5, near, far)
    assert len(far.attempts()) == 1
    assert waits_for(cluster, job) == ""


@pytest.mark.parametrize("is_back", [False, True])
def test_after_a_restart_a_job_waits_for_the_workers_that_were_there(is_back: bool) -> None:
    cluster = FakeCluster()
    job = cluster.submit("k")
    cluster.worker("w1")
    restarted = cluster.restart()
    assert waits_for(restarted, job) == "workers that were there before the master restarted"
    if is_back:
        restarted.worker("w1")
        assert waits_for(restarted, job) == ""
