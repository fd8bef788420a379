"""The worker's machine: everything a worker decides, as `advance(event, now) -> list[Action]`.

In come what the master said, what became of attempts, fetches and blocks, and the passing of time; out go messages and
orders to the shell, which performs them in the order given. The parts decide, each on its own: `Session` (when and in
which words to talk to the master), `Assignments` (jobs and attempts, with `Fetches`: what to bring here, and
`Attempts`: what runs). This file joins them.

While the master is out of reach everything goes on: attempts run to their end and outputs are kept, for
`master_wait_s`. After that the master, if there is one, has long begun again elsewhere, and all is given up.

Invariants: what the master must hear of is said until it is acknowledged; no action is lost or doubled by repeated or
late events.
`now` is the worker's monotonic time in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from minireduce.core.messages import (
    AttemptFailed,
    AttemptKilled,
    AttemptLost,
    AttemptReturned,
    AttemptStarted,
    AttemptSucceeded,
    FetchFailed,
    Hello,
    WorkerProfile,
    WorkerStopping,
)
from minireduce.core.replica_messages import (
    ConfirmReplica,
    DirectoriesMeasured,
    RemoveReplica,
    RepackBlock,
    Replica,
    ReplicaConfirmed,
    ReplicaDamaged,
    ReplicaRemoved,
    ReplicaStored,
    ReplicateBlock,
    ReplicationFailed,
    ReplicaVerified,
    VerifyReplica,
)
from minireduce.core.settings import WorkerSettings
from minireduce.core.work.assignments import Assignments
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptsEnded,
    AttemptsGivenBack,
    CopyFoundDamaged,
    OutputFoundMissing,
    ProgressMade,
)
from minireduce.core.work.copies import CopyEnded
from minireduce.core.work.fetches import FetchesEnded
from minireduce.core.work.merging import MergeEnded
from minireduce.core.work.orders import AssignmentAction
from minireduce.core.work.printed import TextPrinted, WaitingText
from minireduce.core.work.session import (
    DownReceived,
    Session,
    SessionAction,
    StopWorker,
    StreamClosed,
    StreamOpened,
    Warn,
    WelcomeReceived,
)
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, WorkerId

DIRECTORY_NEWS_SHARE = 0.01
"""The master is told of a directory's room when it has changed by more than this share of what it can hold."""

# ── what comes in (beside what sessions, attempts and fetches declare) ──────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed; the shell sends one every `tick_interval_s`, the first at once."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Whoever runs this worker wants it to end in good order."""


@dataclass(frozen=True, slots=True)
class ReplicaWritten:
    """A replica is complete and durable here."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaDeleted:
    """A replica is no longer here."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaFoundDamaged:
    """A replica failed verification: our own, or the one on `worker` that a task of ours read."""

    replica: Replica
    worker: WorkerId


@dataclass(frozen=True, slots=True)
class ReplicationEnded:
    """A replica was sent on (`error` empty), or could not be."""

    replica: Replica
    error: str = ""


Event = (
    StreamOpened
    | StreamClosed
    | WelcomeReceived
    | DownReceived
    | Ticked
    | DirectoriesMeasured
    | ReplicaVerified
    | StopRequested
    | AttemptEnded
    | AttemptsEnded
    | AttemptsGivenBack
    | OutputFoundMissing
    | CopyFoundDamaged
    | ProgressMade
    | TextPrinted
    | FetchesEnded
    | MergeEnded
    | CopyEnded
    | ReplicaWritten
    | ReplicaDeleted
    | ReplicaFoundDamaged
    | ReplicationEnded
)


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StartReplication:
    """Send a replica on, or ranges of it; `ReplicationEnded` follows, of what the other worker was to have."""

    order: ReplicateBlock | RepackBlock


