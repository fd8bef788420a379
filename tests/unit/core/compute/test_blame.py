"""Who is at fault: excluded workers, readers against sources, and tasks whose attempts disagree."""

from __future__ import annotations

import pytest
from scenes.machine import FakeCluster

from minireduce.core.compute.blame import Complaints, choose_excluded
from minireduce.core.messages import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    DropOutputs,
    FetchFailed,
    KillAttempt,
)
from minireduce.core.task_data import UNREADABLE, TaskError, TaskOutput
from minireduce.core.views import JobState
from minireduce.errors import RequestError, Unavailable
from minireduce.ids import TaskKind

RAISED = TaskError("raised", "ValueError", "no")


def maps(worker):
    return [attempt for attempt in worker.attempts() if attempt.task.kind is TaskKind.MAP]


def test_the_worker_that_fares_worse_than_the_others_is_excluded():
    troubles = {"bad": range(3), "good": range(1)}
    assert choose_excluded(troubles, ["good", "bad", "other"], 3) == ("bad",)
    assert choose_excluded(troubles, ["good", "bad", "other"], 4) == ()


def test_code_that_fails_everywhere_excludes_nobody():
    assert choose_excluded({f"w{n}": range(5) for n in range(9)}, [f"w{n}" for n in range(9)], 3) == ()


def test_at_most_a_third_of_the_workers_is_excluded_and_never_the_last_ones():
    troubles = {"w0": range(20), "w1": range(30)}
    assert choose_excluded(troubles, ["w0", "w1", "w2"], 3) == ("w1",)
    assert choose_excluded(troubles, ["w0", "w1"], 3) == ()


def test_complaints_are_forgotten_after_a_while_and_with_their_workers():
    complaints = Complaints(kept_s=10.0)
    complaints.note("r", "s1", 0.0)
    complaints.note("r", "s2", 5.0)
    assert (complaints.sources_of("r"), complaints.readers_of("s1")) == (2, 1)
    complaints.note("q", "s2", 12.0)
    assert (complaints.sources_of("r"), complaints.readers_of("s2")) == (1, 2)
    complaints.forget("s2")
    assert complaints.readers_of("s2") == 0


def test_a_worker_on_which_three_tasks_failed_gets_no_more_of_the_job_and_the_job_says_so():
    cluster = FakeCluster()
    bad, good, other = (cluster.worker(name, slots=1) for name in ("bad", "good", "other"))
    job = cluster.submit(maps=30, reducers=0)
    for _ in range(3):
        (attempt,) = bad.attempts()
        bad.say(AttemptFailed(attempt, RAISED))
    assert bad.attempts() == []
    view = cluster.machine.views.job(job, cluster.now)
    assert view.notes == ("worker bad gets no more of this job: 3 of its tasks failed or were lost there",)
    while cluster.state(job) is JobState.RUNNING:
        for worker in (good, other):
            worker.succeed(*worker.attempts())
    assert cluster.state(job) is JobState.SUCCEEDED
    second = cluster.submit("second", maps=3, reducers=0)
    assert [attempt.task.job for attempt in bad.attempts()] == [second]


def test_a_task_goes_back_to_a_worker_it_avoids_rather_than_wait_for_one_without_the_memory_for_it():
    cluster = FakeCluster()
    large = cluster.worker("large", slots=1, memory_bytes=4 << 20)
    small = cluster.worker("small", slots=1, memory_bytes=1 << 20)
    cluster.submit(maps=1, reducers=0, memory_bytes=3 << 20)
    large.say(AttemptFailed(*large.attempts(), RAISED))
    assert (len(large.attempts()), len(small.attempts())) == (1, 0)


def test_a_worker_is_not_excluded_where_only_one_has_the_memory_for_the_job():
    cluster = FakeCluster()
    large = cluster.worker("large", slots=1, memory_bytes=4 << 20)
    for number in range(3):
        cluster.worker(f"small-{number}", slots=1, memory_bytes=1 << 20)
    cluster.submit(maps=10, reducers=0, memory_bytes=3 << 20)
    for _ in range(5):
        large.say(AttemptFailed(*large.attempts(), RAISED))
        large.succeed(*large.attempts())
    assert len(large.attempts()) == 1


def test_exclusions_outlive_the_master_and_end_when_too_few_workers_are_left():
    cluster = FakeCluster()
    bad, *others = (cluster.worker(name, slots=1) for name in ("bad", "good", "other"))
    cluster.submit(maps=30, reducers=0)
    for _ in range(3):
        bad.say(AttemptFailed(*bad.attempts(), RAISED))
    restarted = cluster.restart()
    bad, *others = (restarted.worker(name, slots=1) for name in ("bad", "good", "other"))
    assert bad.attempts() == []
    restarted.pass_time(12, bad, others[0])
    assert len(bad.attempts()) == 1


