"""The attempts of jobs that have ended: what is kept of them, for how long."""

from __future__ import annotations

import pytest
from scenes.machine import FakeCluster, FakeWorker

from minireduce.core.compute.history import TABLE, merge_tasks, read_tasks
from minireduce.core.messages import AttemptFailed, AttemptLost, AttemptStarted, AttemptSucceeded
from minireduce.core.requests import CloseResult, KillJob
from minireduce.core.task_data import TaskError, TaskOutput


def history(cluster, job):
    rows = [row for (table, key), row in sorted(cluster.rows.items()) if table == TABLE and key[0] == job]
    return read_tasks(rows)


def ended_job(cluster, worker, key="k", maps=2, failures=0):
    """A map-only job that took two seconds, some of its maps at the second attempt."""
    job = cluster.submit(key, maps=maps, reducers=0, attempts_max=9)
    attempts = worker.attempts()
    for attempt in attempts:
        worker.say(AttemptStarted(attempt))
    cluster.pass_time(2, worker)
    for attempt in attempts[:failures]:
        worker.say(AttemptFailed(attempt, TaskError("raised", "ValueError", "bad")))
    worker.succeed(*attempts[failures:], *worker.attempts())
    assert cluster.ask(CloseResult(job)) is None
    return job


def test_who_tried_what_when_and_how_it_ended_is_kept_of_an_ended_job():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=9)
    job = ended_job(cluster, worker, failures=1)
    first, second = history(cluster, job)
    assert [(a.state, a.worker, a.message, a.launched_at_s, a.started_at_s, a.elapsed_s) for a in first.attempts] == [
        ("failed", "w1", "ValueError: bad", 0.0, 0.0, 2.0),
        ("succeeded", "w1", "", 2.0, -1.0, 0.0),
    ]
    assert [a.state for a in second.attempts] == ["succeeded"]
    assert (first.state, second.state) == ("done", "done")


def test_a_killed_job_keeps_what_ran_when_it_was_killed():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=3)
    cluster.pass_time(3, worker)
    cluster.ask(KillJob(job, "enough"))
    tasks = history(cluster, job)
    assert [(a.state, a.elapsed_s) for task in tasks for a in task.attempts] == [("killed", 3.0)] * 2
    assert {task.state for task in tasks} == {"pending"}


def test_beyond_the_limit_of_a_job_those_that_succeeded_are_left_out_first():
    cluster = FakeCluster(job_history_max=4)
    worker = cluster.worker("w1", slots=9)
    job = ended_job(cluster, worker, maps=6, failures=3)
    states = [attempt.state for task in history(cluster, job) for attempt in task.attempts]
    assert sorted(states) == ["failed", "failed", "failed", "succeeded"]
    assert cluster.machine.views.attempts_left_out(job, cluster.now) == 5


def test_beyond_the_limit_of_all_jobs_the_earliest_go_and_a_restart_does_not_forget_how_much_there_is():
    settings = {"history_max": 5}
    cluster = FakeCluster(**settings)
    worker = cluster.worker("w1", slots=9)
    jobs = [ended_job(cluster, worker, f"key {number}") for number in range(3)]
    assert [len(history(cluster, job)) for job in jobs] == [0, 2, 2]
    again = FakeCluster(cluster.rows, epoch=2, txid=1000, **settings)
    worker = again.worker("w1", slots=9)
    jobs.append(ended_job(again, worker, "key 3"))
    assert [len(history(again, job)) for job in jobs] == [0, 0, 2, 2]


def test_the_history_of_a_job_goes_with_it():
    cluster = FakeCluster(jobs_kept_max=1)
    worker = cluster.worker("w1", slots=9)
    jobs = [ended_job(cluster, worker, f"key {number}") for number in range(2)]
    assert [len(history(cluster, job)) for job in jobs] == [0, 2]


@pytest.mark.parametrize("maps", [1, 1000, 1001])
def test_a_long_history_takes_several_rows(maps):
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=2000)
    job = ended_job(cluster, worker, maps=maps)
    assert len([key for table, key in cluster.rows if table == TABLE]) == -(-maps // 1000)
    assert [task.task.index for task in history(cluster, job)] == list(range(maps))


def comes_back(cluster, *finished, running=()):
    """The worker "w1" enters at a new master, with these outputs and attempts."""
    worker = FakeWorker(cluster, "w1", slots=4)
    worker.hello(
        running=running, outputs=[AttemptSucceeded(attempt, TaskOutput(b"d", 10, 1), ()) for attempt in finished]
    )
    return worker


def test_what_ended_before_the_master_restarted_is_kept_of_a_job_that_goes_on_and_of_one_that_then_ends():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=4, reducers=0, attempts_max=9)
    one, two, three, four = worker.attempts()
    worker.say(*map(AttemptStarted, (one, two, three, four)))
    cluster.pass_time(2, worker)
    worker.succeed(one)
    worker.say(AttemptLost(two, "its input went"), AttemptFailed(three, TaskError("raised", "ValueError", "bad")))
    cluster.pass_time(6, worker)
    again = cluster.restart()
    came = comes_back(again, one, running=(four,))
    running = merge_tasks(history(again, job), again.machine.views.tasks(job, again.now))
    assert told(running)[:3] == [
        [("succeeded", "", 2.0)],
        [("lost", "its input went", 2.0), ("running", "", 0.0)],
        [("failed", "ValueError: bad", 2.0), ("running", "", 0.0)],
    ]
    came.succeed(four, *came.attempts())
    assert again.ask(CloseResult(job)) is None
    assert [[state for state, _, _ in task] for task in told(history(again, job))] == [
        ["succeeded"],
        ["lost", "succeeded"],
        ["failed", "succeeded"],
        ["succeeded"],
    ]


def test_attempts_that_succeed_at_once_cost_no_row_until_their_job_ends_and_a_restart_knows_who_won():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=3, reducers=0)
    first, second, third = worker.attempts()
    worker.succeed(first, second)
    cluster.pass_time(6, worker)
    assert history(cluster, job) == []
    again = cluster.restart()
    came = comes_back(again, first, second, running=(third,))
    views = again.machine.views.tasks(job, again.now)
    assert [[(each.attempt, each.state) for each in view.attempts] for view in views[:2]] == [
        [(first, "succeeded")],
        [(second, "succeeded")],
    ]
    came.succeed(third)
    assert again.ask(CloseResult(job)) is None
    assert [[view.state for view in task.attempts] for task in history(again, job)] == [["succeeded"]] * 3


def test_the_history_of_a_job_that_runs_is_not_dropped_for_that_of_others():
    cluster = FakeCluster(history_max=2)
    worker = cluster.worker("w1", slots=9)
    running = cluster.submit("running", maps=2, reducers=0, attempts_max=9)
    first, _ = worker.attempts()
    worker.say(AttemptStarted(first), AttemptFailed(first, TaskError("raised", "ValueError", "bad")))
    cluster.pass_time(6, worker)
    assert [len(task.attempts) for task in history(cluster, running)] == [1]
    jobs = [ended_job(cluster, worker, f"key {number}") for number in range(2)]
    assert [len(history(cluster, job)) for job in jobs] == [0, 2]
    assert history(cluster, running)[0].attempts[0].state == "failed"


def told(tasks):
    return [[(each.state, each.message, each.elapsed_s) for each in task.attempts] for task in tasks]
