"""What master and workers say to each other: reports go up, commands come down, both inside numbered messages.

A worker opens a stream with `Hello`, which holds all that a master needs to take it in, after a restart too. The master
answers `Welcome`. From then on each side sends `Up` or `Down` messages whose `number` grows by one, and whose `ack` is
the highest number that it has taken in without a gap; what is not acknowledged is sent again, what came before is
recognised and dropped (`core.link`). Every message counts as a heartbeat.

Commands are idempotent by id: a repeated launch, kill or drop changes nothing. Reports tell of things that happened.
Sizes are bytes, times are seconds. The wire (`wire.codec`) mirrors these classes field by field.

Here stand the messages and what they say of attempts and jobs. What they say of replicas: `replica_messages`; what a
task reads and leaves: `task_data`.
"""

from __future__ import annotations

from minireduce.core.replica_messages import DirectoriesMeasured, Replica, ReplicaCommand, ReplicaReport
from minireduce.core.spec import Program, StepSpec
from minireduce.core.task_data import (
    Counters,
    LargestKey,
    OutputSource,
    RecordPlace,
    SkippedRecord,
    TaskError,
    TaskInput,
    TaskOutput,
)
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, WorkerId

PROTOCOL_VERSION = 1


# ── reports: worker to master ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """The attempt has all its input at hand and holds a slot."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class AttemptProgressed:
    """How far an attempt is: `fraction` of its input in 0..1, records read, the user's own words, and how much input it
    has.
    """

    attempt: AttemptId
    fraction: float
    records: int
    status: str = ""
    input_bytes: int = 0
    largest_key: LargestKey | None = None


@dataclass(frozen=True, slots=True)
class AttemptPrinted:
    """A piece of what an attempt printed to `stream` ("stdout" or "stderr"), `offset` bytes from its beginning.

    With `is_end` it is the latest end of a long text and replaces the one sent before. `is_of_failure`: the attempt
    failed or was lost, and its text is sent once more.
    """

    attempt: AttemptId
    stream: str
    offset: int
    data: bytes
    is_end: bool = False
    is_of_failure: bool = False


@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    """The attempt's output is complete on its worker. Also how a worker lists what it holds, in `Hello`."""

    attempt: AttemptId
    output: TaskOutput
    counters: Counters
    input_bytes: int = 0
    largest_key: LargestKey | None = None
    busy_s: float = 0.0  # how long its process worked for it; 0: not known


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """User code raised, or its process crashed, exited, or overran its time or memory: counts."""

    attempt: AttemptId
    error: TaskError


@dataclass(frozen=True, slots=True)
class RecordsSkipped:
    """These records of the attempt's task were found to be bad: what it leaves will lack them."""

    attempt: AttemptId
    records: tuple[SkippedRecord, ...]


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """The attempt ended through no fault of user code: does not count against `attempts_max`."""

    attempt: AttemptId
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptKilled:
    """The attempt ended because the master no longer wanted it."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class AttemptReturned:
    """The attempt was not begun, and there is no slot for it here: give its task to another. Counts for nothing."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class WorkerStopping:
    """This worker takes in no more attempts and is about to end. What it has finished stays until then; the master
    answers `ReleaseWorker` when nothing of it is needed any more.
    """


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """`attempt` cannot get the output of `source`. `is_gone`: the other side answered that it is missing or damaged;
    otherwise it did not answer, several times over, and the worker goes on trying.
    """

    attempt: AttemptId
    source: AttemptId
    is_gone: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PartCopyFailed:
    """A `CopyPart` could not be carried out; `is_gone`: the other side answered that it does not have the part. One
    that was carried out is told by `AttemptSucceeded`.
    """

    attempt: AttemptId
    is_gone: bool
    reason: str


Report = (
    AttemptStarted
    | AttemptProgressed
    | AttemptPrinted
    | AttemptSucceeded
    | AttemptFailed
    | RecordsSkipped
    | AttemptLost
    | AttemptKilled
    | AttemptReturned
    | WorkerStopping
    | FetchFailed
    | PartCopyFailed
    | ReplicaReport
    | DirectoriesMeasured
)


