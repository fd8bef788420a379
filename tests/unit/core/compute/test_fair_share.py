"""Whose turn it is, and what is taken back: several jobs on a master that is driven by hand."""

from __future__ import annotations

import pytest
from scenes.machine import FakeCluster

from minireduce.core.compute.fair_share import divide
from minireduce.core.messages import AttemptStarted, KillAttempt
from minireduce.core.settings import QueueSettings
from minireduce.core.views import JobState
from minireduce.errors import RequestError


def jobs_of(attempts):
    return [attempt.task.job for attempt in attempts]


def view(cluster, job):
    return cluster.machine.views.job(job, cluster.now)


def test_what_one_claim_does_not_want_the_others_share_by_weight():
    assert divide(12, [(1, 100), (1, 2), (3, 100)]) == pytest.approx([2.5, 2, 7.5])
    assert divide(12, [(1, 1), (1, 2)]) == [1, 2]


def test_two_jobs_share_the_slots_by_weight():
    cluster = FakeCluster()
    light = cluster.submit("light", maps=20)
    heavy = cluster.submit("heavy", maps=20, weight=3.0)
    given = jobs_of(cluster.worker("w1", slots=8).attempts())
    assert (given.count(light), given.count(heavy)) == (2, 6)


def test_the_next_slot_goes_to_the_small_job_beside_the_large_one():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=2)
    cluster.submit("large", maps=1000)
    first, second = worker.attempts()
    small = cluster.submit("small", maps=10)
    worker.succeed(first)
    assert jobs_of(worker.attempts()) == [small]
    worker.succeed(second)
    assert jobs_of(worker.attempts()) != [small]


def test_queues_share_by_weight_whatever_jobs_they_hold():
    queues = (QueueSettings("default"), QueueSettings("night", weight=3.0))
    cluster = FakeCluster(queues=queues)
    for number in range(3):
        cluster.submit(f"d{number}", maps=20)
    night = cluster.submit("n", maps=20, queue="night")
    given = jobs_of(cluster.worker("w1", slots=8).attempts())
    assert given.count(night) == 6


def test_a_queue_uses_no_more_slots_than_it_may_have_and_its_jobs_say_so():
    cluster = FakeCluster(queues=(QueueSettings("default", slots_max=2),))
    first, second = (cluster.submit(key, maps=20, reducers=0) for key in "ab")
    worker = cluster.worker("w1", slots=8)
    attempts = worker.attempts()
    assert jobs_of(attempts) == [first, second]
    third = cluster.submit("c", maps=20)
    assert view(cluster, third).waiting_for == "a slot of its queue 'default', which has the 2 that it may have"
    worker.succeed(attempts[0])
    assert jobs_of(worker.attempts()) == [third]  # of two that have none the one that never had any


def test_a_job_for_a_queue_that_nobody_configured_is_refused():
    refused = FakeCluster().submit("k", queue="nigth")
    assert isinstance(refused, RequestError)
    assert "'nigth'" in refused.message


def test_the_higher_priority_goes_first_but_the_lower_one_gets_a_slot_now_and_then():
    cluster = FakeCluster(priority_wait_s=60.0)
    worker = cluster.worker("w1", slots=1)
    low = cluster.submit("low", maps=10, reducers=0)
    (running,) = worker.attempts()
    high = cluster.submit("high", maps=1000, reducers=0, priority=1)
    given = []
    for _ in range(130):
        worker.succeed(running)
        (running,) = worker.attempts()
        given.append(running.task.job)
        cluster.pass_time(1, worker)
    assert given.count(low) == 2
    assert given[0] == high


def preempting():
    """Two workers of two slots, all taken by one job, and a second job that wants its half."""
    cluster = FakeCluster(preempt_after_s=30.0)
    workers = [cluster.worker(name, slots=2) for name in ("w1", "w2")]
    large = cluster.submit("large", maps=100)
    for worker in workers:
        worker.say(*(AttemptStarted(attempt) for attempt in worker.attempts()))
    return cluster, workers, large, cluster.submit("small", maps=100)


def test_after_a_while_the_youngest_attempts_of_the_job_above_its_share_give_way():
    cluster, workers, large, small = preempting()
    cluster.pass_time(29, *workers)
    assert [kill for worker in workers for kill in worker.take(KillAttempt)] == []
    cluster.pass_time(3, *workers)
    killed = [kill.attempt.task.job for worker in workers for kill in worker.take(KillAttempt)]
    assert killed == [large, large]
    assert jobs_of(attempt for worker in workers for attempt in worker.attempts()) == [small, small]
    assert ("minireduce", "PREEMPTED_ATTEMPTS", 2) in view(cluster, large).counters
    assert view(cluster, large).errors == ()