@dataclass(frozen=True, slots=True)
class DeleteReplica:
    """Remove a replica; `ReplicaDeleted` follows."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class CheckReplica:
    """Read all of a replica; `ReplicaVerified`, `ReplicaFoundDamaged` or `ReplicaDeleted` follows."""

    replica: Replica


Action = SessionAction | AssignmentAction | StartReplication | DeleteReplica | CheckReplica


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────────────


class WorkerState:
    """One worker, from the start of its process. `outputs` and `replicas` are what its disks held then."""

    def __init__(
        self,
        profile: WorkerProfile,
        settings: WorkerSettings,
        *,
        rng: Random,
        highest: tuple[int, int] = (0, 0),
        cluster: str = "",
        outputs: tuple[AttemptSucceeded, ...] = (),
        replicas: tuple[Replica, ...] = (),
    ) -> None:
        self._profile = profile
        self._settings = settings
        self._session = Session(
            profile=profile, settings=settings, highest=highest, list_all=self._list_all, rng=rng, cluster=cluster
        )
        self._assignments = Assignments(profile, settings, outputs=outputs, rng=rng)
        self._replicas = {(replica.block_id, replica.generation): replica for replica in replicas}
        self._damaged: dict[tuple[int, int], Replica] = {}  # not listed, and each new session is told of them
        self._directories: DirectoriesMeasured | None = None  # as the master was told last
        self._text = WaitingText(settings)
        self._progress_at = 0.0
        self._stop_at: float | None = None
        self._actions: list[Action] = []

    def advance(self, event: Event, now: float) -> list[Action]:
        """What to do now that this happened, in this order."""
        self._actions = []
        self._EVENTS[type(event)](self, event, now)
        self._assignments.start_what_can(now)
        self._drain_assignments()
        self._stop_if_done(now)
        self._actions.extend(self._session.due(now))
        return self._actions

    @property
    def is_joined(self) -> bool:
        """Whether the master has taken this worker in, and the stream to it stands."""
        return self._session.is_talking

    def knows(self, job: JobId) -> bool:
        """Whether anything of a job is here, or may come: what is on the disk of any other job is an orphan."""
        return self._assignments.knows(job)

    def story(self, attempt: AttemptId) -> str:
        """The life of an attempt that has not ended, for people."""
        known = self._assignments.attempts.get(attempt)
        return "\n".join(known.story) if known else f"{attempt} is not on worker {self._profile.worker}"

    def _drain_assignments(self) -> None:
        actions, reports = self._assignments.out.drain()
        self._actions.extend(actions)
        if self._session.is_talking:
            for piece in self._text.take():  # before the end of its attempt is reported
                self._session.push(piece)
        for report in reports:
            is_repeated_anyway = isinstance(report, FetchFailed) and not report.is_gone
            if self._session.is_talking or not is_repeated_anyway:
                self._session.push(report)

    def _list_all(self, hello: Hello) -> Hello:
        """Everything that a master must know. An attempt whose end it may not have heard of still counts as running:
        that report follows, and until then the attempt shall not be taken for lost. An empty part, which nobody keeps,
        is listed as long as the master may not have heard of it.
        """
        unheard = [
            report.attempt
            for report in self._session.unacknowledged
            if isinstance(report, AttemptFailed | AttemptLost | AttemptKilled | AttemptReturned)
        ]
        running = dict.fromkeys([*(attempt.id for attempt in self._assignments.attempts), *unheard])
        unkept = [
            report
            for report in self._session.unacknowledged
            if isinstance(report, AttemptSucceeded) and report.output.is_empty_part
        ]
        return replace(
            hello,
            profile=replace(self._profile, free_bytes=self._session.free_bytes or self._profile.free_bytes),
            running=tuple(running),
            outputs=(*self._assignments.outputs.values(), *unkept),
            replicas=tuple(self._replicas.values()),
        )

    # ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _stream_opened(self, event: StreamOpened, now: float) -> None:
        self._actions.extend(self._session.opened(event.stream, now))

    def _stream_closed(self, event: StreamClosed, now: float) -> None:
        self._actions.extend(self._session.closed(event.stream, event.error, now))

    def _welcome_received(self, event: WelcomeReceived, now: float) -> None:
        before = self._session.number
        self._actions.extend(self._session.welcomed(event.stream, event.welcome, now))
        if self._session.is_talking and self._session.number != before:
            self._assignments.close_idle_jobs()
            if self._stop_at is not None:
                self._session.push(WorkerStopping())
            if self._directories is not None:
                self._session.push(self._directories)
            for replica in self._damaged.values():
                self._session.push(ReplicaDamaged(replica, self._profile.worker))
            for attempt in self._assignments.attempts:
                if attempt.holds_slot:
                    self._session.push(AttemptStarted(attempt.id))

    def _down_received(self, event: DownReceived, now: float) -> None:
        commands, actions = self._session.took(event.stream, event.down, now)
        self._actions.extend(actions)
        for command in commands:
            match command:
                case ReplicateBlock() | RepackBlock():
                    self._actions.append(StartReplication(command))
                case RemoveReplica(replica):
                    # A master that is told of it before it is gone would count on it.
                    self._replicas.pop((replica.block_id, replica.generation), None)
                    self._damaged.pop((replica.block_id, replica.generation), None)
                    self._actions.append(DeleteReplica(replica))
                case VerifyReplica(replica):
                    self._actions.append(CheckReplica(replica))
                case ConfirmReplica(replica, question):
                    if (replica.block_id, replica.generation) in self._replicas:
                        self._session.push(ReplicaConfirmed(replica, question))
                case _:
                    self._assignments.obey(command, now)

    def _ticked(self, _: Ticked, now: float) -> None:
        self._actions.extend(self._session.ticked(now))
        if self._session.away_s(now) > self._settings.master_wait_s:
            self._give_up(now)
        if self._session.is_talking:
            self._assignments.give_back_late(now)
        if self._session.is_talking and now >= self._progress_at:
            self._progress_at = now + self._settings.progress_interval_s
            for report in self._assignments.take_progress():
                self._session.push(report)

    def _give_up(self, now: float) -> None:
        """The master stayed away too long. A later master is told that nothing is here."""
        jobs = self._assignments.give_up(now)
        if not jobs:
            return  # given up before; what the master must hear of that is not to be forgotten
        wait_s = self._settings.master_wait_s
        self._actions.append(Warn(f"no master for {wait_s:g} s: giving up what was done for {', '.join(jobs)}"))
        self._session.forget()

    # ── attempts and fetches ────────────────────────────────────────────────────────────────────────────────────────

    def _attempt_ended(self, event: AttemptEnded, now: float) -> None:
        self._assignments.attempt_ended(event, now)

    def _attempts_ended(self, event: AttemptsEnded, now: float) -> None:
        self._assignments.attempts_ended(event, now)

    def _attempts_given_back(self, event: AttemptsGivenBack, now: float) -> None:
        self._assignments.attempts_given_back(event, now)

    def _progress_made(self, event: ProgressMade, _: float) -> None:
        self._assignments.progress_made(event)

    def _text_printed(self, event: TextPrinted, _: float) -> None:
        self._text.add(event)

    def _output_found_missing(self, event: OutputFoundMissing, now: float) -> None:
        self._assignments.incoming.output_found_missing(event, now)

    def _copy_found_damaged(self, event: CopyFoundDamaged, now: float) -> None:
        del now
        self._assignments.incoming.copy_found_damaged(event)

    def _fetches_ended(self, event: FetchesEnded, now: float) -> None:
        self._assignments.incoming.fetches_ended(event, now)

    def _merge_ended(self, event: MergeEnded, _: float) -> None:
        self._assignments.merge_ended(event)

    # ── blocks and the end ──────────────────────────────────────────────────────────────────────────────────────────

    def _directories_measured(self, event: DirectoriesMeasured, _: float) -> None:
        self._session.free_bytes = event.free_bytes
        before, self._directories = self._directories, event
        if before is None or _is_news(before, event):
            self._session.push(event)
        else:
            self._directories = before

    def _replica_written(self, event: ReplicaWritten, _: float) -> None:
        key = (event.replica.block_id, event.replica.generation)
        self._damaged.pop(key, None)
        self._replicas[key] = event.replica
        self._session.push(ReplicaStored(event.replica))

    def _replica_deleted(self, event: ReplicaDeleted, _: float) -> None:
        key = (event.replica.block_id, event.replica.generation)
        self._damaged.pop(key, None)
        self._replicas.pop(key, None)
        self._session.push(ReplicaRemoved(event.replica))

    def _replica_verified(self, event: ReplicaVerified, _: float) -> None:
        key = (event.replica.block_id, event.replica.generation)
        if self._damaged.pop(key, None) is not None:  # it is good again; one that is to be removed is not listed anew
            self._replicas[key] = event.replica
        self._session.push(event)

    def _replica_found_damaged(self, event: ReplicaFoundDamaged, _: float) -> None:
        if event.worker == self._profile.worker:
            key = (event.replica.block_id, event.replica.generation)
            self._replicas.pop(key, None)
            self._damaged[key] = event.replica
        self._session.push(ReplicaDamaged(event.replica, event.worker))

    def _replication_ended(self, event: ReplicationEnded, _: float) -> None:
        if event.error:
            self._session.push(ReplicationFailed(event.replica, event.error))

    def _stop_requested(self, _: StopRequested, now: float) -> None:
        if self._stop_at is not None:
            return
        self._stop_at = now + self._settings.stop_wait_s
        self._session.push(WorkerStopping())
        self._assignments.stop(now)

    def _copy_ended(self, event: CopyEnded, _: float) -> None:
        self._assignments.incoming.copy_ended(event)

    def _stop_if_done(self, now: float) -> None:
        """A stopped worker leaves when the master has heard of all that ended and parts that only it holds were
        copied, or after a bounded wait.
        """
        if self._stop_at is None:
            return
        is_said = not self._session.unacknowledged and (
            self._assignments.is_released or not self._assignments.holds_parts
        )
        is_over = is_said or not self._session.is_talking
        if (not self._assignments.attempts and is_over) or now >= self._stop_at:
            self._actions.append(StopWorker(None))

    _EVENTS: Mapping[type, Callable[[WorkerState, Any, float], None]] = {
        StreamOpened: _stream_opened,
        StreamClosed: _stream_closed,
        WelcomeReceived: _welcome_received,
        DownReceived: _down_received,
        Ticked: _ticked,
        DirectoriesMeasured: _directories_measured,
        StopRequested: _stop_requested,
        AttemptEnded: _attempt_ended,
        AttemptsEnded: _attempts_ended,
        AttemptsGivenBack: _attempts_given_back,
        OutputFoundMissing: _output_found_missing,
        CopyFoundDamaged: _copy_found_damaged,
        ProgressMade: _progress_made,
        TextPrinted: _text_printed,
        FetchesEnded: _fetches_ended,
        MergeEnded: _merge_ended,
        CopyEnded: _copy_ended,
        ReplicaWritten: _replica_written,
        ReplicaDeleted: _replica_deleted,
        ReplicaFoundDamaged: _replica_found_damaged,
        ReplicaVerified: _replica_verified,
        ReplicationEnded: _replication_ended,
    }


def _is_news(before: DirectoriesMeasured, now: DirectoriesMeasured) -> bool:
    """Whether people should be told of it: a few bytes more or less go with every message anyway."""
    if len(before.directories) != len(now.directories):
        return True
    return any(
        (old.path, old.problem) != (new.path, new.problem)
        or abs(old.free_bytes - new.free_bytes) > DIRECTORY_NEWS_SHARE * new.capacity_bytes
        for old, new in zip(before.directories, now.directories, strict=True)
    )
