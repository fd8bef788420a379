"""Keep replicas in files: a block and, beside it, one checksum for each 64 KiB of it.

A replica is written under a private name, synced, given its name, and the directory is synced; only then is it
complete, and only then may anybody say so. What has a private name when a worker starts is the rest of a write that
was never acknowledged, and goes. What has a name that is none of ours is somebody else's, and stays.

Nothing is read without being verified: the bytes go out with the checksums that came with them, after both were found
to agree. A replica that fails is damaged: it is no longer read here, and the caller tells the master.

A directory on which a write failed is closed to writing until the worker starts again: a disk that could not keep its
word once is not asked to give it again. Reading from it goes on. With several directories a replica goes to the open
one with the most room.

Invariants: a replica's length and checksums never change under its name; paths are made of numbers only. Safe for
several threads, of which one writes a given replica.
Elsewhere: the format (docs/formats.md, "Block"), HTTP (`block_routes`), which replicas there should be (the master).
"""

from __future__ import annotations

import contextlib
import itertools
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minireduce.core.messages import Replica
from minireduce.disk import Disk
from minireduce.errors import Corruption, MinireduceError, NotFound, Unavailable
from minireduce.wire.packets import CRC_BYTES, PACKET_BYTES, Packet, Unsealer, crc_of, packets_in, widen

HEADER = struct.Struct(">4sIQIQ")
MAGIC = b"MRB1"
HEADER_BYTES = HEADER.size + CRC_BYTES
READ_BYTES = 1 << 20
FOLDERS = 256
BLOCKS_NAME = "blocks"
"""The directory of replicas below a data directory."""

_FOLDER = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"([1-9][0-9]{0,18})\.([1-9][0-9]{0,9})\.(data|sums)")
_PRIVATE = re.compile(r"\.[0-9]+\.[0-9]+\.(data|sums)")


