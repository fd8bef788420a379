"""The index of a map output: where each partition lies in the data file, so that a worker serves ranges without
decoding.

Layout (little endian): magic `MRIX0001`, u32 partitions, for each u64 offset and u64 length, then XXH3-64 of all
before.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import xxhash

from minireduce.errors import Corruption

DATA_NAME = "output.data"
INDEX_NAME = "output.index"

MAGIC = b"MRIX0001"
_COUNT = struct.Struct("<8sI")
_RANGE = struct.Struct("<QQ")
_CHECK = struct.Struct("<Q")


def encode_index(lengths: Sequence[int]) -> bytes:
    """The index of partitions that lie one after the other from the start of the data file."""
    parts = [_COUNT.pack(MAGIC, len(lengths))]
    offset = 0
    for length in lengths:
        parts.append(_RANGE.pack(offset, length))
        offset += length
    body = b"".join(parts)
    return body + _CHECK.pack(xxhash.xxh3_64_intdigest(body))


def read_index(source: Path | bytes) -> list[tuple[int, int]]:
    """(offset, length) of each partition. Raises Corruption naming the file."""
    return list(_RANGE.iter_unpack(_verified(source)))


def read_range(source: Path | bytes, partition: int) -> tuple[int, int] | None:
    """(offset, length) of one partition; None if there is none of that number. Raises Corruption naming the file."""
    ranges = _verified(source)
    if not 0 <= partition < len(ranges) // _RANGE.size:
        return None
    offset, length = _RANGE.unpack_from(ranges, partition * _RANGE.size)
    return offset, length


def _verified(source: Path | bytes) -> memoryview:
    """The ranges of an index, one after the other."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    name = "a map output index" if isinstance(source, bytes) else str(source)
    if len(data) < _COUNT.size + _CHECK.size or data[: len(MAGIC)] != MAGIC:
        raise Corruption(f"{name} is no map output index")
    body = memoryview(data)[: -_CHECK.size]
    (_, partitions), (check,) = _COUNT.unpack_from(data), _CHECK.unpack_from(data, len(body))
    if len(body) != _COUNT.size + partitions * _RANGE.size or xxhash.xxh3_64_intdigest(body) != check:
        raise Corruption(f"{name} is damaged")
    return body[_COUNT.size :]


def source_name(file: Path | int, offset: int) -> str:
    """How errors call a section: by its file, which may hold others and may be known by its descriptor only."""
    return f"{file}@{offset}" if isinstance(file, Path) else f"a map output (descriptor {file})"
