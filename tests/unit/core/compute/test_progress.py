"""What a job has counted and how long it runs goes on where the last master stopped."""

from __future__ import annotations

from scenes.machine import FakeCluster

from minireduce.core.messages import AttemptFailed
from minireduce.core.task_data import TaskError
from minireduce.core.views import JobState


def own_counters(cluster, job):
    return {name: value for group, name, value in cluster.machine.views.job(job, cluster.now).counters if group != "g"}


def test_a_restarted_master_goes_on_counting_and_measuring_where_the_last_one_was():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=4, reducers=1)
    first, *others = worker.attempts()
    worker.say(AttemptFailed(first, TaskError("raised", "ValueError", "no")))
    worker.succeed(*others)
    cluster.pass_time(5, worker)
    before = own_counters(cluster, job)
    assert before["TOTAL_LAUNCHED_MAPS"] == 5
    restarted = cluster.restart()
    assert own_counters(restarted, job) == before
    assert restarted.machine.views.job(job, restarted.now).elapsed_s >= 4.0


def test_attempts_that_were_launched_after_the_last_look_are_made_up_for_from_what_became_of_them():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=4, reducers=0)
    first, second, *_ = worker.attempts()
    worker.say(AttemptFailed(first, TaskError("raised", "ValueError", "no")))
    worker.succeed(second)
    assert ("progress", (job,)) not in cluster.rows
    counted = own_counters(cluster.restart(), job)
    assert (counted["TOTAL_LAUNCHED_MAPS"], counted["NUM_FAILED_MAPS"]) == (2, 1)


def test_a_job_that_has_succeeded_took_as_long_after_a_restart_as_before():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=1, reducers=0)
    cluster.pass_time(7, worker)
    worker.succeed(*worker.attempts())
    assert cluster.state(job) is JobState.SUCCEEDED
    cluster.pass_time(50, worker)
    restarted = cluster.restart()
    restarted.now += 100
    assert restarted.machine.views.job(job, restarted.now).elapsed_s == 7.0


def test_nothing_is_written_of_a_job_that_does_not_move():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    cluster.submit(maps=1)
    cluster.pass_time(3, worker)
    written = len(cluster.commits)
    cluster.pass_time(30, worker)
    assert len(cluster.commits) == written
