"""Workers get short tasks ahead of their slots, as many as last a moment, and nobody waits for that."""

from __future__ import annotations

from scenes.machine import FakeCluster

from minireduce.core.messages import AttemptReturned, AttemptSucceeded
from minireduce.core.settings import QueueSettings
from minireduce.core.task_data import TaskOutput
from minireduce.core.views import JobState

SHORT_S = 0.01


def end(worker, *attempts, busy_s=SHORT_S):
    """These attempts end, having taken so long; gives back what the worker is given then."""
    worker.say(*(AttemptSucceeded(a, TaskOutput(b"d", 10, 1), (), busy_s=busy_s) for a in attempts))
    return worker.attempts()


def begun(cluster, maps=100, slots=2, busy_s=SHORT_S, **more):
    """A worker with a job whose first task took so long, and what it was given then."""
    worker = cluster.worker("w1", slots=slots)
    cluster.submit(maps=maps, reducers=0, **more)
    first, *others = worker.attempts()
    assert len(others) == slots - 1
    return worker, [*others, *end(worker, first, busy_s=busy_s)]


def test_a_slot_gets_ahead_what_is_expected_to_last_a_moment():
    cluster = FakeCluster(ahead_s=0.1)
    worker, given = begun(cluster)
    assert len(given) == 2 + 2 * 10
    assert len(end(worker, *given[:12])) == 12


def test_a_worker_that_has_enough_ahead_is_not_told_of_a_few_tasks_at_a_time():
    cluster = FakeCluster(ahead_s=0.1)
    worker, given = begun(cluster)
    assert end(worker, *given[:9]) == []
    assert len(end(worker, given[9])) == 10


def test_tasks_that_are_not_short_or_of_unknown_length_go_to_free_slots_only():
    for busy_s in (0.0, 0.2):
        _, given = begun(FakeCluster(ahead_s=0.1), busy_s=busy_s)
        assert len(given) == 2


def test_there_is_a_limit_to_what_goes_ahead():
    _, given = begun(FakeCluster(ahead_s=0.1, ahead_tasks_max=5))
    assert len(given) == 2 + 2 * 5


def test_another_job_gets_the_next_slot_though_tasks_wait_to_go_ahead():
    cluster = FakeCluster(ahead_s=0.1)
    worker, given = begun(cluster, slots=2)
    other = cluster.submit("other", maps=1, reducers=0)
    assert end(worker, *given[:-2]) == []
    first, *ahead = end(worker, given[-2])
    assert first.task.job == other
    assert {attempt.task.job for attempt in ahead} == {given[0].task.job}


def test_jobs_without_a_slot_come_first_to_what_goes_ahead():
    cluster = FakeCluster(ahead_s=0.1)
    worker = cluster.worker("w1", slots=1)
    jobs = [cluster.submit(key, maps=100, reducers=0) for key in "abc"]
    given, met = worker.attempts(), set()
    while met != set(jobs):  # then it is known of each that its tasks are short
        met |= {attempt.task.job for attempt in given}
        given = end(worker, *given)
    given = end(worker, *given)
    assert {attempt.task.job for attempt in given[:3]} == set(jobs)


def test_what_a_worker_returns_goes_to_another_and_counts_for_nothing():
    cluster = FakeCluster(ahead_s=0.1)
    worker, given = begun(cluster, maps=12, slots=1)
    two = cluster.worker("w2", slots=1)
    assert two.attempts() == []
    cluster.now += 1.0
    worker.say(*(AttemptReturned(attempt) for attempt in given[1:]))
    (again,) = two.attempts()
    assert again.task == given[1].task
    assert [each.state for each in cluster.machine.views.task(again.task, cluster.now).attempts] == [
        "returned",
        "running",
    ]
    left = [given[0], *worker.attempts()]
    assert left == [given[0]]  # they are not as short as they seemed: nothing goes ahead now
    done = end(worker, *left, busy_s=1.0)
    while done or again:
        done = end(worker, *done, busy_s=1.0) if done else []
        again = end(two, again, busy_s=1.0) if again else None
        again = again[0] if again else None
    assert {view.state for view in cluster.machine.views.jobs(cluster.now)} == {JobState.SUCCEEDED}


def test_a_repeated_return_changes_nothing():
    cluster = FakeCluster(ahead_s=0.1)
    worker, given = begun(cluster, slots=1)
    worker.say(AttemptReturned(given[-1]))
    before = worker.attempts()
    worker.say(AttemptReturned(given[-1]))
    assert worker.attempts() == []
    assert all(attempt.task != given[-1].task or attempt.number > given[-1].number for attempt in before)


def test_a_queue_gets_no_more_ahead_than_it_may_have_slots():
    queues = (QueueSettings("default", slots_max=5),)
    worker, given = begun(FakeCluster(ahead_s=0.1, queues=queues))
    assert len(given) == 5
    assert len(end(worker, *given[:2])) == 2
