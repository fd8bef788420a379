"""Parts of the last step on a second worker: when, where, and what follows when the first one goes."""

from __future__ import annotations

from scenes.machine import FakeCluster

from minireduce.core.cluster import StreamClosed
from minireduce.core.messages import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CopyPart,
    DropJob,
    DropOutputs,
    FetchFailed,
    LaunchAttempt,
    PartCopyFailed,
    ReleaseWorker,
    WorkerStopping,
)
from minireduce.core.requests import CloseResult
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import TaskError, TaskOutput
from minireduce.core.views import JobState


def of(attempt, records=1, size=10):
    return AttemptSucceeded(attempt, TaskOutput(b"d", size, records), ())


def one_part(workers=2, **job):
    """A job of one map-only task that is done: the cluster, its workers (the maker first), and the attempt."""
    cluster = FakeCluster(part_copies=2)
    made = [cluster.worker(f"w{n}", slots=1) for n in range(1, workers + 1)]
    job = cluster.submit(maps=1, reducers=0, **job)
    maker = next(worker for worker in made if any(isinstance(c, LaunchAttempt) for c in worker.told))
    (attempt,) = maker.attempts()
    maker.succeed(attempt)
    return cluster, job, [maker, *(worker for worker in made if worker is not maker)], attempt


def copier(workers):
    """The worker that was asked to copy, and what it was asked."""
    asked = [(worker, order) for worker in workers for order in worker.take(CopyPart)]
    assert len(asked) == 1, asked
    return asked[0]


def test_a_job_whose_result_stays_has_succeeded_once_a_second_worker_holds_each_part():
    cluster, job, workers, _ = one_part()
    second, order = copier(workers)
    assert (second, order.source.address, order.is_text) == (workers[1], f"{workers[0].name}:1", False)
    assert order.read_token == f"read {job}"
    view = cluster.machine.views.job(job, cluster.now)
    assert (view.state, view.waiting_for) == (JobState.RUNNING, "second copies of its parts")
    second.say(order.part)
    assert cluster.state(job) is JobState.SUCCEEDED
    assert cluster.ask(CloseResult(job)) is None
    assert all(worker.take(DropJob) for worker in workers)


def test_a_job_waits_for_copies_only_so_long():
    cluster, job, workers, _ = one_part()
    copier(workers)
    cluster.pass_time(9, *workers)
    assert cluster.state(job) is JobState.RUNNING
    cluster.pass_time(2, *workers)
    assert cluster.state(job) is JobState.SUCCEEDED


def test_one_worker_alone_copies_nothing_until_a_second_one_comes():
    cluster, job, _, attempt = one_part(workers=1)
    assert cluster.state(job) is JobState.SUCCEEDED
    second = cluster.worker("w2")
    assert [order.part.attempt for order in second.take(CopyPart)] == [attempt]


def test_parts_without_bytes_are_not_copied():
    cluster = FakeCluster(part_copies=2)
    one, two = cluster.worker("w1"), cluster.worker("w2")
    job = cluster.submit(maps=1, reducers=0)
    one.say(*(of(attempt, records=0, size=0) for attempt in one.attempts()))
    assert cluster.state(job) is JobState.SUCCEEDED
    assert two.take(CopyPart) == []


def test_a_part_that_holds_named_outputs_alone_is_copied():
    cluster = FakeCluster(part_copies=2)
    one, two = cluster.worker("w1"), cluster.worker("w2")
    cluster.submit(maps=1, reducers=0)
    (attempt,) = one.attempts()
    one.say(of(attempt, records=0))
    assert [order.part.attempt for order in two.take(CopyPart)] == [attempt]


def test_parts_that_the_client_is_taking_away_are_not_copied():
    cluster, job, (_, second), _ = one_part(output=OutputKind.TEXT)
    assert cluster.state(job) is JobState.PUBLISHING
    assert second.take(CopyPart) == []


def _worker_of(cluster, attempt):
    return cluster.machine.views.task(attempt.task, cluster.now).attempts[-1].worker


def test_while_the_job_runs_only_parts_that_took_long_to_make_are_copied():
    cluster = FakeCluster(part_copies=2)
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    cluster.submit(maps=4, reducers=0)
    one.succeed(*one.attempts())
    assert two.take(CopyPart) == []
    cluster.pass_time(2, one, two)
    slow = one.attempts()
    one.succeed(*slow)
    assert [order.part.attempt for order in two.take(CopyPart)] == slow


def test_a_copy_takes_the_place_of_a_part_whose_worker_is_lost_and_nothing_runs_again():
    cluster, job, (first, second, third), attempt = one_part(workers=3)
    holder, order = copier([second, third])
    holder.say(order.part)
    other = third if holder is second else second
    cluster.pass_time(12, second, third)
    (part,) = cluster.machine.views.result(job, cluster.now).parts
    assert (part.attempt, part.worker, part.address) == (attempt, holder.name, f"{holder.name}:1")
    assert cluster.rows["winners", (job, 0, "map", 0)].values[1] == holder.name
    assert other.take(CopyPart)[0].source.worker == holder.name
    assert second.attempts() + third.attempts() == []
    first.hello(outputs=[of(attempt)])
    assert first.take(DropOutputs) == []  # the other copy is still on its way
    other.say(order.part)
    assert other.take(DropOutputs) == [DropOutputs((attempt,))]


