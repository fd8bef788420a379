"""What the master shows: read-only values for the command line, the pages and the clients.

A view is made from the state at one moment and released, like every answer, once all that led to it is durable.
Times are seconds of the master's wall clock (`submitted_at`) or of its running (`elapsed_s`).
"""

from __future__ import annotations

from enum import StrEnum

from minireduce.core.replica_messages import DataDirectory
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import Counters, OutputSource, SkippedRecord, TaskError
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind, WorkerId


class JobState(StrEnum):
    """Where a job stands. PUBLISHING: every part is made, and the client is putting them in place."""

    RUNNING = "running"
    PUBLISHING = "publishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"

    @property
    def is_ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.KILLED)


@dataclass(frozen=True, slots=True)
class AttemptError:
    """What a failed attempt said."""

    attempt: AttemptId
    worker: WorkerId
    error: TaskError


@dataclass(frozen=True, slots=True)
class SkippedView:
    """A bad record, and the attempt that found it to be so."""

    attempt: AttemptId
    worker: WorkerId
    record: SkippedRecord


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """How many tasks of one kind of one step stand where."""

    step: int
    kind: TaskKind
    total: int
    done: int
    running: int


@dataclass(frozen=True, slots=True)
class JobView:
    """One job. `reason` says why it failed or was killed; `errors` come decisive first."""

    job: JobId
    name: str
    state: JobState
    output: OutputKind
    output_path: str
    submitted_at: float
    elapsed_s: float
    fraction: float
    tasks: tuple[TaskCounts, ...]
    counters: Counters
    errors: tuple[AttemptError, ...] = ()
    reason: str = ""
    waiting_for: str = ""  # why nothing of it runs, if so
    notes: tuple[str, ...] = ()  # what people should know though the job goes on


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt. `state` is "running", "succeeded", "failed", "lost", "killed" or "returned".

    `launched_at_s` (-1: an earlier master knew) and `started_at_s` (with its input at hand, in a slot; -1: never) are
    since the job was submitted.
    """

    attempt: AttemptId
    worker: WorkerId
    state: str
    fraction: float
    elapsed_s: float
    message: str = ""
    is_backup: bool = False
    launched_at_s: float = 0.0
    started_at_s: float = -1.0

    @property
    def condition(self) -> str:
        """Its state in words, for people."""
        return f"{self.state}, backup" if self.is_backup else self.state


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task with its attempts, the first launched first. `state` is "pending", "running" or "done"."""

    task: TaskId
    state: str
    attempts: tuple[AttemptView, ...]


@dataclass(frozen=True, slots=True)
class PrintedPiece:
    """A piece of what an attempt printed to `stream`, `offset` bytes from its beginning."""

    attempt: AttemptId
    worker: WorkerId
    stream: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PrintedPage:
    """Pieces in the order in which they came. Those that follow are behind `last`; a page without pieces is the last
    one. `left_out` pieces of the job found no room.
    """

    pieces: tuple[PrintedPiece, ...]
    last: int
    left_out: int


@dataclass(frozen=True, slots=True)
class ResultView:
    """Where the parts of a job whose last step is done are, in order. `read_token` opens those doors."""

    job: JobId
    state: JobState
    parts: tuple[OutputSource, ...]
    records: tuple[int, ...]
    digests: tuple[bytes, ...]
    is_text: bool
    read_token: str = ""


@dataclass(frozen=True, slots=True)
class DrainView:
    """How far a worker that shall be done without is. `is_done`: it can be, and may be stopped for good.

    `why` says in words what it still waits for, or what people should know though it is done. `left_s` is an estimate,
    0 where there is none.
    """

    is_done: bool
    blocks: int
    bytes: int
    attempts: int
    outputs: int
    left_s: float
    why: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker. `state` is "live", "lost" or "expected" (known from before a restart, not heard of yet).
    `is_slow`: its attempts take much longer than others, so it gets fewer. `drain` is None unless it is drained.
    """

    worker: WorkerId
    state: str
    host: str
    rack: str
    slots: int
    slots_used: int
    memory_bytes: int
    data_address: str
    machine_id: str
    last_heard_s: float  # seconds ago
    software_version: str
    capacity_bytes: int = 0
    free_bytes: int = 0
    blocks: int = 0
    is_slow: bool = False
    is_stopping: bool = False
    drain: DrainView | None = None
    directories: tuple[DataDirectory, ...] = ()
    weight: float = 1.0

    @property
    def condition(self) -> str:
        """Its state in words, for people."""
        words = [self.state]
        if self.drain is not None:
            words.append("drained" if self.drain.is_done else "draining")
        if self.is_stopping:
            words.append("stopping")
        if self.is_slow:
            words.append("slow")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What a client must know to submit: slots of live workers, and the smallest memory a slot has."""

    cluster_id: str
    epoch: int
    software_version: str
    workers_live: int
    slots: int
    memory_bytes_per_slot: int
    machine_ids: tuple[str, ...]  # of live workers: who can read the client's disk in place
    problems: tuple[str, ...] = ()  # what the master goes on in spite of, in words
