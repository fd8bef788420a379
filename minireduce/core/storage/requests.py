"""What clients ask of the block store that changes something, one class a request. Reads are in `views`.

A file is written in four kinds of request: `CreateFile`, then for each block `AddBlock` and, once its replicas are on
disk, `CommitBlock`, and `CloseFile` at the end. The first two may be one, and the last two: a file of one block takes
two requests. Until it is closed a file has no name: readers see it whole or not at all, and what it replaces stays
until then. `lease` is a text that the writer draws by chance; the master drops what was
opened under a lease that nobody renewed, so a writer that died leaves nothing behind.

All may be repeated by a client that saw no answer. Names alone would not make that harmless, so requests carry the id
of what they mean: a rename or removal that has been done already is recognised by it.
"""

from __future__ import annotations

from minireduce.core.replica_messages import Replica
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory; the reply is its `FileStatus`. `with_parents`: also those above it; one that exists is fine."""

    path: str
    with_parents: bool = False
    owner: str = ""


@dataclass(frozen=True, slots=True)
class CreateFile:
    """Begin to write a file, making missing directories above it; the reply is an `OpenedFile`.

    `file_key` is drawn by chance: the same key again gives the same file. Sizes and counts of 0 take the defaults.
    Without a path it is a container, of one block, for the files that `CloseContainer` names. `places_first`: the reply
    also says where the first block goes, as that of `AddBlock` would, if it can be placed now.
    """

    path: str
    lease: str
    file_key: str
    overwrite: bool = False
    block_size_bytes: int = 0
    replication: int = 0
    owner: str = ""
    places_first: bool = False
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class AppendFile:
    """Begin to append to the file `inode` called `path`; the reply is an `OpenedFile`. One writer at a time may.

    Each block that is committed then makes the file longer at once, for every reader; `CloseFile` only lets others
    append. The same lease again gives the same answer.
    """

    path: str
    inode: int
    lease: str


@dataclass(frozen=True, slots=True)
class AddBlock:
    """Place the block at `position` of an open file; the reply is a `PlacedBlock`.

    The same position again means that writing it failed: it is placed anew, with a higher generation, and not on
    `excluded` if others will do. In a file that is appended to, the position of the last block means that this block is
    to become longer, under a higher generation; what there is of it stays readable until that is committed.
    `machine_id` is the writer's, whose own worker comes first.
    """

    file_id: int
    lease: str
    position: int
    excluded: tuple[WorkerId, ...] = ()
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class CommitBlock:
    """The block is on the disks of these workers. The reply says whether they are enough; else it is placed again."""

    file_id: int
    lease: str
    replica: Replica
    workers: tuple[WorkerId, ...]


@dataclass(frozen=True, slots=True)
class WrittenBlock:
    """A block that is on the disks of these workers."""

    replica: Replica
    workers: tuple[WorkerId, ...]


@dataclass(frozen=True, slots=True)
class CloseFile:
    """All blocks are committed, `length` bytes in all: give the file its name. The reply is its `FileStatus`.

    The `last` block of a new file may be committed with it: both happen, or neither.
    """

    file_id: int
    lease: str
    length: int
    last: WrittenBlock | None = None


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file in a container: its path, and how many of the container's bytes are its own, behind those before it."""

    path: str
    length: int


@dataclass(frozen=True, slots=True)
class CloseContainer:
    """The block of a container is committed, or is with this: give all these files their names, or none of them.

    The container holds their bytes one after the other and nothing else. The reply is `NamedFiles`. `next_lease`: under
    this lease another container like this one is opened, as by `CreateFile`, with a place for its block.
    """

    file_id: int
    lease: str
    files: tuple[PackedFile, ...]
    last: WrittenBlock | None = None
    shows_files: bool = False
    next_lease: str = ""
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class AbandonFile:
    """The writer gave up: drop what it wrote. The reply is None."""

    file_id: int
    lease: str


@dataclass(frozen=True, slots=True)
class RenewLease:
    """The writer lives; the reply is the number of seconds for which that is believed."""

    lease: str


@dataclass(frozen=True, slots=True)
class RenamePath:
    """Give the file or directory `inode`, which is called `source`, the name `target`; the reply is its `FileStatus`.

    With `replace`, what is called `target` is removed in the same transaction.
    """

    source: str
    target: str
    inode: int
    replace: bool = False


@dataclass(frozen=True, slots=True)
class RemovePath:
    """Remove the file or directory `inode` called `path`; the reply is `Removed`, of 0 inodes if it had gone.

    It is kept in the trash for a while, unless it is there already, or with `skip_trash`.
    """

    path: str
    inode: int
    recursive: bool = False
    skip_trash: bool = False


@dataclass(frozen=True, slots=True)
class ChangeAttributes:
    """Change what is said about the file or directory `inode` called `path`; the reply is its `FileStatus`.

    0, "" and -1 leave things as they are. Replicas are copied and removed after the reply. `names_max` and
    `space_bytes_max` are the quotas of a directory; 0 takes one away.
    """

    path: str
    inode: int
    replication: int = 0
    owner: str = ""
    mode: int = -1
    names_max: int = -1
    space_bytes_max: int = -1


@dataclass(frozen=True, slots=True)
class ReportDamage:
    """A reader found that `worker`'s replica fails verification. The reply is None."""

    replica: Replica
    worker: WorkerId


@dataclass(frozen=True, slots=True)
class HurryRepair:
    """Repair the file `inode` called `path` now: wait for nobody who is away, and try again what failed.

    The reply is how many of its blocks need repair.
    """

    path: str
    inode: int


FileRequest = (
    MakeDirectory
    | CreateFile
    | AppendFile
    | AddBlock
    | CommitBlock
    | CloseFile
    | CloseContainer
    | AbandonFile
    | RenewLease
    | RenamePath
    | RemovePath
    | ChangeAttributes
    | ReportDamage
    | HurryRepair
)
