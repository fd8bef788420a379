"""The block store of a simulated cluster: the real `BlockStore` of each worker, on a disk that forgets and decays.

`SimBlocks` stands in for a worker's block server, in one life of its process: it takes blocks in and sends them on, as
a pipeline does, serves what others read, and carries out the master's orders to copy and to remove. `StoredRead` is a
map task's way to its input: the real `RangeReading` machine over the simulated network, from one replica to the next.

`told` holds what was told of as stored: that must be on the disk after a crash of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from minireduce.checksums import crc_of
from minireduce.core.replica_messages import (
    BlockSource,
    ByteRange,
    RepackBlock,
    Replica,
    ReplicateBlock,
    ReplicaVerified,
)
from minireduce.core.storage import reading
from minireduce.core.storage.views import BlockTarget
from minireduce.core.task_data import StoredInput
from minireduce.core.worker import ReplicaDeleted, ReplicaFoundDamaged, ReplicationEnded, ReplicaWritten
from minireduce.errors import MinireduceError, Unavailable
from minireduce.testing.disk import SimDisk
from minireduce.wire.packets import Packet, Unsealer, sealed_length
from minireduce.worker.block_store import BlockStore, read_beside
from minireduce.worker.replica_files import FOLDERS, DamagedReplica

if TYPE_CHECKING:
    from minireduce.testing.worker import SimWorker

ROOT = Path("/blocks")
HOP_TIMEOUT_S = 2.0
SYNC_S = (0.001, 0.02)
LINE_BYTES_MAX = 64
"""No line of a simulated file is longer: so far beyond its range a map reads."""

Key = tuple[int, int]
"""A block and its generation."""

Written = tuple[tuple[str, ...], tuple[str, ...]]
"""Who has a block, and who failed to take it."""


def key_of(replica: Replica) -> Key:
    """What names a replica, whoever holds it."""
    return replica.block_id, replica.generation


def replica_path(replica: Replica) -> Path:
    """Where a worker's disk has the bytes of a replica."""
    return ROOT / f"{replica.block_id % FOLDERS:02x}" / f"{replica.block_id}.{replica.generation}.data"


def is_good(disk: SimDisk, replica: Replica, expected: bytes) -> bool:
    """Whether a disk holds a replica with the right bytes, whatever its worker thinks."""
    try:
        return b"".join(read_beside(disk, ROOT, replica, 0, replica.length)) == expected
    except (MinireduceError, OSError):
        return False


class SimBlocks:
    """The block server of `worker`, for one life of its process."""

    def __init__(self, worker: SimWorker) -> None:
        self.store = BlockStore(worker.disk.files, (ROOT,))
        self.store.open()
        self.told: dict[Key, Replica] = {key_of(replica): replica for replica in self.store.replicas()}
        self._worker = worker

    def tell_damaged(self) -> None:
        """What was found damaged at start."""
        for replica in self.store.damaged():
            self._worker.handle(ReplicaFoundDamaged(replica, self._worker.name))

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(
        self, replica: Replica, data: bytes, targets: Sequence[BlockTarget], answer: Callable[[Written], None]
    ) -> None:
        """Take a block in, send it on to the first of `targets`, and say who has it."""
        worker = self._worker
        names = tuple(target.worker for target in targets)
        writer = None
        try:
            writer = self.store.create(replica)
            writer.write([Packet(crc_of(data), data)])
        except MinireduceError:
            if writer is not None:
                writer.discard()
            answer(((), (worker.name, *names)))
            return

        def commit() -> None:
            try:
                writer.commit()
            except MinireduceError:
                writer.discard()
                answer(((), (worker.name, *names)))
                return
            self.told[key_of(replica)] = replica
            worker.handle(ReplicaWritten(replica))
            worker.world.moment("a replica is stored", worker.name)
            if worker.node.is_up and worker.blocks is self:
                self._send_on(replica, data, targets, answer)

        worker.world.agenda.after(worker.draw_s(SYNC_S), worker.node, commit)

    def _send_on(
        self, replica: Replica, data: bytes, targets: Sequence[BlockTarget], answer: Callable[[Written], None]
    ) -> None:
        me = (self._worker.name,)
        if not targets:
            answer((me, ()))
            return
        names = tuple(target.worker for target in targets)

        def answered(written: Written | None) -> None:
            done, failed = written or ((), names)
            answer(((*me, *done), failed))

        self._worker.ask_peer(
            targets[0].address,
            lambda peer, reply: peer.blocks.receive(replica, data, targets[1:], reply),
            answered,
            timeout_s=HOP_TIMEOUT_S * len(targets),
        )

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, replica: Replica, offset: int, length: int) -> bytes | MinireduceError:
        """A range of a replica that is here, verified; or why not."""
        try:
            sealed = b"".join(self.store.read(*key_of(replica), offset, length))
        except DamagedReplica as damage:
            self._worker.world.strikes["damage found by reading"] += 1
            self._worker.handle(ReplicaFoundDamaged(replica, self._worker.name))
            return damage
        except MinireduceError as error:
            return error
        return open_sealed(sealed, replica, offset, length)

    def scrub(self) -> None:
        """Read everything, as somebody will in the end."""
        for replica in self.store.replicas():
            self.read(replica, 0, replica.length)

    # ── the master's orders ─────────────────────────────────────────────────────────────────────────────────────────

    def replicate(self, order: ReplicateBlock | RepackBlock) -> None:
        """Send a replica on, or ranges of it as another; the machine hears of the end."""
        held = order.replica
        replica = order.packed if isinstance(order, RepackBlock) else held
        ranges = order.ranges if isinstance(order, RepackBlock) else (ByteRange(0, held.length),)
        data = b""
        for part in ranges:
            read = self.read(held, part.offset, part.length)
            if isinstance(read, MinireduceError):
                self._worker.handle(ReplicationEnded(replica, read.message))
                return
            data += read

        def answered(written: Written | None) -> None:
            is_done = written is not None and order.target in written[0]
            self._worker.handle(ReplicationEnded(replica, "" if is_done else "it did not take it"))

        self._worker.ask_peer(
            order.target_address,
            lambda peer, reply: peer.blocks.receive(replica, data, (), reply),
            answered,
            timeout_s=HOP_TIMEOUT_S,
        )

    def verify(self, replica: Replica) -> None:
        """Read a suspect, though it was found damaged before, and say what it is."""
        with suppress(DamagedReplica):  # which reading it tells
            self.store.look_again(*key_of(replica))
        read = self.read(replica, 0, replica.length)
        if isinstance(read, bytes):
            self._worker.handle(ReplicaVerified(replica))
        elif not isinstance(read, DamagedReplica):
            self._worker.handle(ReplicaDeleted(replica))

    def remove(self, replica: Replica) -> None:
        """Remove a replica; the machine hears of it."""
        self.told.pop(key_of(replica), None)
        self.store.remove(*key_of(replica))
        self._worker.handle(ReplicaDeleted(replica))


