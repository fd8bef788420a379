"""Open what a task reads: files of this machine, and ranges of stored files that its worker fetches for it.

A local file is held against its fingerprint when it is opened and again when all was read, since the job was planned
for the bytes that it had then. A file that changed makes the attempt lost, not failed: user code has no part in it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from minireduce.attempt.conversation import BlockHere, RangeBytes, RangeRefused, ReadRange
from minireduce.attempt.framing import TaskSocket
from minireduce.attempt.in_place import BlockInPlace
from minireduce.core.spec import LocalRange
from minireduce.core.storage.staged_paths import origin_of
from minireduce.errors import Corruption, MinireduceError
from minireduce.machine import fingerprint

RANGE_BYTES = 1 << 20
"""What one `ReadRange` asks for at least: a round trip to the worker costs as much as reading some 100 KiB."""
BUFFER_BYTES = 512 << 10
"""Whoever reads as much at a time, as formats do, has it put where he wants it."""


class Unusable(MinireduceError):
    """The input cannot be read as planned, through no fault of user code."""


@contextmanager
def open_local(part: LocalRange) -> Iterator[BinaryIO]:
    """The whole file of a range, checked to be the one that the job was submitted with. Raises Unusable."""
    with _open(part.path) as file:
        _check_unchanged(file, part)
        yield file
        _check_unchanged(file, part)


def open_part(path: str) -> BinaryIO:
    """A part of the step before. Raises Unusable."""
    return _open(path)


def _open(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as cause:
        raise Unusable(f"input {path} cannot be opened: {cause.strerror}") from cause


def _check_unchanged(file: BinaryIO, part: LocalRange) -> None:
    found = fingerprint(os.fstat(file.fileno()))
    if found != part.fingerprint:
        raise Unusable(
            f"input {part.path} changed after the job was submitted"
            f" (size:inode:mtime was {part.fingerprint}, is {found})",
            hint="submit the job again, and leave its input alone while it runs",
        )


class _RangeReader(io.RawIOBase):
    """A stored file, read through the worker, or from descriptors of its blocks that the worker hands over.

    A block that proves damaged here is read through the worker from then on, which looks at it, and elsewhere.
    """

    def __init__(self, path: str, file_bytes: int, worker: TaskSocket) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._worker = worker
        self._position = 0
        self._block: BlockInPlace | None = None
        self._sent = memoryview(b"")
        self._sent_at = 0
        self._distrusted = range(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._file_bytes - self._position))
        if not wanted:
            return 0
        target = memoryview(buffer)[:wanted]
        count = 0
        if self._block is not None and self._position in self._block:
            count = self._in_place(self._block, target)
        elif self._sent_at <= self._position < self._sent_at + len(self._sent):
            count = self._of_what_was_sent(target)
        return count or self._asked(target)

    def _in_place(self, block: BlockInPlace, buffer: memoryview) -> int:
        """How many bytes were read of the block that is open here; none where it is damaged."""
        try:
            count = block.read_into(buffer, self._position)
        except Corruption:
            self._distrusted = range(block.begin, block.end)
            self._let_go()
            return 0
        self._position += count
        return count

    def _of_what_was_sent(self, buffer: memoryview) -> int:
        begin = self._position - self._sent_at
        count = min(len(buffer), len(self._sent) - begin)
        buffer[:count] = self._sent[begin : begin + count]
        self._position += count
        return count

    def _asked(self, buffer: memoryview) -> int:
        """How many bytes came of what the worker was asked for."""
        is_trusted = self._position not in self._distrusted
        wanted = min(max(len(buffer), RANGE_BYTES), self._file_bytes - self._position)
        self._worker.send(ReadRange(self._path, self._position, wanted, is_trusted))
        match self._worker.receive():
            case RangeBytes(data) if 0 < len(data) <= wanted:
                self._sent, self._sent_at = memoryview(data), self._position
                return self._of_what_was_sent(buffer)
            case BlockHere() as here if is_trusted and (descriptor := self._worker.take_descriptor()) is not None:
                self._let_go()
                self._block = BlockInPlace(here, descriptor)
                if self._position not in self._block:
                    raise Unusable(f"input {origin_of(self._path)}: the worker handed another block over")
                return self._in_place(self._block, buffer) or self._asked(buffer)
            case RangeRefused(reason):
                raise Unusable(f"input {origin_of(self._path)} cannot be read at {self._position}: {reason}")
            case answer:
                raise Unusable(f"input {origin_of(self._path)}: the worker answered {type(answer).__name__} to a read")

    def _let_go(self) -> None:
        if self._block is not None:
            self._block.close()
            self._block = None

    def close(self) -> None:
        self._let_go()
        super().close()


def open_stored(path: str, file_bytes: int, worker: TaskSocket) -> BinaryIO:
    """A stored file as a seekable stream. Reading it raises Unusable when the worker cannot get the bytes."""
    return cast(BinaryIO, io.BufferedReader(_RangeReader(path, file_bytes, worker), BUFFER_BYTES))
