"""The master's machine, driven by hand: fifteen-line situations without sockets or clocks."""

from __future__ import annotations

from scenes.machine import FakeCluster, FakeWorker, job_spec

from minireduce.core.cluster import (
    CloseStream,
    Persist,
    Reply,
    RequestReceived,
    StopServing,
    Ticked,
    UpReceived,
)
from minireduce.core.messages import (
    AttemptFailed,
    AttemptKilled,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    DropJob,
    DropOutputs,
    FetchFailed,
    KillAttempt,
    LaunchAttempt,
    MapOutputsReady,
    OpenJob,
    Up,
)
from minireduce.core.requests import CloseResult, ConfirmPublished, KillJob, SubmitJob
from minireduce.core.spec import JobSpec, LocalFiles, OutputKind
from minireduce.core.task_data import TaskError, TaskOutput
from minireduce.core.views import JobState
from minireduce.ids import TaskKind, parse_task_id


def of_kind(attempts, kind):
    return [attempt for attempt in attempts if attempt.task.kind is kind]


def test_a_job_runs_its_maps_then_its_reduce_and_ends():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit()
    assert [open_job.job for open_job in worker.take(OpenJob)] == [job]
    maps = worker.attempts()
    assert [str(a) for a in maps] == [f"{job}_s0_m00000_a0", f"{job}_s0_m00001_a0"]
    worker.say(*(AttemptStarted(a) for a in maps))
    worker.succeed(*maps)
    (reduce,) = worker.attempts()
    assert [s.attempt for ready in worker.take(MapOutputsReady) for s in ready.sources] == maps
    worker.say(AttemptStarted(reduce))
    worker.succeed(reduce)
    assert cluster.state(job) is JobState.SUCCEEDED
    result = cluster.machine.views.result(job, cluster.now)
    assert [part.address for part in result.parts] == ["w1:1"]
    assert result.read_token == f"read {job}"
    view = cluster.machine.views.job(job, cluster.now)
    assert ("g", "n", 3) in view.counters
    assert cluster.ask(CloseResult(job)) is None
    assert [drop.job for drop in worker.take(DropJob)] == [job]


def test_a_local_output_is_published_by_the_client_before_the_job_has_succeeded():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=0, output=OutputKind.TEXT)
    worker.succeed(*worker.attempts())
    assert cluster.state(job) is JobState.PUBLISHING
    assert cluster.ask(ConfirmPublished(job)) is JobState.SUCCEEDED
    assert cluster.ask(ConfirmPublished(job)) is JobState.SUCCEEDED


def test_the_same_key_gives_the_same_job_also_after_a_restart():
    cluster = FakeCluster()
    job = cluster.submit("same")
    assert cluster.submit("same") == job
    assert cluster.restart().submit("same") == job
    assert cluster.restart().submit("other") != job


def test_a_reply_to_a_submission_comes_behind_what_must_be_durable_first():
    cluster = FakeCluster()
    actions = cluster.advance(RequestReceived(1, SubmitJob("k", job_spec()), 0.0))
    kinds = [type(action) for action in actions]
    assert kinds.index(Persist) < kinds.index(Reply)


def test_a_lost_worker_s_finished_maps_are_run_again_but_not_its_finished_reduces_that_others_hold():
    cluster = FakeCluster()
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    job = cluster.submit(maps=2, reducers=2)
    first, second = one.attempts()[0], two.attempts()[0]
    one.succeed(first)
    two.succeed(second)
    reduces = {worker.name: of_kind(worker.attempts(), TaskKind.REDUCE)[0] for worker in (one, two)}
    one.say(AttemptStarted(reduces["w1"]))
    one.succeed(reduces["w1"])
    cluster.pass_time(12, one)
    again = one.attempts()
    assert second.task in [a.task for a in again]
    assert first.task not in [a.task for a in again]
    one.succeed(*of_kind(again, TaskKind.MAP))
    again += one.attempts()
    one.succeed(*of_kind(again, TaskKind.REDUCE))
    assert cluster.state(job) is JobState.SUCCEEDED
    assert reduces["w1"].task not in [a.task for a in again]


def test_a_map_output_that_every_reduce_has_fetched_is_not_made_again():
    cluster = FakeCluster()
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    job = cluster.submit(maps=2, reducers=1)
    two.succeed(*two.attempts())
    (reduce,) = two.attempts()
    one.succeed(*one.attempts())
    two.say(AttemptStarted(reduce))
    cluster.pass_time(12, two)
    assert [worker.state for worker in cluster.machine.views.workers(cluster.now)] == ["lost", "live"]
    assert two.attempts() == []
    two.succeed(reduce)
    assert cluster.state(job) is JobState.SUCCEEDED