def open_sealed(sealed: bytes, replica: Replica, offset: int, length: int) -> bytes:
    """The bytes that were asked for, out of the packets that came. A block of a simulation is one packet."""
    unsealer = Unsealer(replica.length, f"block {replica.block_id}")
    assert len(sealed) == sealed_length(replica.length)
    return b"".join(packet.data for packet in unsealer.feed(sealed))[offset : offset + length]


class StoredRead:
    """What one map attempt reads: its range, the byte before it, and what its last line needs beyond it.

    `then` is told the bytes, or why they cannot be had. Later rounds ask the same workers, as in the shell.
    """

    def __init__(self, worker: SimWorker, stored: StoredInput, then: Callable[[bytes | MinireduceError], None]) -> None:
        self._worker = worker
        self._then = then
        self._read = bytearray()
        self._failing: dict[str, None] = {}
        begin = max(0, stored.offset - 1)
        end = min(stored.file_bytes, stored.offset + stored.length + LINE_BYTES_MAX)
        self._ranges = [
            (source, max(begin, source.file_offset) - source.file_offset, _overlap(source, begin, end))
            for source in stored.blocks
            if _overlap(source, begin, end) > 0
        ]
        self._wanted = end - begin if stored.length else 0

    def start(self) -> None:
        """Read the next block's share, or be done."""
        if not self._ranges:
            data = bytes(self._read)
            self._then(data if len(data) == self._wanted else Unavailable("no worker is named for some of its blocks"))
            return
        self._source, offset, length = self._ranges.pop(0)
        self._machine = reading.RangeReading(self._source, offset, length, self._failing)
        self._perform(self._machine.begin())

    def _perform(self, actions: list[reading.Action]) -> None:
        for action in actions:
            match action:
                case reading.Fetch():
                    self._fetch(action)
                case reading.TellDamage(replica, holder):
                    self._worker.handle(ReplicaFoundDamaged(replica, holder))
                case reading.LocateAgain(pause_s):
                    self._worker.world.agenda.after(pause_s, self._worker.node, self._ask_again)
                case reading.GiveUp():
                    self._then(Unavailable(f"block {self._source.replica.block_id} cannot be read"))
                case reading.RangeDone():
                    self.start()

    def _ask_again(self) -> None:
        self._perform(self._machine.advance(reading.BlockLocated(self._source)))

    def _fetch(self, fetch: reading.Fetch) -> None:
        if fetch.worker == self._worker.name:
            try:
                disk = self._worker.disk.files
                self._got(b"".join(read_beside(disk, ROOT, fetch.replica, fetch.offset, fetch.length)))
            except MinireduceError as error:
                self._got(error)
            return
        self._worker.ask_peer(
            fetch.address,
            lambda peer, reply: reply(peer.blocks.read(fetch.replica, fetch.offset, fetch.length)),
            self._got,
            timeout_s=fetch.silence_s,
        )

    def _got(self, data: bytes | MinireduceError | None) -> None:
        if isinstance(data, bytes):
            self._read += data
            self._perform(self._machine.advance(reading.BytesRead(len(data))))
        else:
            error = data or Unavailable("no answer")
            self._perform(self._machine.advance(reading.ReplicaFailed(error)))


def _overlap(source: BlockSource, begin: int, end: int) -> int:
    return min(end, source.file_offset + source.replica.length) - max(begin, source.file_offset)
