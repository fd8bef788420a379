"""Answer a request for many outputs: find each, and send one after the other.

What is missing or damaged is told in its place, and the others are sent all the same. Everything is found before
anything is sent, so that the answer says how long it is, and its connection serves the next request.

In the clear, bytes go from file to socket in the kernel (`sendfile`). An output of less than `SMALL_BYTES` is read
as it is found, off the loop, and sent together with its neighbours, which costs less than a call for each. Under TLS
large ones are read in slices of `SLICE_BYTES`, and so is all of an answer that the caller wants compressed. A file that
cannot be read any more once the answer has begun breaks it off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from minireduce.attempt.places import META_NAME, PART_NAME, attempt_place
from minireduce.core.work.fetches import PART
from minireduce.engine.index import DATA_NAME, INDEX_NAME, read_range
from minireduce.errors import Corruption, MinireduceError, NotFound, RequestError
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId
from minireduce.wire.compression import ACCEPT_HEADER, COMPRESSION_HEADER, ZSTD, compress
from minireduce.wire.errors import to_http
from minireduce.wire.many_outputs import OK, Wanted, encode_head

log = logging.getLogger(__name__)

SLICE_BYTES = 1 << 20
SMALL_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a file that is to be sent."""

    path: str
    offset: int
    length: int

    def open(self) -> BinaryIO:
        """The whole file."""
        return Path(self.path).open("rb")


@dataclass(frozen=True, slots=True)
class Section:
    """What answers for one output: `start` begins with the head, and `piece`, of a large output, follows it."""

    start: bytes
    piece: Piece | None = None

    @property
    def length(self) -> int:
        return len(self.start) + (self.piece.length if self.piece is not None else 0)


def find_output(data_dir: Path, attempt: AttemptId, partition: int) -> Piece:
    """Where a partition lies, or the part. Raises NotFound, and Corruption where the index is damaged."""
    place = attempt_place(str(data_dir), attempt)
    if not os.path.exists(f"{place}/{META_NAME}"):  # noqa: PTH110 - of many small outputs, paths cost the most
        raise NotFound(f"this worker holds no output of {attempt}")
    try:
        if partition == PART:
            return whole(Path(f"{place}/{PART_NAME}"))
        found = read_range(_read(f"{place}/{INDEX_NAME}"), partition)
    except Corruption as error:
        raise Corruption(f"{attempt}: {error.message}") from None
    except FileNotFoundError as error:
        raise _missing(attempt, error) from None
    if found is None:
        raise NotFound(f"{attempt} has no partition of number {partition}")
    return Piece(f"{place}/{DATA_NAME}", *found)


def whole(path: Path) -> Piece:
    """All of a file."""
    return Piece(str(path), 0, path.stat().st_size)


def find_sections(data_dir: Path, wanted: Sequence[Wanted]) -> list[Section]:
    """What answers for each of these outputs; small ones are read."""
    return [_find_section(data_dir, each) for each in wanted]


def _find_section(data_dir: Path, wanted: Wanted) -> Section:
    try:
        found = find_output(data_dir, wanted.attempt, wanted.partition)
        left = found.length - wanted.start
        if left < 0:
            raise Corruption(f"{wanted.attempt} has {found.length} bytes there, and none from {wanted.start} on")
        head, piece = encode_head(OK, left), Piece(found.path, found.offset + wanted.start, left)
        data = _read_if_small(wanted.attempt, piece)
    except (MinireduceError, OSError) as error:
        if not isinstance(error, RequestError):
            log.warning("%s cannot be sent: %s", wanted.attempt, error)
        status, body = to_http(error)
        text = json.dumps(body).encode()
        return Section(encode_head(status, len(text)) + text)
    return Section(head, piece) if data is None else Section(head + data)


def _read_if_small(attempt: AttemptId, piece: Piece) -> bytes | None:
    """The bytes of a small piece, or None. Raises Corruption where the file is too short, however large the piece."""
    try:
        file = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _missing(attempt, error) from None
    try:
        size = os.fstat(file).st_size
        data = os.pread(file, piece.length, piece.offset) if piece.length < SMALL_BYTES else None
    finally:
        os.close(file)
    if size < piece.offset + piece.length or (data is not None and len(data) < piece.length):
        raise Corruption(f"{piece.path} is shorter than its index says")
    return data


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)


def _missing(attempt: AttemptId, error: FileNotFoundError) -> NotFound:
    return NotFound(f"{attempt} has no {Path(error.filename).name} here any more")


async def send_sections(request: web.Request, sections: Sequence[Section]) -> web.StreamResponse:
    """Answer with these sections."""
    if request.headers.get(ACCEPT_HEADER) == ZSTD:
        return await _send_compressed(request, sections)
    response = web.StreamResponse()
    response.content_type = "application/octet-stream"
    response.content_length = sum(section.length for section in sections)
    await response.prepare(request)
    starts: list[bytes] = []
    size = 0
    with breaking_off(request):
        for section in sections:
            starts.append(section.start)
            size += len(section.start)
            if section.piece is not None or size >= SLICE_BYTES:
                await response.write(b"".join(starts))
                starts, size = [], 0
            if section.piece is not None:
                with section.piece.open() as file:
                    await copy(request, response, file, section.piece)
        if starts:
            await response.write(b"".join(starts))
    await response.write_eof()
    return response


async def _send_compressed(request: web.Request, sections: Sequence[Section]) -> web.StreamResponse:
    response = web.StreamResponse(headers={COMPRESSION_HEADER: ZSTD})
    response.content_type = "application/octet-stream"
    response.enable_chunked_encoding()
    await response.prepare(request)
    slices = map(compress, _slices(sections))
    with breaking_off(request):
        while piece := await asyncio.to_thread(next, slices, b""):
            await response.write(piece)
    await response.write_eof()
    return response


def _slices(sections: Sequence[Section]) -> Iterator[bytes]:
    """The bytes of these sections, in slices that are compressed each by itself. Raises OSError."""
    gathered: list[bytes] = []
    size = 0
    for section in sections:
        gathered.append(section.start)
        size += len(section.start)
        if section.piece is not None or size >= SLICE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
        if section.piece is not None:
            with section.piece.open() as file:
                yield from _read_slices(file, section.piece)
    if gathered:
        yield b"".join(gathered)


def _read_slices(file: BinaryIO, piece: Piece) -> Iterator[bytes]:
    file.seek(piece.offset)
    left = piece.length
    while left:
        data = file.read(min(SLICE_BYTES, left))
        if not data:
            raise OSError(f"{piece.path} has become shorter")
        yield data
        left -= len(data)


@contextlib.contextmanager
def breaking_off(request: web.Request) -> Iterator[None]:
    """Once an answer has begun, an error can only be told by breaking it off."""
    try:
        yield
    except OSError as error:
        log.warning("sending %s broke off: %s", request.path, error)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the answer was broken off") from error


async def copy(request: web.Request, response: web.StreamResponse, file: BinaryIO, piece: Piece) -> None:
    """Move the bytes. Raises OSError when the file ends before the piece does."""
    if request.transport is None:
        raise ConnectionResetError("the caller has gone")
    if not request.secure:
        sent = await asyncio.get_running_loop().sendfile(request.transport, file, piece.offset, piece.length)
        if sent < piece.length:
            raise OSError(f"{piece.path} has become shorter")
        return
    for data in _read_slices(file, piece):
        await response.write(data)
