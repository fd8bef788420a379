"""Blocks that small files share, so that a thousand files of a kilobyte are one block and not a thousand.

A container is one block. It is written as a nameless file and closed by one transaction that gives each file in it a
name: each then says in which container it lies and where it begins there (`packed_in`, `packed_at`). It is as safe as
the file in it with the most replicas wants it. A file that is removed leaves a hole; the block goes with the last file.

Nothing of this is persisted but with the files themselves. Elsewhere: the requests (`files`), replicas (`repair`), and
which files should lie elsewhere (`moves`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field

from minireduce.core.effects import Effects
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.inodes import File, Inode
from minireduce.frozen import dataclass

FILES_PER_CONTAINER_MAX = 1000
"""So many are named in one transaction."""


@dataclass(slots=True)
class Container:
    """One container: the files in it by number, their bytes, and how many of them want how many replicas."""

    id: int
    files: dict[int, None] = field(default_factory=dict)
    bytes: int = 0
    wishes: dict[int, int] = field(default_factory=dict)

    @property
    def wanted(self) -> int:
        """How many replicas the block should have."""
        return max(self.wishes)

    def wish(self, replication: int, count: int) -> None:
        """So many more files want so many replicas."""
        left = self.wishes.get(replication, 0) + count
        if left:
            self.wishes[replication] = left
        else:
            self.wishes.pop(replication, None)


class Containers:
    """All containers that hold a file, and the way from a file to its blocks, be they its own or not."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._containers: dict[int, Container] = {}
        self._changed: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._containers)

    def get(self, container_id: int) -> Container | None:
        """The container with this number, if it holds a file."""
        return self._containers.get(container_id)

    def load(self, files: Iterable[File]) -> None:
        """Take in the files that were persisted, in whatever order, those that wait to be collected too."""
        for file in files:
            if file.packed_in:
                self._enter(file)

    def take_changed(self) -> list[int]:
        """The containers in which something has changed since this was asked for, all that there are after a start."""
        changed, self._changed = self._changed, {}
        return list(changed)

    # ── what a file's bytes are ─────────────────────────────────────────────────────────────────────────────────────

    def blocks_of(self, inode: Inode) -> list[Block]:
        """The blocks in which the bytes of a file lie, in order."""
        return self._blocks.of_file((inode.packed_in if isinstance(inode, File) else 0) or inode.id)

    def covering(self, file: File, offset: int, length: int) -> Iterator[tuple[int, Block]]:
        """The blocks that touch a range of a file, each with where it begins in the file: in a container, before it."""
        if not file.packed_in:
            yield from self._blocks.covering(file.id, offset, length)
            return
        count = min(offset + length, file.length) - offset
        if count > 0:
            for begins, block in self._blocks.covering(file.packed_in, file.packed_at + offset, count):
                yield begins - file.packed_at, block

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, file: File) -> None:
        """A file was closed as a part of its container."""
        self._enter(file)
        self._want(self._containers[file.packed_in])

    def _enter(self, file: File) -> None:
        container = self._containers.setdefault(file.packed_in, Container(file.packed_in))
        container.files[file.id] = None
        container.bytes += file.length
        container.wish(file.replication, +1)
        self._changed[container.id] = None

    def leave(self, file: File, effects: Effects) -> None:
        """A file is gone, or has its bytes elsewhere: with the last one goes the block."""
        container = self._containers[file.packed_in]
        del container.files[file.id]
        container.bytes -= file.length
        container.wish(file.replication, -1)
        self._changed[container.id] = None
        if container.files:
            self._want(container)
        else:
            del self._containers[container.id]
            self._blocks.drop_file(container.id, effects)

    def wish(self, file: File, before: int) -> None:
        """A file wants another number of replicas than `before`."""
        container = self._containers[file.packed_in]
        container.wish(before, -1)
        self._changed[container.id] = None
        container.wish(file.replication, +1)
        self._want(container)

    def _want(self, container: Container) -> None:
        if any(block.wanted != container.wanted for block in self._blocks.of_file(container.id)):
            self._blocks.want(container.id, container.wanted)