class DamagedReplica(Corruption):
    """A replica of this worker failed verification."""

    def __init__(self, replica: Replica, what: str) -> None:
        super().__init__(f"block {replica.block_id} (generation {replica.generation}) is damaged here: {what}")
        self.replica = replica


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a replica lies."""

    replica: Replica
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / f"{self.replica.block_id % FOLDERS:02x}"

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.replica.block_id}.{self.replica.generation}.{suffix}"


class BlockStore:
    """The replicas of one worker, under the directories `roots`."""

    def __init__(self, disk: Disk, roots: Sequence[Path]) -> None:
        self._disk = disk
        self._roots = tuple(roots)
        self._closed: dict[Path, str] = {}
        self._durable: dict[Path, None] = {}
        self._places: dict[tuple[int, int], _Place] = {}
        self._damaged: dict[tuple[int, int], None] = {}
        self._lock = threading.Lock()
        self._serials = itertools.count(1)

    def open(self) -> None:
        """Find what is there, and remove what was never complete. Raises OSError when a directory cannot be used."""
        for root in self._roots:
            self._disk.make_directories(root)
            for folder_name in self._disk.names(root):
                if _FOLDER.fullmatch(folder_name):
                    self._open_folder(root, root / folder_name)

    def _open_folder(self, root: Path, folder: Path) -> None:
        names = self._disk.names(folder)
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None:
                if _PRIVATE.fullmatch(name):
                    self._disk.remove(folder / name)
            elif f"{match[1]}.{match[2]}.{'data' if match[3] == 'sums' else 'sums'}" not in names:
                self._disk.remove(folder / name)
            elif match[3] == "data":
                self._take_in(root, folder / name, int(match[1]), int(match[2]))

    def _take_in(self, root: Path, data: Path, block_id: int, generation: int) -> None:
        """A complete pair of files. One whose sizes do not fit is damaged, and counts as not there."""
        try:
            with self._disk.open(data.with_suffix(".sums")) as sums:
                length = _read_header(sums, Replica(block_id, generation, 0))
            is_whole = self._disk.size_bytes(data) == length
        except (DamagedReplica, OSError):
            is_whole = False
        if is_whole:
            self._places[block_id, generation] = _Place(Replica(block_id, generation, length), root)
        else:
            self._damaged[block_id, generation] = None

    # ── what is here ────────────────────────────────────────────────────────────────────────────────────────────────

    def replicas(self) -> tuple[Replica, ...]:
        """All complete replicas that are not known to be damaged, in ascending order."""
        with self._lock:
            return tuple(sorted(place.replica for place in self._places.values()))

    def damaged(self) -> tuple[Replica, ...]:
        """All replicas that are known to be damaged, in ascending order. Their lengths are not known."""
        with self._lock:
            return tuple(Replica(block_id, generation, 0) for block_id, generation in sorted(self._damaged))

    def find(self, block_id: int, generation: int) -> Replica:
        """The replica of this block and generation. Raises NotFound, Corruption if it is known to be damaged."""
        return self._place(block_id, generation).replica

    def _place(self, block_id: int, generation: int) -> _Place:
        with self._lock:
            place = self._places.get((block_id, generation))
            if place is None and (block_id, generation) in self._damaged:
                raise DamagedReplica(Replica(block_id, generation, 0), "it was found so before")
        if place is None:
            raise NotFound(f"block {block_id} of generation {generation} is not on this worker")
        return place

    @property
    def closed(self) -> dict[Path, str]:
        """The directories that take no more writes, and why."""
        return dict(self._closed)

    def free_bytes(self) -> int:
        """The room in the directories that take writes. Two on one file system count twice."""
        return sum(self._disk.free_bytes(root) for root in self._roots if root not in self._closed)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, replica: Replica) -> ReplicaWriter:
        """Begin to write a replica. Raises Unavailable when no directory takes writes."""
        open_roots = [root for root in self._roots if root not in self._closed]
        if not open_roots:
            reasons = "; ".join(f"{root}: {reason}" for root, reason in self._closed.items())
            raise Unavailable(f"no directory of this worker takes writes any more ({reasons})")
        root = max(open_roots, key=self._disk.free_bytes)
        return ReplicaWriter(self, self._disk, _Place(replica, root), next(self._serials))

    def completed(self, place: _Place) -> None:
        """A writer is done."""
        key = (place.replica.block_id, place.replica.generation)
        with self._lock:
            self._damaged.pop(key, None)
            before = self._places.get(key)
            self._places[key] = place
        if before is not None and before.root != place.root:
            self._remove_files(before)

    def make_durable(self, root: Path) -> None:
        """The names in `root` shall survive a crash, and so, once in the life of this process, shall its own path."""
        self._disk.sync_directory(root)
        if root not in self._durable:
            for above in root.parents:
                with contextlib.suppress(PermissionError):  # what we may not even look into, we did not make
                    self._disk.sync_directory(above)
            self._durable[root] = None

    def close_directory(self, root: Path, error: OSError) -> None:
        """A write failed there."""
        self._closed.setdefault(root, error.strerror or str(error))

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, block_id: int, generation: int, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The packets that cover a range, sealed, in pieces of about 1 MiB, each verified before it is given.

        Raises NotFound, or DamagedReplica at the piece that fails; after that the replica counts as damaged.
        """
        place = self._place(block_id, generation)
        replica = place.replica
        begin, end = widen(offset, replica.length - offset if length is None else length, replica.length)
        return self._read_pieces(place, begin, end)

    def _read_pieces(self, place: _Place, begin: int, end: int) -> Iterator[bytes]:
        try:
            yield from _read_sealed(self._disk, place, begin, end)
        except (DamagedReplica, OSError) as error:
            if not self._is_here(place):
                raise NotFound(f"block {place.replica.block_id} has been removed from this worker") from error
            self.mark_damaged(place.replica)
            if isinstance(error, OSError):
                raise DamagedReplica(place.replica, f"it cannot be read: {error.strerror}") from error
            raise

    def _is_here(self, place: _Place) -> bool:
        with self._lock:
            return self._places.get((place.replica.block_id, place.replica.generation)) == place

    def mark_damaged(self, replica: Replica) -> None:
        """Read this replica no more. Its files stay until the master has them removed: it may be the last one."""
        key = (replica.block_id, replica.generation)
        with self._lock:
            self._places.pop(key, None)
            self._damaged[key] = None

    # ── removing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def remove(self, block_id: int, generation: int) -> None:
        """Remove a replica; one that is not there is no error. Raises OSError."""
        with self._lock:
            self._places.pop((block_id, generation), None)
            self._damaged.pop((block_id, generation), None)
        for root in self._roots:
            self._remove_files(_Place(Replica(block_id, generation, 0), root))

    def _remove_files(self, place: _Place) -> None:
        if self._disk.exists(place.folder):
            self._disk.remove(place.path("data"))
            self._disk.remove(place.path("sums"))


