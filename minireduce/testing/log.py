"""The master's durable form in a simulation: a log on a `SimDisk`, written in groups like the real database.

What is appended waits until the write before it is done; then all that waits is written as one group and synced, which
takes a drawn time. Each record carries its length and checksum, so that a torn tail is recognised at start and cut off.

A write that fails ends the master, as it does in production: the shell is told through `on_failure`.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.frozen import dataclass
from minireduce.testing.agenda import Agenda, Node
from minireduce.testing.disk import SimDisk

_DIRECTORY = Path("/master")
PATH = _DIRECTORY / "log"
_HEAD = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a start found: the rows that live, and the last commit."""

    rows: tuple[Row, ...]
    epoch: int
    txid: int


def read(disk: SimDisk) -> Stored:
    """All that is durable, after which the log ends with its last whole record."""
    disk.make_directories(_DIRECTORY)
    if not disk.exists(PATH):
        disk.create(PATH)
        disk.sync_directory(Path("/"))
        disk.sync_directory(_DIRECTORY)
    tables: dict[tuple[str, tuple[Any, ...]], tuple[Any, ...]] = {}
    epoch = txid = 0
    file = disk.open_append(PATH)
    file.seek(0)
    good_bytes = 0
    for body in _records(file):
        good_bytes += _HEAD.size + len(body)
        epoch, txid, rows = msgpack.unpackb(body, use_list=False, strict_map_key=False)
        for table, key, values in rows:
            _apply(tables, table, key, values)
    file.truncate(good_bytes)
    disk.sync(file)
    return Stored(tuple(Row(table, key, values) for (table, key), values in tables.items()), epoch, txid)


def _records(file: BinaryIO) -> Iterable[bytes]:
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        length, checksum = _HEAD.unpack(head)
        body = file.read(length)
        if len(body) < length or zlib.crc32(body) != checksum or not length:
            return
        yield body


def _apply(
    tables: dict[tuple[str, tuple[Any, ...]], tuple[Any, ...]],
    table: str,
    key: tuple[Any, ...],
    values: tuple[Any, ...] | None,
) -> None:
    """Insert or replace a row; without values remove all rows whose key begins with `key`."""
    if values is not None:
        tables[table, key] = values
        return
    for found in [found for found in tables if found[0] == table and found[1][: len(key)] == key]:
        del tables[found]


class SimLog:
    """Group commit for one life of the master. `on_durable` is told how many appends, counted from 1, are durable."""

    def __init__(
        self,
        disk: SimDisk,
        agenda: Agenda,
        node: Node,
        rng: random.Random,
        *,
        on_durable: Callable[[int], None],
        on_failure: Callable[[OSError], None],
        commit_delay_s: tuple[float, float] = (0.001, 0.02),
    ) -> None:
        self._disk = disk
        self._agenda = agenda
        self._node = node
        self._rng = rng
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._commit_delay_s = commit_delay_s
        self._file = disk.open_append(PATH)
        self._waiting: list[bytes] = []
        self._is_busy = False
        self._appended = 0
        self._durable = 0

    @property
    def appended(self) -> int:
        """How many records were handed in."""
        return self._appended

    def append(self, persist: Persist) -> None:
        """Hand in one transaction; it is durable when `on_durable` says so."""
        rows = tuple((row.table, row.key, row.values) for row in persist.rows)
        body = msgpack.packb((persist.epoch, persist.txid, rows))
        self._waiting.append(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        self._appended += 1
        if not self._is_busy:
            self._start()

    def _start(self) -> None:
        self._is_busy = True
        count = len(self._waiting)
        group = b"".join(self._waiting)
        self._waiting.clear()
        try:
            self._file.write(group)
        except OSError as error:
            self._on_failure(error)
            return
        self._agenda.after(self._rng.uniform(*self._commit_delay_s), self._node, lambda: self._finish(count))

    def _finish(self, count: int) -> None:
        try:
            self._disk.sync(self._file)
        except OSError as error:
            self._on_failure(error)
            return
        self._durable += count
        self._is_busy = False
        if self._waiting:
            self._start()
        self._on_durable(self._durable)
