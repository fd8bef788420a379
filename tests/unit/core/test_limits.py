"""What keeps the master's machine small and quick however long it runs and however many workers it has."""

from __future__ import annotations

from dataclasses import replace

from scenes.machine import FakeCluster, job_spec

from minireduce.core.cluster import Ticked, UpReceived
from minireduce.core.compute import scheduler
from minireduce.core.compute.task import ATTEMPTS_PER_EPOCH_MAX
from minireduce.core.messages import AttemptStarted, AttemptSucceeded, FetchFailed, MapOutputsLost, MapOutputsReady, Up
from minireduce.core.requests import CloseResult, SubmitJob
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import TaskOutput
from minireduce.core.views import JobState
from minireduce.errors import RequestError
from minireduce.ids import TaskKind


def test_a_result_that_nobody_closes_is_dropped_after_its_time():
    cluster = FakeCluster(results_keep_s=60.0)
    worker = cluster.worker("w1")
    job = cluster.submit(maps=0)
    worker.succeed(*worker.attempts())
    cluster.pass_time(50, worker)
    assert len(cluster.machine.views.result(job, cluster.now).parts) == 1
    cluster.pass_time(15, worker)
    assert cluster.machine.views.tasks(job, cluster.now) == []
    assert cluster.state(job) is JobState.SUCCEEDED
    assert cluster.ask(CloseResult(job)) is None


def test_the_time_that_a_job_took_does_not_go_on_while_its_result_is_kept():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=0)
    cluster.pass_time(3, worker)
    worker.succeed(*worker.attempts())
    cluster.pass_time(20, worker)
    assert cluster.machine.views.job(job, cluster.now).elapsed_s == 3.0


def test_a_result_from_before_a_restart_has_its_time_anew():
    cluster = FakeCluster(results_keep_s=60.0)
    worker = cluster.worker("w1")
    job = cluster.submit(maps=0)
    (attempt,) = worker.attempts()
    worker.succeed(attempt)
    restarted = FakeCluster(cluster.rows, epoch=2, txid=1000, results_keep_s=60.0)
    worker = restarted.worker("w1")
    worker.hello(outputs=[AttemptSucceeded(attempt, TaskOutput(b"d", 10, 1), ())])
    restarted.pass_time(50, worker)
    assert restarted.machine.views.tasks(job, restarted.now) != []
    restarted.pass_time(15, worker)
    assert restarted.machine.views.tasks(job, restarted.now) == []


def test_a_job_whose_client_never_publishes_fails_in_the_end_and_frees_its_workers():
    cluster = FakeCluster(results_keep_s=60.0)
    worker = cluster.worker("w1")
    job = cluster.submit(maps=0, output=OutputKind.TEXT)
    worker.succeed(*worker.attempts())
    cluster.pass_time(50, worker)
    assert cluster.state(job) is JobState.PUBLISHING
    cluster.pass_time(15, worker)
    view = cluster.machine.views.job(job, cluster.now)
    assert view.state is JobState.FAILED
    assert view.reason == "its client did not publish the output within 60 s"


def test_a_submission_is_forgotten_with_the_job_that_it_made():
    cluster = FakeCluster(jobs_kept_max=1)
    worker = cluster.worker("w1")
    jobs = [cluster.submit(f"key {number}", maps=0) for number in range(3)]
    worker.succeed(*worker.attempts())
    worker.succeed(*worker.attempts())
    assert [cluster.ask(CloseResult(job)) for job in jobs] == [None, None, None]
    assert cluster.submit("key 2", maps=0) == jobs[2]
    assert cluster.submit("key 0", maps=0) not in jobs


def test_a_task_whose_output_is_lost_again_and_again_fails_its_job_and_not_the_master():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=1)
    job = cluster.submit(maps=1)
    for _ in range(ATTEMPTS_PER_EPOCH_MAX):
        (attempt, *_) = [a for a in worker.attempts() if a.task.kind is TaskKind.MAP]
        worker.succeed(attempt)
        worker.say(FetchFailed(attempt, attempt, is_gone=True, reason="it is damaged"))
    view = cluster.machine.views.job(job, cluster.now)
    assert view.state is JobState.FAILED
    assert "was begun 100 times" in view.reason


