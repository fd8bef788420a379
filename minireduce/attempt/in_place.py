"""Read a replica on this machine from a descriptor that the worker handed over, and verify every byte.

Bytes go where they are wanted in one step, and are verified there before anybody sees them: packets are read whole, so
only what begins or ends within a packet is copied.
"""

from __future__ import annotations

import os
import struct

from minireduce.attempt.conversation import BlockHere
from minireduce.checksums import CRC_BYTES, PACKET_BYTES, PIECE_BYTES_MAX, first_damaged, packets_in
from minireduce.errors import Corruption


class BlockInPlace:
    """One block of a file. The descriptor is ours. Raises Corruption where its checksums do not fit in number."""

    def __init__(self, block: BlockHere, descriptor: int) -> None:
        self.begin = block.begin
        self.end = block.begin + block.length
        self._descriptor = descriptor
        if len(block.crcs) != CRC_BYTES * packets_in(block.length):
            raise Corruption("a block came with checksums of another length")
        self._crcs = struct.unpack(f">{packets_in(block.length)}I", block.crcs)

    def __contains__(self, position: int) -> bool:
        return self.begin <= position < self.end

    def read_into(self, buffer: memoryview, position: int) -> int:
        """How many bytes of the file from `position` on were put into `buffer`, at least one; it lies in this block.

        Raises Corruption.
        """
        at, left = position - self.begin, self.end - position
        if at % PACKET_BYTES:
            return self._copy(buffer, at)
        count = min(len(buffer), left, PIECE_BYTES_MAX)
        if count < left:
            count -= count % PACKET_BYTES
        if not count:
            return self._copy(buffer, at)
        self._read(buffer[:count], at)
        return count

    def _copy(self, buffer: memoryview, at: int) -> int:
        """What is wanted of one packet."""
        begin = at - at % PACKET_BYTES
        packet = bytearray(min(PACKET_BYTES, self.end - self.begin - begin))
        self._read(memoryview(packet), begin)
        count = min(len(buffer), len(packet) - (at - begin))
        buffer[:count] = memoryview(packet)[at - begin :][:count]
        return count

    def _read(self, target: memoryview, at: int) -> None:
        """Fill `target` with whole packets and verify them."""
        try:
            count = os.preadv(self._descriptor, [target], at)
        except OSError as error:
            raise Corruption(f"a block cannot be read at {at}: {error.strerror}") from error
        number = at // PACKET_BYTES
        if count != len(target) or first_damaged(target, self._crcs[number : number + packets_in(count)]) is not None:
            raise Corruption(f"a block is damaged in the {len(target)} bytes from {at} on")

    def close(self) -> None:
        os.close(self._descriptor)
