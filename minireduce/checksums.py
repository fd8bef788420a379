"""CRC32C of the packets of a block: 64 KiB each, counted from the block's beginning, the last one shorter.

These are the checksums that lie beside a replica and that travel with its bytes, so everybody who writes, sends or
reads one verifies the same packets. Elsewhere: how packets travel (`wire.packets`), how checksums lie on disk
(`worker.replica_files`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import google_crc32c

PACKET_BYTES = 1 << 16
CRC_BYTES = 4
PIECE_BYTES_MAX = 8 * PACKET_BYTES
"""Who reads and verifies much takes so much at once: many steps cost more, and more would leave the processor's cache
between the two."""
_WholePacket = ctypes.c_char * PACKET_BYTES


def crc_of(data: bytes) -> bytes:
    """The CRC32C of `data` as it stands in files and on the wire."""
    return int(google_crc32c.value(data)).to_bytes(CRC_BYTES, "big")


def packets_in(length: int) -> int:
    """How many packets `length` bytes take."""
    return -(-length // PACKET_BYTES)


def widen(offset: int, length: int, block_length: int) -> tuple[int, int]:
    """The whole packets that cover a range of a block: where they begin and end."""
    begin = offset // PACKET_BYTES * PACKET_BYTES
    end = min(block_length, packets_in(offset + length) * PACKET_BYTES)
    return begin, max(begin, end)


def first_damaged(data: bytes | memoryview, crcs: Sequence[int]) -> int | None:
    """The number of the first packet in `data` that its checksum does not fit, None when all fit.

    `data` begins at a packet; a view must be one that can be written to. Packets are looked at where they lie: copies
    would take half as long again, and the library of checksums takes no views that Python makes of bytes.
    """
    begins = _address_of(data)
    whole = len(data) // PACKET_BYTES
    for number in range(whole):
        if google_crc32c.value(_WholePacket.from_address(begins + number * PACKET_BYTES)) != crcs[number]:
            return number
    if len(data) > whole * PACKET_BYTES and google_crc32c.value(bytes(data[whole * PACKET_BYTES :])) != crcs[whole]:
        return whole
    return None


def _address_of(data: bytes | memoryview) -> int:
    """Where these bytes lie, for as long as the caller keeps them."""
    if isinstance(data, memoryview):
        return ctypes.addressof(ctypes.c_char.from_buffer(data)) if data else 0
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