def test_a_task_that_was_lost_twice_on_a_worker_goes_to_another():
    cluster = FakeCluster()
    one = cluster.worker("w1", slots=1)
    cluster.submit(maps=1)
    two = cluster.worker("w2", slots=1)
    for _ in range(2):
        one.say(AttemptLost(*one.attempts(), "no space left on device"))
    assert (len(one.attempts()), len(two.attempts())) == (0, 1)


def gathering(workers, reducers=1):
    """A job of one map for each worker, each done where it ran; gives back the map of each worker."""
    cluster = FakeCluster()
    made = [cluster.worker(f"w{n}", slots=1) for n in range(1, workers + 1)]
    job = cluster.submit(maps=workers, reducers=reducers)
    done = {}
    for worker in made:
        (done[worker.name],) = maps(worker)
    launched = {}
    for worker in made:
        worker.succeed(done[worker.name])
        for each in made:
            for attempt in each.attempts():
                launched[attempt] = each
    return cluster, job, made, done, launched


def test_a_reader_that_reaches_no_source_loses_its_attempt_and_no_map_runs_again():
    _, _, workers, done, launched = gathering(4)
    ((reduce, reader),) = launched.items()
    sources = [worker for worker in workers if worker is not reader]
    for source in sources:
        reader.say(FetchFailed(reduce, done[source.name], is_gone=False, reason="timeout"))
    assert [kill.attempt for kill in reader.take(KillAttempt)] == [reduce]
    again = [attempt for worker in sources for attempt in worker.attempts()]
    assert [attempt.task for attempt in again] == [reduce.task]
    assert reader.attempts() == []


def test_a_reader_that_cannot_read_one_output_twice_moves_its_attempt_and_the_output_stays():
    _, _, workers, done, launched = gathering(3)
    ((reduce, reader),) = launched.items()
    source = next(worker for worker in workers if worker is not reader)
    third = next(worker for worker in workers if worker not in (reader, source))
    report = FetchFailed(reduce, done[source.name], is_gone=False, reason="timeout")
    reader.say(report)
    assert reader.take(KillAttempt) == []
    reader.say(report)
    assert [kill.attempt for kill in reader.take(KillAttempt)] == [reduce]
    assert [attempt.task for attempt in third.attempts()] == [reduce.task]
    assert source.take(DropOutputs) == []


def test_what_a_reader_met_before_its_attempt_was_lost_speaks_against_nobody():
    _, _, workers, done, launched = gathering(3)
    ((reduce, reader),) = launched.items()
    source = next(worker for worker in workers if worker is not reader)
    report = FetchFailed(reduce, done[source.name], is_gone=False, reason="timeout")
    reader.say(report, report)
    assert [kill.attempt for kill in reader.take(KillAttempt)] == [reduce]
    reader.say(*[report] * 6)
    assert source.take(DropOutputs) == []
    assert [attempt for worker in workers for attempt in maps(worker)] == []


def test_an_output_that_several_readers_cannot_read_is_made_again_elsewhere():
    _, _, workers, done, launched = gathering(5, reducers=5)
    source = workers[0]
    readers = [(attempt, worker) for attempt, worker in launched.items() if worker is not source][:3]
    for reduce, reader in readers:
        reader.say(FetchFailed(reduce, done[source.name], is_gone=False, reason="timeout"))
    assert source.take(DropOutputs) == [DropOutputs((done[source.name],))]
    again = {worker.name: maps(worker) for worker in workers}
    assert [attempt.task for attempt in again.pop(source.name)] == []
    assert [a.task for attempts in again.values() for a in attempts] == [done[source.name].task]


def test_an_output_that_is_gone_is_made_again_at_once():
    _, _, workers, done, launched = gathering(3)
    ((reduce, reader),) = launched.items()
    source = next(worker for worker in workers if worker is not reader)
    reader.say(FetchFailed(reduce, done[source.name], is_gone=True, reason="404"))
    assert [a.task for worker in workers for a in maps(worker)] == [done[source.name].task]


def disagreeing(reducers):
    """A map is done with one digest, its reduces have read it; then it is gone, and made again."""
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=1, reducers=reducers)
    (first,) = maps(worker)
    worker.succeed(first, digest=b"one")
    reduces = worker.attempts()
    return cluster, worker, job, first, reduces