class ReplicaWriter:
    """Writes one replica: `write` all packets, then `commit`; else `discard`."""

    def __init__(self, store: BlockStore, disk: Disk, place: _Place, serial: int) -> None:
        self.replica = place.replica
        self._store = store
        self._disk = disk
        self._place = place
        self._serial = serial
        self._written = 0
        self._crcs = bytearray()
        self._data: BinaryIO | None = None

    def write(self, packets: Sequence[Packet]) -> None:
        """Append verified packets. Raises Unavailable when the disk fails, and closes its directory to writing."""
        try:
            if self._data is None:
                self._make_folder()
                self._data = self._disk.create(self._private("data"))
            self._data.write(b"".join([packet.data for packet in packets]))
        except OSError as error:
            raise self._failed(error) from error
        self._crcs += b"".join([packet.crc for packet in packets])
        self._written += sum(len(packet.data) for packet in packets)

    def commit(self) -> None:
        """Make the replica complete and durable. Raises Unavailable when the disk fails."""
        replica = self.replica
        if self._written != replica.length or self._data is None:
            raise MinireduceError(f"block {replica.block_id} has {self._written} of {replica.length} bytes")
        try:
            self._disk.sync(self._data)
            self._data.close()
            with self._disk.create(self._private("sums")) as sums:
                sums.write(_header(replica) + self._crcs)
                self._disk.sync(sums)
            self._disk.rename(self._private("sums"), self._place.path("sums"))
            self._disk.rename(self._private("data"), self._place.path("data"))
            self._disk.sync_directory(self._place.folder)
        except OSError as error:
            raise self._failed(error) from error
        self._data = None
        self._store.completed(self._place)

    def discard(self) -> None:
        """Remove what was written; nothing happens after `commit`."""
        if self._data is None:
            return
        with contextlib.suppress(OSError):  # what a full disk did not take is tried once more by closing
            self._data.close()
        self._data = None
        for suffix in ("data", "sums"):
            self._disk.remove(self._private(suffix))

    def _private(self, suffix: str) -> Path:
        return self._place.folder / f".{self.replica.block_id}.{self._serial}.{suffix}"

    def _make_folder(self) -> None:
        if not self._disk.exists(self._place.folder):
            self._disk.make_directories(self._place.folder)
            self._store.make_durable(self._place.root)

    def _failed(self, error: OSError) -> Unavailable:
        self._store.close_directory(self._place.root, error)
        return Unavailable(
            f"block {self.replica.block_id} cannot be written under {self._place.root}: {error.strerror or error}"
        )


def read_beside(disk: Disk, root: Path, replica: Replica, offset: int, length: int) -> Iterator[bytes]:
    """The bytes of a range of a replica that another process of this worker keeps under `root`, verified.

    Raises NotFound when it is not there (any more), DamagedReplica when it is, and wrong.
    """
    begin, end = widen(offset, length, replica.length)
    at = begin
    try:
        for sealed in _read_sealed(disk, _Place(replica, root), begin, end):
            unsealer = Unsealer(min(READ_BYTES, end - at), f"block {replica.block_id}")
            data = b"".join([packet.data for packet in unsealer.feed(sealed)])
            yield data[max(0, offset - at) : offset + length - at]
            at += len(data)
    except FileNotFoundError:
        raise NotFound(f"block {replica.block_id} of generation {replica.generation} is not on this worker") from None
    except OSError as error:
        raise DamagedReplica(replica, f"it cannot be read: {error.strerror}") from error


def _read_sealed(disk: Disk, place: _Place, begin: int, end: int) -> Iterator[bytes]:
    """The packets of [begin, end) in pieces of `READ_BYTES`. Raises DamagedReplica, OSError."""
    with disk.open(place.path("data")) as data, disk.open(place.path("sums")) as sums:
        if _read_header(sums, place.replica) != place.replica.length:
            raise DamagedReplica(place.replica, "it has another length than it should")
        while begin < end:
            count = min(READ_BYTES, end - begin)
            yield b"".join(_verified(place.replica, data, sums, begin, count))
            begin += count


def _header(replica: Replica) -> bytes:
    header = HEADER.pack(MAGIC, PACKET_BYTES, replica.block_id, replica.generation, replica.length)
    return header + crc_of(header)


def _read_header(sums: BinaryIO, replica: Replica) -> int:
    """The length of the block that these checksums are of. Raises DamagedReplica."""
    header = sums.read(HEADER_BYTES)
    if len(header) != HEADER_BYTES or crc_of(header[: HEADER.size]) != header[HEADER.size :]:
        raise DamagedReplica(replica, "the head of its checksums is not what was written")
    magic, packet_bytes, block_id, generation, length = HEADER.unpack(header[: HEADER.size])
    if (magic, packet_bytes, block_id, generation) != (MAGIC, PACKET_BYTES, replica.block_id, replica.generation):
        raise DamagedReplica(replica, "its file of checksums is another's")
    return int(length)


def _verified(replica: Replica, data: BinaryIO, sums: BinaryIO, begin: int, count: int) -> Iterator[bytes]:
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
