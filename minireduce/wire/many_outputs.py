"""Many outputs of one worker in one HTTP request: how they are asked for, and how the answer is cut.

A request is msgpack of `[[attempt, partition, start], …]`: whose output, which partition of it (-1: the part), and how
many of its bytes the caller has already. The answer gives one section for each, in that order:

    2 bytes   status: 200, or what a request for this output alone would get
    8 bytes   how many bytes follow the head
    8 bytes   XXH3-64 of the ten bytes before
    n bytes   the output from `start` on; of another status the error as JSON

Numbers are little-endian. Outputs bear checksums of their own, which whoever reads the pairs compares, so only the head
has one here: without it a flipped bit in a length would shift all outputs behind it. An answer that ends early has
broken off; what came before that is whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgpack
import xxhash

from minireduce.errors import Corruption, RequestError
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, parse_attempt_id

OUTPUTS_MAX = 4096
OK = 200
_HEAD = struct.Struct("<HQQ")
_CHECKED = struct.Struct("<HQ")
HEAD_BYTES = _HEAD.size
ERROR_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output, or a partition of it, from byte `start` on."""

    attempt: AttemptId
    partition: int
    start: int


def encode_wanted(wanted: Sequence[Wanted]) -> bytes:
    """The body of a request."""
    return bytes(msgpack.packb([(str(each.attempt), each.partition, each.start) for each in wanted]))


def decode_wanted(body: bytes) -> list[Wanted]:
    """What a request asks for. Raises RequestError."""
    try:
        rows = msgpack.unpackb(body)
        wanted = [Wanted(parse_attempt_id(attempt), partition, start) for attempt, partition, start in rows]
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise RequestError(f"this names no outputs: {type(error).__name__}") from None
    if len(wanted) > OUTPUTS_MAX:
        raise RequestError(f"{len(wanted)} outputs are asked for at once, and {OUTPUTS_MAX} may be")
    for each in wanted:
        if type(each.partition) is not int or type(each.start) is not int or each.partition < -1 or each.start < 0:
            raise RequestError(f"{each.attempt} has no partition {each.partition!r} from {each.start!r} on")
    return wanted


def encode_head(status: int, length: int) -> bytes:
    """What stands before a section."""
    return _HEAD.pack(status, length, xxhash.xxh3_64_intdigest(_CHECKED.pack(status, length)))


@dataclass(frozen=True, slots=True)
class Head:
    """A section begins."""

    status: int
    length: int


class Sections:
    """Cuts an answer, piece by piece, into heads and the bytes behind them."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def feed(self, piece: bytes) -> Iterator[Head | memoryview]:
        """What a piece of the answer brings. Raises Corruption."""
        view = memoryview(piece)
        while view:
            if self._left:
                data, view = view[: self._left], view[self._left :]
                self._left -= len(data)
                yield data
                continue
            lacking = HEAD_BYTES - len(self._head)
            self._head, view = self._head + bytes(view[:lacking]), view[lacking:]
            if len(self._head) == HEAD_BYTES:
                head, self._head = _decode_head(self._head), b""
                self._left = head.length
                yield head


def _decode_head(data: bytes) -> Head:
    status, length, check = _HEAD.unpack(data)
    if xxhash.xxh3_64_intdigest(data[: _CHECKED.size]) != check:
        raise Corruption("the answer is damaged where an output should begin")
    if status != OK and length > ERROR_BYTES_MAX:
        raise Corruption(f"the answer tells an error of {length} bytes")
    return Head(status, length)