def test_copies_are_learnt_again_after_a_restart_and_count_when_the_first_worker_stays_away():
    cluster, job, (_, second), attempt = one_part()
    holder, order = copier([second])
    holder.say(order.part)
    restarted = cluster.restart()
    again = restarted.worker("w9")
    second = type(second)(restarted, second.name)
    second.hello(outputs=[of(attempt)])
    restarted.pass_time(12, again, second)
    assert [part.worker for part in restarted.machine.views.result(job, restarted.now).parts] == [second.name]
    assert again.attempts() + second.attempts() == []
    assert len(again.take(CopyPart)) == 1


def test_a_part_with_no_copy_left_is_made_again():
    cluster, _, (_, second), attempt = one_part()
    holder, order = copier([second])
    holder.say(order.part)
    second.incarnation += 1
    second.hello()  # with nothing
    assert len(second.take(CopyPart)) == 1
    cluster.pass_time(12, second)
    assert [again.task for again in second.attempts()] == [attempt.task]


def test_a_copy_that_fails_is_asked_of_another_worker_and_given_up_after_some_tries():
    cluster, job, (first, *others), attempt = one_part(workers=3)
    for _ in others:
        asked, _ = copier(others)
        asked.say(PartCopyFailed(attempt, is_gone=False, reason="no space left on device"))
    assert cluster.state(job) is JobState.SUCCEEDED
    assert [part.worker for part in cluster.machine.views.result(job, cluster.now).parts] == [first.name]


def test_a_part_that_its_worker_does_not_have_is_made_again():
    _, _, (first, second), attempt = one_part()
    asked, _ = copier([second])
    asked.say(PartCopyFailed(attempt, is_gone=True, reason="404"))
    assert first.take(DropOutputs) == [DropOutputs((attempt,))]
    assert [again.task for again in first.attempts() + second.attempts()] == [attempt.task]


def test_a_copy_that_its_holder_cannot_read_is_replaced_and_the_part_kept():
    cluster, job, (first, second), attempt = one_part()
    holder, order = copier([second])
    holder.say(order.part)
    holder.say(FetchFailed(attempt, attempt, is_gone=True, reason="damaged"))
    assert (first.take(DropOutputs), first.attempts() + second.attempts()) == ([], [])
    assert copier([second])[1].part.attempt == attempt
    assert cluster.state(job) is JobState.SUCCEEDED


def test_a_worker_that_stops_is_released_once_another_holds_its_parts():
    cluster, job, (first, second, third), _ = one_part(workers=3)
    holder, order = copier([second, third])
    first.say(WorkerStopping())
    assert first.take(ReleaseWorker) == []
    holder.say(order.part)
    assert first.take(ReleaseWorker) == [ReleaseWorker()]
    cluster.advance(StreamClosed(first.stream))
    (part,) = cluster.machine.views.result(job, cluster.now).parts
    assert part.worker == holder.name


def test_the_outputs_of_a_worker_that_ended_in_good_order_are_made_again_at_once():
    cluster = FakeCluster()
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    cluster.submit(maps=2, reducers=1)
    done = one.attempts()
    one.succeed(*done)
    two.succeed(*two.attempts())
    two.attempts()
    one.say(WorkerStopping())
    assert one.take(ReleaseWorker) == [ReleaseWorker()]
    cluster.advance(StreamClosed(one.stream))
    assert done[0].task in [attempt.task for attempt in two.attempts()]


def test_a_reduce_that_was_copied_is_not_run_again_though_another_of_its_job_still_runs():
    cluster = FakeCluster(part_copies=2)
    one, two, three = (cluster.worker(f"w{n}", slots=2) for n in (1, 2, 3))
    workers = {worker.name: worker for worker in (one, two, three)}
    cluster.submit(maps=1, reducers=2)
    (split,) = [attempt for worker in workers.values() for attempt in worker.attempts()]
    workers[_worker_of(cluster, split)].succeed(split)
    first, second = sorted(attempt for worker in workers.values() for attempt in worker.attempts())
    maker, reader = (workers[_worker_of(cluster, reduce)] for reduce in (first, second))
    maker.say(AttemptStarted(first))
    reader.say(AttemptStarted(second))
    cluster.pass_time(2, *workers.values())
    maker.succeed(first)
    holder, order = copier(workers.values())
    holder.say(order.part)
    cluster.pass_time(12, *(worker for worker in workers.values() if worker is not maker))
    again = [attempt.task for worker in workers.values() for attempt in worker.attempts()]
    assert first.task not in again
    reader.say(AttemptFailed(second, TaskError("raised", "ValueError", "no")))
