"""Write a file of the block store: gather a block, get it onto enough disks, go on, and name the file at the end.

Nobody sees a new file before `close`. A writer that fails, or is left by an exception, abandons what it wrote; one that
dies is noticed by its lease, which a thread renews as long as the file is open, however slowly the bytes come.

What is appended to a file is there for everybody as soon as its block is committed, which `flush` brings about. Only
what is new is sent, and the packet of 64 KiB in which it begins; a small file that shares its block is written anew. A
writer that fails leaves what was committed.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
from dataclasses import replace
from types import TracebackType

from minireduce.checksums import PACKET_BYTES
from minireduce.client.block_io import write_block
from minireduce.client.connection import Connection
from minireduce.client.file_reading import FileReader
from minireduce.core.replica_messages import Replica
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    AppendFile,
    CloseFile,
    CommitBlock,
    CreateFile,
    RenewLease,
    WrittenBlock,
)
from minireduce.core.storage.views import FileStatus, OpenedFile, PlacedBlock
from minireduce.errors import MinireduceError, NotFound, RequestError
from minireduce.ids import WorkerId
from minireduce.wire import methods
from minireduce.wire.file_questions import GetBlocks

RENEWALS_PER_LEASE = 4


class FileWriter(io.RawIOBase):
    """One open file, new or appended to. `close` makes a new one appear, and `status` then describes it."""

    def __init__(
        self,
        connection: Connection,
        request: CreateFile | AppendFile,
        machine_id: str,
        opened: OpenedFile | None = None,
    ) -> None:
        """`opened`: the answer to `request`, if that was asked before."""
        super().__init__()
        self.status: FileStatus | None = None
        self._ended = threading.Event()
        self._connection = connection
        self._lease = request.lease
        self._machine_id = machine_id
        self._excluded: dict[WorkerId, None] = {}
        self._gathered = bytearray()
        self._blocks = 0  # that are full
        self._length = 0
        self._last_bytes = 0  # in the last block, which is not full
        self._old: FileStatus | None = None  # of a file that is appended to
        self._tail = b""  # of its last block: what lies in a packet that is not full
        self._packed = b""  # what it holds, if that lies in a container: its first block of its own begins with it
        self._is_named = False
        if opened is not None:
            self._opened = opened
        elif isinstance(request, CreateFile):
            self._opened = connection.call(methods.CREATE_FILE, replace(request, machine_id=machine_id))
        else:
            self._opened = connection.call(methods.APPEND_FILE, request)
        self._placed = self._opened.first
        # The thread knows nothing of this object: one that is forgotten ends, and so does its lease.
        renewing = (connection, self._lease, self._opened.lease_s / RENEWALS_PER_LEASE, self._ended)
        self._renewing = threading.Thread(target=_renew, args=renewing, name="lease", daemon=True)
        self._renewing.start()
        if isinstance(request, AppendFile):
            self._go_to_end(request.path)

    def _go_to_end(self, path: str) -> None:
        """Go on where the file ends."""
        found = self._connection.call(methods.GET_BLOCKS, GetBlocks(path, 0, 1 << 62, self._machine_id))
        if found.status.inode != self._opened.file_id:
            raise NotFound(f"{path} was replaced while it was opened", hint="open it again")
        self._old = found.status
        self._blocks, self._length = len(found.blocks), found.status.length
        if self._opened.is_packed:
            self._packed = self._stored(self._length)
            self._blocks = 0
            return
        if found.blocks and found.blocks[-1].source.replica.length < self._opened.block_size_bytes:
            self._blocks -= 1
            self._last_bytes = found.blocks[-1].source.replica.length
            self._tail = self._stored(self._last_bytes % PACKET_BYTES)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Take in all of `data`. Raises MinireduceError when a block cannot be written; a new file is lost then."""
        if self.closed:
            raise ValueError("write to a closed file")
        view = memoryview(data).cast("B")
        taken = 0
        if self._packed and view:
            self._gathered += self._packed
            self._packed, self._length = b"", 0
        while taken < len(view):
            room = self._opened.block_size_bytes - self._last_bytes - len(self._gathered)
            piece = view[taken : taken + room]
            taken += len(piece)
            if len(piece) == room and not self._gathered:
                self._write_block(piece)  # it need not be gathered, which would copy it
                continue
            self._gathered += piece
            if len(piece) == room:
                self._write_gathered()
        return len(view)

    def flush(self) -> None:
        """What was appended to a file is on disk and seen by readers; a new file is seen when it is closed."""
        if self._old is not None and self._gathered and not self._ended.is_set():
            self._write_gathered()
        super().flush()

    def close(self) -> None:
        """Write what is left and give the file its name. Nothing happens the second time."""
        if self.closed:
            return
        if self._ended.is_set():
            super().close()
            return
        try:
            if self._gathered:
                self._write_gathered(is_last=True)
            if not self._is_named:
                self._name()
        except BaseException:
            self.abandon()
            raise
        self._end()
        super().close()

    def _name(self, last: WrittenBlock | None = None) -> None:
        """Give the file its name; `last` is its last block if that is not committed yet."""
        length = self._length + (last.replica.length if last is not None else 0)
        request = CloseFile(self._opened.file_id, self._lease, length, last)
        self.status = self._connection.call(methods.CLOSE_FILE, request)

    def abandon(self) -> None:
        """Drop what was written. A master that cannot be told drops it by itself when the lease is over."""
        if not self._ended.is_set():
            self._end()
            with contextlib.suppress(MinireduceError):
                self._connection.call(methods.ABANDON_FILE, AbandonFile(self._opened.file_id, self._lease))
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        """A writer that was forgotten publishes nothing: what it wrote may be a part of what was meant."""
        self._ended.set()

    def _end(self) -> None:
        self._ended.set()
        self._renewing.join()

    def _write_gathered(self, *, is_last: bool = False) -> None:
        self._write_block(memoryview(self._gathered), is_last=is_last)
        self._gathered = bytearray()

    def _write_block(self, data: memoryview, *, is_last: bool = False) -> None:
        """Get a block onto enough disks and committed; that which `is_last` of a new file together with its name."""
        position = self._blocks
        length = self._last_bytes + len(data)

        def data_for(placed: PlacedBlock) -> bytes | memoryview:
            old = self._tail if placed.base_generation else self._stored(self._last_bytes)
            return old + data if old else data

        def place(excluded: tuple[WorkerId, ...]) -> PlacedBlock:
            placed, self._placed = self._placed, None
            if placed is not None:
                return placed
            request = AddBlock(self._opened.file_id, self._lease, position, excluded, self._machine_id)
            return self._connection.call(methods.ADD_BLOCK, request)

        def commit(replica: Replica, workers: tuple[WorkerId, ...]) -> bool:
            if is_last and self._old is None:
                with contextlib.suppress(RequestError):  # of the block or of the name: each is asked for by itself
                    self._name(WrittenBlock(replica, workers))
                    self._is_named = True
                    return True
            request = CommitBlock(self._opened.file_id, self._lease, replica, workers)
            return self._connection.call(methods.COMMIT_BLOCK, request)

        with self._connection.doors.borrow() as doors:
            write_block(doors, length, data_for, self._excluded, place=place, commit=commit)
        is_full = length == self._opened.block_size_bytes
        if is_full or self._old is None:
            self._blocks += 1
        self._last_bytes = length if self._old is not None and not is_full else 0
        in_packet = self._last_bytes % PACKET_BYTES
        self._tail = (self._tail + data[-in_packet:])[-in_packet:] if in_packet else b""
        self._length += len(data)

    def _stored(self, count: int) -> bytes:
        """The last `count` bytes of the file as it is stored now."""
        if not count or self._old is None:
            return b""
        status = replace(self._old, length=self._length)
        with FileReader(self._connection, status, self._machine_id) as reader:
            return b"".join(reader.pieces(self._length - count, count))


def _renew(connection: Connection, lease: str, interval_s: float, ended: threading.Event) -> None:
    while not ended.wait(interval_s):
        try:
            connection.call(methods.RENEW_LEASE, RenewLease(lease))
        except MinireduceError:
            continue  # the next request of the writer itself will say what is wrong


def new_file(
    path: str,
    *,
    overwrite: bool = False,
    block_size_bytes: int = 0,
    replication: int = 0,
    lease: str = "",
    owner: str = "",
    places_first: bool = False,
) -> CreateFile:
    """The request with which a file begins. `places_first`: its first bytes are at hand, so ask where they go."""
    key = secrets.token_hex(16)
    return CreateFile(path, lease or key, key, overwrite, block_size_bytes, replication, owner, places_first)