# ── commands: master to worker ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class OpenJob:
    """Goes before the first launch of a job on a worker. `read_token` lets the worker fetch this job's outputs."""

    job: JobId
    program: Program
    steps: tuple[StepSpec, ...]
    output_text: bool  # the last step writes text rather than typed pairs
    read_token: str


@dataclass(frozen=True, slots=True)
class LaunchAttempt:
    """Run this attempt as soon as its input is at hand and a slot and its memory are free.

    `is_retry`: an attempt of this task has failed before. `skips`: records of it that were found to be bad.
    """

    attempt: AttemptId
    input: TaskInput
    is_retry: bool = False
    skips: tuple[RecordPlace, ...] = ()


@dataclass(frozen=True, slots=True)
class MapOutputsReady:
    """Where finished map outputs of a step are: fetch those your reduce attempts need. The latest for a task counts."""

    job: JobId
    step: int
    sources: tuple[OutputSource, ...]


@dataclass(frozen=True, slots=True)
class MapOutputsLost:
    """These outputs are gone: stop fetching them, others will be announced. Fetched copies stay good."""

    attempts: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class KillAttempt:
    """End the attempt and remove what it wrote. Answered by `AttemptKilled` unless it had ended."""

    attempt: AttemptId
    reason: str


@dataclass(frozen=True, slots=True)
class DropOutputs:
    """Remove these finished outputs: others won."""

    attempts: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class DropJob:
    """Remove everything of a job: attempts, outputs, fetched runs, its warm processes."""

    job: JobId


@dataclass(frozen=True, slots=True)
class CopyPart:
    """Fetch a finished part from the worker that holds it and keep it like one of your own."""

    part: AttemptSucceeded
    source: OutputSource
    is_text: bool
    read_token: str


@dataclass(frozen=True, slots=True)
class ReleaseWorker:
    """Nothing that you hold is needed any more, or others have it: a worker that was told to stop may end."""


Command = (
    OpenJob
    | LaunchAttempt
    | MapOutputsReady
    | MapOutputsLost
    | KillAttempt
    | DropOutputs
    | DropJob
    | CopyPart
    | ReleaseWorker
    | ReplicaCommand
)


# ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class WorkerProfile:
    """What a worker is. `data_address` is its block server's `host:port`; `weight` says how readily it is given blocks
    beside others with as much room.
    """

    worker: WorkerId
    incarnation: int  # grows each time the worker's process starts
    host: str
    rack: str
    slots: int
    memory_bytes: int
    data_address: str
    machine_id: str
    software_version: str
    protocol_version: int = PROTOCOL_VERSION
    capacity_bytes: int = 0
    free_bytes: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a stream. With `session` 0 the worker asks to be taken in anew and the lists count;
    otherwise it wants to go on with that session, and `received` is the last command number that it has. `cluster` is
    where the worker belongs; empty: nowhere yet.
    """

    profile: WorkerProfile
    session: int
    received: int
    highest_epoch: int
    highest_txid: int
    running: tuple[AttemptId, ...] = ()
    outputs: tuple[AttemptSucceeded, ...] = ()
    replicas: tuple[Replica, ...] = ()
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to `Hello`. `resumed`: the session goes on after `received`. Otherwise both sides count from 1, and a
    worker that had asked to go on says `Hello` again with its full lists (`session` 0).
    """

    epoch: int
    session: int
    resumed: bool
    received: int
    heartbeat_interval_s: float
    worker_lost_s: float
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Up:
    """Worker to master."""

    session: int
    number: int  # 0: nothing but an acknowledgement, not itself acknowledged
    ack: int
    reports: tuple[Report, ...] = ()
    free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Down:
    """Master to worker. (`epoch`, `txid`): the last commit that is durable, for the worker to remember."""

    session: int
    number: int  # 0: nothing but an acknowledgement
    ack: int
    commands: tuple[Command, ...] = ()
    epoch: int = 0
    txid: int = 0