def test_a_worker_that_was_taken_for_lost_cannot_win_with_an_old_session():
    cluster = FakeCluster()
    one = cluster.worker("w1", slots=1)
    job = cluster.submit(maps=1)
    (attempt,) = one.attempts()
    two = cluster.worker("w2", slots=1)
    cluster.pass_time(12, two)
    (again,) = two.attempts()
    one.succeed(attempt)  # on the old stream and session
    task = cluster.machine.views.task(attempt.task, cluster.now)
    assert task.state == "running"
    two.succeed(again)
    one.hello(outputs=[AttemptSucceeded(attempt, TaskOutput(b"d", 10, 1), ())])
    assert one.take(DropOutputs) == [DropOutputs((attempt,))]
    assert cluster.state(job) is JobState.RUNNING


def test_a_repeated_report_is_counted_once():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=1, attempts_max=2)
    (attempt,) = worker.attempts()
    failed = Up(worker.session, 1, 0, (AttemptFailed(attempt, TaskError("raised", "ValueError", "no")),))
    for _ in range(3):
        cluster.advance(UpReceived(worker.stream, failed))
    assert cluster.state(job) is JobState.RUNNING


def test_a_task_that_fails_too_often_fails_its_job_and_says_why():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=1, attempts_max=2)
    for _ in range(2):
        (attempt,) = worker.attempts()
        worker.say(AttemptFailed(attempt, TaskError("raised", "ValueError", "no")))
    view = cluster.machine.views.job(job, cluster.now)
    assert view.state is JobState.FAILED
    assert "failed 2 times" in view.reason
    assert view.errors[0].error.message == "no"
    assert worker.take(DropJob)


def test_losses_do_not_count_as_failures_but_have_a_limit_of_their_own():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=1, attempts_max=1, losses_max=3)
    for _ in range(3):
        (attempt,) = worker.attempts()
        worker.say(AttemptLost(attempt, "its disk is full"))
    assert cluster.state(job) is JobState.RUNNING
    (attempt,) = worker.attempts()
    worker.say(AttemptLost(attempt, "its disk is full"))
    assert cluster.state(job) is JobState.FAILED
    reason = cluster.machine.views.job(job, cluster.now).reason
    assert reason == f"{attempt.task} was lost 4 times, each time because: its disk is full"


def test_killed_attempts_count_for_nothing():
    cluster = FakeCluster(preempt_after_s=5.0)
    worker = cluster.worker("w1", slots=2)
    job = cluster.submit("large", maps=2, attempts_max=1, losses_max=0)
    assert len(worker.attempts()) == 2
    other = cluster.submit("small", maps=1)
    cluster.pass_time(7, worker)
    (kill,) = worker.take(KillAttempt)
    worker.say(AttemptKilled(kill.attempt))
    assert [attempt.task.job for attempt in worker.attempts()] == [other]
    assert cluster.state(job) is JobState.RUNNING


def test_failures_are_remembered_across_a_restart_and_attempt_numbers_are_not_used_twice():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit(maps=1, attempts_max=2)
    (attempt,) = worker.attempts()
    worker.say(AttemptFailed(attempt, TaskError("raised", "ValueError", "no")))
    restarted = cluster.restart()
    worker = restarted.worker("w1")
    (again,) = worker.attempts()
    assert again.number == 100
    worker.say(AttemptFailed(again, TaskError("raised", "ValueError", "no")))
    assert restarted.state(job) is JobState.FAILED


def test_after_a_restart_nothing_is_launched_until_the_workers_are_back_and_finished_maps_are_kept():
    cluster = FakeCluster()
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    job = cluster.submit(maps=2)
    done, running = one.attempts()[0], two.attempts()[0]
    one.succeed(done)
    restarted = cluster.restart()
    one, two = FakeWorker(restarted, "w1", 1), FakeWorker(restarted, "w2", 1)
    one.hello(outputs=[AttemptSucceeded(done, TaskOutput(b"d", 10, 1), ())])
    assert one.attempts() == []
    two.hello(running=[running])
    launched = {worker.name: worker.attempts() for worker in (one, two)}
    assert [of_kind(attempts, TaskKind.MAP) for attempts in launched.values()] == [[], []]
    (holder,) = [worker for worker in (one, two) if launched[worker.name]]
    two.succeed(running)
    announced = {source.attempt for ready in holder.take(MapOutputsReady) for source in ready.sources}
    assert announced == {done, running}
    holder.succeed(*launched[holder.name])
    assert restarted.state(job) is JobState.SUCCEEDED


def test_a_worker_that_does_not_come_back_after_a_restart_is_lost_and_its_maps_run_again():
    cluster = FakeCluster()
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    cluster.submit(maps=2)
    done = one.attempts()[0]
    one.succeed(done)
    restarted = cluster.restart()
    two = restarted.worker("w2", slots=2)
    assert two.attempts() == []
    restarted.pass_time(12, two)
    assert {a.task.index for a in of_kind(two.attempts(), TaskKind.MAP)} == {0, 1}


