"""The block store as the master knows it: the part of the cluster's machine that is about files.

In come requests of clients, what workers say of their replicas, workers that join and are lost, and ticks; out go rows,
commands (`ReplicateBlock`, `RemoveReplica`) and answers, all into the `Effects` of the call.

    namespace    names and what they stand for          blocks      which workers hold what, in which condition
    leases       files that are being written           repair      what is copied and removed, and when
    files        the requests                           placement   where new replicas go
    containers   blocks that small files share              moves       from one of them to another
    copying      replicas on their way                  draining    workers that shall be done without
    balance      workers that are too full or empty  surplus    replicas too many, once their holders were asked

Invariants: what was committed of a closed file never changes, it only grows; a block id and an inode number are never
used twice; a replica that is unknown here is removed only if its number was given out and its file is certainly gone.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from minireduce.core.effects import Effects, Row
from minireduce.core.replica_messages import (
    BlockSource,
    RemoveReplica,
    Replica,
    ReplicaConfirmed,
    ReplicaDamaged,
    ReplicaRemoved,
    ReplicaReport,
    ReplicaStored,
    ReplicationFailed,
    ReplicaVerified,
    VerifyReplica,
)
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import StoredRange
from minireduce.core.storage import blocks as block_rows
from minireduce.core.storage import inodes as inode_rows
from minireduce.core.storage import leases as lease_rows
from minireduce.core.storage import quotas as quota_rows
from minireduce.core.storage.balance import Balance
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.containers import Containers
from minireduce.core.storage.copying import Copying
from minireduce.core.storage.drafts import find_draft
from minireduce.core.storage.draining import BlocksLeft, Draining
from minireduce.core.storage.files import Files
from minireduce.core.storage.health import examine
from minireduce.core.storage.inodes import File
from minireduce.core.storage.leases import Leases
from minireduce.core.storage.moves import Moves
from minireduce.core.storage.namespace import Namespace
from minireduce.core.storage.placement import PlacementPolicy, RackAware
from minireduce.core.storage.places import Place, Places, distance
from minireduce.core.storage.repair import Repair, risk_level
from minireduce.core.storage.requests import FileRequest, HurryRepair, ReportDamage
from minireduce.core.storage.tokens import BlockTokens
from minireduce.core.storage.views import (
    BlockView,
    DirectoryPage,
    FileBlocks,
    FileHealth,
    FileStatus,
    ReadableBlock,
    StoreView,
    Summary,
)
from minireduce.core.task_data import StoredInput
from minireduce.errors import InvariantViolation, MinireduceError, RequestError
from minireduce.ids import JobId, WorkerId

RECENT_S = 30.0
ENTRIES_PER_PAGE = 1000
RECORD_BYTES_REACHED = 65 << 20
"""How far beyond its range a task may read to finish its last record: the longest record, and what is read ahead."""


class StorageState:
    """Mutable; every method that changes something takes the time and writes what follows into `effects`."""

    def __init__(
        self,
        settings: ClusterSettings,
        places: Places,
        tokens: BlockTokens,
        rng: random.Random,
        policy: PlacementPolicy | None = None,
    ) -> None:
        policy = policy or RackAware()
        self._settings = settings
        self._places = places
        self._tokens = tokens
        self._namespace = Namespace()
        self._leases = Leases(settings.lease_s)
        self._blocks = Blocks()
        self._containers = Containers(self._blocks)
        self._copying = Copying(settings, self._blocks, tokens)
        self._repair = Repair(settings, self._blocks, self._copying, places, policy, rng)
        self._balance = Balance(settings, self._blocks, self._copying, self._repair, places, policy)
        self._draining = Draining(settings, self._blocks, self._copying, places)
        parts = (self._namespace, self._leases, self._blocks, self._containers)
        self._files = Files(settings, *parts, places, tokens, policy, rng)
        self._moves = Moves(settings, *parts, places, tokens, self._new_ids)
        self._recent_until_s = 0.0

    def _new_ids(self, effects: Effects) -> tuple[int, int]:
        return self._files.inode_ids.take(effects), self._files.open_blocks.ids.take(effects)

    def restore(self, row: Row) -> bool:
        """Take in a row that an earlier master persisted, if it is of a table that nobody else reads; in any order.

        `restored` is to be called at the end. Rows come one by one, as a million files would not fit twice.
        """
        if row.table == inode_rows.TABLE:
            self._namespace.restore(row.key + (row.values or ()))
        elif row.table == block_rows.TABLE:
            self._blocks.restore(row.key + (row.values or ()))
        else:
            return False
        return True

    def load(self, rows: Iterable[Row], now: float) -> None:
        """Take in all that an earlier master persisted; rows of other tables are passed over."""
        self.restored([row for row in rows if not self.restore(row)], now)

    def restored(self, rows: Iterable[Row], now: float) -> None:
        """All rows that `restore` takes were given to it; `rows` are the others."""
        tables: dict[str, list[tuple[object, ...]]] = {}
        for row in rows:
            assert row.values is not None
            tables.setdefault(row.table, []).append((*row.key, *row.values))
        self._namespace.restored()
        self._leases.load(tables.get(lease_rows.TABLE, []), now)  # type: ignore[arg-type]
        self._files.quotas.load(tables.get(quota_rows.TABLE, []))  # type: ignore[arg-type]
        self._containers.load(self._namespace.files())
        self._blocks.restored(self._replication_of)
        for file_id in self._leases.appended():
            self._blocks.expect_longer(file_id)
        sequences = {sequence.name: sequence for sequence in (self._files.inode_ids, self._files.open_blocks.ids)}
        for name, text in tables.get("settings", []):
            sequence = sequences.get(str(name).removesuffix("_gaps"))
            if sequence is not None and sequence.name == name:
                sequence.load(str(text))
            elif sequence is not None:
                sequence.load_gaps(str(text))
        self._repair.restarted(now)

    def _replication_of(self, file_id: int) -> int:
        container = self._containers.get(file_id)
        if container is not None:
            return container.wanted
        found = self._namespace.peek(file_id) or self._leases.peek(file_id)
        if found is None or not hasattr(found, "replication"):
            raise InvariantViolation(f"the metadata holds blocks of file {file_id}, which is not there")
        return int(found.replication)

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, number: int, request: FileRequest, at: float, now: float, effects: Effects) -> None:
        """Answer a client's request, received at `at` of the wall clock."""
        try:
            if isinstance(request, HurryRepair):
                effects.reply(number, self._hurry(request, effects))
            elif isinstance(request, ReportDamage):
                self._suspect(request.replica, request.worker, effects)
                effects.reply(number, None)
            else:
                effects.reply(number, self._files.handle(request, at, now, effects))
        except InvariantViolation:
            raise
        except MinireduceError as error:
            effects.refuse(number, error)

    def drop_leftovers(self, output_path: str, job: JobId, key: str, effects: Effects) -> None:
        """A job has ended: remove what was uploaded for it, and what its client began to publish and did not."""
        self._files.staging.drop(key, effects)
        path = find_draft(output_path, job)
        with contextlib.suppress(RequestError):  # an output that no path of the store can be
            found = self._namespace.find(path) if path else None
            if found is not None:
                self._namespace.remove(found, effects)

    def _hurry(self, request: HurryRepair, effects: Effects) -> int:
        """Repair a file's blocks now; those without a good replica, by having the damaged ones read again."""
        found = self._namespace.look_up(request.path)
        if found.id != request.inode:
            raise RequestError(f"{request.path} has been replaced meanwhile", hint="look at it and try again")
        needy = [
            block
            for block in self._containers.blocks_of(found)
            if block.is_committed and (block.damaged or (block.good and len(block.good) != block.wanted))
        ]
        for block in needy:
            if block.good:
                self._repair.hurry(block)
            else:
                for worker in self._blocks.suspect_damaged(block):
                    effects.command(worker, VerifyReplica(block.replica))
        return len(needy)

    def worker_joined(self, worker: WorkerId, replicas: Iterable[Replica], effects: Effects) -> None:
        """A worker opened a new session and listed all its replicas: only these count."""
        self._blocks.lose(worker)
        for replica in replicas:
            self._stored(worker, replica, effects)
        self._blocks.forget_absent(worker)
        self._repair.worker_joined(worker)

    def worker_lost(self, worker: WorkerId, now: float, *, is_orderly: bool = False, is_draining: bool = False) -> None:
        """A worker is silent for too long, or has stopped in good order. One that was draining is not hoped for."""
        self._blocks.lose(worker)
        wait_s = self._settings.maintenance_s if is_orderly else self._settings.repair_delay_s
        self._repair.worker_lost(worker, now, 0.0 if is_draining else wait_s)

    def worker_drains(self, worker: WorkerId, *, is_draining: bool) -> None:
        """Whether a worker shall be done without; `places` says so already."""
        for block in self._blocks.on(worker):
            self._blocks.unsettle(block.id)
        self._repair.worker_drains(worker)
        if is_draining:
            self._draining.begins(worker)
        else:
            self._draining.ends(worker)
            self._repair.look_again()

    def drain_left(self, worker: WorkerId) -> BlocksLeft:
        """What is left on a draining worker."""
        return self._draining.left(worker)

    def report(self, worker: WorkerId, report: ReplicaReport, now: float, effects: Effects) -> None:
        """A live worker tells of a replica."""
        block = self._blocks.get(report.replica.block_id)
        match report:
            case ReplicaStored(replica):
                self._copying.arrived(replica.block_id, worker)
                self._stored(worker, replica, effects)
            case ReplicaRemoved(replica):
                if block is not None and block.generation == replica.generation:
                    self._blocks.removed(block, worker)
            case ReplicaDamaged(replica, holder) if holder == worker:
                self._found_damaged(worker, replica, effects)
            case ReplicaDamaged(replica, holder):
                self._suspect(replica, holder, effects)
            case ReplicaVerified(replica):
                if block is not None and block.generation == replica.generation:
                    self._blocks.verified(block, worker, replica.length)
            case ReplicaConfirmed():
                self._repair.confirmed(worker, report, now)
            case ReplicationFailed(replica):
                self._copying.failed(replica.block_id, worker, now)
                self._moves.failed(replica.block_id)

    def _stored(self, worker: WorkerId, replica: Replica, effects: Effects) -> None:
        block = self._blocks.get(replica.block_id)
        if block is None:
            is_of_removed_file = self._files.open_blocks.ids.was_given(replica.block_id)
            is_wanted = not is_of_removed_file  # of a later time than this metadata: never removed on our word
        else:
            is_wanted = self._blocks.stored(block, worker, replica)
        if not is_wanted:
            effects.command(worker, RemoveReplica(replica))

    def _suspect(self, replica: Replica, holder: WorkerId, effects: Effects) -> None:
        """A reader says that a worker's replica is damaged: it counts no longer, and the worker is to look itself."""
        block = self._blocks.get(replica.block_id)
        if block is not None and block.generation == replica.generation and holder in block.good:
            self._blocks.damage(block, holder, is_own_word=False)
            self._repair.ask_for(block)
            effects.command(holder, VerifyReplica(block.replica))

    def _found_damaged(self, worker: WorkerId, replica: Replica, effects: Effects) -> None:
        """A worker says so of its own replica, which may be one that nothing else was known of: it must go, too."""
        block = self._blocks.get(replica.block_id)
        if block is None:
            is_void = self._files.open_blocks.ids.was_given(replica.block_id)
        else:
            is_void = replica.generation != block.generation and replica.generation <= block.tried
            if is_void and block.longer is not None:
                block.longer.pop(worker, None)  # what is being appended does not count there
            if replica.generation == block.generation:
                self._blocks.damage(block, worker, is_own_word=True)
                self._copying.source_damaged(block.id, worker)
        if is_void:
            effects.command(worker, RemoveReplica(replica))

    def tick(
        self, now: float, effects: Effects, at: float = 0.0, is_needed: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Time passed, it is `at` by the wall clock: drop what nobody writes or wants any more, and repair.

        `is_needed`: whether the job of the submission with this key has not ended.
        """
        for file in self._leases.expired(now):
            self._files.open_files.recover(file, at, effects)
        if now >= self._recent_until_s:
            self._recent_until_s = now + RECENT_S
            self._files.open_blocks.forget_recent()
        self._files.collect(at, is_needed, effects)
        self._moves.tick(now, effects)
        self._repair.tick(now, effects)
        self._balance.tick(now, effects)
        self._draining.tick(now)

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`: deadlines move with it."""
        self._leases.shift_deadlines(jump_s)
        self._moves.shift_deadlines(jump_s)
        self._repair.shift_deadlines(jump_s)
        self._balance.shift_deadlines(jump_s)
        self._draining.shift_deadlines(jump_s)

    # ── what is asked for work ──────────────────────────────────────────────────────────────────────────────────────

    def locate(self, file_id: int, offset: int, length: int, worker: WorkerId = "") -> tuple[BlockSource, ...]:
        """The blocks of a file that touch the range, each with its workers, the nearest to `worker` first.

        Raises NotFound when the file has been removed.
        """
        file = self._namespace.file(file_id)
        live = self._places.live()
        near = live.get(worker)
        machine_id, rack = (near.machine_id, near.rack) if near is not None else ("", "")
        return tuple(
            self._source(block, begins, live, worker, machine_id, rack)
            for begins, block in self._containers.covering(file, offset, length)
        )

    def locate_input(self, stored: StoredRange, worker: WorkerId) -> StoredInput:
        """What a map task reads, the nearest to `worker` first. A removed file has no blocks, so reading it fails."""
        found = self._namespace.get(stored.file_id)
        if not isinstance(found, File):
            return StoredInput(stored.path, stored.offset, stored.length, 0, ())
        begin = max(0, stored.offset - 1)  # whether a record begins at the range's start, the byte before it tells
        blocks = self.locate(stored.file_id, begin, stored.length + RECORD_BYTES_REACHED, worker)
        return StoredInput(stored.path, stored.offset, stored.length, found.length, blocks)

    @property
    def replica_moves(self) -> int:
        """How often a good replica came or went: while it is the same, every block is where it was."""
        return self._blocks.moves

    def holders_of(self, stored: StoredRange) -> Iterator[tuple[int, Iterable[WorkerId]]]:
        """Of each block of a stored range, how many of its bytes it holds, and the workers with a good replica."""
        found = self._namespace.get(stored.file_id)
        if isinstance(found, File):
            end = stored.offset + stored.length
            for begins, block in self._containers.covering(found, stored.offset, stored.length):
                yield min(end, begins + block.length) - max(stored.offset, begins), block.good

    def _source(
        self, block: Block, begins: int, live: Mapping[WorkerId, Place], worker: WorkerId, machine_id: str, rack: str
    ) -> BlockSource:
        """Where to read a block. Damaged replicas are offered only where no good one is: each byte is verified anyway,
        and what is damaged may be elsewhere in the block.
        """
        if not block.good:
            self._repair.ask_for(block)  # it comes first as soon as it can be had
        holders = block.good or block.damaged
        places = [place for place in map(live.get, holders) if place is not None]
        turn = block.id % max(1, len(places))  # readers of one block agree, readers of many spread
        places = places[turn:] + places[:turn]
        places.sort(key=lambda place: (place.worker != worker, distance(place, machine_id, rack)))
        workers = tuple(place.worker for place in places)
        return BlockSource(block.replica, begins, workers, tuple(place.data_address for place in places))

    # ── what clients read ───────────────────────────────────────────────────────────────────────────────────────────

    def status(self, path: str) -> FileStatus:
        """What `path` names. Raises NotFound."""
        return self._namespace.status(self._namespace.look_up(path))

    def page(self, path: str, after: str = "") -> DirectoryPage:
        """Up to `ENTRIES_PER_PAGE` entries of a directory, those whose names come after `after`. Raises NotFound."""
        return self._namespace.page(path, after, ENTRIES_PER_PAGE)

    def summary(self, path: str) -> Summary:
        """How much `path` holds. Raises NotFound."""
        quota = self._files.quotas.get(self._namespace.look_up(path).id)
        summary = self._namespace.summary(path)
        return replace(summary, names_max=quota.names_max, space_bytes_max=quota.space_bytes_max)

    def file_blocks(self, path: str, offset: int, length: int, machine_id: str = "") -> FileBlocks:
        """The blocks of a file that touch the range, the nearest replicas first. Raises NotFound."""
        found = self._namespace.look_up(path)
        if not isinstance(found, File):
            raise RequestError(f"{path} is a directory", hint="`minireduce fs ls` shows what it holds")
        live = self._places.live()
        blocks = tuple(
            ReadableBlock(
                self._source(block, begins, live, "", machine_id, ""),
                self._tokens.read(block.id, block.generation),
                block.wanted,
            )
            for begins, block in self._containers.covering(found, offset, length)
        )
        return FileBlocks(self._namespace.status(found), blocks)

    def health(self, path: str) -> FileHealth:
        """How the blocks of a file are. Raises NotFound."""
        found = self._namespace.look_up(path)
        live = len(self._places.live())
        blocks = self._containers.blocks_of(found)
        health = tuple(examine(block, self._copying.targets(block.id), live) for block in blocks)
        container = self._containers.get(found.packed_in) if isinstance(found, File) else None
        if container is not None:
            sharing = len(container.files)
            health = tuple(
                replace(each, shared_by=sharing, holes_bytes=each.replica.length - container.bytes) for each in health
            )
        return FileHealth(self._namespace.status(found), health)

    def view(self) -> StoreView:
        """The block store in numbers."""
        committed = [block for block in self._blocks if block.is_committed]
        return StoreView(
            directories=self._namespace.directories_total,
            files=self._namespace.files_total,
            bytes_total=self._namespace.bytes_total,
            blocks=len(committed),
            under_replicated=sum(len(block.good) < block.wanted for block in committed),
            missing=sum(not block.good for block in committed),
            damaged=sum(bool(block.damaged) for block in committed),
            copying=len(self._copying),
        )

    def block_views(self) -> tuple[BlockView, ...]:
        """Every block, those at the highest risk first."""
        return tuple(
            BlockView(
                block.replica,
                block.file_id,
                block.is_committed,
                block.wanted,
                tuple(sorted(block.good)),
                tuple(sorted(block.damaged)),
            )
            for block in sorted(self._blocks, key=lambda block: (risk_level(block), block.id))
        )

    @property
    def inodes_to_collect(self) -> int:
        """Files and directories that were removed and wait to be collected."""
        return self._namespace.inodes_to_collect

    def blocks_on(self, worker: WorkerId) -> int:
        """How many blocks a worker holds."""
        return self._blocks.held_by(worker)
