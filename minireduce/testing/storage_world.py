"""A block store whose workers, writers and faults are drawn from a seed, for `sim_storage`.

The master's real storage machine, writers that follow the real `writing` machine, and workers that are nothing but the
replicas they hold. Each seed draws workers, files and what becomes of them: some are small and share a block, some are
made longer, get another replication, are removed, are brought back. It draws faults, too: workers die and come back
with their disks, without them or with damaged ones, connections break, the master starts again, requests and answers
are lost, writers die. Workers are drained and taken back, or thrown away once they are drained.

Faults always leave one good replica of each block, and strike none while another of its replicas is bad or gone without
the master's knowledge: of as many as were asked for, one may deceive it. Then must hold:

- at every moment, each block of a closed file has a good replica on some disk, and a small file's bytes are where the
  master says that they are in it;
- what a writer sent counts only once enough workers have stored it, whether the writer lived to commit it or not;
- no worker takes part in more copies at a time than it may;
- once faults have stopped, each closed file has as many good replicas as it asked for, on different workers, and the
  master names exactly these; nothing else is on any disk, neither of removed files nor of older tries.

Messages between a worker and the master arrive in order or, when their session breaks, not at all; that `core.link`
does that is the business of `testing.sim`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from minireduce.core.effects import Effects, Row
from minireduce.core.messages import (
    Command,
    RemoveReplica,
    RepackBlock,
    Replica,
    ReplicaDamaged,
    ReplicaRemoved,
    ReplicaStored,
    ReplicateBlock,
    ReplicationFailed,
    ReplicaVerified,
    VerifyReplica,
)
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage import blocks as block_rows
from minireduce.core.storage import writing
from minireduce.core.storage.places import Place
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    AppendFile,
    ChangeAttributes,
    CloseContainer,
    CloseFile,
    CommitBlock,
    CreateFile,
    FileRequest,
    PackedFile,
    RemovePath,
    RenamePath,
    ReportDamage,
)
from minireduce.core.storage.state import ReplicaReport, StorageState
from minireduce.core.storage.tokens import NoTokens
from minireduce.core.storage.views import BlockView, FileBlocks, FileStatus, PlacedBlock
from minireduce.errors import MinireduceError, NotFound, Unavailable
from minireduce.ids import WorkerId
from minireduce.testing.wrong import Wrong

STEP_S = 0.5
FAULTS_S = 60.0
QUIET_S_MAX = 300.0
FILES = 6
PACKS = 2
SETTINGS = ClusterSettings(
    repair_delay_s=15.0,
    block_size_bytes=100,
    trash_kept_s=5.0,
    inodes_collected_per_tick=1,
    lease_s=20.0,
    copies_per_worker_max=2,
)
Key = tuple[int, int]
"""A block and its generation."""

_ENDED = object()

Steps = Generator[None, None, Any]
"""What goes on for a while; between two steps anything may happen."""


@dataclass(slots=True)
class SimHolder:
    """A worker. `back_at_s` is when it says hello again, and None while it has a session."""

    name: WorkerId
    replicas: dict[Key, Replica] = field(default_factory=dict)
    damaged: dict[Key, bool] = field(default_factory=dict)  # True once the worker has noticed
    is_up: bool = True
    back_at_s: float | None = 0.0
    heard_at_s: float = 0.0
    obeys_from_s: float = 0.0
    is_draining: bool = False
    inbox: deque[Command] = field(default_factory=deque)
    outbox: deque[ReplicaReport] = field(default_factory=deque)

    def cut(self, back_at_s: float) -> None:
        """The session ends, with all that was on its way."""
        self.back_at_s = back_at_s
        self.inbox.clear()
        self.outbox.clear()

    def good(self) -> set[Key]:
        """What is here with the right bytes, and has not been told to go."""
        leaving = {_key(each.replica) for each in self.inbox if isinstance(each, RemoveReplica)}
        return {key for key in self.replicas if key not in self.damaged and key not in leaving}


def _key(replica: Replica) -> Key:
    return replica.block_id, replica.generation


@dataclass(slots=True)
class _Sent:
    """A block as a writer sent it: on how many disks it must be before it counts, and on which it came to be."""

    replicas_min: int
    stored: dict[WorkerId, None] = field(default_factory=dict)


class SimStorage:
    """One seed's world."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)  # noqa: S311 - it must repeat
        self.now = 0.0
        self.strikes: Counter[str] = Counter()
        self.holders = {f"w{number}": SimHolder(f"w{number}") for number in range(self.rng.randint(3, 6))}
        self.closed: dict[str, FileStatus] = {}
        self.expected: dict[WorkerId, float] = {}
        self._live: dict[WorkerId, Place] = {}
        self._rows: dict[tuple[str, tuple[Any, ...]], Row] = {}
        self._state = StorageState(SETTINGS, self, NoTokens(), self.rng)
        self._writers = {f"/f{number}": self._write(f"/f{number}") for number in range(FILES)}
        self._writers |= {f"/p{number}": self._pack(f"/p{number}") for number in range(PACKS)}
        self._single: set[int] = set()  # files and containers that have, had or will have one replica
        self._single_packs: set[str] = set()  # whose files may be moved to a block with one replica
        self._contents: dict[Key, bytes] = {}  # of the blocks that small files share
        self._names: dict[str, list[str]] = {}  # what the writers of such blocks called the files
        self._appended: dict[str, int] = {}  # how long a file is at least, once somebody appended to it
        self._longest: dict[str, int] = {}  # and how long at most: a writer may die before it knows
        self._appending: dict[str, None] = {}  # whose writers are at it
        self._sent: dict[Key, _Sent] = {}  # what writers have sent
        self._found = ""  # what is wrong, found where errors of a writer's would hide it
        self._left: list[str] = []  # by writers that died; whether their files were closed is the master's to say

    # ── what the machine asks about workers ─────────────────────────────────────────────────────────────────────────

    def live(self) -> Mapping[WorkerId, Place]:
        """See `Places`."""
        return dict(self._live)

    @property
    def is_anyone_expected(self) -> bool:
        """See `Places`."""
        return bool(self.expected)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """All of it. Raises Wrong."""
        while self.now < FAULTS_S or self._writers:
            self._step()
            if self.now < FAULTS_S:
                self._strike()
        for holder in self.holders.values():  # somebody reads everything, so all damage is noticed
            for key in list(holder.damaged):
                self._notice(holder, key)
        self._find_what_was_left()
        deadline_s = self.now + QUIET_S_MAX
        while wrong := self._what_is_wrong():
            if self.now >= deadline_s:
                raise Wrong(wrong)
            self._step()

    def _step(self) -> None:
        self.now += STEP_S
        for holder in self.holders.values():
            self._serve(holder)
            if holder.is_draining and holder.back_at_s is None and self.now >= FAULTS_S:
                self._drain(holder, is_draining=False)
        for path, writer in list(self._writers.items()):
            if self.rng.random() < 0.5 and next(writer, _ENDED) is _ENDED:
                del self._writers[path]
        self.expected = {worker: until for worker, until in self.expected.items() if until > self.now}
        effects = Effects()
        self._state.tick(self.now, effects, self.now)
        self._take(effects)
        if self._found:
            raise Wrong(self._found)
        self._check_durability()
        self._check_copies()

    def _serve(self, holder: SimHolder) -> None:
        if holder.back_at_s is not None:
            if self.now >= holder.back_at_s:
                self._join(holder)
            elif holder.name in self._live and self.now - holder.heard_at_s >= SETTINGS.worker_lost_s:
                del self._live[holder.name]
                self._state.worker_lost(holder.name, self.now, is_draining=holder.is_draining)
            return
        holder.heard_at_s = self.now
        self._live[holder.name] = self._place(holder)
        for _ in range(self.rng.randint(0, 4)):
            if holder.inbox and self.now >= holder.obeys_from_s:
                self._obey(holder, holder.inbox.popleft())
        for _ in range(self.rng.randint(0, 4)):
            if holder.outbox:
                effects = Effects()
                self._state.report(holder.name, holder.outbox.popleft(), self.now, effects)
                self._take(effects)

    def _join(self, holder: SimHolder) -> None:
        holder.is_up, holder.back_at_s, holder.heard_at_s = True, None, self.now
        self.expected.pop(holder.name, None)
        self._live[holder.name] = self._place(holder)
        listed = [replica for key, replica in holder.replicas.items() if not holder.damaged.get(key)]
        holder.outbox.extend(
            ReplicaDamaged(replica, holder.name) for key, replica in holder.replicas.items() if holder.damaged.get(key)
        )
        effects = Effects()
        self._state.worker_joined(holder.name, listed, effects)
        self._take(effects)

    def _place(self, holder: SimHolder) -> Place:
        name, is_draining = holder.name, holder.is_draining
        return Place(name, name, "/r", f"{name}:1", self._free_bytes(), 10 << 40, is_draining, not is_draining)

    def _drain(self, holder: SimHolder, *, is_draining: bool) -> None:
        holder.is_draining = is_draining
        if holder.name in self._live:
            self._live[holder.name] = self._place(holder)
        self._state.worker_drains(holder.name, is_draining=is_draining)

    def _free_bytes(self) -> int:
        """As chance has it, so that there is always something to balance, and all alike once faults are over."""
        return self.rng.randint(1, 9) << 40 if self.now < FAULTS_S else 5 << 40

    def _take(self, effects: Effects) -> None:
        for row in effects.rows:
            if row.values is None:
                self._rows = {at: kept for at, kept in self._rows.items() if not _begins(at, row)}
            else:
                self._rows[row.table, row.key] = row
                self._check_commit(row)
        for worker, commands in effects.commands.items():
            if self.holders[worker].back_at_s is None:
                self.holders[worker].inbox.extend(commands)

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _obey(self, holder: SimHolder, command: Command) -> None:
        match command:
            case ReplicateBlock(replica, target):
                key = _key(replica)
                if key in holder.replicas and key not in holder.damaged and self._store(target, replica):
                    return
                if key in holder.damaged:
                    self._notice(holder, key)
                holder.outbox.append(ReplicationFailed(replica, "it could not be sent"))
            case RepackBlock(replica, ranges, packed, target):
                key = _key(replica)
                data = b"".join(self._contents[key][part.offset :][: part.length] for part in ranges)
                self._contents[_key(packed)] = data
                if key in holder.replicas and key not in holder.damaged and self._store(target, packed):
                    self.strikes["files moved"] += len(ranges)
                    return
                if key in holder.damaged:
                    self._notice(holder, key)
                holder.outbox.append(ReplicationFailed(packed, "it could not be sent"))
            case VerifyReplica(replica):
                key = _key(replica)
                if key in holder.damaged:
                    self._notice(holder, key)
                else:
                    holder.outbox.append((ReplicaVerified if key in holder.replicas else ReplicaRemoved)(replica))
                self.strikes["suspect verified"] += 1
            case RemoveReplica(replica):
                key = _key(replica)
                holder.replicas.pop(key, None)
                holder.damaged.pop(key, None)
                holder.outbox.append(ReplicaRemoved(replica))

    def _store(self, target: WorkerId, replica: Replica) -> bool:
        holder = self.holders[target]
        if not holder.is_up or self.rng.random() < 0.05:
            return False
        key = _key(replica)
        holder.replicas[key] = replica
        holder.damaged.pop(key, None)
        if holder.back_at_s is None:
            holder.outbox.append(ReplicaStored(replica))
        return True

    def _notice(self, holder: SimHolder, key: Key) -> None:
        holder.damaged[key] = True
        if holder.back_at_s is None:
            holder.outbox.append(ReplicaDamaged(holder.replicas[key], holder.name))

    # ── writers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, path: str) -> Steps:
        with suppress(MinireduceError):  # a file that cannot be written was promised to nobody
            replication = self.rng.randint(2, 3)
            opened = yield from self._ask(CreateFile(path, path, path, replication=replication))
            lengths = [self.rng.randint(1, SETTINGS.block_size_bytes) for _ in range(self.rng.randint(0, 4))]
            excluded: dict[WorkerId, None] = {}
            for position, length in enumerate(lengths):
                yield from self._write_block(opened.file_id, path, position, length, excluded)
            self.closed[path] = yield from self._ask(CloseFile(opened.file_id, path, sum(lengths)))
            for _ in range(self.rng.choice((0, 0, 2, 8))):
                yield from self._change_replication(path)
            for _ in range(self.rng.choice((0, 0, 1, 3))):
                yield from self._append(path, lengths)
            for _ in range(self.rng.randint(0, 60)):
                yield
            if self.rng.random() < 0.4:
                yield from self._remove(path)

    def _pack(self, lease: str) -> Steps:
        """Write small files that share a block; then all kinds of things happen to each."""
        with suppress(MinireduceError):
            opened = yield from self._ask(CreateFile("", lease, lease, replication=self.rng.randint(2, 3)))
            lengths = {f"{lease}.{number}": self.rng.randint(1, 12) for number in range(self.rng.randint(1, 4))}
            yield from self._write_block(opened.file_id, lease, 0, sum(lengths.values()), {})
            (view,) = (view for view in self._state.block_views() if view.file_id == opened.file_id)
            self._contents[_key(view.replica)] = b"".join(map(_bytes_of, lengths, lengths.values()))
            packed = tuple(PackedFile(path, length) for path, length in lengths.items())
            self._names[lease] = list(lengths)
            yield from self._ask(CloseContainer(opened.file_id, lease, packed))
            for path in lengths:
                self.closed[path] = self._state.status(path)
            self.strikes["files packed"] += len(packed)
            for path, length in lengths.items():
                for _ in range(self.rng.choice((0, 0, 1, 2))):
                    yield from self._change_replication(path)
                if self.rng.random() < 0.2:
                    yield from self._append(path, [length])
                for _ in range(self.rng.randint(0, 8)):
                    yield
                if self.rng.random() < 0.6:
                    yield from self._remove(path)

    def _append(self, path: str, lengths: list[int]) -> Steps:
        """Make a file longer, in one session of some blocks. It may be given up; what was committed stays."""
        lease, inode = f"{path} {self.now}", self.closed[path].inode
        yield from self._ask(AppendFile(path, inode, lease))
        self._appending[path] = None
        try:
            yield from self._append_blocks(path, inode, lease, lengths)
        finally:
            del self._appending[path]
        if self.rng.random() < 0.3:
            yield from self._ask(AbandonFile(inode, lease))
        else:
            self.closed[path] = yield from self._ask(CloseFile(inode, lease, sum(lengths)))

    def _append_blocks(self, path: str, inode: int, lease: str, lengths: list[int]) -> Steps:
        excluded = dict[WorkerId, None]()
        for _ in range(self.rng.randint(0, 3)):
            if not lengths or lengths[-1] == SETTINGS.block_size_bytes:
                lengths.append(0)
            length = self.rng.randint(lengths[-1] + 1, SETTINGS.block_size_bytes)
            self._appended[path] = sum(lengths)
            self._longest[path] = sum(lengths) - lengths[-1] + length
            yield from self._write_block(inode, lease, len(lengths) - 1, length, excluded)
            lengths[-1] = length
            self.strikes["block appended"] += 1
        self._appended[path] = sum(lengths)

    def _change_replication(self, path: str) -> Steps:
        """Ask for more replicas or fewer, often again before that is done. One replica alone must be a good one."""
        replication = self.rng.choice((1, 1, 2, 2, 3, 4))
        if replication > 1 or not any(self._may_deceive(*each) for each in self._blocks_of(path)):
            inode = self.closed[path].inode
            if replication == 1:
                self._single |= {inode, *(view.file_id for view in self._views_of(path))}
                self._single_packs.add(path.partition(".")[0])
            request = ChangeAttributes(path, inode, replication)
            self.closed[path] = yield from self._ask(request)
            self.strikes["replication changed"] += 1
        for _ in range(self.rng.choice((0, 1, 2, 3, 20))):
            yield

    def _may_deceive(self, key: Key, named: set[WorkerId]) -> bool:
        """Whether some worker's replica is bad, or gone though the master names it."""
        holders = self.holders.values()
        pack = self._pack_of(key)
        keys = [key, *(each for each in self._contents if pack and self._pack_of(each) == pack)]
        return any(each in holder.damaged for holder in holders for each in keys) or any(
            key not in self.holders[name].good() for name in named
        )

    def _pack_of(self, key: Key) -> str:
        """The writer of the small files that share a block; empty for any other block."""
        content = self._contents.get(key)
        return f"/p{content[0] // 10}" if content else ""

    def _remove(self, path: str) -> Steps:
        """Remove a file, perhaps for good; else it may be brought back."""
        status = self.closed.pop(path)
        is_for_good = self.rng.random() < 0.5
        removed = yield from self._ask(RemovePath(path, status.inode, skip_trash=is_for_good))
        self.strikes["file removed"] += 1
        if removed.trash_path and self.rng.random() < 0.5:
            self.closed[path] = yield from self._ask(RenamePath(removed.trash_path, path, status.inode))
            self.strikes["file brought back"] += 1

    def _write_block(
        self, file_id: int, lease: str, position: int, length: int, excluded: dict[WorkerId, None]
    ) -> Steps:
        machine = writing.BlockWriting(length, excluded)
        action = machine.begin()
        while not isinstance(action, writing.BlockDone):
            yield
            match action:
                case writing.PlaceBlock(left_out):
                    placed = yield from self._ask(AddBlock(file_id, lease, position, left_out))
                    event: writing.Event = writing.BlockPlaced(placed)
                case writing.SendBlock(placed):
                    event = self._send(file_id, placed, length)
                case writing.CommitToMaster(replica, workers):
                    is_committed = yield from self._ask(CommitBlock(file_id, lease, replica, workers))
                    event = writing.BlockCommitted() if is_committed else writing.CommitRefused()
                case writing.GiveUp(error):
                    raise error
            action = machine.advance(event)

    def _send(self, file_id: int, placed: PlacedBlock, length: int) -> writing.Event:
        replica = Replica(placed.block_id, placed.generation, length)
        base = (placed.block_id, placed.base_generation)
        file = self._state._leases.peek(file_id)  # noqa: SLF001 - the truth
        asked = min(SETTINGS.replicas_min, file.replication) if file is not None else SETTINGS.replicas_min
        sent = self._sent[_key(replica)] = _Sent(asked)
        done: list[WorkerId] = []
        for target in placed.targets:
            holder = self.holders[target.worker]
            if placed.base_generation and (base not in holder.replicas or base in holder.damaged):
                if base in holder.damaged and holder.is_up:
                    self._notice(holder, base)
                break
            if not self._store(target.worker, replica):
                break
            done.append(target.worker)
            sent.stored[target.worker] = None
        if not done:
            return writing.SendingFailed(Unavailable("nobody took it"))
        return writing.BlockSent(tuple(done), tuple(target.worker for target in placed.targets[len(done) :]))

    def _ask(self, request: FileRequest) -> Steps:
        while True:
            is_lost, is_answer_lost = self.rng.random() < 0.05, self.rng.random() < 0.05
            if not is_lost:
                effects = Effects()
                self._state.handle(1, request, self.now, self.now, effects)
                self._take(effects)
                refusal = effects.refusals.get(1)
                if refusal is not None and not isinstance(refusal, Unavailable):
                    raise refusal
                if refusal is None and not is_answer_lost:
                    return effects.replies[1]
            self.strikes["request or answer lost"] += is_lost or is_answer_lost
            yield

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _strike(self) -> None:
        holder = self.rng.choice(list(self.holders.values()))
        drawn = self.rng.random()
        if drawn < 0.02:
            self._restart_master()
        elif drawn < 0.03 and self._writers:
            self._end_writer(self.rng.choice(list(self._writers)))
        elif self._appending and self.rng.random() < 0.05:
            self._end_writer(self.rng.choice(list(self._appending)))
            self.strikes["writer died while it appended"] += 1
        elif holder.back_at_s is not None:
            return
        elif drawn < 0.05:
            holder.cut(self.now + self.rng.uniform(0.0, 20.0))
            self.strikes["connection broken"] += 1
        elif drawn < 0.08:
            holder.cut(self.now + self.rng.uniform(1.0, 40.0))
            holder.is_up = False
            holder.damaged = dict.fromkeys(holder.damaged, False)  # a process that starts anew looks at sizes only
            self.strikes["worker died"] += 1
            if self.rng.random() < 0.4 and all(self._is_spared(key, holder) for key in holder.replicas):
                holder.replicas.clear()
                holder.damaged.clear()
                self.strikes["disk lost"] += 1
        elif drawn < 0.1:
            holder.obeys_from_s = self.now + self.rng.uniform(1.0, 8.0)
            self.strikes["orders left waiting"] += 1
        elif drawn < 0.14 and holder.replicas:
            key = self.rng.choice(list(holder.replicas))
            if self._is_spared(key, holder):
                holder.damaged[key] = False
                self.strikes["replica damaged"] += 1
        elif drawn < 0.3:
            for key in list(holder.damaged):
                self._notice(holder, key)
        elif drawn < 0.33:
            self._drain_or_take_back(holder)
        elif drawn < 0.4 and holder.replicas:
            replica = holder.replicas[self.rng.choice(list(holder.replicas))]  # rightly or not
            effects = Effects()
            self._state.handle(0, ReportDamage(replica, holder.name), self.now, self.now, effects)
            self._take(effects)
            self.strikes["replica suspected"] += 1

    def _drain_or_take_back(self, holder: SimHolder) -> None:
        """Do without a worker, one at a time. One that is drained may be thrown away, disk and all."""
        if not holder.is_draining:
            if not any(other.is_draining for other in self.holders.values()):
                self._drain(holder, is_draining=True)
                self.strikes["worker drained"] += 1
            return
        others = [other for other in self.holders.values() if other is not holder]
        is_known = all(other.back_at_s is None and not other.damaged and not other.inbox for other in others)
        if is_known and not holder.damaged and not self._state.drain_left(holder.name).why and not self.expected:
            holder.replicas.clear()
            holder.cut(self.now + self.rng.uniform(1.0, 40.0))
            holder.is_up = False
            self.strikes["drained worker thrown away"] += 1
        else:
            self._drain(holder, is_draining=False)

    def _end_writer(self, path: str) -> None:
        """The writer of a file, or of all small files that share a block, is gone, and says no more."""
        owner = path.partition(".")[0]
        self._writers.pop(owner).close()
        self._left.extend(self._names.get(owner, [owner]))
        self.strikes["writer died"] += 1

    def _is_spared(self, key: Key, holder: SimHolder) -> bool:
        """Whether good replicas are left without this worker's, and all others that the master counts on are good."""
        view = next((view for view in self._state.block_views() if _key(view.replica) == key), None)
        named = view.workers if view is not None else ()
        if view is not None and view.file_id in self._single:
            return False  # of one replica none may deceive
        if self._pack_of(key) in self._single_packs:
            return False
        others = [other for other in self.holders.values() if other is not holder]
        is_left = any(key in other.good() for other in others)
        return is_left and all(key in other.good() for other in others if other.name in named or key in other.damaged)

    def _restart_master(self) -> None:
        self.strikes["master started again"] += 1
        self.expected = dict.fromkeys(self._live, self.now + SETTINGS.worker_lost_s)
        self._live.clear()
        for holder in self.holders.values():
            if holder.back_at_s is None:
                holder.cut(self.now + self.rng.uniform(0.0, 8.0))
        self._state = StorageState(SETTINGS, self, NoTokens(), self.rng)
        self._state.load(self._rows.values(), self.now)
        for holder in self.holders.values():
            if holder.is_draining:
                self._state.worker_drains(holder.name, is_draining=True)

    # ── what must hold ──────────────────────────────────────────────────────────────────────────────────────────────

    def _find_what_was_left(self) -> None:
        for path in self._left:
            with suppress(NotFound):
                self.closed[path] = self._state.status(path)

    def _blocks_of(self, path: str) -> list[tuple[Key, set[WorkerId]]]:
        found = self._state.file_blocks(path, 0, 1 << 60)
        sources = [block.source for block in found.blocks]
        return [(_key(each.replica), set(each.workers)) for each in sources]

    def _views_of(self, path: str) -> list[BlockView]:
        keys = {key for key, _ in self._blocks_of(path)}
        return [view for view in self._state.block_views() if _key(view.replica) in keys]

    def _check_bytes(self, path: str, found: FileBlocks) -> None:
        """Whether a small file is found where it lies in the block that it shares."""
        for source in (block.source for block in found.blocks):
            content = self._contents.get(_key(source.replica))
            begins, length = -source.file_offset, found.status.length
            if content is not None and content[begins : begins + length] != _bytes_of(path, length):
                raise Wrong(f"{path} is not at {begins} of block {source.replica.block_id} at {self.now} s")

    def _check_commit(self, row: Row) -> None:
        """A block that a writer sent counts only once as many workers have stored it as were asked for."""
        if row.table != block_rows.TABLE or row.values is None or row.values[3] == block_rows.OPEN_LENGTH:
            return
        key = (row.key[0], row.values[2])
        sent = self._sent.pop(key, None)
        takers = sum(place.takes_replicas for place in self._live.values())
        if sent is not None and len(sent.stored) < min(sent.replicas_min, max(1, takers)):
            self._found = f"block {key} counts at {self.now} s, but only {list(sent.stored)} ever stored it"

    def _check_copies(self) -> None:
        copies = self._state._copying._copies.values()  # noqa: SLF001 - a checker looks inside
        load = Counter(worker for copy in copies for worker in (copy.source, copy.target))
        for worker, count in load.items():
            if count > SETTINGS.copies_per_worker_max:
                raise Wrong(f"{worker} takes part in {count} copies at {self.now} s")

    def _check_durability(self) -> None:
        for path in self.closed:
            found = self._state.file_blocks(path, 0, 1 << 60)
            self._check_bytes(path, found)
            length = found.status.length
            if length < self._appended.get(path, 0):
                raise Wrong(f"{path} has {length} bytes at {self.now} s, {self._appended[path]} were committed")
            if length > self._longest.get(path, length):
                raise Wrong(f"{path} has {length} bytes at {self.now} s, {self._longest[path]} were ever sent")
            for key in (_key(block.source.replica) for block in found.blocks):
                if not any(key in each.replicas and key not in each.damaged for each in self.holders.values()):
                    raise Wrong(f"no disk holds a good replica of block {key} of {path} at {self.now} s")

    def _should_move(self, key: Key, files: list[FileStatus]) -> bool:
        content = self._contents.get(key, b"")
        is_hollow = 2 * sum(status.length for status in files) < len(content)
        return is_hollow or len({status.replication for status in files}) > 1

    def _what_is_wrong(self) -> str:
        """What is not as it shall be in the end; empty when all is well."""
        shared: dict[Key, list[FileStatus]] = {}
        for path, status in self.closed.items():
            for key, _ in self._blocks_of(path):
                shared.setdefault(key, []).append(status)
        wanted = {key: max(status.replication for status in files) for key, files in shared.items()}
        for path in self.closed:
            for key, named in self._blocks_of(path):
                good = {each.name for each in self.holders.values() if key in each.good()}
                if len(good) != min(wanted[key], len(self._live)) or named != good:
                    return f"block {key} of {path} is on {sorted(good)}, the master names {sorted(named)}"
                if self._should_move(key, shared[key]):
                    return f"block {key} of {path} holds too many holes, or files that want different replication"
        for holder in self.holders.values():
            if set(holder.replicas) - set(wanted) or holder.damaged:
                kept = sorted(set(holder.replicas) - set(wanted))
                return f"{holder.name} keeps {kept}, damaged {sorted(holder.damaged)}"
        return ""


def _bytes_of(path: str, length: int) -> bytes:
    """What `/p0.1` holds: 1 again and again."""
    return bytes([int(path[2::2])]) * length


def _begins(at: tuple[str, tuple[Any, ...]], row: Row) -> bool:
    return at[0] == row.table and at[1][: len(row.key)] == row.key
