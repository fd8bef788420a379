"""A compressed answer: slices, each compressed by itself, so that both sides hold one at a time.

    4 bytes   length of what follows the head, little-endian
    4 bytes   length of the slice when decompressed
    n bytes   the slice by zstd at its fastest level; as it is, where both lengths are equal

A caller that can take such an answer says so by the header `Minireduce-Accept: zstd`, and one that is so says so by
`Minireduce-Compression: zstd`. What is inside is what would have come without (many_outputs.py), checksums included.

pyarrow has the codec, and is imported only by who compresses or decompresses something.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minireduce.errors import Corruption

if TYPE_CHECKING:
    import pyarrow as pa

ACCEPT_HEADER = "Minireduce-Accept"
COMPRESSION_HEADER = "Minireduce-Compression"
ZSTD = "zstd"
SLICE_BYTES_MAX = 4 << 20
_HEAD = struct.Struct("<II")
_LEVEL = 1


def compress(data: bytes) -> bytes:
    """One slice, of at most `SLICE_BYTES_MAX`."""
    compressed: bytes = _codec().compress(data, asbytes=True)
    if len(compressed) >= len(data):
        compressed = data
    return _HEAD.pack(len(compressed), len(data)) + compressed


class Decompressor:
    """Takes a compressed answer piece by piece."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The slices that are complete with this piece. Raises Corruption."""
        self._waiting += piece
        begin = 0
        while len(self._waiting) - begin >= _HEAD.size:
            length, whole = _HEAD.unpack_from(self._waiting, begin)
            if not 0 < length <= whole <= SLICE_BYTES_MAX:
                raise Corruption(f"a compressed answer holds a slice of {length} bytes for {whole}")
            end = begin + _HEAD.size + length
            if len(self._waiting) < end:
                break
            data = bytes(memoryview(self._waiting)[begin + _HEAD.size : end])
            begin = end
            yield data if length == whole else _decompress(data, whole)
        del self._waiting[:begin]


def _decompress(data: bytes, length: int) -> bytes:
    try:
        whole = bytes(_codec().decompress(data, length, asbytes=True))
    except (OSError, ValueError) as error:
        raise Corruption(f"a compressed answer is damaged: {error}") from None
    if len(whole) != length:
        raise Corruption(f"a compressed answer holds {len(whole)} bytes where {length} should be")
    return whole


@functools.cache
def _codec() -> pa.Codec:
    import pyarrow as pa

    return pa.Codec(ZSTD, _LEVEL)
