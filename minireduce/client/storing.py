"""Store whole files: a large one in blocks of its own, small ones in blocks that they share.

Small files that are stored together, or by several threads at the same time, are packed (`packing`), which gathers
those of several threads (`gathering`). Paths are those of the store, and checked here once more where several come.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple, NoReturn

from minireduce.client.connection import Connection
from minireduce.client.file_writing import FileWriter, new_file
from minireduce.client.gathering import Gatherer, SmallFile
from minireduce.client.packing import PACK_BYTES_MAX, SMALL_FILE_BYTES_MAX, Ahead, Pack, PackRoom
from minireduce.client.store_paths import parse_store_path
from minireduce.core.storage.requests import CreateFile
from minireduce.core.storage.views import FileStatus
from minireduce.errors import RequestError
from minireduce.wire import methods
from minireduce.wire.file_questions import GetFiles

COPY_BYTES = 1 << 20


class Wishes(NamedTuple):
    """What is asked of new files; 0: the cluster's defaults."""

    overwrite: bool
    block_size: int
    replication: int


class Storing:
    """New files of one client, owned by `owner`."""

    def __init__(self, connection: Connection, machine_id: str, owner: str) -> None:
        self._connection = connection
        self._machine_id = machine_id
        self._owner = owner

    def put_stream(self, source: BinaryIO, path: str, wishes: Wishes) -> FileStatus:
        """Store what `source` gives as the file `path`."""
        head = _up_to(source, SMALL_FILE_BYTES_MAX + 1)
        if len(head) <= SMALL_FILE_BYTES_MAX:
            return self._gatherer(wishes).store([(path, head)])[0]
        return self._store(path, head, source, wishes)

    def new_file(self, path: str, wishes: Wishes, *, has_bytes: bool = False) -> CreateFile:
        """The request that begins a file. `has_bytes`: the first ones are at hand."""
        return new_file(
            path,
            overwrite=wishes.overwrite,
            block_size_bytes=wishes.block_size,
            replication=wishes.replication,
            owner=self._owner,
            places_first=has_bytes,
        )

    def _store(self, path: str, head: bytes, rest: BinaryIO | None, wishes: Wishes) -> FileStatus:
        request = self.new_file(parse_store_path(path), wishes, has_bytes=bool(head))
        with FileWriter(self._connection, request, self._machine_id) as file:
            file.write(head)
            if rest is not None:
                shutil.copyfileobj(rest, file, COPY_BYTES)
        assert file.status is not None
        return file.status

    def put_together(self, files: Sequence[SmallFile], wishes: Wishes) -> None:
        """Store these files with one answer, and with those that other threads store at the same time."""
        are_small = all(len(data) <= SMALL_FILE_BYTES_MAX for _, data in files)
        if files and are_small and _fitting([files], wishes.block_size):
            self._gatherer(wishes, shows=False).store(files)
        else:
            self.put_packs(files, wishes)

    def _gatherer(self, wishes: Wishes, *, shows: bool = True) -> Gatherer:
        """Where small files with these wishes meet; `shows`: those that want to see what was stored."""

        ahead = Ahead()

        def together(files: Iterable[SmallFile]) -> Sequence[FileStatus]:
            shown: list[FileStatus] = []
            self.put_packs(files, wishes, shown if shows else None, ahead, in_one=True)
            return shown

        def alone(files: Sequence[SmallFile]) -> Sequence[FileStatus]:
            if len(files) > 1:
                shown: list[FileStatus] = []
                self.put_packs(files, wishes, shown if shows else None)
                return shown
            ((path, data),) = files
            return [self._store(path, data, None, wishes)]

        def show(files: Sequence[SmallFile]) -> Sequence[FileStatus]:
            request = GetFiles(tuple(path for path, _ in files), 0, self._machine_id)
            return [each.status for each in self._connection.call(methods.GET_FILES, request)] if shows else []

        return self._connection.gatherers.get(
            (wishes, shows, self._owner),
            lambda: Gatherer(together, alone, show, lambda groups: _fitting(groups, wishes.block_size)),
        )

    def put_packs(
        self,
        files: Iterable[SmallFile],
        wishes: Wishes,
        shown: list[FileStatus] | None = None,
        ahead: Ahead | None = None,
        *,
        in_one: bool = False,
    ) -> int:
        """The bytes stored. `shown` is what is to hold, in the end, the status of each file.

        `in_one`: in one block, or none of them is stored and RequestError raised.
        """
        total = 0
        pack: Pack | None = None
        try:
            for path, data in files:
                place = parse_store_path(path)
                total += len(data)
                if pack is not None and pack.add(place, data):
                    continue
                if pack is not None and in_one:
                    _refuse_another_block(place)
                if len(data) <= SMALL_FILE_BYTES_MAX:
                    if pack is not None:
                        pack.close()
                    pack = self._pack(wishes, shown, ahead)
                    if pack.add(place, data):
                        continue
                status = self._store(place, data, None, wishes)
                if shown is not None:
                    shown.append(status)
            if pack is not None:
                pack.close()
        except BaseException:
            if pack is not None:
                pack.abandon()
            raise
        return total

    def _pack(self, wishes: Wishes, shown: list[FileStatus] | None, ahead: Ahead | None) -> Pack:
        return Pack(self._connection, self.new_file("", wishes, has_bytes=True), self._machine_id, shown, ahead)


def _up_to(source: BinaryIO, count: int) -> bytes:
    """The next `count` bytes, fewer only at the end; some sources give less than they are asked for."""
    pieces: list[bytes] = []
    while count and (piece := source.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _refuse_another_block(path: str) -> NoReturn:
    raise RequestError(f"{path} does not fit the block of the files before it", hint="store it by itself")


def _fitting(groups: Sequence[Sequence[SmallFile]], block_size: int) -> int:
    """How many of these groups of files, from the first on, go in one pack; a block that is smaller shows later."""
    room = PackRoom(min(PACK_BYTES_MAX, block_size or PACK_BYTES_MAX))
    fit = itertools.takewhile(lambda group: all(room.take(path, len(data)) for path, data in group), groups)
    return sum(1 for _ in fit)
