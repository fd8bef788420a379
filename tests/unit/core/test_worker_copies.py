"""Copies of parts on a worker: fetched, kept, listed, and given up."""

from __future__ import annotations

from scenes.worker import Scene, map_attempt, source, succeeded

from minireduce.core.messages import (
    AttemptSucceeded,
    CopyPart,
    DropJob,
    DropOutputs,
    PartCopyFailed,
    ReleaseWorker,
    WorkerStopping,
)
from minireduce.core.task_data import TaskOutput
from minireduce.core.work.copies import CopyEnded, KeepCopy
from minireduce.core.work.fetches import PART, CancelFetch, Fetched, FetchEnded, Gone, Unreachable
from minireduce.core.work.orders import RemoveJob, RemoveOutputs
from minireduce.core.work.requests import Fetch
from minireduce.core.work.session import StopWorker
from minireduce.core.worker import StopRequested

PART_OF_0 = AttemptSucceeded(map_attempt(0), TaskOutput(b"digest", 100, 10), ())
ORDER = CopyPart(PART_OF_0, source(0), is_text=True, read_token="read it")


def copying():
    scene = Scene().join()
    scene.command(ORDER)
    (fetch,) = scene.take(Fetch)
    return scene, fetch


def test_a_part_is_fetched_kept_told_and_listed():
    scene, fetch = copying()
    assert (fetch.attempt, fetch.source, fetch.partition, fetch.read_token) == (
        map_attempt(0), source(0), PART, "read it",
    )  # fmt: skip
    scene.see_ended(FetchEnded(fetch.number, Fetched(100)))
    assert scene.take(KeepCopy) == [KeepCopy(ORDER)]
    assert scene.reports() == []
    scene.see(CopyEnded(map_attempt(0)))
    assert scene.reports() == [PART_OF_0]
    scene.lose_stream()
    scene.open_stream()
    scene.welcome(session=0)
    scene.tick()
    assert PART_OF_0 in scene.hello().outputs


def test_an_order_that_is_repeated_is_answered_by_what_is_known():
    scene, fetch = copying()
    scene.command(ORDER)
    assert scene.take(Fetch) == []
    scene.see_ended(FetchEnded(fetch.number, Fetched(100)))
    scene.see(CopyEnded(map_attempt(0)))
    scene.reports()
    scene.command(ORDER)
    assert scene.reports() == [PART_OF_0]


def test_a_part_that_is_gone_or_damaged_is_told_and_leaves_nothing():
    scene, fetch = copying()
    scene.see_ended(FetchEnded(fetch.number, Gone("404")))
    assert scene.reports() == [PartCopyFailed(map_attempt(0), is_gone=True, reason="404")]
    assert scene.take(RemoveOutputs) == [RemoveOutputs((map_attempt(0),))]
    scene, fetch = copying()
    scene.see_ended(FetchEnded(fetch.number, Fetched(100)))
    scene.see(CopyEnded(map_attempt(0), "it is another part"))
    assert scene.reports() == [PartCopyFailed(map_attempt(0), is_gone=False, reason="it is another part")]
    assert scene.take(RemoveOutputs) == [RemoveOutputs((map_attempt(0),))]


def test_a_source_that_does_not_answer_is_given_up_after_some_tries():
    scene, fetch = copying()
    for _ in range(scene.settings.fetch_tries_per_report):
        scene.see_ended(FetchEnded(fetch.number, Unreachable("timeout")))
        for _ in range(20):
            scene.tick()
        fetch = next(iter(scene.take(Fetch)), fetch)
    assert scene.reports() == [PartCopyFailed(map_attempt(0), is_gone=False, reason="timeout")]
    scene.command(ORDER)
    assert len(scene.take(Fetch)) == 1


def test_a_copy_of_a_job_that_is_dropped_is_cancelled_and_what_comes_late_is_removed():
    scene, fetch = copying()
    scene.command(DropJob(map_attempt(0).task.job))
    assert scene.take(CancelFetch) == [CancelFetch(fetch.number)]
    assert len(scene.take(RemoveJob)) == 1
    scene, fetch = copying()
    scene.see_ended(FetchEnded(fetch.number, Fetched(100)))
    scene.command(DropJob(map_attempt(0).task.job))
    scene.see(CopyEnded(map_attempt(0)))
    assert scene.reports() == []
    assert scene.take(RemoveOutputs) == [RemoveOutputs((map_attempt(0),))]


def test_a_copy_that_is_no_longer_wanted_is_cancelled():
    scene, fetch = copying()
    scene.command(DropOutputs((map_attempt(0),)))
    assert scene.take(CancelFetch) == [CancelFetch(fetch.number)]


def test_a_worker_that_holds_a_part_stops_when_it_is_released_and_at_the_latest_after_a_while():
    scene = Scene(outputs=(PART_OF_0,)).join()
    scene.see(StopRequested())
    assert WorkerStopping() in scene.reports()
    scene.acknowledge()
    assert scene.take(StopWorker) == []
    scene.command(ReleaseWorker())
    assert len(scene.take(StopWorker)) == 1
    scene = Scene(outputs=(PART_OF_0,)).join()
    scene.see(StopRequested())
    scene.acknowledge()
    scene.tick(scene.settings.stop_wait_s - 0.1)
    assert scene.take(StopWorker) == []
    scene.tick(0.2)
    assert len(scene.take(StopWorker)) == 1


def test_a_worker_that_holds_map_outputs_alone_waits_for_nobody():
    scene = Scene(outputs=(succeeded(map_attempt(0)),)).join()
    scene.see(StopRequested())
    scene.acknowledge()
    assert len(scene.take(StopWorker)) == 1
