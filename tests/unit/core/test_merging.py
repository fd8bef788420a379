"""When a free slot merges for a reduce that waits, when it gives way, and what of it the reduce is given."""

from __future__ import annotations

from scenes.worker import (
    JOB,
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

from minireduce.core.messages import DropJob, KillAttempt
from minireduce.core.settings import WorkerSettings
from minireduce.core.work.attempts import (
    AttemptEnded,
    InputRun,
    Killed,
    MergedGroup,
    OutputFoundMissing,
    StartAttempt,
    Succeeded,
)
from minireduce.core.work.fetches import Fetched, FetchEnded
from minireduce.core.work.merging import GroupMerged, MergeEnded, NotMerged, StartMerge, StopMerge
from minireduce.core.work.orders import RemoveJob
from minireduce.core.work.requests import Fetch

MAPS = 8
TWO_AT_ONCE = GroupMerged(2, 500, 7, at_once=2, runs_max=2)


def start(*, slots: int = 1, reduces: int = 1, own: int = 0, is_on: bool = True) -> Scene:
    settings = WorkerSettings(merges_ahead=is_on, merge_runs_min=3)
    scene = Scene(
        slots=slots, settings=settings, outputs=tuple(succeeded(map_attempt(index)) for index in range(own))
    ).join()
    scene.command(open_job(reducers=2), *(launch_reduce(index, maps=MAPS) for index in range(reduces)))
    scene.command(ready(*(source(index, worker="w1") for index in range(own))))
    return scene


def bring(scene: Scene, *maps: int, bytes_total: int = 50, number: int = 0) -> None:
    """The outputs of these maps come here."""
    scene.command(ready(*(source(index, number) for index in maps)))
    for fetch in scene.take(Fetch):
        scene.see_ended(FetchEnded(fetch.number, Fetched(bytes_total)))


def merging(scene: Scene, after_s: float = 0.3) -> list[tuple[int, list[int]]]:
    """Where each merge that was begun after a while begins, and the maps of its runs."""
    scene.tick(after_s)
    return [(order.first, [run.source.task.index for run in order.runs]) for order in scene.take(StartMerge)]


def end(scene: Scene, outcome: GroupMerged | NotMerged | Killed = TWO_AT_ONCE, reduce: int = 0) -> None:
    scene.see(MergeEnded(reduce_attempt(reduce), outcome))


def test_a_slot_that_has_been_free_for_a_while_merges_neighbours_once_enough_runs_are_here():
    scene = start()
    bring(scene, 0, 5)
    assert merging(scene) == []
    bring(scene, 1)
    (order,) = scene.take(StartMerge)
    assert (order.first, order.runs_here, order.bytes_here, order.groups_before) == (0, 3, 150, 0)
    assert [run.source.task.index for run in order.runs] == [0, 1]  # the third does not follow these


def test_a_slot_that_has_just_become_free_waits():
    scene = start()
    scene.command(launch_map(0))
    bring(scene, 0, 1, 2, 3)
    scene.tick(5.0)
    scene.see(AttemptEnded(map_attempt(0), Succeeded(OUTPUT, ())))
    assert merging(scene, 0.1) == []
    assert merging(scene, 0.2) == [(0, [0, 1, 2, 3])]


def test_nothing_is_merged_unless_it_is_wanted():
    scene = start(is_on=False)
    bring(scene, *range(6))
    assert merging(scene) == []


def test_the_next_group_begins_behind_the_last_once_it_is_sure_to_be_one():
    scene = start()
    bring(scene, 0, 1, 2)
    assert merging(scene) == [(0, [0, 1, 2])]
    end(scene)
    assert merging(scene) == []  # two groups of two, and two runs behind them: four groups' worth is not here
    bring(scene, 5)
    assert merging(scene) == []  # enough, but they do not follow each other
    bring(scene, 3)
    assert scene.take(StartMerge)[0].runs == tuple(InputRun(map_attempt(index), is_own=False) for index in (2, 3))


def test_runs_without_pairs_count_for_nothing_and_go_along():
    scene = start()
    bring(scene, 0, 1)
    end_of_first = [2, 3, 4]
    bring(scene, *end_of_first, bytes_total=0)
    assert merging(scene) == []
    bring(scene, 5)
    assert [len(order.runs) for order in scene.take(StartMerge)] == [6]


def test_too_few_runs_for_a_group_are_asked_about_again_when_there_are_enough_and_refusals_count():
    scene = start()
    bring(scene, 0, 1, 2)
    assert merging(scene) == [(0, [0, 1, 2])]
    end(scene, NotMerged(at_once=3, runs_max=3))
    assert merging(scene) == []
    bring(scene, 3, 4)
    assert [len(order.runs) for order in scene.take(StartMerge)] == [3]
    end(scene, NotMerged())
    bring(scene, 5)
    assert merging(scene) == []


def test_a_slot_that_is_wanted_is_given_up_and_what_was_broken_off_is_begun_again():
    scene = start()
    bring(scene, 0, 1, 2)
    assert len(merging(scene)) == 1
    scene.command(launch_map(7))
    scene.tick()
    assert scene.take(StopMerge) == [StopMerge(reduce_attempt())]  # once
    assert scene.take(StartAttempt) == []  # its process has not ended
    end(scene, Killed())
    assert [order.attempt for order in scene.take(StartAttempt)] == [map_attempt(7)]
    assert merging(scene, 5.0) == []
    scene.see(AttemptEnded(map_attempt(7), Succeeded(OUTPUT, ())))
    assert merging(scene) == [(0, [0, 1, 2])]


def test_a_reduce_waits_for_the_end_of_its_own_group_and_is_given_it():
    scene = start()
    bring(scene, 0, 1, 2)
    assert len(merging(scene)) == 1
    bring(scene, *range(3, MAPS))
    assert (scene.take(StopMerge), scene.take(StartAttempt)) == ([], [])
    end(scene)
    (order,) = scene.take(StartAttempt)
    assert order.ahead == (MergedGroup(0, 2, 500, 7),)
    assert len(order.runs) == MAPS  # the originals, all of them


def test_each_reduce_that_waits_has_a_slot_of_its_own_while_there_are_some():
    scene = start(slots=2, reduces=3)
    bring(scene, 0, 1, 2)
    scene.tick(0.3)
    assert [order.attempt for order in scene.take(StartMerge)] == [reduce_attempt(0), reduce_attempt(1)]
    end(scene, NotMerged())
    assert [order.attempt for order in scene.take(StartMerge)] == [reduce_attempt(2)]


def test_a_group_with_a_run_that_was_made_again_is_not_given_to_the_reduce():
    scene = start(own=3)
    assert merging(scene) == [(0, [0, 1, 2])]
    end(scene)
    bring(scene, 3)
    assert merging(scene) == [(2, [2, 3])]
    end(scene, GroupMerged(2, 400, 5, at_once=2, runs_max=2))
    scene.see(OutputFoundMissing(map_attempt(1)))
    bring(scene, *range(4, MAPS))
    assert scene.take(StartAttempt) == []
    bring(scene, 1, number=1)
    scene.tick()
    for outstanding in scene.take(StartMerge):
        end(scene, NotMerged(), reduce=outstanding.attempt.task.index)
    (order,) = scene.take(StartAttempt)
    assert order.runs[1] == InputRun(map_attempt(1, 1), is_own=False)
    assert order.ahead == (MergedGroup(2, 2, 400, 5),)


def test_a_job_is_removed_when_what_was_merged_for_it_has_ended():
    scene = start()
    bring(scene, 0, 1, 2)
    assert len(merging(scene)) == 1
    scene.command(KillAttempt(reduce_attempt(), "not wanted"))
    assert scene.take(StopMerge) == [StopMerge(reduce_attempt())]
    scene.command(DropJob(JOB))
    assert scene.take(RemoveJob) == []
    end(scene, Killed())
    assert scene.take(RemoveJob) == [RemoveJob(JOB)]
