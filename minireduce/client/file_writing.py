"""Write a file of the block store: gather a block, get it onto enough disks, go on, and name the file at the end.

Nobody sees the file before `close`. A writer that fails, or is left by an exception, abandons what it wrote; one that
dies is noticed by its lease, which a thread renews as long as the file is open, however slowly the bytes come.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
from types import TracebackType

from minireduce.client.block_io import BlockDoors, write_block
from minireduce.client.connection import Connection
from minireduce.core.messages import Replica
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    CloseFile,
    CommitBlock,
    CreateFile,
    RenewLease,
)
from minireduce.core.storage.views import FileStatus, PlacedBlock
from minireduce.errors import MinireduceError
from minireduce.ids import WorkerId
from minireduce.wire import methods

RENEWALS_PER_LEASE = 4


class FileWriter(io.RawIOBase):
    """One open file. `close` makes it appear, and `status` then describes it; `abandon` drops it."""

    def __init__(self, connection: Connection, request: CreateFile, machine_id: str) -> None:
        super().__init__()
        self.status: FileStatus | None = None
        self._ended = threading.Event()
        self._connection = connection
        self._lease = request.lease
        self._machine_id = machine_id
        self._opened = connection.call(methods.CREATE_FILE, request)
        self._doors = BlockDoors(connection.authority)
        self._excluded: dict[WorkerId, None] = {}
        self._gathered = bytearray()
        self._blocks = 0
        self._length = 0
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewing.start()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Take in all of `data`. Raises MinireduceError when a block cannot be written; the file is lost then."""
        view = memoryview(data).cast("B")
        taken = 0
        while taken < len(view):
            room = self._opened.block_size_bytes - len(self._gathered)
            self._gathered += view[taken : taken + room]
            taken += min(room, len(view) - taken)
            if len(self._gathered) == self._opened.block_size_bytes:
                self._write_block()
        return len(view)

    def close(self) -> None:
        """Write what is left and give the file its name. Nothing happens the second time."""
        if self.closed:
            return
        if self._ended.is_set():
            super().close()
            return
        try:
            if self._gathered:
                self._write_block()
            request = CloseFile(self._opened.file_id, self._lease, self._length)
            self.status = self._connection.call(methods.CLOSE_FILE, request)
        except BaseException:
            self.abandon()
            raise
        self._end()
        super().close()

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
        self._doors.close()
        self._renewing.join()

    def _write_block(self) -> None:
        position, data = self._blocks, bytes(self._gathered)

        def place(excluded: tuple[WorkerId, ...]) -> PlacedBlock:
            request = AddBlock(self._opened.file_id, self._lease, position, excluded, self._machine_id)
            return self._connection.call(methods.ADD_BLOCK, request)

        def commit(replica: Replica, workers: tuple[WorkerId, ...]) -> bool:
            request = CommitBlock(self._opened.file_id, self._lease, replica, workers)
            return self._connection.call(methods.COMMIT_BLOCK, request)

        write_block(self._doors, data, self._excluded, place=place, commit=commit)
        self._blocks += 1
        self._length += len(data)
        self._gathered.clear()

    def _renew(self) -> None:
        while not self._ended.wait(self._opened.lease_s / RENEWALS_PER_LEASE):
            try:
                self._connection.call(methods.RENEW_LEASE, RenewLease(self._lease))
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
) -> CreateFile:
    """The request with which a file begins."""
    key = secrets.token_hex(16)
    return CreateFile(path, lease or key, key, overwrite, block_size_bytes, replication, owner)
