"""How a worker carries out what the master assigned to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes.worker import (
    GIB,
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

from minireduce.core.messages import (
    AttemptFailed,
    AttemptKilled,
    AttemptLost,
    AttemptProgressed,
    AttemptStarted,
    DropJob,
    DropOutputs,
    KillAttempt,
    LaunchAttempt,
    MapOutputsLost,
    WorkerStopping,
)
from minireduce.core.replica_messages import (
    ConfirmReplica,
    RemoveReplica,
    Replica,
    ReplicaConfirmed,
    ReplicaDamaged,
    ReplicaRemoved,
    ReplicaStored,
    ReplicateBlock,
    ReplicationFailed,
    ReplicaVerified,
)
from minireduce.core.task_data import OutputSource, PartInput, TaskError
from minireduce.core.work.attempts import (
    AttemptEnded,
    Failed,
    InputRun,
    Killed,
    Lost,
    ProgressMade,
    StartAttempt,
    StopAttempt,
    Succeeded,
)
from minireduce.core.work.fetches import PART, CancelFetch, Fetched, FetchEnded
from minireduce.core.work.orders import CloseProgram, OpenProgram, RemoveFetched, RemoveJob, RemoveOutputs
from minireduce.core.work.requests import Fetch
from minireduce.core.work.session import Warn
from minireduce.core.worker import (
    DeleteReplica,
    ReplicaDeleted,
    ReplicaFoundDamaged,
    ReplicationEnded,
    ReplicaWritten,
    StartReplication,
    StopRequested,
)
from minireduce.errors import InvariantViolation

ERROR = TaskError("raised", "ValueError", "no")


def started(scene: Scene):
    return [start.attempt for start in scene.take(StartAttempt)]


def test_a_map_starts_when_a_slot_is_free_and_each_is_reported():
    scene = Scene(slots=2).join()
    scene.command(open_job(), launch_map(0), launch_map(1), launch_map(2))
    assert [opened.opened.job for opened in scene.take(OpenProgram)] == [JOB]
    assert started(scene) == [map_attempt(0), map_attempt(1)]
    scene.see(AttemptEnded(map_attempt(0), Succeeded(OUTPUT, ())))
    assert started(scene) == [map_attempt(2)]
    assert scene.reports() == [
        AttemptStarted(map_attempt(0)),
        AttemptStarted(map_attempt(1)),
        succeeded(map_attempt(0)),
        AttemptStarted(map_attempt(2)),
    ]


def test_attempts_run_only_while_their_memory_limits_fit_together():
    scene = Scene(slots=4, memory_bytes=3 * GIB).join()
    scene.command(open_job(memory_limit_bytes=2 * GIB), launch_map(0), launch_map(1))
    assert started(scene) == [map_attempt(0)]
    scene.see(AttemptEnded(map_attempt(0), Failed(ERROR)))
    assert started(scene) == [map_attempt(1)]


def test_an_attempt_larger_than_the_worker_runs_alone():
    scene = Scene(slots=4, memory_bytes=GIB).join()
    scene.command(open_job(memory_limit_bytes=2 * GIB), launch_map(0), launch_map(1))
    assert started(scene) == [map_attempt(0)]


def test_a_reduce_takes_a_slot_only_when_all_its_input_is_here():
    scene = Scene(slots=1).join()
    scene.command(open_job(), launch_reduce(0), ready(source(0)))
    (fetch,) = scene.take(Fetch)
    assert (fetch.attempt, fetch.partition, fetch.read_token) == (reduce_attempt(0), 0, "read")
    scene.see_ended(FetchEnded(fetch.number, Fetched(50)))
    assert started(scene) == []
    scene.command(launch_map(5))
    assert started(scene) == [map_attempt(5)]


def test_a_reduce_whose_input_is_complete_goes_before_queued_maps():
    scene = Scene(slots=1).join()
    scene.command(open_job(), launch_map(7))
    scene.command(launch_map(8), launch_reduce(0), ready(source(0), source(1)))
    for fetch in scene.take(Fetch):
        scene.see_ended(FetchEnded(fetch.number, Fetched(50)))
    started(scene)
    scene.see(AttemptEnded(map_attempt(7), Succeeded(OUTPUT, ())))
    assert started(scene) == [reduce_attempt(0)]


def test_own_outputs_are_read_in_place_and_runs_come_in_the_order_of_their_tasks():
    scene = Scene(slots=1, outputs=(succeeded(map_attempt(1)),)).join()
    scene.command(open_job(), launch_reduce(0, maps=3), ready(source(2), source(1, worker="w1"), source(0)))
    fetches = {fetch.source.attempt: fetch for fetch in scene.take(Fetch)}
    assert list(fetches) == [map_attempt(2), map_attempt(0)]
    for fetch in fetches.values():
        scene.see_ended(FetchEnded(fetch.number, Fetched(50)))
    (start,) = scene.take(StartAttempt)
    assert start.runs == (
        InputRun(map_attempt(0), is_own=False),
        InputRun(map_attempt(1), is_own=True),
        InputRun(map_attempt(2), is_own=False),
    )
    assert start.output_text


def test_a_reduce_without_maps_is_ready_at_once():
    scene = Scene().join()
    scene.command(open_job(), launch_reduce(0, maps=0))
    assert started(scene) == [reduce_attempt(0)]


def test_every_attempt_is_told_whether_its_job_writes_text():
    for is_text in (True, False):
        scene = Scene(slots=3).join()
        opened = replace(open_job(steps=2), output_text=is_text)
        scene.command(opened, launch_map(0), launch_reduce(0, maps=0))
        assert [start.output_text for start in scene.take(StartAttempt)] == [is_text, is_text]


def test_a_map_of_a_later_step_waits_for_the_part_that_it_reads():
    scene = Scene().join()
    part = OutputSource(reduce_attempt(4), "other", "other:1", 70)
    late = map_attempt(4, step=1)
    scene.command(open_job(steps=2), LaunchAttempt(late, PartInput(part)))
    (fetch,) = scene.take(Fetch)
    assert (fetch.source, fetch.partition) == (part, PART)
    scene.see_ended(FetchEnded(fetch.number, Fetched(70)))
    (start,) = scene.take(StartAttempt)
    assert start.runs == (InputRun(reduce_attempt(4), is_own=False),)


def test_what_was_fetched_goes_when_its_attempt_has_succeeded():
    scene = Scene().join()
    scene.command(open_job(), launch_reduce(0, maps=1), ready(source(0)))
    scene.see_ended(FetchEnded(scene.take(Fetch)[0].number, Fetched(50)))
    scene.see(AttemptEnded(reduce_attempt(0), Succeeded(OUTPUT, ())))
    assert scene.take(RemoveFetched) == [RemoveFetched(reduce_attempt(0))]
    assert scene.take(RemoveOutputs) == []


@pytest.mark.parametrize(
    ("outcome", "report"),
    [
        (Failed(ERROR), AttemptFailed(map_attempt(), ERROR)),
        (Lost("no memory"), AttemptLost(map_attempt(), "no memory")),
        (Killed(), AttemptLost(map_attempt(), "its process was killed from outside")),
    ],
)
def test_an_attempt_without_output_leaves_only_its_report(outcome, report):
    scene = Scene().join()
    scene.command(open_job(), launch_map())
    scene.reports()
    scene.see(AttemptEnded(map_attempt(), outcome))
    assert scene.reports() == [report]
    assert scene.take(RemoveOutputs) == [RemoveOutputs((map_attempt(),))]


def test_a_launch_that_is_repeated_is_answered_by_what_is_known():
    scene = Scene().join()
    scene.command(open_job(), launch_map(0), launch_map(1), launch_map(2))
    scene.see(AttemptEnded(map_attempt(0), Succeeded(OUTPUT, ())))
    scene.see(AttemptEnded(map_attempt(1), Failed(ERROR)))
    scene.acknowledge()
    scene.reports()
    started(scene)
    scene.command(launch_map(0), launch_map(1), launch_map(2))
    assert started(scene) == []
    assert scene.reports() == [succeeded(map_attempt(0)), AttemptFailed(map_attempt(1), ERROR)]


def test_an_attempt_of_a_job_that_is_not_open_is_lost():
    scene = Scene().join()
    scene.command(launch_map())
    (report,) = scene.reports()
    assert isinstance(report, AttemptLost)


def test_a_killed_attempt_holds_its_slot_until_its_process_ended():
    scene = Scene(slots=1).join()
    scene.command(open_job(), launch_map(0), launch_map(1))
    scene.reports()
    scene.command(KillAttempt(map_attempt(0), "a backup won"), KillAttempt(map_attempt(0), "a backup won"))
    assert scene.take(StopAttempt) == [StopAttempt(map_attempt(0), "a backup won")]
    assert scene.reports() == []
    started(scene)
    scene.see(AttemptEnded(map_attempt(0), Succeeded(OUTPUT, ())))
    assert started(scene) == [map_attempt(1)]
    assert scene.reports() == [AttemptKilled(map_attempt(0)), AttemptStarted(map_attempt(1))]
    assert scene.take(RemoveOutputs) == [RemoveOutputs((map_attempt(0),))]


def test_killing_a_waiting_attempt_ends_it_and_its_fetches_at_once():
    scene = Scene().join()
    scene.command(open_job(), launch_reduce(0), ready(source(0)))
    (fetch,) = scene.take(Fetch)
    scene.command(KillAttempt(reduce_attempt(0), "no longer wanted"))
    assert scene.take(CancelFetch) == [CancelFetch(fetch.number)]
    assert scene.reports() == [AttemptKilled(reduce_attempt(0))]
    assert scene.see_ended(FetchEnded(fetch.number, Fetched(50))) == []


def test_killing_an_attempt_that_has_ended_changes_nothing():
    scene = Scene().join()
    scene.command(open_job(), launch_map(0), launch_map(1))
    scene.see(AttemptEnded(map_attempt(0), Succeeded(OUTPUT, ())))
    scene.see(AttemptEnded(map_attempt(1), Failed(ERROR)))
    scene.take(RemoveOutputs)
    scene.reports()
    scene.command(KillAttempt(map_attempt(0), "late"), KillAttempt(map_attempt(1), "late"))
    assert scene.reports() == scene.take(RemoveOutputs) == []


def test_killing_an_attempt_that_never_was_here_is_answered():
    scene = Scene().join()
    scene.command(KillAttempt(map_attempt(), "who are you"))
    assert scene.reports() == [AttemptKilled(map_attempt())]


def test_dropped_outputs_are_removed_and_no_longer_listed():
    scene = Scene(outputs=(succeeded(map_attempt(0)), succeeded(map_attempt(1)))).join()
    scene.command(DropOutputs((map_attempt(0), map_attempt(9))))
    assert scene.take(RemoveOutputs) == [RemoveOutputs((map_attempt(0),))]
    scene.lose_stream()
    scene.open_stream()
    scene.welcome()
    assert scene.hello().outputs == (succeeded(map_attempt(1)),)


def test_a_reduce_whose_own_input_was_dropped_waits_again():
    scene = Scene(slots=1, outputs=(succeeded(map_attempt(0)),)).join()
    scene.command(open_job(), launch_map(7))
    scene.command(launch_reduce(0, maps=1), ready(source(0, worker="w1")))
    scene.command(MapOutputsLost((map_attempt(0),)))
    started(scene)
    scene.see(AttemptEnded(map_attempt(7), Failed(ERROR)))
    assert started(scene) == []
    scene.command(ready(source(0, number=1)))
    scene.see_ended(FetchEnded(scene.take(Fetch)[0].number, Fetched(50)))
    assert started(scene) == [reduce_attempt(0)]


def test_a_dropped_job_is_removed_when_its_last_process_ended():
    scene = Scene(slots=2, outputs=(succeeded(map_attempt(5)),)).join()
    scene.command(open_job(), launch_map(0), launch_map(1), launch_map(2))
    scene.command(DropJob(JOB))
    assert [stop.attempt for stop in scene.take(StopAttempt)] == [map_attempt(0), map_attempt(1)]
    scene.see(AttemptEnded(map_attempt(0), Killed()))
    assert scene.take(RemoveJob) == []
    scene.see(AttemptEnded(map_attempt(1), Killed()))
    assert scene.take(RemoveJob) == [RemoveJob(JOB)]
    scene.lose_stream()
    scene.open_stream()
    scene.welcome()
    assert scene.hello().outputs == ()


def test_a_dropped_job_without_processes_is_removed_at_once_and_again_if_asked():
    scene = Scene().join()
    scene.command(open_job(), launch_reduce(0), launch_reduce(1))
    scene.command(DropJob(JOB))
    assert scene.take(RemoveJob) == [RemoveJob(JOB)]
    scene.command(DropJob(JOB))
    assert scene.take(RemoveJob) == [RemoveJob(JOB)]


def test_everything_is_given_up_when_the_master_stays_away_too_long_and_not_before():
    scene = Scene(slots=1, outputs=(succeeded(map_attempt(5)),)).join()
    scene.command(open_job(), launch_map(0))
    scene.lose_stream()
    scene.tick(599.0)
    assert scene.take(StopAttempt) == []
    scene.tick(1.2)
    assert [stop.attempt for stop in scene.take(StopAttempt)] == [map_attempt(0)]
    assert JOB in scene.take(Warn)[0].message
    scene.tick()
    assert scene.take(Warn) == []
    scene.see(AttemptEnded(map_attempt(0), Killed()))
    assert scene.take(RemoveJob) == [RemoveJob(JOB)]
    scene.open_stream()
    hello = scene.hello()
    assert (hello.session, hello.outputs) == (0, ())


def test_progress_is_reported_now_and_then_and_only_the_latest():
    scene = Scene().join()
    scene.tick()
    scene.command(open_job(), launch_map())
    scene.reports()
    scene.see(ProgressMade(map_attempt(), 0.1, 1))
    scene.see(ProgressMade(map_attempt(), 0.2, 2, "half way"))
    assert scene.reports() == []
    scene.tick(0.6)
    assert scene.reports() == [AttemptProgressed(map_attempt(), 0.2, 2, "half way")]


def test_the_end_of_an_attempt_that_never_ran_stops_the_worker():
    scene = Scene().join()
    with pytest.raises(InvariantViolation, match="none such ran"):
        scene.see(AttemptEnded(map_attempt(), Killed()))


def test_the_end_of_a_waiting_attempt_stops_the_worker_and_tells_its_story():
    scene = Scene().join()
    scene.command(open_job(), launch_reduce(0))
    with pytest.raises(InvariantViolation, match="waiting: its process ended"):
        scene.see(AttemptEnded(reduce_attempt(0), Killed()))


def test_a_stopping_worker_takes_in_nothing_and_gives_its_attempts_up_as_lost():
    scene = Scene(slots=1).join()
    scene.command(open_job(), launch_map(0), launch_map(1))
    scene.reports()
    scene.see(StopRequested())
    assert scene.reports() == [WorkerStopping(), AttemptLost(map_attempt(1), "its worker was told to stop")]
    scene.command(launch_map(2))
    assert scene.reports() == [AttemptLost(map_attempt(2), "its worker was told to stop")]


def test_orders_about_blocks_go_to_the_shell_and_their_outcomes_to_the_master():
    replica = Replica(7, 1, 100)
    order = ReplicateBlock(replica, "w2", "w2:1", "write")
    scene = Scene().join()
    scene.command(order, RemoveReplica(replica))
    assert scene.take(StartReplication) == [StartReplication(order)]
    assert scene.take(DeleteReplica) == [DeleteReplica(replica)]
    scene.see(ReplicaWritten(replica))
    scene.see(ReplicaFoundDamaged(replica, "w3"))
    scene.see(ReplicationEnded(replica))
    scene.see(ReplicationEnded(replica, "no route"))
    scene.see(ReplicaDeleted(replica))
    assert scene.reports() == [
        ReplicaStored(replica),
        ReplicaDamaged(replica, "w3"),
        ReplicationFailed(replica, "no route"),
        ReplicaRemoved(replica),
    ]


def test_a_worker_that_is_asked_for_a_replica_answers_only_while_it_has_it():
    replica = Replica(7, 1, 100)
    scene = Scene().join()
    scene.see(ReplicaWritten(replica))
    scene.reports()
    scene.command(ConfirmReplica(replica, 3))
    assert scene.reports() == [ReplicaConfirmed(replica, 3)]
    scene.command(ConfirmReplica(Replica(7, 2, 100), 4), RemoveReplica(replica), ConfirmReplica(replica, 5))
    assert scene.reports() == []


def test_every_new_session_hears_of_replicas_that_are_damaged_here_until_they_are_gone():
    kept, removed, mended, verified, leaving = (Replica(number, 1, 100) for number in (7, 8, 9, 10, 11))
    scene = Scene().join()
    for replica in (kept, removed, mended, verified, leaving):
        scene.see(ReplicaFoundDamaged(replica, "w1"))
    scene.see(ReplicaDeleted(removed))
    scene.see(ReplicaWritten(mended))
    scene.see(ReplicaVerified(verified))
    scene.command(RemoveReplica(leaving))
    scene.see(ReplicaVerified(leaving))  # too late: it will be gone in a moment
    scene.reports()
    scene.acknowledge()
    scene.lose_stream()
    scene.join()  # the first answer is of a master that knows no session: hello is said anew
    assert set(scene.hello().replicas) == {mended, verified}
    scene.welcome()
    assert [report for report in scene.reports() if isinstance(report, ReplicaDamaged)] == [ReplicaDamaged(kept, "w1")]


@pytest.mark.parametrize(("is_idle", "closed"), [(True, [CloseProgram(JOB)]), (False, [])])
def test_a_new_session_closes_the_jobs_of_which_nothing_is_here(is_idle, closed):
    """The master may have ended them meanwhile, and never name them again."""
    scene = Scene().join()
    scene.command(open_job(), launch_map(0))
    scene.see(AttemptEnded(map_attempt(0), Killed() if is_idle else Succeeded(OUTPUT, ())))
    scene.lose_stream()
    scene.join().welcome()
    assert scene.take(CloseProgram) == closed
    scene.lose_stream()
    scene.open_stream()
    scene.welcome(resumed=True)
    assert scene.take(CloseProgram) == []
