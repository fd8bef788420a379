"""Keep replicas in files: a block and, beside it, one checksum for each 64 KiB of it.

A replica is written under a private name, synced, given its name, and the directory is synced; only then is it
complete, and only then may anybody say so. What has a private name when a worker starts is the rest of a write that
was never acknowledged, and goes. What has a name that is none of ours is somebody else's, and stays.

Nothing is read without being verified: the bytes go out with the checksums that came with them, after both were found
to agree. A replica that fails is damaged: it is no longer read here, and the caller tells the master, who may have it
looked at again.

Several directories may hold replicas, each on a disk of its own. What becomes of one that fails, `data_directories`
says; replicas in one that was given up are damaged, and `take_given_up` names them.

Invariants: a replica's length and checksums never change under its name; paths are made of numbers only. Safe for
several threads, of which one writes a given replica.
Elsewhere: the format (docs/formats.md, "Block"), HTTP (`block_routes`), which replicas there should be (the master).
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from minireduce.checksums import widen
from minireduce.core.replica_messages import Replica
from minireduce.disk import Disk
from minireduce.errors import MinireduceError, NotFound, Unavailable
from minireduce.failpoints import hit
from minireduce.wire.packets import Unsealer
from minireduce.worker.data_directories import REOPEN_BYTES, DataDirectories
from minireduce.worker.replica_files import (
    READ_BYTES,
    DamagedReplica,
    ReplicaPlace,
    read_header,
    read_sealed,
    read_sums,
)
from minireduce.worker.replica_writing import LongerReplicaWriter, ReplicaWriter

BLOCKS_NAME = "blocks"
"""The directory of replicas below a data directory."""

_FOLDER = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"([1-9][0-9]{0,18})\.([1-9][0-9]{0,9})\.(data|sums)")
_PRIVATE = re.compile(r"\.[0-9]+\.[0-9]+\.(data|sums)")


class BlockStore:
    """The replicas of one worker, under the directories `roots`. Those that are `missing` it leaves as they are."""

    def __init__(
        self,
        disk: Disk,
        roots: Sequence[Path],
        *,
        missing: Mapping[Path, str] | None = None,
        reopen_bytes: int = REOPEN_BYTES,
    ) -> None:
        self.directories = DataDirectories(disk, roots, missing=missing, reopen_bytes=reopen_bytes)
        self._disk = disk
        self._places: dict[tuple[int, int], ReplicaPlace] = {}
        self._damaged: dict[tuple[int, int], None] = {}
        self._given_up: list[Replica] = []
        self._appending: dict[int, None] = {}
        self._lock = threading.Lock()
        self._serials = itertools.count(1)

    def open(self) -> None:
        """Find what is there, and remove what was never complete. Raises OSError when no directory can be used."""
        failed: list[OSError] = []
        usable = [root for root in self.directories.roots if root not in self.directories.missing]
        for root in usable:
            try:
                self._open_root(root)
            except OSError as error:
                self.directories.write_failed(root, error)
                failed.append(error)
        if len(failed) == len(usable):
            raise failed[0]

    def _open_root(self, root: Path) -> None:
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
                length = read_header(sums, Replica(block_id, generation, 0))
            is_whole = self._disk.size_bytes(data) >= length
        except (DamagedReplica, OSError):
            is_whole = False
        if is_whole:
            self._places[block_id, generation] = ReplicaPlace(Replica(block_id, generation, length), root)
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

    def _place(self, block_id: int, generation: int) -> ReplicaPlace:
        with self._lock:
            place = self._places.get((block_id, generation))
            if place is None and (block_id, generation) in self._damaged:
                raise DamagedReplica(Replica(block_id, generation, 0), "it was found so before")
        if place is None:
            raise NotFound(f"block {block_id} of generation {generation} is not on this worker")
        return place

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, replica: Replica) -> ReplicaWriter:
        """Begin to write a replica. Raises Unavailable when no directory takes writes."""
        root = self.directories.roomiest()
        return ReplicaWriter(self, self._disk, ReplicaPlace(replica, root), next(self._serials))

    def append(self, replica: Replica, base_generation: int, base_length: int) -> ReplicaWriter:
        """Begin to write a replica that begins with one of this block that is here. Raises NotFound, Unavailable."""
        base = self._place(replica.block_id, base_generation)
        if base.replica.length != base_length or base_length > replica.length or not base_length:
            raise NotFound(f"block {replica.block_id} of {base_length} bytes is not on this worker")
        if why := self.directories.why_closed(base.root):
            raise Unavailable(f"{base.root} takes no writes any more ({why})")
        return LongerReplicaWriter(self, self._disk, ReplicaPlace(replica, base.root), next(self._serials), base)

    def begin_appending(self, base: ReplicaPlace) -> bool:
        """Whether nobody else appends to the files of this block now; from then on the caller does."""
        with self._lock:
            if base.replica.block_id in self._appending:
                return False
            self._appending[base.replica.block_id] = None
            return True

    def end_appending(self, base: ReplicaPlace) -> None:
        """The caller appends no longer."""
        with self._lock:
            self._appending.pop(base.replica.block_id, None)

    def completed(self, place: ReplicaPlace) -> None:
        """A writer is done."""
        key = (place.replica.block_id, place.replica.generation)
        with self._lock:
            self._damaged.pop(key, None)
            before = self._places.get(key)
            self._places[key] = place
        if before is not None and before.root != place.root:
            self._remove_files(before)

    def make_durable(self, root: Path) -> None:
        """The names in `root` shall survive a crash."""
        self.directories.make_durable(root)

    def close_directory(self, root: Path, error: OSError) -> None:
        """A write failed there."""
        self.directories.write_failed(root, error)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, block_id: int, generation: int, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The packets that cover a range, sealed, in pieces of about 1 MiB, each verified before it is given.

        Raises NotFound, or DamagedReplica at the piece that fails; after that the replica counts as damaged.
        """
        place = self._place(block_id, generation)
        replica = place.replica
        begin, end = widen(offset, replica.length - offset if length is None else length, replica.length)
        return self._read_pieces(place, begin, end)

    def open_data(self, block_id: int, generation: int) -> tuple[Replica, BinaryIO, bytes]:
        """A replica, its file of bytes and all its checksums, for whoever reads and verifies it himself.

        Raises NotFound, or DamagedReplica when its files are not what they were.
        """
        place = self._place(block_id, generation)
        try:
            with self._disk.open(place.path("sums")) as sums:
                crcs = read_sums(sums, place)
            return place.replica, self._disk.open(place.path("data")), crcs
        except (DamagedReplica, OSError) as error:
            raise self._unreadable(place, error) from error

    def _read_pieces(self, place: ReplicaPlace, begin: int, end: int) -> Iterator[bytes]:
        try:
            yield from read_sealed(self._disk, place, begin, end)
        except (DamagedReplica, OSError) as error:
            raise self._unreadable(place, error) from error

    def _unreadable(self, place: ReplicaPlace, error: DamagedReplica | OSError) -> MinireduceError:
        """What it means that a replica could not be read; one that is still here counts as damaged from now on."""
        if not self._is_here(place):
            return NotFound(f"block {place.replica.block_id} has been removed from this worker")
        self.mark_damaged(place.replica)
        if isinstance(error, OSError):
            if self.directories.read_failed(place.root, error):
                self._give_up(place.root)
            return DamagedReplica(place.replica, f"it cannot be read: {error.strerror}")
        return error

    def _is_here(self, place: ReplicaPlace) -> bool:
        with self._lock:
            return self._places.get((place.replica.block_id, place.replica.generation)) == place

    def mark_damaged(self, replica: Replica) -> None:
        """Read this replica no more. Its files stay until the master has them removed: it may be the last one."""
        key = (replica.block_id, replica.generation)
        with self._lock:
            self._places.pop(key, None)
            self._damaged[key] = None

    def look_again(self, block_id: int, generation: int) -> None:
        """Read a replica that was found damaged once more: when every byte is what was written, it is good again.

        Its disk may have failed for a moment, or somebody may have brought its files back. Raises DamagedReplica.
        """
        with self._lock:
            if (block_id, generation) not in self._damaged:
                return
        why = DamagedReplica(Replica(block_id, generation, 0), "its files are not there")
        for root in self.directories.readable:
            try:
                place = self._read_through(ReplicaPlace(Replica(block_id, generation, 0), root))
            except OSError as error:
                why = DamagedReplica(why.replica, f"it cannot be read: {error.strerror}")
            except DamagedReplica as damage:
                why = damage
            else:
                with self._lock:
                    if self._damaged.pop((block_id, generation), "gone") is None:
                        self._places[block_id, generation] = place
                return
        raise why

    def _read_through(self, place: ReplicaPlace) -> ReplicaPlace:
        """The replica that lies there, with its length, after each of its bytes was verified."""
        with self._disk.open(place.path("sums")) as sums:
            length = read_header(sums, place.replica)
        whole = ReplicaPlace(Replica(place.replica.block_id, place.replica.generation, length), place.root)
        for _ in read_sealed(self._disk, whole, 0, length):
            pass
        return whole

    def _give_up(self, root: Path) -> None:
        """Read nothing there any more."""
        with self._lock:
            lost = [key for key, place in self._places.items() if place.root == root]
            for key in lost:
                self._given_up.append(self._places.pop(key).replica)
                self._damaged[key] = None

    def take_given_up(self) -> tuple[Replica, ...]:
        """The replicas that went with their directories since this was asked for."""
        with self._lock:
            given_up, self._given_up = self._given_up, []
        return tuple(given_up)

    # ── removing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def remove(self, block_id: int, generation: int) -> None:
        """Remove a replica; one that is not there is no error. Raises OSError.

        What lies in a directory that takes no writes may stay there: it is none of this worker's any more.
        """
        with self._lock:
            self._places.pop((block_id, generation), None)
            self._damaged.pop((block_id, generation), None)
        for root in self.directories.roots:
            try:
                self._remove_files(ReplicaPlace(Replica(block_id, generation, 0), root))
            except OSError:
                if not self.directories.why_closed(root):
                    raise

    def _remove_files(self, place: ReplicaPlace) -> None:
        if self._disk.exists(place.folder):
            hit("replica.before_remove")
            self._disk.remove(place.path("data"))
            hit("replica.between_removes")
            self._disk.remove(place.path("sums"))


def root_of(disk: Disk, roots: Sequence[Path], replica: Replica) -> Path:
    """Under which of `roots` another process of this worker keeps a replica; the first when none has it."""
    if len(roots) == 1:
        return roots[0]
    return next((root for root in roots if disk.exists(ReplicaPlace(replica, root).path("sums"))), roots[0])


def read_beside(disk: Disk, root: Path, replica: Replica, offset: int, length: int) -> Iterator[bytes]:
    """The bytes of a range of a replica that another process of this worker keeps under `root`, verified.

    Raises NotFound when it is not there (any more), DamagedReplica when it is, and wrong.
    """
    begin, end = widen(offset, length, replica.length)
    at = begin
    try:
        for sealed in read_sealed(disk, ReplicaPlace(replica, root), begin, end):
            unsealer = Unsealer(min(READ_BYTES, end - at), f"block {replica.block_id}")
            data = b"".join([packet.data for packet in unsealer.feed(sealed)])
            yield data[max(0, offset - at) : offset + length - at]
            at += len(data)
    except FileNotFoundError:
        raise NotFound(f"block {replica.block_id} of generation {replica.generation} is not on this worker") from None
    except OSError as error:
        raise DamagedReplica(replica, f"it cannot be read: {error.strerror}") from error
