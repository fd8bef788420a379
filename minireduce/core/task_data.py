"""What a task reads and what it leaves: its input, its output, its counters, the records that it could not compute.

Plain values that both machines and the task process speak of, and that messages carry. Sizes are bytes. The outputs of
other tasks are named by the attempt that won and found at the block server of its worker.
"""

from __future__ import annotations

from minireduce.core.replica_messages import BlockSource
from minireduce.core.spec import LocalFiles, NumberRange
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, WorkerId

Counters = tuple[tuple[str, str, int], ...]
"""(group, name, value), in ascending order of group and name."""

# ── what a task reads ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StoredInput:
    """A map task's range of a stored file. `blocks` cover it, and beyond its end what one longest record can need."""

    path: str
    offset: int
    length: int
    file_bytes: int
    blocks: tuple[BlockSource, ...]


@dataclass(frozen=True, slots=True)
class StoredInputs:
    """Ranges of stored files that a map task reads one after the other."""

    inputs: tuple[StoredInput, ...]


@dataclass(frozen=True, slots=True)
class OutputSource:
    """The output of a finished attempt, and the block server that has it. `bytes_total` covers all its partitions."""

    attempt: AttemptId
    worker: WorkerId
    address: str
    bytes_total: int


@dataclass(frozen=True, slots=True)
class PartInput:
    """A map task of a later step reads one part of the step before."""

    source: OutputSource


@dataclass(frozen=True, slots=True)
class PartitionInput:
    """A reduce task reads its partition of `maps` map outputs; `MapOutputsReady` tells where they are."""

    partition: int
    maps: int


TaskInput = LocalFiles | NumberRange | StoredInput | StoredInputs | PartInput | PartitionInput


# ── what a task leaves ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """What a finished attempt left on its worker.

    `digest` is taken over each partition's pairs before compression: two attempts of a deterministic task agree on it.
    `partition_bytes_log2` holds one byte a partition, the rounded-up base-2 logarithm of its size (0: empty); it is
    empty for a part.
    """

    digest: bytes
    bytes_total: int
    records: int
    partition_bytes_log2: bytes = b""
    skipped: tuple[int, ...] = ()  # positions of the records that it lacks, since they were found to be bad

    @property
    def is_empty_part(self) -> bool:
        """Whether there is nothing that anybody could keep, fetch or lose: knowing of it is having it."""
        return not self.bytes_total and not self.partition_bytes_log2


@dataclass(frozen=True, slots=True)
class LargestKey:
    """The key with the most bytes in a reduce's partition, as people read it: how many values it has (so far), and its
    share of the partition's bytes. A small share is not worth telling.
    """

    key: str
    records: int
    share: float


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """One record (of a reduce: one group) in the input of its task: how many lie before it, and what proves that it is
    this one: its offset, or a fingerprint of its key; 0 where there is nothing such.
    """

    position: int
    proof: int


UNREADABLE = "unreadable"
"""The kind of an error that every attempt will meet: the input is not of its format."""


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why an attempt failed, as text: nothing of it is ever turned back into code.

    `traceback` holds the user's frames only. `path`, `offset` and `record` name the record at hand, when there was one;
    `position` and `proof` are its `RecordPlace`, -1 where it is not known for sure.
    """

    kind: str  # "raised", "crashed", "exited", "memory", "timeout", UNREADABLE
    type_name: str
    message: str
    traceback: str = ""
    path: str = ""
    offset: int = -1
    record: str = ""
    position: int = -1
    proof: int = 0

    @property
    def summary(self) -> str:
        """What happened, on its own: with the class of what was raised, if anything was."""
        return f"{self.type_name}: {self.message}" if self.type_name else self.message


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """A record that failed again alone, and so is left out; `error` is what it came to then.

    `data` is the beginning of the record (of a reduce: of the key) as text, or as bytes where it is not `is_text`;
    `bytes_total` says how long the whole is.
    """

    error: TaskError
    data: bytes
    is_text: bool
    bytes_total: int

    @property
    def place(self) -> RecordPlace:
        return RecordPlace(self.error.position, self.error.proof)
