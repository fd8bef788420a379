"""The search for bad records on a worker, and what a master makes of them."""

from __future__ import annotations

import pytest
from scenes.machine import FakeCluster, FakeWorker

from minireduce.core.messages import AttemptFailed, AttemptSucceeded, LaunchAttempt, RecordsSkipped
from minireduce.core.task_data import RecordPlace, SkippedRecord, TaskError, TaskOutput
from minireduce.core.views import JobState
from minireduce.core.work.bad_records import PLAIN, Care, GiveUp, Search


def error_at(position: int, message: str = "no") -> TaskError:
    return TaskError("raised", "ValueError", message, path="/in", offset=10 * position, position=position, proof=7)


def bad_at(position: int) -> SkippedRecord:
    return SkippedRecord(error_at(position), b"x", is_text=True, bytes_total=1)


def probed(search: Search) -> SkippedRecord:
    return SkippedRecord(TaskError("crashed", "SIGSEGV", "gone"), b"x", is_text=True, bytes_total=1)


@pytest.fixture
def search() -> Search:
    return Search((), PLAIN, probes_max=10)


def test_the_first_failure_is_looked_into_carefully_whatever_it_was(search: Search) -> None:
    assert search.failed(TaskError("raised", "", ""), (), None) == (Care(is_place_exact=True, is_careful=True), None)


def test_each_suspect_is_probed_alone_before_the_task_runs_without_them(search: Search) -> None:
    search.failed(error_at(1), (), None)
    following, _ = search.failed(error_at(1), (error_at(1), error_at(4)), None)
    assert following == Care(is_place_exact=True, probe=1)
    following, bad = search.failed(TaskError("crashed", "", ""), (), probed(search))
    assert following == Care(is_place_exact=True, probe=4)
    assert bad is not None
    assert (bad.place, bad.error.kind, bad.error.path, bad.error.offset) == (RecordPlace(1, 7), "crashed", "/in", 10)
    following, _ = search.failed(TaskError("crashed", "", ""), (), probed(search))
    assert following == Care(is_place_exact=True, is_careful=True, skips=(RecordPlace(1, 7), RecordPlace(4, 7)))
    assert search.went_through() is None


def test_a_suspect_that_can_be_computed_alone_makes_the_attempt_fail_for_what_it_was_suspected(search: Search) -> None:
    search.failed(error_at(1), (), None)
    search.failed(error_at(1), (error_at(1, "this"),), None)
    assert search.went_through() == GiveUp(error_at(1, "this"))


def test_a_probe_that_fails_before_its_record_blames_nothing(search: Search) -> None:
    search.failed(error_at(1), (), None)
    search.failed(error_at(1), (error_at(1),), None)
    broken = TaskError("raised", "SyntaxError", "the program cannot be loaded")
    assert search.failed(broken, (), None) == (GiveUp(broken), None)


def test_a_failure_without_a_place_ends_the_search(search: Search) -> None:
    search.failed(error_at(1), (), None)
    nowhere = TaskError("memory", "", "while sorting")
    assert search.failed(nowhere, (), None) == (GiveUp(nowhere), None)


def test_a_record_that_is_left_out_is_not_suspected_again(search: Search) -> None:
    search = Search((RecordPlace(3, 7),), Care(is_careful=True, skips=(RecordPlace(3, 7),)), probes_max=10)
    assert search.failed(error_at(3), (), None) == (GiveUp(error_at(3)), None)


def test_there_are_only_so_many_probes() -> None:
    search = Search((), PLAIN, probes_max=1)
    search.failed(error_at(1), (), None)
    search.failed(error_at(1), (error_at(1), error_at(2)), None)
    assert search.failed(error_at(1), (), probed(search))[0] == GiveUp(error_at(2))


# ── the master ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_second_failure_at_a_record_fails_the_job_and_names_the_flag() -> None:
    cluster = FakeCluster()
    job = cluster.submit(maps=1)
    one, two = cluster.worker("w1", slots=1), cluster.worker("w2", slots=1)
    one.say(AttemptFailed(one.attempts()[0], error_at(5)))
    assert cluster.state(job) is JobState.RUNNING
    two.say(AttemptFailed(two.attempts()[0], error_at(5)))
    view = cluster.machine.views.job(job, cluster.now)
    assert view.state is JobState.FAILED
    assert "/in at offset 50" in view.reason
    assert "--skip-bad-records" in view.reason


