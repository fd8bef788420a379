"""The worker's machine: everything a worker decides, as `advance(event, now) -> list[Action]`.

In come what the master said, what became of attempts, fetches and blocks, and the passing of time; out go messages and
orders to the shell. The shell performs the actions in the order given.

`now` is the worker's monotonic time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from minireduce.core.attempts import AttemptEnded, ProgressMade, StartAttempt, StopAttempt
from minireduce.core.fetches import CancelFetch, FetchEnded, StartFetch
from minireduce.core.messages import OpenJob, Replica, ReplicateBlock
from minireduce.core.session import (
    CloseStream,
    DownReceived,
    OpenStream,
    Remember,
    SendHello,
    SendUp,
    StopWorker,
    StreamClosed,
    StreamOpened,
    Warn,
    WelcomeReceived,
)
from minireduce.ids import AttemptId, JobId, WorkerId

# ── what comes in (beside what sessions, attempts and fetches declare) ──────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed; the shell sends one every `tick_interval_s`, the first at once."""


@dataclass(frozen=True, slots=True)
class SpaceMeasured:
    """How much room the worker's disks have."""

    free_bytes: int


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
    | SpaceMeasured
    | StopRequested
    | AttemptEnded
    | ProgressMade
    | FetchEnded
    | ReplicaWritten
    | ReplicaDeleted
    | ReplicaFoundDamaged
    | ReplicationEnded
)


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class OpenProgram:
    """A job's attempts will follow: keep its program and its read token at hand."""

    opened: OpenJob


@dataclass(frozen=True, slots=True)
class RemoveOutputs:
    """Remove all that these attempts wrote and all that was fetched for them."""

    attempts: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class RemoveFetched:
    """Remove what was fetched for this attempt, which has succeeded and needs it no more."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """Remove everything of a job: files, program, warm processes. None of its attempts runs any more."""

    job: JobId


@dataclass(frozen=True, slots=True)
class StartReplication:
    """Send a replica on; `ReplicationEnded` follows."""

    order: ReplicateBlock


@dataclass(frozen=True, slots=True)
class DeleteReplica:
    """Remove a replica; `ReplicaDeleted` follows."""

    replica: Replica


Action = (
    OpenStream
    | CloseStream
    | SendHello
    | SendUp
    | Remember
    | Warn
    | OpenProgram
    | StartAttempt
    | StopAttempt
    | StartFetch
    | CancelFetch
    | RemoveOutputs
    | RemoveFetched
    | RemoveJob
    | StartReplication
    | DeleteReplica
    | StopWorker
)