def test_the_youngest_attempts_give_way_and_none_of_a_job_that_has_less_than_its_share():
    cluster = FakeCluster(preempt_after_s=30.0)
    cluster.submit("most", maps=100)
    workers = [cluster.worker("w1", slots=4)]
    assert len(workers[0].attempts()) == 4
    cluster.pass_time(5, *workers)
    workers.append(cluster.worker("w2", slots=2))
    youngest = workers[1].attempts()
    less = cluster.submit("less", maps=100)
    workers.append(cluster.worker("w3", slots=2))
    assert jobs_of(workers[2].attempts()) == [less, less]  # younger still, but of a job with less than its share
    hungry = cluster.submit("hungry", maps=100)
    cluster.pass_time(32, *workers)
    killed = [kill.attempt for worker in workers for kill in worker.take(KillAttempt)]
    assert sorted(killed) == sorted(youngest)
    assert jobs_of(attempt for worker in workers for attempt in worker.attempts()) == [hungry, hungry]


def test_the_job_that_is_most_above_its_share_gives_first():
    cluster = FakeCluster(preempt_after_s=30.0, preempted_per_tick_max=2)
    less = cluster.submit("less", maps=4)
    workers = [cluster.worker("w1", slots=4)]
    most = cluster.submit("most", maps=100)
    workers.append(cluster.worker("w2", slots=6))
    assert jobs_of(workers[0].attempts()) == [less] * 4
    assert jobs_of(workers[1].attempts()) == [most] * 6
    cluster.submit("hungry", maps=100, weight=2.0)  # its share is five, and two and a half are that of each other
    cluster.pass_time(31, *workers)
    killed = [kill.attempt for worker in workers for kill in worker.take(KillAttempt)]
    assert jobs_of(killed) == [most] * 2


def test_two_jobs_that_starve_at_once_are_given_slots_of_different_attempts():
    cluster = FakeCluster(preempt_after_s=5.0)
    worker = cluster.worker("w1", slots=6)
    cluster.submit("large", maps=100)
    hungry = [cluster.submit(key, maps=100) for key in ("a", "b")]
    assert len(worker.attempts()) == 6
    cluster.pass_time(7, worker)
    killed = [kill.attempt for kill in worker.take(KillAttempt)]
    assert len(set(killed)) == len(killed) == 4
    assert sorted(jobs_of(worker.attempts())) == sorted(hungry * 2)


def test_what_was_taken_back_is_not_taken_back_again():
    cluster, workers, *_ = preempting()
    cluster.pass_time(32, *workers)
    assert sum(len(worker.take(KillAttempt)) for worker in workers) == 2
    cluster.pass_time(200, *workers)
    assert sum(len(worker.take(KillAttempt)) for worker in workers) == 0


def test_nobody_is_killed_for_a_job_that_could_not_use_the_slot():
    cluster = FakeCluster(preempt_after_s=5.0)
    worker = cluster.worker("w1", slots=4)
    cluster.submit("large", maps=100)
    cluster.submit("elsewhere", maps=100, machine_id="m2")
    cluster.pass_time(60, worker)
    assert worker.take(KillAttempt) == []


def test_a_job_that_is_not_done_in_time_fails_and_says_so():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit("k", time_limit_s=20.0)
    cluster.pass_time(20, worker)
    assert cluster.state(job) is JobState.RUNNING
    cluster.pass_time(1, worker)
    assert cluster.state(job) is JobState.FAILED
    assert view(cluster, job).reason == "it was not done within its time limit of 20 s"


def served_in_turn(cluster, rounds=6):
    """To which jobs a single slot goes, each time it comes free."""
    worker = cluster.worker("w1", slots=1)
    served = []
    for _ in range(rounds):
        (attempt,) = worker.attempts()
        served.append(attempt.task.job)
        cluster.pass_time(1.0, worker)
        worker.succeed(attempt)
    return served


def test_two_jobs_take_turns_at_a_single_slot():
    cluster = FakeCluster()
    first, second = (cluster.submit(key, maps=20, reducers=0) for key in "ab")
    assert served_in_turn(cluster) == [first, second] * 3


def test_two_queues_take_turns_at_a_single_slot():
    cluster = FakeCluster(queues=(QueueSettings("a"), QueueSettings("b")))
    first, second = (cluster.submit(key, maps=20, reducers=0, queue=key) for key in "ab")
    assert served_in_turn(cluster) == [first, second] * 3