def test_the_first_failure_at_a_record_is_remembered_over_a_restart() -> None:
    cluster = FakeCluster()
    job = cluster.submit(maps=1)
    one = cluster.worker("w1", slots=1)
    one.say(AttemptFailed(one.attempts()[0], error_at(5)))
    again = cluster.restart()
    two = again.worker("w2", slots=1)
    again.pass_time(20, two)
    two.say(AttemptFailed(two.attempts()[0], error_at(5)))
    assert again.state(job) is JobState.FAILED


def test_failures_at_unknown_places_are_only_counted() -> None:
    cluster = FakeCluster()
    job = cluster.submit(maps=1, attempts_max=4)
    workers = [cluster.worker(name, slots=1) for name in ("w1", "w2")]
    for worker in workers:
        worker.say(AttemptFailed(worker.attempts()[0], TaskError("crashed", "", "")))
    assert cluster.state(job) is JobState.RUNNING


def test_bad_records_are_known_to_the_next_attempt_also_after_a_restart_and_shown_when_left_out() -> None:
    cluster = FakeCluster()
    job = cluster.submit(maps=1, reducers=0, skipped_max=5)
    one = cluster.worker("w1", slots=1)
    one.say(RecordsSkipped(one.attempts()[0], (bad_at(3), bad_at(8))))
    again = cluster.restart()
    two = again.worker("w2", slots=1)
    again.pass_time(20, two)
    (launch,) = two.take(LaunchAttempt)
    assert launch.skips == (RecordPlace(3, 7), RecordPlace(8, 7))
    two.say(AttemptSucceeded(launch.attempt, TaskOutput(b"d", 10, 1, skipped=(8,)), ()))
    assert [view.record for view in again.machine.views.skipped(job, again.now)] == [bad_at(8)]


def test_an_output_does_not_count_whose_bad_records_nobody_told_the_master_about() -> None:
    cluster = FakeCluster()
    job = cluster.submit(maps=1, reducers=0, skipped_max=5)
    worker = cluster.worker("w1", slots=1)
    (attempt,) = worker.attempts()
    again = cluster.restart()
    worker = FakeWorker(again, "w1", slots=1)
    output = AttemptSucceeded(attempt, TaskOutput(b"d", 10, 1, skipped=(8,)), ())
    worker.hello(outputs=[output])
    again.pass_time(20, worker)
    assert again.state(job) is JobState.RUNNING
    worker.say(RecordsSkipped(attempt, (bad_at(8),)), output)  # where the process still has it to say
    assert [view.record for view in again.machine.views.skipped(job, again.now)] == [bad_at(8)]


def test_more_bad_records_than_allowed_fail_the_job_and_stay_known() -> None:
    cluster = FakeCluster()
    job = cluster.submit(maps=1, skipped_max=1)
    worker = cluster.worker("w1", slots=1)
    (attempt,) = worker.attempts()
    worker.say(RecordsSkipped(attempt, (bad_at(3),)))
    worker.say(RecordsSkipped(attempt, (bad_at(3),)))  # said again
    assert cluster.state(job) is JobState.RUNNING
    worker.say(RecordsSkipped(attempt, (bad_at(4),)))
    assert cluster.state(job) is JobState.FAILED
    for each in (cluster, cluster.restart()):
        assert [view.record for view in each.machine.views.skipped(job, each.now)] == [bad_at(3), bad_at(4)]


@pytest.mark.parametrize(("share", "state"), [(0.25, JobState.SUCCEEDED), (0.24, JobState.FAILED)])
def test_a_share_is_judged_when_all_maps_of_a_step_are_done(share: float, state: JobState) -> None:
    cluster = FakeCluster()
    job = cluster.submit(maps=2, reducers=0, skipped_fraction_max=share)
    worker = cluster.worker("w1", slots=2)
    first, second = worker.attempts()
    worker.say(RecordsSkipped(first, (bad_at(1), bad_at(2))))
    read = (("minireduce", "MAP_INPUT_RECORDS", 3),)
    worker.say(AttemptSucceeded(first, TaskOutput(b"d", 10, 1, skipped=(1, 2)), read))
    assert cluster.state(job) is JobState.RUNNING
    worker.say(AttemptSucceeded(second, TaskOutput(b"e", 10, 1), read))
    assert cluster.state(job) is state
