"""What the block store answers: plain values, made from the state at one moment.

Times are seconds of the master's wall clock. Tokens open one block each, for reading or for writing.
"""

from __future__ import annotations

from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A file or directory. `length` is 0 for directories, where sizes of blocks and counts of replicas are 0 too.

    `container` is the number of the container in which a small file lies; 0: in none.
    """

    path: str
    inode: int
    is_directory: bool
    length: int
    block_size_bytes: int
    replication: int
    modified_at: float
    owner: str = ""
    mode: int = 0
    container: int = 0


@dataclass(frozen=True, slots=True)
class Removed:
    """The answer to `RemovePath`. `trash_path`: where it is kept for now; empty when it is gone for good."""

    inodes: int
    trash_path: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """How much a file or directory holds, itself included. `replica_bytes` counts each byte once for each replica.

    `names_max` and `space_bytes_max` are its own quotas, 0 where there is none.
    """

    path: str
    directories: int
    files: int
    bytes: int
    replica_bytes: int
    names_max: int = 0
    space_bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """Entries of a directory in ascending order of name. `has_more`: ask again for those after the last of these."""

    entries: tuple[FileStatus, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """The answer to `CreateFile` and `AppendFile`. `lease_s`: renew the lease well before so many seconds have passed.

    `is_packed`: the bytes of the file that is appended to lie in a container, so its first block begins with them.
    `first`: where the first block goes, if that was asked for and can be said.
    """

    file_id: int
    block_size_bytes: int
    replication: int
    lease_s: float
    is_packed: bool = False
    first: PlacedBlock | None = None


@dataclass(frozen=True, slots=True)
class BlockTarget:
    """A worker that is to hold a replica, and its block server's `host:port`."""

    worker: WorkerId
    address: str


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """The answer to `AddBlock`: send the block to the first target, which sends it on to the next.

    Where `base_generation` is not 0, all targets have the block's first `base_length` bytes under that generation, and
    only what comes behind them is sent.
    """

    block_id: int
    generation: int
    targets: tuple[BlockTarget, ...]
    write_token: str
    base_generation: int = 0
    base_length: int = 0


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """The answer to `CloseContainer`: how many files there are, and, if that was asked for, each of them in order.

    None is shown when one has been removed or replaced since, as when the answer was lost and is asked for again.
    `next`: the container that was opened with it.
    """

    files: int
    statuses: tuple[FileStatus, ...] = ()
    next: OpenedFile | None = None


@dataclass(frozen=True, slots=True)
class ReadableBlock:
    """A block, where to read it (the nearest worker first), and the token for that. `wanted`: replicas asked for."""

    source: BlockSource
    read_token: str
    wanted: int


@dataclass(frozen=True, slots=True)
class FileBlocks:
    """A file and the blocks of the range that was asked for, in order."""

    status: FileStatus
    blocks: tuple[ReadableBlock, ...]


@dataclass(frozen=True, slots=True)
class BlockHealth:
    """One block of a file: who has it in which condition, what is done about it, and in words why it is so.

    `state` is "healthy", "under-replicated", "surplus", "missing" (no good replica on a live worker) or "open". Lost
    workers in `absent` had it. `copying` are the workers to which a copy is on its way.
    Where small files share the block, `shared_by` says how many, and `holes_bytes` what is left of removed ones.
    """

    replica: Replica
    wanted: int
    state: str
    why: str
    good: tuple[WorkerId, ...]
    damaged: tuple[WorkerId, ...]
    absent: tuple[WorkerId, ...]
    copying: tuple[WorkerId, ...]
    shared_by: int = 0
    holes_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FileHealth:
    """A file and all its blocks, in order."""

    status: FileStatus
    blocks: tuple[BlockHealth, ...]


@dataclass(frozen=True, slots=True)
class StoreView:
    """The block store in numbers. `missing` blocks have no good replica on any live worker."""

    directories: int
    files: int
    bytes_total: int
    blocks: int
    under_replicated: int
    missing: int
    damaged: int
    copying: int


@dataclass(frozen=True, slots=True)
class BlockView:
    """One block, for tests and pages: its good replicas and its damaged ones."""

    replica: Replica
    file_id: int
    is_committed: bool
    wanted: int
    workers: tuple[WorkerId, ...]
    damaged: tuple[WorkerId, ...]
