"""Which outputs a worker fetches, when, and how often it tries."""

from __future__ import annotations

from scenes.worker import Scene, launch_reduce, map_attempt, open_job, ready, reduce_attempt, source

from minireduce.core.messages import FetchFailed, MapOutputsLost
from minireduce.core.settings import WorkerSettings
from minireduce.core.work.attempts import StartAttempt
from minireduce.core.work.fetches import CancelFetch, Fetched, FetchEnded, Gone, NotReached, Unreachable
from minireduce.core.work.requests import Fetch, StartFetches


def start(*, maps: int = 2, reduces: int = 1, slots: int = 2, **settings: float) -> Scene:
    scene = Scene(slots=slots, settings=WorkerSettings(**settings)).join()
    scene.command(open_job(reducers=2), *(launch_reduce(index, maps=maps) for index in range(reduces)))
    return scene


def fetching(scene: Scene) -> list[tuple[int, int]]:
    """(index of the reduce, index of the map) of each fetch that was started."""
    return [(fetch.attempt.task.index, fetch.source.attempt.task.index) for fetch in scene.take(Fetch)]


def requests(scene: Scene) -> list[tuple[str, list[int]]]:
    """Address and indexes of the maps of each request that was started."""
    return [
        (start.fetches[0].source.address, [fetch.source.attempt.task.index for fetch in start.fetches])
        for start in scene.take(StartFetches)
    ]


def test_at_most_so_many_requests_run_at_once_to_one_source_and_to_all():
    scene = start(maps=6, fetches_max=5, fetches_per_source_max=2, request_outputs_max=1)
    scene.command(ready(*(source(index, worker="abc"[index % 3]) for index in range(6))))
    fetches = scene.take(Fetch)
    assert [fetch.source.address for fetch in fetches] == ["a:1", "a:1", "b:1", "b:1", "c:1"]
    scene.see_ended(FetchEnded(fetches[0].number, Fetched(50)))
    assert fetching(scene) == [(0, 5)]


