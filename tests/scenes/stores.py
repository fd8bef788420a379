"""The master's side of the block store over the real block stores of its workers, each on a simulated disk."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from scenes.storage import StorageKit

from minireduce.core.replica_messages import (
    ByteRange,
    ConfirmReplica,
    RemoveReplica,
    RepackBlock,
    Replica,
    ReplicaConfirmed,
    ReplicaDamaged,
    ReplicaRemoved,
    ReplicaStored,
    ReplicateBlock,
    ReplicationFailed,
    ReplicaVerified,
    VerifyReplica,
)
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.requests import AddBlock, CloseContainer, CloseFile, CommitBlock, PackedFile
from minireduce.errors import MinireduceError
from minireduce.testing.disk import SimDisk
from minireduce.wire.packets import Packet, Unsealer, seal
from minireduce.worker.block_store import BlockStore
from minireduce.worker.replica_files import DamagedReplica

ROOT = Path("/data/blocks")


class StoreKit(StorageKit):
    """As `StorageKit`, but what workers hold is what their block stores do."""

    def __init__(
        self, workers: int = 3, *, settings: ClusterSettings | None = None, disk: type[SimDisk] = SimDisk, seed: int = 1
    ) -> None:
        self.files = {f"w{number}": disk(random.Random(100 * seed + number)) for number in range(1, workers + 1)}
        self.stores: dict[str, BlockStore] = {}
        for worker in self.files:
            self.open(worker)
        super().__init__(workers, settings=settings)

    def open(self, worker: str) -> BlockStore:
        """Start the worker's process on what is on its disk."""
        store = self.stores[worker] = BlockStore(self.files[worker], (ROOT,))
        store.open()
        return store

    def crash(self, worker: str) -> None:
        """The worker's machine loses power and starts again."""
        self.commands = [(other, command) for other, command in self.commands if other != worker]
        self.files[worker].crash()
        self.open(worker)
        self.rejoin(worker)

    def die(self, worker: str) -> None:
        """The worker's machine is gone for good, with its disk."""
        self.commands = [(other, command) for other, command in self.commands if other != worker]
        self.lose(worker)

    def rejoin(self, worker: str) -> None:
        store = self.stores[worker]
        self.disks[worker] = {replica.block_id: replica for replica in store.replicas()}
        self.join(worker)
        for replica in store.damaged():
            self.report(worker, ReplicaDamaged(replica, worker))

    # ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def store(self, path: str, data: bytes, replication: int = 3) -> Replica:
        """Write a file of one block to the workers that the master names."""
        opened = self.create(path, key=path, replication=replication)
        replica = self._store_block(opened.file_id, data)
        self.ask(CloseFile(opened.file_id, "lease", len(data)))
        return replica

    def store_packed(self, *files: tuple[str, bytes], replication: int = 3) -> Replica:
        """Write small files that share a block."""
        opened = self.create("", key="pack", replication=replication)
        replica = self._store_block(opened.file_id, b"".join(data for _, data in files))
        named = tuple(PackedFile(path, len(data)) for path, data in files)
        self.ask(CloseContainer(opened.file_id, "lease", named))
        return replica

    def _store_block(self, file_id: int, data: bytes) -> Replica:
        placed = self.ask(AddBlock(file_id, "lease", 0))
        replica = Replica(placed.block_id, placed.generation, len(data))
        workers = tuple(target.worker for target in placed.targets)
        for worker in workers:
            self.put(worker, replica, data)
            self.report(worker, ReplicaStored(replica))
        assert self.ask(CommitBlock(file_id, "lease", replica, workers))
        return replica

    def put(self, worker: str, replica: Replica, data: bytes) -> None:
        """What a worker does with a block that comes in. Raises MinireduceError."""
        writer = self.stores[worker].create(replica)
        try:
            writer.write(Unsealer(len(data), "it").feed(b"".join(seal(data))))
            writer.commit()
        finally:
            writer.discard()

    def get(self, worker: str, replica: Replica) -> bytes:
        """What a worker gives out, verified. Raises MinireduceError."""
        unsealer = Unsealer(replica.length, "it")
        pieces = self.stores[worker].read(replica.block_id, replica.generation)
        packets: Iterator[Packet] = (packet for piece in pieces for packet in unsealer.feed(piece))
        return b"".join(packet.data for packet in packets)

    def read(self, path: str) -> bytes:
        """A file as a client reads it: from one worker after the other, reporting what is damaged."""
        found = self.state.file_blocks(path, 0, 1 << 40)
        data = b""
        for block in found.blocks:
            whole = self._read_block(block.source.replica, block.source.workers)
            data += whole[max(0, -block.source.file_offset) :]  # a small file begins somewhere in its block
        return data[: found.status.length]

    def _read_block(self, replica: Replica, workers: tuple[str, ...]) -> bytes:
        for worker in workers:
            try:
                return self.get(worker, replica)
            except DamagedReplica as damage:
                self.report(worker, ReplicaDamaged(damage.replica, worker))
            except MinireduceError:
                continue
        raise AssertionError(f"no worker of {workers} gives block {replica.block_id}")

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────

    def carry_out(self) -> int:
        """Let the workers do what they were told, and say so; how many commands that were."""
        commands, self.commands = self.commands, []
        for worker, command in commands:
            match command:
                case ReplicateBlock(replica, target):
                    self._send(worker, replica, (ByteRange(0, replica.length),), replica, target)
                case RepackBlock(replica, ranges, packed, target):
                    self._send(worker, replica, ranges, packed, target)
                case RemoveReplica(replica):
                    try:
                        self.stores[worker].remove(replica.block_id, replica.generation)
                    except OSError:
                        continue
                    self.report(worker, ReplicaRemoved(replica))
                case ConfirmReplica(replica, question):
                    with suppress(MinireduceError):
                        self.stores[worker].find(replica.block_id, replica.generation)
                        self.report(worker, ReplicaConfirmed(replica, question))
                case VerifyReplica(replica):
                    self._verify(worker, replica)
        return len(commands)

    def _send(
        self, worker: str, replica: Replica, ranges: tuple[ByteRange, ...], becomes: Replica, target: str
    ) -> None:
        try:
            held = self.stores[worker].find(replica.block_id, replica.generation)
            data = self.get(worker, held)
            self.put(target, becomes, b"".join(data[part.offset :][: part.length] for part in ranges))
        except DamagedReplica as damage:
            self.report(worker, ReplicaDamaged(replace(damage.replica, length=0), worker))
            self.report(worker, ReplicationFailed(becomes, damage.message))
        except MinireduceError as error:
            self.report(worker, ReplicationFailed(becomes, error.message))
        else:
            self.report(target, ReplicaStored(becomes))

    def _verify(self, worker: str, replica: Replica) -> None:
        try:
            self.stores[worker].look_again(replica.block_id, replica.generation)
            self.get(worker, replica)
        except DamagedReplica:
            self.report(worker, ReplicaDamaged(replica, worker))
        except MinireduceError:
            self.report(worker, ReplicaRemoved(replica))
        else:
            self.report(worker, ReplicaVerified(replica))