def test_other_pairs_that_nobody_has_finished_with_take_the_place_of_the_earlier_ones():
    cluster, worker, job, first, reduces = disagreeing(2)
    worker.say(AttemptStarted(reduces[0]))
    worker.say(FetchFailed(reduces[1], first, is_gone=True, reason="404"))
    (second,) = worker.attempts()
    worker.succeed(second, digest=b"two")
    assert [kill.attempt for kill in worker.take(KillAttempt)] == reduces
    again = worker.attempts()
    assert [attempt.task for attempt in again] == [reduce.task for reduce in reduces]
    assert "not deterministic" in cluster.machine.views.job(job, cluster.now).notes[0]
    worker.succeed(*again)
    assert cluster.state(job) is JobState.SUCCEEDED


def test_other_pairs_than_those_that_a_finished_reduce_read_fail_the_job_which_names_the_task():
    cluster, worker, job, first, reduces = disagreeing(2)
    worker.say(AttemptStarted(reduces[0]))
    worker.succeed(reduces[0])
    worker.say(FetchFailed(reduces[1], first, is_gone=True, reason="404"))
    (second,) = worker.attempts()
    worker.succeed(second, digest=b"two")
    view = cluster.machine.views.job(job, cluster.now)
    assert view.state is JobState.FAILED
    assert view.reason.startswith(f"{first.task} is not deterministic: {first} and {second} wrote different pairs")
    assert str(reduces[0].task) in view.reason


def test_one_reader_alone_may_read_other_pairs_the_second_time():
    cluster, worker, job, first, (reduce,) = disagreeing(1)
    worker.say(FetchFailed(reduce, first, is_gone=True, reason="404"))
    (second,) = worker.attempts()
    worker.succeed(second, digest=b"two")
    assert worker.take(KillAttempt) == []
    worker.succeed(reduce)
    assert cluster.state(job) is JobState.SUCCEEDED


def test_a_late_twin_that_disagrees_is_dropped_and_noted():
    cluster = FakeCluster()
    one = cluster.worker("w1", slots=1)
    job = cluster.submit(maps=1, reducers=2)
    (first,) = one.attempts()
    two = cluster.worker("w2", slots=1)
    cluster.pass_time(12, two)
    (second,) = two.attempts()
    two.succeed(second, digest=b"two")
    one.hello(outputs=[AttemptSucceeded(first, TaskOutput(b"one", 10, 1), ())])
    assert one.take(DropOutputs) == [DropOutputs((first,))]
    view = cluster.machine.views.job(job, cluster.now)
    assert (view.state, len(view.notes)) == (JobState.RUNNING, 1)


def test_a_job_that_has_succeeded_stays_so_when_its_result_is_lost_and_comes_out_otherwise():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=1, reducers=0)
    (first,) = worker.attempts()
    worker.succeed(first, digest=b"one")
    assert cluster.state(job) is JobState.SUCCEEDED
    worker.hello()
    (second,) = worker.attempts()
    worker.succeed(second, digest=b"two")
    view = cluster.machine.views.job(job, cluster.now)
    assert view.state is JobState.SUCCEEDED
    assert f"{first.task} is not deterministic" in view.reason
    with pytest.raises(RequestError, match=r"keeps nothing of its result: .* its owner could read the result"):
        cluster.machine.views.result(job, cluster.now)
    assert cluster.restart().machine.views.job(job, cluster.now) == view


def test_a_job_that_has_succeeded_gives_its_result_again_when_it_comes_out_the_same():
    cluster = FakeCluster()
    worker = cluster.worker("w1", slots=4)
    job = cluster.submit(maps=1, reducers=0)
    worker.succeed(*worker.attempts())
    worker.hello()
    with pytest.raises(Unavailable):
        cluster.machine.views.result(job, cluster.now)
    (second,) = worker.attempts()
    worker.succeed(second)
    assert [part.attempt for part in cluster.machine.views.result(job, cluster.now).parts] == [second]


def test_input_that_is_not_of_its_format_fails_the_job_at_once_unless_its_records_may_be_left_out():
    whole, record = TaskError(UNREADABLE, "", "no gzip", path="f"), TaskError(UNREADABLE, "", "no JSON", offset=3)
    for error, skipped_max, state in (
        (whole, 0, JobState.FAILED),
        (whole, 5, JobState.FAILED),
        (record, 0, JobState.FAILED),
        (record, 5, JobState.RUNNING),
    ):
        cluster = FakeCluster()
        worker = cluster.worker("w1", slots=1)
        job = cluster.submit(maps=2, reducers=0, skipped_max=skipped_max)
        worker.say(AttemptFailed(worker.attempts()[0], error))
        assert cluster.state(job) is state


def test_an_error_of_no_class_is_told_without_one():
    assert TaskError("raised", "ValueError", "no").summary == "ValueError: no"
    assert TaskError(UNREADABLE, "", "in.gz cannot be unpacked").summary == "in.gz cannot be unpacked"
