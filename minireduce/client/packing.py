"""Write many small files at once: their bytes one after the other in one block, their names in one transaction.

A pack takes small files for as long as there is room. Nobody sees any of them before `close`, which gives all of them
their names or raises and leaves none; then the bytes of all are on disk on as many workers as those of a file that was
written alone.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

from minireduce.client.connection import Connection
from minireduce.client.file_writing import RENEWALS_PER_LEASE, FileWriter
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX
from minireduce.core.storage.requests import CloseContainer, CreateFile, PackedFile, WrittenBlock
from minireduce.core.storage.views import FileStatus, OpenedFile
from minireduce.wire import methods

SMALL_FILE_BYTES_MAX = 1 << 20
"""Larger files get blocks of their own."""
PACK_BYTES_MAX = 16 << 20
"""A pack is in memory until it is written, and several may be written at a time."""
PATHS_BYTES_MAX = 1 << 20
"""The names of a pack travel in one request."""


class PackRoom:
    """What a pack can still take, of at most `bytes_max` bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._files = FILES_PER_CONTAINER_MAX
        self._bytes = bytes_max
        self._paths_bytes = PATHS_BYTES_MAX

    def take(self, path: str, length: int) -> bool:
        """Take room for a file; False where there is not enough, and then nothing is taken."""
        paths_bytes = self._paths_bytes - len(path.encode())
        if not self._files or length > self._bytes or paths_bytes < 0:
            return False
        self._files, self._bytes, self._paths_bytes = self._files - 1, self._bytes - length, paths_bytes
        return True


class Ahead:
    """A container that was opened with the close of the one before it, for whoever writes the next pack of that kind.

    Nobody renews its lease, so it is taken soon or left: the master drops it then.
    """

    def __init__(self) -> None:
        self._opened: list[tuple[CreateFile, OpenedFile, float]] = []

    def put(self, request: CreateFile, opened: OpenedFile) -> None:
        """This one was opened now, as if `request` had asked for it."""
        self._opened = [(request, opened, time.monotonic())]

    def take(self) -> tuple[CreateFile, OpenedFile] | None:
        """The one that is open, once."""
        if not self._opened:
            return None
        request, opened, opened_s = self._opened.pop()
        is_fresh = time.monotonic() - opened_s < opened.lease_s / RENEWALS_PER_LEASE
        return (request, opened) if is_fresh else None


class Pack(FileWriter):
    """Small files that are written together. `request` has no path; see `FileWriter` for what else holds.

    `shown`, if given, is told of every file once all are stored. With `ahead` the pack is the one that was opened
    there, if there is one, and opens the next.
    """

    def __init__(
        self,
        connection: Connection,
        request: CreateFile,
        machine_id: str,
        shown: list[FileStatus] | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        self._request, opened = (ahead.take() if ahead is not None else None) or (request, None)
        super().__init__(connection, self._request, machine_id, opened)
        self._files: list[PackedFile] = []
        self._room = PackRoom(min(PACK_BYTES_MAX, self._opened.block_size_bytes))
        self._shown = shown
        self._ahead = ahead

    @property
    def bytes_total(self) -> int:
        """What has been added."""
        return sum(each.length for each in self._files)

    @property
    def paths(self) -> list[str]:
        """The files that have been added."""
        return [each.path for each in self._files]

    def add(self, path: str, data: bytes) -> bool:
        """Have the file `path` hold `data`; False when there is no room for it."""
        if not self._room.take(path, len(data)):
            return False
        self.write(data)
        self._files.append(PackedFile(path, len(data)))
        return True

    def _name(self, last: WrittenBlock | None = None) -> None:
        key = secrets.token_hex(16) if self._ahead is not None else ""
        request = CloseContainer(
            self._opened.file_id, self._lease, tuple(self._files), last, self._shown is not None, key, self._machine_id
        )
        named = self._connection.call(methods.CLOSE_CONTAINER, request)
        if self._shown is not None:
            self._shown.extend(named.statuses)
        if self._ahead is not None and named.next is not None:
            self._ahead.put(replace(self._request, lease=key, file_key=key), named.next)
