"""The two files of a replica: a block's bytes, and beside them one checksum for each 64 KiB.

Nothing is given out that does not agree with its checksum. The file of bytes may be longer than the block: while
somebody appends, a longer replica of the same block shares it under a second name, and what comes behind the block's
length is none of its own. The format is in docs/formats.md, "Block".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minireduce.checksums import CRC_BYTES, PACKET_BYTES, crc_of, packets_in
from minireduce.core.replica_messages import Replica
from minireduce.disk import Disk
from minireduce.errors import Corruption
from minireduce.frozen import dataclass

HEADER = struct.Struct(">4sIQIQ")
MAGIC = b"MRB1"
HEADER_BYTES = HEADER.size + CRC_BYTES
READ_BYTES = 1 << 20
FOLDERS = 256


class DamagedReplica(Corruption):
    """A replica of this worker failed verification."""

    def __init__(self, replica: Replica, what: str) -> None:
        super().__init__(f"block {replica.block_id} (generation {replica.generation}) is damaged here: {what}")
        self.replica = replica


@dataclass(frozen=True, slots=True)
class ReplicaPlace:
    """Where a replica lies, and what its files are called."""

    replica: Replica
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / f"{self.replica.block_id % FOLDERS:02x}"

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.replica.block_id}.{self.replica.generation}.{suffix}"


def read_sealed(disk: Disk, place: ReplicaPlace, begin: int, end: int) -> Iterator[bytes]:
    """The packets of [begin, end) in pieces of `READ_BYTES`. Raises DamagedReplica, OSError."""
    with disk.open(place.path("data")) as data, disk.open(place.path("sums")) as sums:
        if read_header(sums, place.replica) != place.replica.length:
            raise DamagedReplica(place.replica, "it has another length than it should")
        while begin < end:
            count = min(READ_BYTES, end - begin)
            yield b"".join(verified(place.replica, data, sums, begin, count))
            begin += count


def header_of(replica: Replica) -> bytes:
    """The head of a file of checksums."""
    header = HEADER.pack(MAGIC, PACKET_BYTES, replica.block_id, replica.generation, replica.length)
    return header + crc_of(header)


def read_header(sums: BinaryIO, replica: Replica) -> int:
    """The length of the block that these checksums are of. Raises DamagedReplica."""
    header = sums.read(HEADER_BYTES)
    if len(header) != HEADER_BYTES or crc_of(header[: HEADER.size]) != header[HEADER.size :]:
        raise DamagedReplica(replica, "the head of its checksums is not what was written")
    magic, packet_bytes, block_id, generation, length = HEADER.unpack(header[: HEADER.size])
    if (magic, packet_bytes, block_id, generation) != (MAGIC, PACKET_BYTES, replica.block_id, replica.generation):
        raise DamagedReplica(replica, "its file of checksums is another's")
    return int(length)


def verified(replica: Replica, data: BinaryIO, sums: BinaryIO, begin: int, count: int) -> Iterator[bytes]:
    """The packets of [begin, begin + count), sealed. Raises DamagedReplica."""
    data.seek(begin)
    sums.seek(HEADER_BYTES + CRC_BYTES * (begin // PACKET_BYTES))
    piece = data.read(count)
    crcs = sums.read(CRC_BYTES * packets_in(count))
    if len(piece) != count or len(crcs) != CRC_BYTES * packets_in(count):
        raise DamagedReplica(replica, f"it ends before byte {begin + count}")
    for number in range(packets_in(count)):
        packet = piece[number * PACKET_BYTES : (number + 1) * PACKET_BYTES]
        crc = crcs[number * CRC_BYTES : (number + 1) * CRC_BYTES]
        if crc_of(packet) != crc:
            raise DamagedReplica(replica, f"its bytes from {begin + number * PACKET_BYTES} on are not what was written")
        yield crc
        yield packet


def read_sums(sums: BinaryIO, place: ReplicaPlace) -> bytes:
    """All checksums of a replica, behind each other. Raises DamagedReplica."""
    if read_header(sums, place.replica) != place.replica.length:
        raise DamagedReplica(place.replica, "it has another length than it should")
    crcs = sums.read(CRC_BYTES * packets_in(place.replica.length))
    if len(crcs) != CRC_BYTES * packets_in(place.replica.length):
        raise DamagedReplica(place.replica, "its file of checksums ends early")
    return crcs
