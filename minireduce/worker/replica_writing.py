"""Write one replica: from nothing, or from a shorter one of the same block that is here, to which bytes are appended.

A replica is written under private names, synced, given its names, and the directory is synced; only then is it
complete.

What is appended goes into the file of the shorter replica, under a second name, so that it costs what is appended and
not what there is. The shorter replica stays what it was: its checksums say where it ends. That holds while nobody else
appends to the same file and nothing was appended before without being committed; else the bytes are copied first.

The writer sends the packet in which the shorter replica ends whole, under a checksum of its own. What it holds of the
old bytes must agree with what is here, byte by byte, so a packet's checksum always covers what its writer meant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

from minireduce.checksums import CRC_BYTES, PACKET_BYTES, widen
from minireduce.core.replica_messages import Replica
from minireduce.disk import Disk
from minireduce.errors import Corruption, MinireduceError, NotFound, Unavailable
from minireduce.failpoints import hit
from minireduce.wire.packets import Packet
from minireduce.worker.replica_files import (
    READ_BYTES,
    DamagedReplica,
    ReplicaPlace,
    header_of,
    read_sums,
    verified,
)

SYNC_BYTES = 8 << 20
"""What has been written is synced in between when it is as much as this."""
SYNCS_AT_ONCE = 8
_SYNCS = ThreadPoolExecutor(SYNCS_AT_ONCE, thread_name_prefix="sync")


class Home(Protocol):
    """The store that a writer writes for."""

    def completed(self, place: ReplicaPlace) -> None:
        """The replica is complete and durable."""

    def make_durable(self, root: Path) -> None:
        """The names in `root` shall survive a crash."""

    def close_directory(self, root: Path, error: OSError) -> None:
        """A write failed there."""

    def begin_appending(self, base: ReplicaPlace) -> bool:
        """Whether nobody else appends to the files of `base` now; from then on this writer does."""

    def end_appending(self, base: ReplicaPlace) -> None:
        """It does no longer."""

    def mark_damaged(self, replica: Replica) -> None:
        """Read this replica no more."""


class ReplicaWriter:
    """Writes one replica: `write` all packets, the last ones perhaps with `commit`; else `discard`."""

    def __init__(self, store: Home, disk: Disk, place: ReplicaPlace, serial: int) -> None:
        self.replica = place.replica
        self._store = store
        self._disk = disk
        self._place = place
        self._folder = place.folder
        self._serial = serial
        self._written = 0
        self._crcs = bytearray()
        self._data: BinaryIO | None = None
        self._syncing: Future[None] | None = None
        self._synced = 0  # bytes that a sync has begun with

    def write(self, packets: Sequence[Packet]) -> None:
        """Append verified packets. Raises Unavailable when the disk fails, and closes its directory to writing."""
        try:
            hit("replica.before_write")
            if self._data is None:
                self._make_folder()
                self._data = self._disk.create(self._private("data"))
            self._data.write(b"".join([packet.data for packet in packets]))
            self._crcs += b"".join([packet.crc for packet in packets])
            self._written += sum(len(packet.data) for packet in packets)
            self._sync_early(self._data)
        except OSError as error:
            raise self._failed(error) from error

    def _sync_early(self, data: BinaryIO) -> None:
        """Have the disk write while more comes, so that little is left to be synced at the end. Raises OSError.

        A system tells of a write that failed later once, to whoever syncs next: each sync is asked how it ended.
        """
        if self._written - self._synced < SYNC_BYTES or (self._syncing is not None and not self._syncing.done()):
            return
        self._end_syncing()
        self._synced = self._written
        self._syncing = _SYNCS.submit(self._disk.sync, data)

    def _end_syncing(self) -> None:
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def commit(self, last: Sequence[Packet] = ()) -> None:
        """Write the last packets and make the replica complete and durable. Raises Unavailable when the disk fails."""
        if last:
            self.write(last)
        replica = self.replica
        if self._written != replica.length or self._data is None:
            raise MinireduceError(f"block {replica.block_id} has {self._written} of {replica.length} bytes")
        try:
            hit("replica.before_sync")
            self._end_syncing()
            self._disk.sync(self._data)
            self._data.close()
            with self._disk.create(self._private("sums")) as sums:
                sums.write(header_of(replica) + self._crcs)
                self._disk.sync(sums)
            hit("replica.before_rename")
            self._disk.rename(self._private("sums"), self._place.path("sums"))
            hit("replica.between_renames")
            self._disk.rename(self._private("data"), self._place.path("data"))
            hit("replica.before_directory_sync")
            self._disk.sync_directory(self._folder)
            hit("replica.after_directory_sync")
        except OSError as error:
            raise self._failed(error) from error
        self._data = None
        self._released()
        self._store.completed(self._place)

    def discard(self) -> None:
        """Remove what was written; nothing happens after `commit`."""
        if self._data is None:
            return
        with contextlib.suppress(OSError):
            self._end_syncing()
        with contextlib.suppress(OSError):  # what a full disk did not take is tried once more by closing
            self._data.close()
        self._data = None
        for suffix in ("data", "sums"):
            self._disk.remove(self._private(suffix))
        self._released()

    def _released(self) -> None:
        """Nothing more is written."""

    def _private(self, suffix: str) -> Path:
        return self._folder / f".{self.replica.block_id}.{self._serial}.{suffix}"

    def _make_folder(self) -> None:
        if not self._disk.exists(self._folder):
            self._disk.make_directories(self._folder)
            self._store.make_durable(self._place.root)

    def _failed(self, error: OSError) -> Unavailable:
        self._store.close_directory(self._place.root, error)
        return Unavailable(
            f"block {self.replica.block_id} cannot be written under {self._place.root}: {error.strerror or error}"
        )


class LongerReplicaWriter(ReplicaWriter):
    """Writes a replica that begins with the bytes of `base`. The first packet is the one in which `base` ends."""

    def __init__(self, store: Home, disk: Disk, place: ReplicaPlace, serial: int, base: ReplicaPlace) -> None:
        super().__init__(store, disk, place, serial)
        self._base = base
        self._begin, _ = widen(base.replica.length, 0, base.replica.length)
        self._is_sharing = False

    def write(self, packets: Sequence[Packet]) -> None:
        """Append verified packets; the first begins with what the shorter replica has of it. Raises Corruption."""
        if not packets:
            return
        if self._data is None:
            try:
                old = self._start()
            except OSError as error:
                raise self._failed(error) from error
            first, *rest = packets
            if first.data[: len(old)] != old:
                name = f"block {self.replica.block_id}"
                raise Corruption(f"the last bytes of {name} here are not those that its writer knows")
            self._crcs += first.crc
            self._written += len(first.data)
            self._append(first.data[len(old) :])
            packets = rest
        super().write(packets)

    def _append(self, data: bytes) -> None:
        assert self._data is not None
        try:
            self._data.write(data)
        except OSError as error:
            raise self._failed(error) from error

    def _start(self) -> bytes:
        """Open the file of bytes at the end of the shorter replica; its last bytes, from where packets begin."""
        base, length = self._base, self._base.replica.length
        try:
            with self._disk.open(base.path("data")) as data, self._disk.open(base.path("sums")) as sums:
                crcs = read_sums(sums, base)
                pieces = list(verified(base.replica, data, sums, self._begin, length - self._begin))
        except FileNotFoundError:
            raise NotFound(f"block {base.replica.block_id} has been removed from this worker") from None
        except DamagedReplica:
            self._store.mark_damaged(base.replica)
            raise
        self._crcs += crcs[: CRC_BYTES * (self._begin // PACKET_BYTES)]
        self._written = self._begin
        private = self._private("data")
        self._is_sharing = self._store.begin_appending(base)
        if self._is_sharing and self._disk.size_bytes(base.path("data")) == length:
            self._disk.link(base.path("data"), private)
            self._data = self._disk.open_append(private)
            hit("append.after_link")
        else:
            self._copy(private)
        return b"".join(pieces[1::2])

    def _copy(self, private: Path) -> None:
        """Have the bytes of the shorter replica in a file of our own."""
        self._data = self._disk.create(private)
        length = self._base.replica.length
        with self._disk.open(self._base.path("data")) as data, self._disk.open(self._base.path("sums")) as sums:
            for begin in range(0, length, READ_BYTES):
                pieces = verified(self._base.replica, data, sums, begin, min(READ_BYTES, length - begin))
                self._data.write(b"".join(list(pieces)[1::2]))

    def _released(self) -> None:
        if self._is_sharing:
            self._is_sharing = False
            self._store.end_appending(self._base)
