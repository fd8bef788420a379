"""Short maps go to a task process many at a time, and none is lost, doubled or blamed by that."""

from __future__ import annotations

from scenes.worker import (
    OUTPUT,
    Scene,
    launch_map,
    launch_reduce,
    map_attempt,
    open_job,
    ready,
    reduce_attempt,
    source,
    succeeded,
)

from minireduce.core.messages import AttemptFailed, AttemptKilled, AttemptReturned, AttemptStarted, DropJob, KillAttempt
from minireduce.core.settings import WorkerSettings
from minireduce.core.task_data import TaskError
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptsEnded,
    AttemptsGivenBack,
    Failed,
    Lost,
    ProgressMade,
    StartAttempt,
    StartBatch,
    StopAttempt,
    Succeeded,
)
from minireduce.core.work.orders import RemoveJob
from minireduce.ids import AttemptId

SHORT_S = WorkerSettings().batch_s / 5
ERROR = TaskError("raised", "ValueError", "no")


def busy(count: int, *, slots: int = 1, **settings: float) -> Scene:
    """A worker that has timed a short map, and was then given so many maps, of which some run."""
    scene = Scene(slots=slots, settings=WorkerSettings(**settings)).join()
    scene.command(open_job(), launch_map(0))
    scene.see(AttemptEnded(map_attempt(0), Succeeded(OUTPUT, (), busy_s=SHORT_S)))
    scene.reports()
    scene.take(StartAttempt)
    scene.command(*(launch_map(index) for index in range(1, count + 1)))
    return scene


def started(scene: Scene) -> list[list[int]]:
    """The tasks that were started since this was last asked, those of one process together."""
    batches = [action for action in scene.done if isinstance(action, StartAttempt | StartBatch)]
    scene.take(StartAttempt), scene.take(StartBatch)
    orders = [batch.orders if isinstance(batch, StartBatch) else (batch,) for batch in batches]
    return [[order.attempt.task.index for order in each] for each in orders]


def ends(*indices: int, busy_s: float = SHORT_S) -> AttemptsEnded:
    return AttemptsEnded(
        tuple(AttemptEnded(map_attempt(index), Succeeded(OUTPUT, (), busy_s=busy_s)) for index in indices)
    )


def back(*indices: int) -> AttemptsGivenBack:
    return AttemptsGivenBack(tuple(map_attempt(index) for index in indices))


def attempts(reports: list[object], kind: type) -> list[AttemptId]:
    return [report.attempt for report in reports if isinstance(report, kind)]


def test_maps_go_one_by_one_until_one_was_timed_and_then_as_many_as_fit_into_a_batch():
    scene = Scene(slots=1).join()
    scene.command(open_job(), *(launch_map(index) for index in range(9)))
    assert started(scene) == [[0]]
    scene.see(AttemptEnded(map_attempt(0), Succeeded(OUTPUT, (), busy_s=SHORT_S)))
    assert started(scene) == [[1, 2, 3, 4, 5]]
    scene.see(ends(1, 2, 3, 4, 5))
    assert started(scene) == [[6, 7, 8]]


def test_maps_that_take_long_or_print_go_one_by_one():
    scene = busy(9)
    assert started(scene) == [[1, 2, 3, 4, 5]]
    scene.see(AttemptsEnded(ends(1, 2, 3, 4, 5).ends, has_printed=True))
    assert started(scene) == [[6]]
    scene = busy(9)
    started(scene)
    scene.see(ends(1, 2, 3, 4, 5, busy_s=0.5))
    assert started(scene) == [[6]]


def test_what_is_ready_is_shared_among_the_slots():
    assert started(busy(6, slots=2)) == [[1, 2, 3], [4, 5, 6]]


def test_a_batch_holds_one_slot_until_its_last_map_has_ended_and_a_reduce_goes_before_the_next():
    scene = busy(9)
    scene.command(launch_reduce(maps=1), ready(source(0)))
    started(scene)
    scene.see(ends(1, 2))
    assert started(scene) == []
    scene.see(ends(3, 4, 5))
    assert scene.take(StartAttempt)[0].attempt == reduce_attempt()
    assert attempts(scene.reports(), AttemptStarted) == [reduce_attempt()]


