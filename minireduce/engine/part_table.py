"""The table that ends a part or a partition with named outputs behind its pairs: how long each output is.

Msgpack of a list of names and lengths, then XXH3-64 of that and its length. A reader begins at the end, so pairs and
outputs are written without knowing how many there will be; what lies before the outputs is the pairs.

How long those are is not said: the pairs of a map output open with a frame that names places, and the table goes into
the digest, on which two attempts must agree wherever they read the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack
import xxhash

from minireduce.engine.frames import Source
from minireduce.errors import Corruption
from minireduce.frozen import dataclass

_CHECK_BYTES = 8
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Table:
    """Where things are: the pairs first, as many bytes; then these outputs, offset and length of each."""

    pairs_bytes: int
    outputs: dict[str, tuple[int, int]]


def encode_table(lengths: Sequence[tuple[str, int]]) -> bytes:
    """What ends a part or partition with these outputs behind its pairs."""
    body: bytes = msgpack.packb(lengths)
    return body + xxhash.xxh3_64_digest(body) + len(body).to_bytes(_LENGTH_BYTES, "little")


def read_table(source: Source, offset: int, length: int) -> Table:
    """The table at the end of these bytes. Raises Corruption naming the file."""
    end = offset + length
    fixed = _CHECK_BYTES + _LENGTH_BYTES
    size_bytes = int.from_bytes(source.read_at(end - _LENGTH_BYTES, _LENGTH_BYTES), "little") if length >= fixed else 0
    if not 0 < size_bytes <= length - fixed:
        raise Corruption(f"{source.name} has no table of its outputs at {end}")
    raw = source.read_at(end - fixed - size_bytes, size_bytes + _CHECK_BYTES)
    body = raw[:size_bytes]
    if xxhash.xxh3_64_digest(body) != raw[size_bytes:]:
        raise Corruption(f"{source.name} has a damaged table of its outputs at {end}")
    lengths = msgpack.unpackb(body)
    at = end - fixed - size_bytes - sum(each for _, each in lengths)
    if at < offset:
        raise Corruption(f"{source.name} begins at {offset}, but by the table at {end} its outputs at {at}")
    pairs_bytes = at - offset
    outputs = {}
    for name, each in lengths:
        outputs[name] = (at, each)
        at += each
    return Table(pairs_bytes, outputs)
