"""Bytes of blocks on the wire: packets of at most 64 KiB, each behind its own CRC32C.

    4 bytes   CRC32C of the data that follows, big-endian
    n bytes   data; n is 65536 but in the last packet of a block

Packets begin at multiples of 64 KiB from the start of the block, so what a worker keeps beside a block (one checksum
for each packet) is what travels, and nobody on the way computes a checksum anew: a byte that changes anywhere between
the writer's memory and the reader's is found. Whoever takes packets in verifies them, by `Unsealer`.
"""

from __future__ import annotations

from collections.abc import Iterator

from minireduce.checksums import CRC_BYTES, PACKET_BYTES, crc_of, packets_in
from minireduce.errors import Corruption
from minireduce.frozen import dataclass


def sealed_length(length: int) -> int:
    """The bytes on the wire for `length` bytes of data that begin at a packet."""
    return length + CRC_BYTES * packets_in(length)


@dataclass(frozen=True, slots=True)
class Packet:
    """A verified packet."""

    crc: bytes
    data: bytes


def seal(data: bytes | memoryview) -> Iterator[bytes]:
    """`data`, which begins at a packet, as pieces to send: checksum, data, checksum, data."""
    view = memoryview(data)
    for begin in range(0, len(view), PACKET_BYTES):
        piece = bytes(view[begin : begin + PACKET_BYTES])
        yield crc_of(piece)
        yield piece


class Unsealer:
    """Takes in what was sealed, in pieces of any size, and gives back verified packets.

    `length` is how many bytes of data will come, beginning at a packet; `name` is what an error calls them.
    """

    def __init__(self, length: int, name: str) -> None:
        self._left = length
        self._name = name
        self._pending = bytearray()

    @property
    def is_complete(self) -> bool:
        """Whether all has come."""
        return self._left == 0 and not self._pending

    def feed(self, piece: bytes) -> list[Packet]:
        """The packets that `piece` completes. Raises Corruption for wrong bytes, and for more than was announced."""
        self._pending += piece
        packets: list[Packet] = []
        at = 0
        pending = memoryview(self._pending)
        while self._left:
            data_length = min(PACKET_BYTES, self._left)
            end = at + CRC_BYTES + data_length
            if end > len(pending):
                break
            crc = bytes(pending[at : at + CRC_BYTES])
            data = bytes(pending[at + CRC_BYTES : end])
            if crc_of(data) != crc:
                raise Corruption(f"{self._name} arrived damaged, {self._left} bytes before its end")
            packets.append(Packet(crc, data))
            self._left -= data_length
            at = end
        pending.release()  # or the array could not become shorter
        del self._pending[:at]
        if not self._left and self._pending:
            raise Corruption(f"{self._name} is longer than was announced")
        return packets
