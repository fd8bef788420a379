"""Write many small files at once: their bytes one after the other in one block, their names in one transaction.

A pack takes small files for as long as there is room. Nobody sees any of them before `close`, which gives all of them
their names or raises and leaves none; then the bytes of all are on disk on as many workers as those of a file that was
written alone.
"""

from __future__ import annotations

from minireduce.client.connection import Connection
from minireduce.client.file_writing import FileWriter
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX
from minireduce.core.storage.requests import CloseContainer, CreateFile, PackedFile
from minireduce.wire import methods

SMALL_FILE_BYTES_MAX = 1 << 20
"""Larger files get blocks of their own."""
PACK_BYTES_MAX = 16 << 20
"""A pack is in memory until it is written, and several may be written at a time."""
PATHS_BYTES_MAX = 1 << 20
"""The names of a pack travel in one request."""


class Pack(FileWriter):
    """Small files that are written together. `request` has no path; see `FileWriter` for what else holds."""

    def __init__(self, connection: Connection, request: CreateFile, machine_id: str) -> None:
        super().__init__(connection, request, machine_id)
        self._files: list[PackedFile] = []
        self._room = min(PACK_BYTES_MAX, self._opened.block_size_bytes)
        self._paths_bytes = 0

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
        paths_bytes = self._paths_bytes + len(path.encode())
        if len(data) > self._room or len(self._files) == FILES_PER_CONTAINER_MAX or paths_bytes > PATHS_BYTES_MAX:
            return False
        self.write(data)
        self._room -= len(data)
        self._paths_bytes = paths_bytes
        self._files.append(PackedFile(path, len(data)))
        return True

    def _name(self) -> None:
        request = CloseContainer(self._opened.file_id, self._lease, tuple(self._files))
        self._connection.call(methods.CLOSE_CONTAINER, request)
