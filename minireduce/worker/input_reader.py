"""Get the bytes of stored files for map tasks, which hold no token and speak to nobody but their worker.

A replica of this worker is opened and handed over, with its checksums, for the task to read and verify. Where its part
of the file is short, where the task found it damaged, or where the worker hands nothing over, it is read here; another
worker's comes over HTTP. Each byte that is read here is verified, a replica that fails gives way to the next, and a
damaged one is told of. When no replica can be read the attempt is lost, not failed: the master gives the task out
again, with replicas as they are then.

A task reads on after the end of its range until its last record is whole; the master names blocks for that too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minireduce.attempt.conversation import BlockHere, ReadRange
from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.core.storage.reading import Fetch, Pace
from minireduce.core.task_data import StoredInput
from minireduce.core.worker import ReplicaFoundDamaged
from minireduce.disk import Disk
from minireduce.errors import MinireduceError, NotFound, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, WorkerId
from minireduce.worker.block_store import BLOCKS_NAME, read_beside, root_of
from minireduce.worker.replica_files import DamagedReplica, ReplicaPlace, read_sums

if TYPE_CHECKING:  # what speaks HTTP is imported when a stored file is first read, not while a worker starts
    from minireduce.client.asking import Hedge
    from minireduce.client.block_io import BlockDoors

ANSWER_BYTES_MAX = 8 << 20
IN_PLACE_BYTES_MIN = 1 << 20
"""A file that has less of a block than this is sent: it takes one answer either way, and others share that block."""


@dataclass(frozen=True, slots=True)
class OpenBlock:
    """A block that is open, to be handed over with this message. Whoever gets it closes it."""

    here: BlockHere
    file: BinaryIO


class InputReader:
    """The stored inputs of the attempts that run here. Events go to `tell`, on the event loop."""

    def __init__(
        self,
        disk: Disk,
        data_dirs: Sequence[Path],
        worker: WorkerId,
        authority: bytes | None,
        tell: Callable[[ReplicaFoundDamaged], None],
        *,
        hands_over: bool = True,
    ) -> None:
        self._hands_over = hands_over
        self._disk = disk
        self._roots = [data_dir / BLOCKS_NAME for data_dir in data_dirs]
        self._worker = worker
        self._authority = authority
        self._tell = tell
        self._inputs: dict[AttemptId, _Input] = {}

    def begin(self, attempt: AttemptId, stored: tuple[StoredInput, ...], token: str) -> None:
        """An attempt is about to read. Raises NotFound when a file of it has been removed."""
        for each in stored:
            if each.length and not each.blocks:
                raise NotFound(f"input {each.path} has been removed from the block store")
        loop = asyncio.get_running_loop()

        def tell_damage(replica: Replica, worker: WorkerId) -> None:
            loop.call_soon_threadsafe(self._tell, ReplicaFoundDamaged(replica, worker))

        self._inputs[attempt] = _Input(self, stored, token, tell_damage)

    def end(self, attempt: AttemptId) -> None:
        """An attempt reads no more."""
        ended = self._inputs.pop(attempt, None)
        if ended is not None:
            ended.close()

    async def read(self, attempt: AttemptId, asked: ReadRange) -> bytes | OpenBlock:
        """The bytes from `asked.offset` on, at least one and at most as many as asked for; or, where that will do, the
        block in which they lie. Raises Unavailable.
        """
        found = self._inputs.get(attempt)
        if found is None or asked.path not in found.stored:
            raise Unavailable(f"{attempt} was not given {asked.path} to read")
        if asked.in_place and self._hands_over:
            source = found.block_at(asked.path, asked.offset)
            if self._is_worth_handing_over(source, found.stored[asked.path]):
                opened = await asyncio.to_thread(self._open, source)
                if opened is not None:
                    return opened
        return await asyncio.to_thread(found.read, asked.path, asked.offset, min(asked.length, ANSWER_BYTES_MAX))

    def _is_worth_handing_over(self, source: BlockSource, stored: StoredInput) -> bool:
        ends = min(stored.file_bytes, source.file_offset + source.replica.length)
        return self._worker in source.workers and ends - max(0, source.file_offset) >= IN_PLACE_BYTES_MIN

    def _open(self, source: BlockSource) -> OpenBlock | None:
        """Our replica of a block; None where it cannot be opened: whoever reads it then says why."""
        place = ReplicaPlace(source.replica, root_of(self._disk, self._roots, source.replica))
        try:
            with self._disk.open(place.path("sums")) as sums:
                crcs = read_sums(sums, place)
            file = self._disk.open(place.path("data"))
        except (DamagedReplica, OSError):
            return None
        return OpenBlock(BlockHere(source.file_offset, source.replica.length, crcs), file)

    def fetch(self, doors: BlockDoors, fetch: Fetch, token: str, hedge: Hedge) -> Iterator[bytes]:
        """A range of a replica, from our own disk if it is ours."""
        if fetch.worker == self._worker:
            root = root_of(self._disk, self._roots, fetch.replica)
            return read_beside(self._disk, root, fetch.replica, fetch.offset, fetch.length)
        return doors.fetch(fetch, token, hedge)

    def doors(self) -> BlockDoors:
        """Connections for one attempt."""
        from minireduce.client.block_io import BlockDoors

        return BlockDoors(self._authority)


class _Input:
    """What one attempt reads, in a thread. The lock keeps doors from being closed under a read.

    An attempt that ends while it reads waits for nothing: the reading thread closes the doors then.
    """

    def __init__(
        self,
        reader: InputReader,
        stored: tuple[StoredInput, ...],
        token: str,
        tell_damage: Callable[[Replica, WorkerId], None],
    ) -> None:
        self.stored = {each.path: each for each in stored}
        self._reader = reader
        self._token = token
        self._tell_damage = tell_damage
        self._failing: dict[WorkerId, None] = {}
        self._pace = Pace()
        self._doors = reader.doors()
        self._lock = threading.Lock()
        self._is_ended = False

    def close(self) -> None:
        self._is_ended = True
        self._close_if_ended()

    def _close_if_ended(self) -> None:
        if self._is_ended and self._lock.acquire(blocking=False):
            try:
                self._doors.close()
            finally:
                self._lock.release()

    def read(self, path: str, offset: int, length: int) -> bytes:
        try:
            with self._lock:
                return self._read(path, offset, length)
        finally:
            self._close_if_ended()

    def _read(self, path: str, offset: int, length: int) -> bytes:
        from minireduce.client.block_io import read_range

        source = self.block_at(path, offset)
        within = offset - source.file_offset
        count = min(length, source.replica.length - within)

        pieces = read_range(
            lambda fetch, hedge: self._reader.fetch(self._doors, fetch, self._token, hedge),
            source,
            within,
            count,
            failing=self._failing,
            locate=lambda: source,  # the same workers, which may have come back; where else, the next attempt is told
            tell_damage=self._tell_damage,
            pause=self._pause,
            pace=self._pace,
        )
        try:
            return b"".join(pieces)
        except MinireduceError as error:
            held = ", ".join(source.workers) or "nobody"
            where = f"block {source.replica.block_id} of {path} cannot be read from {held}"
            raise Unavailable(f"{where}: {error.message}") from error

    def _pause(self, pause_s: float) -> None:
        """Wait before the same workers are asked again, unless the attempt has ended."""
        if self._is_ended:
            raise Unavailable("its attempt has ended")
        time.sleep(pause_s)

    def block_at(self, path: str, offset: int) -> BlockSource:
        """The block in which this byte of the file lies. Raises Unavailable."""
        for source in self.stored[path].blocks:
            if source.file_offset <= offset < source.file_offset + source.replica.length:
                return source
        raise Unavailable(f"byte {offset} of {path} is beyond what this task was given")