def test_a_missing_map_output_is_made_again_and_announced_afresh():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    cluster.submit(maps=1)
    (attempt,) = worker.attempts()
    worker.succeed(attempt)
    (reduce,) = worker.attempts()
    worker.say(FetchFailed(reduce, attempt, is_gone=True, reason="404"))
    (again,) = worker.attempts()
    assert again.task == attempt.task
    worker.take(MapOutputsReady)
    worker.succeed(again)
    assert [s.attempt for ready in worker.take(MapOutputsReady) for s in ready.sources] == [again]


def test_an_output_counts_as_lost_only_after_several_reports_that_its_worker_does_not_answer():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    cluster.submit(maps=1)
    (attempt,) = worker.attempts()
    worker.succeed(attempt)
    (reduce,) = worker.attempts()
    for _ in range(2):
        worker.say(FetchFailed(reduce, attempt, is_gone=False, reason="timeout"))
        assert worker.attempts() == []
    worker.say(FetchFailed(reduce, attempt, is_gone=False, reason="timeout"))
    assert [a.task for a in worker.attempts()] == [attempt.task]


def test_the_parts_of_one_step_feed_the_maps_of_the_next():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=1, reducers=2, steps=2)
    worker.succeed(*worker.attempts())
    worker.succeed(*worker.attempts())
    launches = worker.take(LaunchAttempt)
    second = [launch for launch in launches if launch.attempt.task.step == 1 and launch.attempt.task.kind == "map"]
    assert [launch.input.source.attempt.task.index for launch in second] == [0, 1]
    worker.succeed(*(launch.attempt for launch in second))
    rest = [launch.attempt for launch in launches if launch not in second] + worker.attempts()
    worker.succeed(*of_kind(rest, TaskKind.REDUCE))
    assert cluster.state(job) is JobState.SUCCEEDED


def test_a_killed_job_is_dropped_everywhere_and_stays_killed():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    job = cluster.submit()
    assert cluster.ask(KillJob(job, "enough")) is JobState.KILLED
    assert worker.take(DropJob)
    assert cluster.ask(KillJob(job, "again")) is JobState.KILLED
    assert cluster.restart().state(job) is JobState.KILLED


def test_a_broken_stream_loses_nothing_when_the_session_goes_on():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    cluster.submit(maps=2)
    attempts = worker.attempts()
    worker.hello(session=worker.session)
    worker.succeed(attempts[0])
    assert cluster.machine.views.task(attempts[0].task, cluster.now).state == "done"


def test_a_worker_with_an_older_incarnation_is_refused():
    cluster = FakeCluster()
    cluster.worker("w1", incarnation=2)
    actions = FakeWorker(cluster, "w1", incarnation=1).hello()
    (closed,) = [action for action in actions if isinstance(action, CloseStream)]
    assert "incarnation 1" in str(closed.error)


def test_a_master_whose_metadata_is_older_than_what_a_worker_has_seen_stops():
    cluster = FakeCluster()
    actions = FakeWorker(cluster, "w1").hello(epoch=1, txid=7)
    assert any(isinstance(action, StopServing) for action in actions)


def test_a_pause_of_the_master_itself_loses_no_worker():
    cluster = FakeCluster()
    cluster.worker("w1")
    cluster.pass_time(1)
    cluster.now += 3600
    cluster.advance(Ticked())
    assert [worker.state for worker in cluster.machine.views.workers(cluster.now)] == ["live"]


def test_a_worker_of_another_machine_gets_no_task_that_reads_the_client_s_disk():
    cluster = FakeCluster()
    worker = FakeWorker(cluster, "w1")
    worker.hello()
    spec = job_spec(maps=1)
    elsewhere = (LocalFiles("m2", spec.splits[0].ranges),)
    job = cluster.ask(SubmitJob("k", JobSpec("wc", spec.program, spec.steps, elsewhere, spec.output)))
    assert worker.attempts() == []
    assert "machine" in cluster.machine.views.job(job, cluster.now).waiting_for


def test_an_attempt_that_nobody_wants_is_killed_when_it_says_that_it_started():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    task = parse_task_id("job-abcdef-9_s0_m00000")
    worker.cluster.submit()
    (attempt, _) = worker.attempts()
    stranger = type(attempt)(task, 0)
    worker.say(AttemptStarted(stranger))
    assert [kill.attempt for kill in worker.take(KillAttempt)] == [stranger]


def test_a_part_without_pairs_is_lost_with_no_worker_and_no_restart():
    cluster = FakeCluster()
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    job = cluster.submit(maps=2, reducers=0)
    one.say(AttemptSucceeded(one.attempts()[0], TaskOutput(b"d", 0, 0), ()))
    last = two.attempts()[0]
    restarted = cluster.restart()
    two = restarted.worker("w2", slots=1)
    two.hello(running=[last])
    restarted.pass_time(12, two)
    two.say(AttemptSucceeded(last, TaskOutput(b"d", 0, 0), ()))
    assert restarted.machine.views.job(job, restarted.now).state is JobState.SUCCEEDED
    restarted.pass_time(12)
    assert [part.bytes_total for part in restarted.machine.views.result(job, restarted.now).parts] == [0, 0]
    assert two.attempts() == []
