"""What master and workers say of replicas: which there are, what became of them, which to make, check or remove.

These reports and commands travel in the numbered messages of `core.messages`, beside those of attempts. A replica is
named by its block and generation, so each may be said again: to remove what is gone, or to copy what is there, changes
nothing. Not here: how bytes of blocks travel (`wire.packets`), and what clients say of files (`storage.requests`).
"""

from __future__ import annotations

from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

# ── what there is ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, order=True)
class Replica:
    """One worker's copy of a block. The generation grows whenever writing the block is taken up again."""

    block_id: int
    generation: int
    length: int


@dataclass(frozen=True, slots=True)
class BlockSource:
    """A block (or what of it belongs to a range) and where to read it, the nearest worker first.

    `file_offset` is where the block begins in its file. `addresses` are `host:port` of block servers.
    """

    replica: Replica
    file_offset: int
    workers: tuple[WorkerId, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of a block."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """One of a worker's data directories. `problem` says why it takes no more replicas; empty: it does."""

    path: str
    capacity_bytes: int
    free_bytes: int
    problem: str = ""


# ── reports: worker to master ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ReplicaStored:
    """A replica is complete and durable on this worker."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaRemoved:
    """This worker no longer has the replica."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaDamaged:
    """`worker`'s replica failed verification; the sender may be that worker or a reader of it."""

    replica: Replica
    worker: WorkerId


@dataclass(frozen=True, slots=True)
class ReplicaVerified:
    """This worker was asked to verify its replica, and every byte of it is what was written."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class ReplicaConfirmed:
    """This worker still had the replica when it was asked."""

    replica: Replica
    question: int


@dataclass(frozen=True, slots=True)
class ReplicationFailed:
    """A `ReplicateBlock` could not be carried out."""

    replica: Replica
    reason: str


@dataclass(frozen=True, slots=True)
class DirectoriesMeasured:
    """The data directories of this worker, all of them, and the room in those that take replicas together."""

    directories: tuple[DataDirectory, ...]
    free_bytes: int


ReplicaReport = ReplicaStored | ReplicaRemoved | ReplicaDamaged | ReplicationFailed | ReplicaVerified | ReplicaConfirmed


# ── commands: master to worker ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ReplicateBlock:
    """Send your replica of a block to another worker. `write_token` opens the door there."""

    replica: Replica
    target: WorkerId
    target_address: str
    write_token: str


@dataclass(frozen=True, slots=True)
class RepackBlock:
    """Send ranges of your replica, one after the other, as the block `packed` to a worker, which may be you.

    `ReplicationFailed` of `packed` is said when that cannot be done.
    """

    replica: Replica
    ranges: tuple[ByteRange, ...]
    packed: Replica
    target: WorkerId
    target_address: str
    write_token: str


@dataclass(frozen=True, slots=True)
class RemoveReplica:
    """Remove this replica. Answered by `ReplicaRemoved`."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class VerifyReplica:
    """A reader said that this replica of yours is damaged: read all of it before others. Answered by `ReplicaVerified`
    or `ReplicaDamaged`.
    """

    replica: Replica


@dataclass(frozen=True, slots=True)
class ConfirmReplica:
    """Others have this replica of yours, too, and may remove theirs: say that you still have it, by `ReplicaConfirmed`
    of the same `question`. Who has it no longer says nothing.
    """

    replica: Replica
    question: int


ReplicaCommand = ReplicateBlock | RepackBlock | RemoveReplica | VerifyReplica | ConfirmReplica
