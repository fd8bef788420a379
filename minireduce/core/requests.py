"""What clients ask of the master that changes something, one class a request. Reads are `core.views`.

Each request is answered once, by a `Reply` with the value named here or by a `Refuse` with an error, and only after
what it changed is durable. All may be repeated by a client that saw no answer: `key` and names make that harmless.
`DrainWorker` concerns jobs and files alike. The requests of the block store are in `core.storage.requests`.
"""

from __future__ import annotations

from minireduce.core.spec import JobSpec
from minireduce.frozen import dataclass
from minireduce.ids import JobId, WorkerId


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Take in a job; the reply is its id (str). The same `key` again gives the same id and starts nothing."""

    key: str
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class KillJob:
    """End a job; the reply is its state (JobState), which may be that it had ended before."""

    job: JobId
    reason: str


@dataclass(frozen=True, slots=True)
class ConfirmPublished:
    """The client has put the parts where they belong: the job has succeeded. The reply is its state (JobState)."""

    job: JobId


@dataclass(frozen=True, slots=True)
class CloseResult:
    """The typed result is no longer wanted: workers may drop what they hold for the job. The reply is None."""

    job: JobId


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """From now on do without this worker, or no longer (`is_draining` False); the reply is its `WorkerView`.

    It gets nothing new, and what it alone holds is brought elsewhere. This is remembered while it is away.
    """

    worker: WorkerId
    is_draining: bool


ComputeRequest = SubmitJob | KillJob | ConfirmPublished | CloseResult
