"""Which outputs a worker fetches, when, and how often it tries."""

from __future__ import annotations

from scenes.worker import Scene, launch_reduce, map_attempt, open_job, ready, reduce_attempt, source

from minireduce.core.messages import FetchFailed, MapOutputsLost
from minireduce.core.settings import WorkerSettings
from minireduce.core.work.attempts import StartAttempt
from minireduce.core.work.fetches import CancelFetch, Fetched, FetchEnded, Gone, StartFetch, Unreachable


def start(*, maps: int = 2, reduces: int = 1, slots: int = 2, **settings: float) -> Scene:
    scene = Scene(slots=slots, settings=WorkerSettings(**settings)).join()
    scene.command(open_job(reducers=2), *(launch_reduce(index, maps=maps) for index in range(reduces)))
    return scene


def fetching(scene: Scene) -> list[tuple[int, int]]:
    """(index of the reduce, index of the map) of each fetch that was started."""
    return [(fetch.attempt.task.index, fetch.source.attempt.task.index) for fetch in scene.take(StartFetch)]


def test_at_most_so_many_fetches_run_at_once_from_one_source_and_from_all():
    scene = start(maps=6, fetches_max=5, fetches_per_source_max=2)
    scene.command(ready(*(source(index, worker="abc"[index % 3]) for index in range(6))))
    fetches = scene.take(StartFetch)
    assert [fetch.source.address for fetch in fetches] == ["a:1", "a:1", "b:1", "b:1", "c:1"]
    scene.see(FetchEnded(fetches[0].fetch, Fetched(50)))
    assert fetching(scene) == [(0, 5)]


def test_while_maps_still_run_fetched_bytes_stay_within_the_budget():
    scene = start(maps=3, prefetch_bytes_max=100)
    scene.command(ready(source(0, bytes_total=250)))
    assert fetching(scene) == [(0, 0)]
    scene.command(ready(source(1, bytes_total=250)))
    assert fetching(scene) == []


def test_with_all_sources_known_as_many_reduces_as_slots_pass_the_budget():
    scene = start(maps=2, reduces=3, slots=1, prefetch_bytes_max=1, fetches_max=100, fetches_per_source_max=100)
    scene.command(ready(source(0), source(1)))
    assert fetching(scene) == [(0, 0), (0, 1)]


def test_a_reduce_that_starts_makes_room_for_the_next_one_to_fetch():
    scene = start(maps=1, reduces=2, slots=1, prefetch_bytes_max=1)
    scene.command(ready(source(0)))
    (fetch,) = scene.take(StartFetch)
    scene.see(FetchEnded(fetch.fetch, Fetched(50)))
    assert [started.attempt for started in scene.take(StartAttempt)] == [reduce_attempt(0)]
    assert fetching(scene) == [(1, 0)]


def test_a_reduce_that_is_launched_late_learns_of_sources_named_before():
    scene = start(reduces=0)
    scene.command(ready(source(0)))
    scene.command(launch_reduce(1))
    assert fetching(scene) == [(1, 0)]


def test_a_source_that_does_not_answer_is_tried_again_after_a_growing_pause():
    scene = start(maps=1)
    scene.command(ready(source(0)))
    pauses = []
    for _ in range(4):
        (fetch,) = scene.take(StartFetch)
        scene.see(FetchEnded(fetch.fetch, Unreachable("no answer")))
        assert scene.take(StartFetch) == []
        began = scene.now
        while not any(isinstance(action, StartFetch) for action in scene.done):
            scene.tick(0.01)
        pauses.append(scene.now - began)
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.3
    assert pauses[-1] > 0.7


def test_the_master_hears_of_a_silent_source_after_every_third_try():
    scene = start(maps=1)
    scene.command(ready(source(0)))
    told = []
    for tries in range(1, 7):
        scene.see(FetchEnded(scene.take(StartFetch)[-1].fetch, Unreachable("no answer")))
        scene.acknowledge()
        told.extend(tries for report in scene.reports() if isinstance(report, FetchFailed))
        scene.tick(9.0)
        scene.acknowledge()
        scene.tick(2.0)
    assert told == [3, 6]


def test_a_missing_output_is_reported_at_once_and_left_until_another_is_named():
    scene = start(maps=1)
    scene.command(ready(source(0)))
    scene.see(FetchEnded(scene.take(StartFetch)[0].fetch, Gone("no such output")))
    assert scene.reports() == [FetchFailed(reduce_attempt(0), map_attempt(0), is_gone=True, reason="no such output")]
    scene.tick(9.0)
    assert fetching(scene) == []
    scene.command(ready(source(0, number=1)))
    assert fetching(scene) == [(0, 0)]


def test_an_own_output_that_is_not_here_is_reported_as_gone():
    scene = start(maps=1)
    scene.command(ready(source(0, worker="w1")))
    (report,) = scene.reports()
    assert (report.source, report.is_gone) == (map_attempt(0), True)


def test_a_newer_source_replaces_a_fetch_under_way():
    scene = start(maps=1)
    scene.command(ready(source(0)))
    (old,) = scene.take(StartFetch)
    scene.command(ready(source(0, number=1, worker="third")))
    assert scene.take(CancelFetch) == [CancelFetch(old.fetch)]
    (new,) = scene.take(StartFetch)
    assert new.source == source(0, number=1, worker="third")
    assert scene.see(FetchEnded(old.fetch, Fetched(50))) == []


def test_news_that_is_repeated_starts_nothing():
    scene = start()
    scene.command(ready(source(0)), ready(source(0)))
    assert fetching(scene) == [(0, 0)]


def test_a_fetched_copy_stays_good_when_its_source_is_lost_or_replaced():
    scene = start(maps=2)
    scene.command(ready(source(0)))
    scene.see(FetchEnded(scene.take(StartFetch)[0].fetch, Fetched(50)))
    scene.command(MapOutputsLost((map_attempt(0),)), ready(source(0, number=1), source(1)))
    (fetch,) = scene.take(StartFetch)
    assert fetch.source == source(1)
    scene.see(FetchEnded(fetch.fetch, Fetched(50)))
    (started,) = scene.take(StartAttempt)
    assert [run.source for run in started.runs] == [map_attempt(0), map_attempt(1)]


def test_a_lost_source_is_not_fetched_any_more():
    scene = start(maps=2)
    scene.command(ready(source(0), source(1)))
    first, _ = scene.take(StartFetch)
    scene.command(MapOutputsLost((map_attempt(0),)))
    assert scene.take(CancelFetch) == [CancelFetch(first.fetch)]
    scene.command(launch_reduce(1))
    assert fetching(scene) == [(1, 1)]


def test_a_silent_source_that_was_replaced_is_not_tried_again():
    scene = start(maps=1)
    scene.command(ready(source(0)))
    scene.see(FetchEnded(scene.take(StartFetch)[0].fetch, Unreachable("no answer")))
    scene.command(ready(source(0, number=1)))
    (fetch,) = scene.take(StartFetch)
    assert fetch.source == source(0, number=1)
    scene.tick(5.0)
    assert scene.take(StartFetch) == []
