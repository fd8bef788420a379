"""What a client asks for when it submits a job. Plain values, persisted as they came and never changed after.

The cluster does not look inside `Program`: only a task process does. Everything it needs for its decisions (how many
reducers, how much memory, which input) stands beside it.
"""

from __future__ import annotations

from enum import StrEnum

from minireduce.frozen import dataclass

DEFAULT_QUEUE = "default"

PRIORITY_MAX = 1000  # of either sign
NAME_CHARACTERS_MAX = 200

SKIPPED_MAX = 10_000
"""Bad records of one job that may be left out, whatever it allows: each is kept, with its traceback, for people."""


class OutputKind(StrEnum):
    """What the last step's parts are, and who puts them where they belong."""

    RESULT = "result"  # typed parts, which stay in the cluster and are read through the result object
    TEXT = "text"  # text parts, which the client publishes: into a directory of its own, or of the block store


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the user's that the program imports: its dotted name, its text, and the path that tracebacks show."""

    name: str
    source: bytes
    origin: str
    is_package: bool = False


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file of the user's that tasks find in their working directory, by its name; `origin` is where it was read."""

    name: str
    data: bytes
    sha256: str
    origin: str = ""
    is_executable: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """The user's code. `kind` is "source" (a job file's text) or "pickle" (cloudpickle of a job object).

    `parameters` are the strings of `-p NAME=VALUE`, in the order given; `origin` is the path that tracebacks show.
    `sha256` is that of the body; of its modules nothing is asked but that they can be imported, and `files` have their
    own.
    """

    kind: str
    body: bytes
    sha256: str
    origin: str = ""
    python_version: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    modules: tuple[Module, ...] = ()
    files: tuple[ShippedFile, ...] = ()

    @property
    def size_bytes(self) -> int:
        """How much of it travels to each worker."""
        along = sum(len(module.source) for module in self.modules) + sum(len(file.data) for file in self.files)
        return len(self.body) + along


@dataclass(frozen=True, slots=True)
class StepSpec:
    """What the scheduler must know of a step. `reducers` 0: map-only, one part a map task."""

    reducers: int
    memory_limit_bytes: int
    task_timeout_s: float
    record_bytes_max: int = 64 << 20
    skips_bad_records: bool = False


@dataclass(frozen=True, slots=True)
class LocalRange:
    """A range of a file on the client's disk.

    `fingerprint` (size, inode, time of change) shows that a worker sees the same, unchanged file. Compressed files come
    whole (`offset` 0, `length` the size).
    """

    path: str
    offset: int
    length: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Ranges that one map task reads one after the other, on workers of the machine `machine_id`.

    Usually one range; small files share a split, so that a thousand of them are not a thousand tasks. A record never
    reaches from one range into the next: the last line of a file ends with the file.
    """

    machine_id: str
    ranges: tuple[LocalRange, ...]

    @property
    def length(self) -> int:
        return sum(part.length for part in self.ranges)


@dataclass(frozen=True, slots=True)
class StoredRange:
    """A range of a file in the block store; `file_id` survives renames while the job runs."""

    path: str
    file_id: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """Ranges of stored files that one map task reads one after the other: small files that share a split.

    Which share one follows from their paths and sizes, never from where they are now. A record never reaches from one
    range into the next.
    """

    ranges: tuple[StoredRange, ...]

    @property
    def length(self) -> int:
        return sum(part.length for part in self.ranges)


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The ints from `begin` up to `end`, which any worker has at hand."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin


Split = LocalFiles | StoredRange | StoredFiles | NumberRange


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as submitted. The first step maps `splits`; each later step maps the parts of the one before."""

    name: str
    program: Program
    steps: tuple[StepSpec, ...]
    splits: tuple[Split, ...]
    output: OutputKind
    output_path: str = ""  # where the client publishes text parts; shown to people
    attempts_max: int = 4
    losses_max: int = 10
    queue: str = DEFAULT_QUEUE
    priority: int = 0  # of two jobs of a queue, the higher goes first
    weight: float = 1.0  # among jobs of one queue and priority
    time_limit_s: float = 0.0  # after which the job fails; 0: none
    speculation: bool = True  # stragglers may get backup attempts
    skipped_max: int = 0  # bad records that may be left out, in all
    skipped_fraction_max: float = 0.0  # the same, as a share of the records read

    @property
    def skips_bad_records(self) -> bool:
        """Whether records that cannot be computed may be left out."""
        return self.skipped_max > 0 or self.skipped_fraction_max > 0
