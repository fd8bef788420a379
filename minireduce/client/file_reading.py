"""Read a file of the block store, verified, from whichever replicas answer.

Where blocks are is asked for a window of the file at a time, and anew when all replicas of a block fail: workers come
back, replicas are copied, and tokens end after a while. A file never changes; one that was replaced meanwhile is
another file, and reading goes no further.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator

from minireduce.client.block_io import read_range
from minireduce.client.connection import Connection
from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.core.storage.requests import ReportDamage
from minireduce.core.storage.views import FileStatus, ReadableBlock
from minireduce.errors import MinireduceError, NotFound
from minireduce.ids import WorkerId
from minireduce.wire import methods
from minireduce.wire.file_questions import GetBlocks

WINDOW_BYTES = 1 << 30
BUFFER_BYTES = 1 << 20


class FileReader(io.RawIOBase):
    """The bytes of one file, seekable. Not safe for several threads."""

    def __init__(
        self, connection: Connection, status: FileStatus, machine_id: str, blocks: tuple[ReadableBlock, ...] = ()
    ) -> None:
        super().__init__()
        self.status = status
        self._connection = connection
        self._machine_id = machine_id
        self._blocks = blocks
        self._failing: dict[WorkerId, None] = {}
        self._pace = connection.reads.new_pace()
        self._token = ""
        self._position = 0
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    # ── in pieces ───────────────────────────────────────────────────────────────────────────────────────────────────

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of a range in pieces as they come. Raises MinireduceError where they cannot be had."""
        end = min(offset + length, self.status.length)
        with self._connection.doors.borrow() as doors:
            while offset < end:
                source, self._token = self._block_at(offset)
                within = offset - source.file_offset
                count = min(end - offset, source.replica.length - within)
                pieces = read_range(
                    lambda fetch, hedge: doors.fetch(fetch, self._token, hedge),
                    source,
                    within,
                    count,
                    failing=self._failing,
                    locate=lambda at=offset: self._locate_again(at),  # type: ignore[misc]  # bound now
                    tell_damage=self._tell_damage,
                    pace=self._pace,
                )
                offset += count
                if first := next(pieces, b""):
                    following = self._known_block(offset) if offset < end else None
                    if following is not None:  # its worker gets ready while this one is read
                        doors.ask_ahead(following.source, following.read_token)
                    yield first
                yield from pieces

    def _known_block(self, offset: int) -> ReadableBlock | None:
        for block in self._blocks:
            if block.source.file_offset <= offset < block.source.file_offset + block.source.replica.length:
                return block
        return None

    def _block_at(self, offset: int) -> tuple[BlockSource, str]:
        """The block in which this byte lies, and the token that opens it."""
        block = self._known_block(offset)
        if block is None:
            request = GetBlocks(self.status.path, offset, WINDOW_BYTES, self._machine_id)
            found = self._connection.call(methods.GET_BLOCKS, request)
            if found.status.inode != self.status.inode:
                raise NotFound(f"{self.status.path} was replaced while it was read", hint="read it again")
            self._blocks = found.blocks
            block = found.blocks[0]
        return block.source, block.read_token

    def _locate_again(self, offset: int) -> BlockSource:
        self._blocks = ()
        source, self._token = self._block_at(offset)
        return source

    def _tell_damage(self, replica: Replica, worker: WorkerId) -> None:
        with contextlib.suppress(MinireduceError):  # another replica may be good, whatever the master says
            self._connection.call(methods.REPORT_DAMAGE, ReportDamage(replica, worker))

    # ── as a file ───────────────────────────────────────────────────────────────────────────────────────────────────

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.status.length}[whence]
        position = base + offset
        if position < 0:
            raise OSError(errno.EINVAL, "there is nothing before the file's first byte")
        if position != self._position:
            self._position = position
            self._pieces = None
            self._rest = memoryview(b"")
        return position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            if self._pieces is None:
                self._pieces = self.pieces(self._position, self.status.length)
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._position += count
        return count

    def close(self) -> None:
        """Read no more."""
        if not self.closed:
            self._connection.reads.add(self._pace)
        self._pieces = None  # what it had borrowed goes back
        super().close()