def test_counters_stay_those_of_one_winner_a_task_when_outputs_are_made_again():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=1)
    job = cluster.submit(maps=1)
    for _ in range(3):
        (attempt, *_) = [a for a in worker.attempts() if a.task.kind is TaskKind.MAP]
        worker.succeed(attempt)
        assert ("g", "n", 1) in cluster.machine.views.job(job, cluster.now).counters
        worker.say(FetchFailed(attempt, attempt, is_gone=True, reason="it is damaged"))
        assert ("g", "n", 1) in cluster.machine.views.job(job, cluster.now).counters


def test_news_of_map_outputs_goes_out_in_bundles_but_the_last_at_once():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=40)
    cluster.submit(maps=40)
    maps = worker.attempts()
    worker.succeed(*maps[:2])  # opens the reduce, which hears of them
    assert [len(ready.sources) for ready in worker.take(MapOutputsReady)] == [2]
    for attempt in maps[2:30]:
        worker.succeed(attempt)
    assert worker.take(MapOutputsReady) == []
    cluster.now += 0.2
    cluster.advance(Ticked())
    assert [len(ready.sources) for ready in worker.take(MapOutputsReady)] == [28]
    for attempt in maps[30:]:
        worker.succeed(attempt)
    assert [len(ready.sources) for ready in worker.take(MapOutputsReady)] == [10]


def test_a_worker_that_begins_to_gather_is_not_sent_after_outputs_that_are_gone():
    cluster = FakeCluster()
    one = cluster.worker("w1", slots=2)
    cluster.submit(maps=2)
    first, second = one.attempts()
    one.succeed(first)
    (reduce,) = one.attempts()
    assert [ready.sources[0].attempt for ready in one.take(MapOutputsReady)] == [first]
    one.say(FetchFailed(reduce, first, is_gone=True, reason="it is damaged"))
    assert [lost.attempts for lost in one.take(MapOutputsLost)] == [(first,)]
    one.hello(running=[second, reduce])
    assert one.take(MapOutputsReady) == []
    one.succeed(second)
    assert [s.attempt for ready in one.take(MapOutputsReady) for s in ready.sources] == [second]


def test_an_event_of_one_worker_asks_no_other_whether_it_wants_work(monkeypatch):
    cluster = FakeCluster()
    workers = [cluster.worker(f"w{number}", slots=1) for number in range(50)]
    cluster.submit(maps=100)
    asked = []
    plain = scheduler.Scheduler.assign

    def assign(self, jobs, workers, *rest):
        asked.extend(worker.id for worker in workers)
        return plain(self, jobs, workers, *rest)

    monkeypatch.setattr(scheduler.Scheduler, "assign", assign)
    (attempt,) = workers[7].attempts()
    workers[7].say(AttemptStarted(attempt))
    assert asked == []
    cluster.advance(UpReceived(workers[3].stream, Up(workers[3].session, 0, 0)))
    assert asked == []
    workers[7].succeed(attempt)
    assert asked == ["w7"]
    assert len(workers[7].attempts()) == 1


def test_of_lost_workers_only_the_latest_are_remembered():
    cluster = FakeCluster(workers_lost_kept_max=2)
    for number in range(4):
        cluster.worker(f"w{number}")
        cluster.pass_time(3)
    kept = cluster.worker("kept")
    cluster.pass_time(20, kept)
    assert [view.worker for view in cluster.machine.views.workers(cluster.now)] == ["w2", "w3", "kept"]
    back = cluster.worker("w0")
    cluster.submit(maps=4)
    assert len(back.attempts()) == 2


def test_a_job_too_many_is_refused_until_another_has_ended():
    cluster = FakeCluster(jobs_unended_max=2)
    worker = cluster.worker("w1")
    first = cluster.submit("key 1", maps=0)
    cluster.submit("key 2", maps=0)
    refused = cluster.submit("key 3", maps=0)
    assert isinstance(refused, RequestError)
    assert "jobs_unended_max" in refused.message
    assert cluster.submit("key 1", maps=0) == first, "a repeated submission adds none"
    worker.succeed(*worker.attempts())
    assert cluster.ask(CloseResult(first)) is None
    assert isinstance(cluster.submit("key 3", maps=0), str)


def test_a_name_that_would_spoil_listings_is_refused():
    cluster = FakeCluster()
    for name in ("x" * 201, "two\nlines", "\x1b[31mred"):
        refused = cluster.ask(SubmitJob(name, replace(job_spec(maps=0), name=name)))
        assert isinstance(refused, RequestError)
        assert "name" in refused.message
        assert len(refused.message) < 100
    assert isinstance(cluster.ask(SubmitJob("k", replace(job_spec(maps=0), name="ä" * 200))), str)