def test_outputs_of_one_source_go_into_one_request_until_it_is_full():
    scene = start(maps=5, request_outputs_max=2, fetches_per_source_max=2)
    scene.command(ready(*(source(index, worker="ab"[index // 4]) for index in range(5))))
    assert requests(scene) == [("a:1", [0, 1]), ("a:1", [2, 3]), ("b:1", [4])]


def test_a_request_that_will_bring_enough_bytes_takes_no_more_outputs():
    scene = start(maps=4, request_bytes_max=250)
    scene.command(ready(*(source(index, bytes_total=bytes_total) for index, bytes_total in enumerate([200, 200, 200]))))
    assert requests(scene) == [("other:1", [0, 1, 2])]
    scene.command(ready(source(3, bytes_total=1000)))
    assert requests(scene) == [("other:1", [3])]
    scene.command(launch_reduce(1, maps=4))
    assert requests(scene) == [("other:1", [0, 1, 2]), ("other:1", [3])]


def test_what_comes_to_be_while_all_requests_are_under_way_goes_together_into_the_next():
    scene = start(maps=4, fetches_per_source_max=1)
    for index in range(4):
        scene.command(ready(source(index)))
    assert requests(scene) == [("other:1", [0])]
    scene.see_ended(FetchEnded(1, Fetched(50)))
    assert requests(scene) == [("other:1", [1, 2, 3])]


def test_reduces_of_a_job_share_a_request():
    scene = start(maps=1, reduces=2, fetches_per_source_max=1)
    scene.command(ready(source(0)))
    (asked,) = scene.take(StartFetches)
    assert [(fetch.attempt, fetch.partition) for fetch in asked.fetches] == [
        (reduce_attempt(0), 0),
        (reduce_attempt(1), 1),
    ]


def test_a_request_is_under_way_until_its_last_fetch_has_ended_or_was_cancelled():
    scene = start(maps=4, fetches_per_source_max=1, request_outputs_max=3)
    scene.command(ready(*map(source, range(4))))
    assert requests(scene) == [("other:1", [0, 1, 2])]
    scene.see_ended(FetchEnded(1, Fetched(50)))
    scene.see_ended(FetchEnded(2, Unreachable("no answer")))
    assert requests(scene) == []
    scene.command(MapOutputsLost((map_attempt(2),)))
    assert requests(scene) == [("other:1", [3])]


def test_what_an_answer_that_broke_off_did_not_reach_is_asked_for_at_once_and_was_not_tried():
    scene = start(maps=3, fetches_per_source_max=1)
    scene.command(ready(*map(source, range(3))))
    for round_ in range(4):
        first, *behind = scene.take(StartFetches)[0].fetches
        assert len(behind) == 2 - min(round_, 2), "those that were reached wait for their pause"
        scene.see_ended(FetchEnded(first.number, Unreachable("broken off")))
        for fetch in behind:
            scene.see_ended(FetchEnded(fetch.number, NotReached()))
        if not behind:
            break
        assert scene.reports() == []


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
    (fetch,) = scene.take(Fetch)
    scene.see_ended(FetchEnded(fetch.number, Fetched(50)))
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
        (fetch,) = scene.take(Fetch)
        scene.see_ended(FetchEnded(fetch.number, Unreachable("no answer")))
        assert scene.take(Fetch) == []
        began = scene.now
        while not any(isinstance(action, Fetch) for action in scene.done):
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
        scene.see_ended(FetchEnded(scene.take(Fetch)[-1].number, Unreachable("no answer")))
        scene.acknowledge()
        told.extend(tries for report in scene.reports() if isinstance(report, FetchFailed))
        scene.tick(9.0)
        scene.acknowledge()
        scene.tick(2.0)
    assert told == [3, 6]


def test_a_missing_output_is_reported_at_once_and_left_until_another_is_named():
    scene = start(maps=1)
    scene.command(ready(source(0)))
    scene.see_ended(FetchEnded(scene.take(Fetch)[0].number, Gone("no such output")))
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
    (old,) = scene.take(Fetch)
    scene.command(ready(source(0, number=1, worker="third")))
    assert scene.take(CancelFetch) == [CancelFetch(old.number)]
    (new,) = scene.take(Fetch)
    assert new.source == source(0, number=1, worker="third")
    assert scene.see_ended(FetchEnded(old.number, Fetched(50))) == []


def test_news_that_is_repeated_starts_nothing():
    scene = start()
    scene.command(ready(source(0)), ready(source(0)))
    assert fetching(scene) == [(0, 0)]


def test_a_fetched_copy_stays_good_when_its_source_is_lost_or_replaced():
    scene = start(maps=2)
    scene.command(ready(source(0)))
    scene.see_ended(FetchEnded(scene.take(Fetch)[0].number, Fetched(50)))
    scene.command(MapOutputsLost((map_attempt(0),)), ready(source(0, number=1), source(1)))
    (fetch,) = scene.take(Fetch)
    assert fetch.source == source(1)
    scene.see_ended(FetchEnded(fetch.number, Fetched(50)))
    (started,) = scene.take(StartAttempt)
    assert [run.source for run in started.runs] == [map_attempt(0), map_attempt(1)]


def test_a_lost_source_is_not_fetched_any_more():
    scene = start(maps=2)
    scene.command(ready(source(0), source(1)))
    first, _ = scene.take(Fetch)
    scene.command(MapOutputsLost((map_attempt(0),)))
    assert scene.take(CancelFetch) == [CancelFetch(first.number)]
    scene.command(launch_reduce(1))
    assert fetching(scene) == [(1, 1)]


def test_a_silent_source_that_was_replaced_is_not_tried_again():
    scene = start(maps=1)
    scene.command(ready(source(0)))
    scene.see_ended(FetchEnded(scene.take(Fetch)[0].number, Unreachable("no answer")))
    scene.command(ready(source(0, number=1)))
    (fetch,) = scene.take(Fetch)
    assert fetch.source == source(0, number=1)
    scene.tick(5.0)
    assert scene.take(Fetch) == []


def test_what_ends_together_is_followed_by_one_request_for_what_is_next():
    scene = start(maps=5, fetches_max=1, request_outputs_max=2)
    scene.command(ready(*(source(index) for index in range(5))))
    assert requests(scene) == [("other:1", [0, 1])]
    first, second = scene.take(Fetch)
    scene.see_ended(FetchEnded(first.number, Fetched(50)), FetchEnded(second.number, NotReached()))
    assert requests(scene) == [("other:1", [2, 3])]
    third, fourth = scene.take(Fetch)
    scene.see_ended(FetchEnded(third.number, Gone("no such output")), FetchEnded(fourth.number, Fetched(50)))
    assert requests(scene) == [("other:1", [4, 1])]
    assert [report.source for report in scene.reports() if isinstance(report, FetchFailed)] == [map_attempt(2)]


def test_a_fetch_that_was_cancelled_is_ignored_among_others_that_end_with_it():
    scene = start(maps=2)
    scene.command(ready(source(0), source(1)))
    old, other = scene.take(Fetch)
    scene.command(MapOutputsLost((map_attempt(0),)))
    scene.see_ended(FetchEnded(old.number, Fetched(50)), FetchEnded(other.number, Fetched(50)))
    assert scene.take(StartAttempt) == []
    scene.command(ready(source(0, number=1)))
    (again,) = scene.take(Fetch)
    scene.see_ended(FetchEnded(again.number, Fetched(50)))
    assert len(scene.take(StartAttempt)) == 1