def test_each_end_is_reported_once_and_what_lasts_is_told_to_have_started():
    scene = busy(5)
    scene.see(ProgressMade(map_attempt(1), 0.5, 1))
    scene.see(ProgressMade(map_attempt(1), 0.6, 1))
    scene.see(ends(1, 2))
    scene.see(ends(3, 4, 5))
    reports = scene.reports()
    assert attempts(reports, AttemptStarted) == [map_attempt(1)]
    assert [report.attempt.task.index for report in reports if hasattr(report, "output")] == [1, 2, 3, 4, 5]


def test_what_a_process_gives_back_is_started_again_and_the_master_hears_nothing_of_it():
    scene = busy(5)
    started(scene)
    scene.see(back(2, 3, 4, 5))
    scene.see(AttemptsEnded((AttemptEnded(map_attempt(1), Failed(ERROR)),)))
    assert attempts(scene.reports(), AttemptFailed) == [map_attempt(1)]
    assert started(scene) == [[2, 3, 4, 5]]
    scene.see(ends(2, 3, 4, 5))
    assert [report for report in scene.reports() if not hasattr(report, "output")] == []


def test_the_one_that_is_blamed_may_stand_in_the_middle():
    scene = busy(5)
    started(scene)
    scene.see(back(1, 2, 4, 5))  # 1 and 2 may have ended, but nobody heard of it
    scene.see(AttemptsEnded((AttemptEnded(map_attempt(3), Lost("killed from outside")),)))
    assert started(scene) == [[1, 2, 4, 5]]


def test_an_attempt_that_is_killed_behind_others_is_answered_when_its_turn_has_passed():
    scene = busy(5)
    scene.command(KillAttempt(map_attempt(3), "not wanted"), KillAttempt(map_attempt(4), "not wanted"))
    assert scene.take(StopAttempt) == [StopAttempt(map_attempt(n), "not wanted") for n in (3, 4)]
    assert attempts(scene.reports(), AttemptKilled) == []
    scene.see(ends(1, 2, 3))
    scene.see(back(4, 5))
    reports = scene.reports()
    assert attempts(reports, AttemptKilled) == [map_attempt(3), map_attempt(4)]
    assert [report.attempt.task.index for report in reports if hasattr(report, "output")] == [1, 2]
    assert started(scene)[-1] == [5]


def test_a_dropped_job_is_removed_when_its_batch_is_over():
    scene = busy(5)
    scene.command(DropJob(map_attempt().task.job))
    assert scene.take(RemoveJob) == []
    scene.see(back(2, 3, 4, 5))
    assert scene.take(RemoveJob) == []
    scene.see(AttemptsEnded((AttemptEnded(map_attempt(1), Lost("killed")),)))
    assert scene.take(RemoveJob) == [RemoveJob(map_attempt().task.job)]


def test_maps_that_wait_for_a_slot_for_long_are_returned_and_others_are_not():
    scene = busy(9, hand_back_after_s=1.0)
    scene.command(launch_reduce())
    scene.tick(0.9)
    assert attempts(scene.reports(), AttemptReturned) == []
    scene.tick(0.2)
    assert attempts(scene.reports(), AttemptReturned) == [map_attempt(index) for index in (6, 7, 8, 9)]
    scene.see(ends(1, 2, 3, 4, 5))
    assert started(scene)[1:] == []
    scene.command(launch_map(6, number=1))
    assert started(scene) == [[6]]


def test_all_that_was_given_counts_as_running_for_a_new_master():
    scene = busy(9)
    scene.lose_stream()
    scene.open_stream()
    scene.welcome(epoch=2)
    hello = scene.hello()
    assert hello.running == tuple(map_attempt(index) for index in range(1, 10))
    assert hello.outputs == (succeeded(map_attempt(0)).__class__(map_attempt(0), OUTPUT, (), busy_s=SHORT_S),)
