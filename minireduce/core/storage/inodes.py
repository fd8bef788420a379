"""What a name stands for: a directory or a closed file, and the row in which each is kept.

An inode has a number that is never used twice. Elsewhere: the tree of them (`namespace`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import field

from minireduce.core.effects import Effects
from minireduce.frozen import dataclass

DIRECTORY_MODE = 0o755
FILE_MODE = 0o644
TABLE = "inodes"

InodeRow = tuple[int, int, str, str, float, int, int, int, str, int, int, int]


@dataclass(slots=True)
class Directory:
    """A directory. `entries` maps names to inode numbers; `names` are the same in order, once somebody listed them.

    The sums are over all below: files, directories, bytes, and bytes with all their replicas.
    """

    id: int
    parent: int
    name: str
    modified_at: float
    owner: str = ""
    mode: int = DIRECTORY_MODE
    entries: dict[str, int] = field(default_factory=dict)
    names: list[str] | None = None
    files: int = 0
    directories: int = 0
    bytes: int = 0
    replica_bytes: int = 0

    def enter(self, name: str, inode: int) -> None:
        """Have `name` stand for `inode`."""
        self.entries[name] = inode
        if self.names is not None:
            insort(self.names, name)

    def leave(self, name: str) -> None:
        """Have `name` stand for nothing."""
        del self.entries[name]
        if self.names is not None:
            del self.names[bisect_left(self.names, name)]

    def in_order(self) -> list[str]:
        """The names in ascending order."""
        if self.names is None:
            self.names = sorted(self.entries)
        return self.names


@dataclass(slots=True)
class File:
    """A closed file. `packed_in` is the container in which its bytes lie from `packed_at` on; 0: in its own blocks."""

    id: int
    parent: int
    name: str
    modified_at: float
    length: int
    block_size_bytes: int
    replication: int
    owner: str = ""
    mode: int = FILE_MODE
    packed_in: int = 0
    packed_at: int = 0


Inode = Directory | File


def sums_of(inode: Inode) -> tuple[int, int, int, int]:
    """Directories, files, bytes and bytes of replicas that `inode` stands for, itself included."""
    if isinstance(inode, File):
        return 0, 1, inode.length, inode.length * inode.replication
    return inode.directories + 1, inode.files, inode.bytes, inode.replica_bytes


def persist(inode: Inode, effects: Effects) -> None:
    """Write the row of `inode`."""
    if isinstance(inode, Directory):
        kind, sizes, packed = "directory", (0, 0, 0), (0, 0)
    else:
        kind, sizes = "file", (inode.length, inode.block_size_bytes, inode.replication)
        packed = (inode.packed_in, inode.packed_at)
    values = (inode.parent, inode.name, kind, inode.modified_at, *sizes, inode.owner, inode.mode, *packed)
    effects.persist(TABLE, (inode.id,), values)
