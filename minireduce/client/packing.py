"""Write many small files at once: their bytes one after the other in one block, their names in one transaction.

A pack takes small files for as long as there is room. Nobody sees any of them before `close`, which gives all of them
their names or raises and leaves none; then the bytes of all are on disk on as many workers as those of a file that was
written alone.
"""

from __future__ import annotations

from minireduce.client.connection import Connection
from minireduce.client.file_writing import FileWriter
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX
from minireduce.core.storage.requests import CloseContainer, CreateFile, PackedFile, WrittenBlock
from minireduce.core.storage.views import FileStatus
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


class Pack(FileWriter):
    """Small files that are written together. `request` has no path; see `FileWriter` for what else holds.

    `shown`, if given, is told of every file once all are stored.
    """

    def __init__(
        self,
        connection: Connection,
        request: CreateFile,
        machine_id: str,
        shown: list[FileStatus] | None = None,
    ) -> None:
        super().__init__(connection, request, machine_id)
        self._files: list[PackedFile] = []
        self._room = PackRoom(min(PACK_BYTES_MAX, self._opened.block_size_bytes))
        self._shown = shown

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
        shows_files = self._shown is not None
        request = CloseContainer(self._opened.file_id, self._lease, tuple(self._files), last, shows_files)
        named = self._connection.call(methods.CLOSE_CONTAINER, request)
        if self._shown is not None:
            self._shown.extend(named.statuses)
