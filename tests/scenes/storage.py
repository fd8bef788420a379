"""A block store with workers that do as they are told, for tests of the master's side."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from minireduce.core.effects import Effects, Row
from minireduce.core.replica_messages import (
    ConfirmReplica,
    RemoveReplica,
    RepackBlock,
    Replica,
    ReplicaConfirmed,
    ReplicaRemoved,
    ReplicaStored,
    ReplicateBlock,
)
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.places import Place
from minireduce.core.storage.requests import (
    AddBlock,
    CloseContainer,
    CloseFile,
    CommitBlock,
    CreateFile,
    FileRequest,
    PackedFile,
)
from minireduce.core.storage.state import StorageState
from minireduce.core.storage.tokens import NoTokens
from minireduce.core.storage.views import FileStatus, PlacedBlock

GIB = 1 << 30


def place(worker: str, rack: str = "/r", *, machine: str = "", free: int = 100 * GIB, weight: float = 1.0) -> Place:
    return Place(worker, machine or f"machine-{worker}", rack, f"{worker}:1", free, weight=weight)


class FakePlaces:
    def __init__(self, *places: Place) -> None:
        self.all = {each.worker: each for each in places}
        self.is_anyone_expected = False

    def live(self):
        return dict(self.all)


@dataclass
class Answer:
    value: object


class StorageKit:
    """`StorageState`, its durable rows, and the disks of its workers."""

    def __init__(self, workers: int = 3, *, settings: ClusterSettings | None = None) -> None:
        self.settings = settings or ClusterSettings()
        self.places = FakePlaces(*(place(f"w{number}") for number in range(1, workers + 1)))
        self.now = 0.0
        self.rows: dict[tuple[str, tuple], tuple] = {}
        self.disks: dict[str, dict[int, Replica]] = {worker: {} for worker in self.places.all}
        self.commands: list[tuple[str, object]] = []
        self.state = self._new_state()
        for worker in self.places.all:
            self.join(worker)

    def _new_state(self) -> StorageState:
        return StorageState(self.settings, self.places, NoTokens(), random.Random(7))

    def take(self, effects: Effects) -> None:
        for row in effects.rows:
            self._apply(row)
        for worker, commands in effects.commands.items():
            self.commands.extend((worker, command) for command in commands)

    def _apply(self, row: Row) -> None:
        if row.values is None:
            for key in [key for key in self.rows if key[0] == row.table and key[1][: len(row.key)] == row.key]:
                del self.rows[key]
        else:
            self.rows[row.table, row.key] = row.values

    def ask(self, request: FileRequest):
        effects = Effects()
        self.state.handle(1, request, 1000.0 + self.now, self.now, effects)
        self.take(effects)
        if effects.refusals:
            assert not effects.rows, "a refused request changed something"
            raise effects.refusals[1]
        return effects.replies[1]

    def restart(self) -> None:
        """A new master reads the rows; workers must join anew."""
        self.state = self._new_state()
        self.state.load([Row(table, key, values) for (table, key), values in self.rows.items()], self.now)
        self.commands.clear()

    def join(self, worker: str) -> None:
        effects = Effects()
        if worker not in self.places.all:
            self.places.all[worker] = place(worker)
        self.disks.setdefault(worker, {})
        self.state.worker_joined(worker, self.disks[worker].values(), effects)
        self.take(effects)

    def lose(self, worker: str) -> None:
        del self.places.all[worker]
        self.state.worker_lost(worker, self.now)

    def report(self, worker: str, report) -> None:
        effects = Effects()
        self.state.report(worker, report, self.now, effects)
        self.take(effects)

    def tick(self, after_s: float = 1.0) -> list[tuple[str, object]]:
        """Let time pass; the commands that this brought."""
        self.now += after_s
        before = len(self.commands)
        effects = Effects()
        self.state.tick(self.now, effects, 1000.0 + self.now)
        self.take(effects)
        return self.commands[before:]

    def hurry(self, path: str) -> None:
        """Have repair look at the blocks of a file, whatever it thinks of them."""
        for block in self.state.file_blocks(path, 0, 1 << 60).blocks:
            self.report(block.source.workers[0], ReplicaStored(block.source.replica))

    def carry_out(self) -> int:
        """Let the workers do what they were told, and say so; how many commands that were."""
        commands, self.commands = self.commands, []
        for worker, command in commands:
            match command:
                case ReplicateBlock(replica, target):
                    if replica.block_id in self.disks[worker] and target in self.places.all:
                        self.disks[target][replica.block_id] = replica
                        self.report(target, ReplicaStored(replica))
                case RepackBlock(replica, ranges, packed, target):
                    if replica.block_id in self.disks[worker] and target in self.places.all:
                        assert packed.length == sum(part.length for part in ranges)
                        self.disks[target][packed.block_id] = packed
                        self.report(target, ReplicaStored(packed))
                case ConfirmReplica(replica, question):
                    if self.disks[worker].get(replica.block_id) == replica and worker in self.places.all:
                        self.report(worker, ReplicaConfirmed(replica, question))
                case RemoveReplica(replica):
                    held = self.disks[worker].get(replica.block_id)
                    if held is not None and held.generation == replica.generation:
                        del self.disks[worker][replica.block_id]
                    if worker in self.places.all:
                        self.report(worker, ReplicaRemoved(replica))
        return len(commands)

    def settle(self, ticks: int = 10) -> None:
        for _ in range(ticks):
            self.tick()
            self.carry_out()

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, path: str, key: str = "key", **options):
        return self.ask(CreateFile(path, "lease", key, **options))

    def write_block(self, file_id: int, position: int, length: int) -> Replica:
        placed = self.ask(AddBlock(file_id, "lease", position))
        assert isinstance(placed, PlacedBlock)
        replica = Replica(placed.block_id, placed.generation, length)
        workers = tuple(target.worker for target in placed.targets)
        for worker in workers:
            self.disks[worker][replica.block_id] = replica
            self.report(worker, ReplicaStored(replica))
        assert self.ask(CommitBlock(file_id, "lease", replica, workers))
        return replica

    def write(self, path: str, *lengths: int, key: str = "key", **options) -> FileStatus:
        opened = self.create(path, key, **{"block_size_bytes": max(lengths, default=1), **options})
        for position, length in enumerate(lengths):
            self.write_block(opened.file_id, position, length)
        return self.ask(CloseFile(opened.file_id, "lease", sum(lengths)))

    def pack(self, *files: tuple[str, int], key: str = "pack", **options) -> int:
        """Write small files that share a block; the number of their container."""
        opened = self.create("", key, **options)
        length = sum(size for _, size in files)
        if length:
            self.write_block(opened.file_id, 0, length)
        named = tuple(PackedFile(path, size) for path, size in files)
        assert self.ask(CloseContainer(opened.file_id, "lease", named)).files == len(files)
        return opened.file_id

    def holders(self, path: str) -> list[set[str]]:
        found = self.state.file_blocks(path, 0, 1 << 60)
        return [set(block.source.workers) for block in found.blocks]

    def shrink(self, worker: str, free: int) -> None:
        self.places.all[worker] = replace(self.places.all[worker], free_bytes=free)
