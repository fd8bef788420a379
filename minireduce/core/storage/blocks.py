"""Blocks, and which workers hold good, damaged or doubtful replicas of them.

What a block is (file, position, generation, length) is persisted; where its replicas are is not, since workers say so
when they join and whenever it changes. A replica counts as good only on a live worker and only with the generation and
length that were committed. A replica on a worker that was just lost is `absent`: not readable, but hoped for.

A million blocks that the same three workers hold are the usual case, so what blocks say of workers is shared among them
and never changed in place: `good` of many blocks is one mapping, and the others are one empty one where nothing is
wrong. Whoever changes them puts a new one there.

Every change that could make a block need attention puts it among the `unsettled`, at which `repair` looks.
Generations fence: each new try at writing a block raises its generation, and a replica of an older one is removed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from itertools import accumulate
from types import MappingProxyType
from typing import Any, TypeVar

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import RemoveReplica, Replica
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

TABLE = "blocks"
OPEN_LENGTH = -1
SHARED_MAX = 10_000
"""So many mappings of workers are remembered, to be shared; then that is begun anew."""

_NOBODY: Mapping[WorkerId, Any] = MappingProxyType({})


def _nobody() -> Mapping[WorkerId, Any]:
    return _NOBODY


@dataclass(frozen=True, slots=True)
class Damage:
    """What is known of a damaged replica: whether its own worker found it so, and whether it was told to remove it."""

    is_own_word: bool = False
    is_removal_asked: bool = False


@dataclass(slots=True)
class Block:
    """One block. `length` is -1 until the block is committed. `wanted` is how many good replicas it should have.

    `good` says whether the worker itself has confirmed the replica (else its writer said so). A worker in `leaving` was
    told to remove a good one: until it says that this is done, nothing that it says of the block counts and nothing is
    copied there, or the order might come late and take what others rely on.

    While somebody appends to the block, `longer` holds what workers have of it under the generation `tried`; until a
    new block is committed, `told` holds what workers say that they have of it.
    """

    id: int
    file_id: int
    position: int
    wanted: int
    generation: int = 1
    length: int = OPEN_LENGTH
    tried: int = 1
    good: Mapping[WorkerId, bool] = field(default_factory=_nobody)
    damaged: Mapping[WorkerId, Damage] = field(default_factory=_nobody)
    absent: Mapping[WorkerId, None] = field(default_factory=_nobody)
    leaving: Mapping[WorkerId, None] = field(default_factory=_nobody)
    longer: dict[WorkerId, Replica] | None = None
    told: dict[WorkerId, Replica] | None = None

    @property
    def is_committed(self) -> bool:
        return self.length != OPEN_LENGTH

    @property
    def replica(self) -> Replica:
        return Replica(self.id, self.generation, max(self.length, 0))


class Blocks:
    """All blocks by id, by file, and by the workers that hold them."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._of_file: dict[int, tuple[int, ...]] = {}
        self._of_worker: dict[WorkerId, dict[int, None]] = {}
        self._ends: dict[int, list[int]] = {}  # where each block of a closed file ends, once somebody asked
        self.unsettled: dict[int, None] = {}
        self.moves = 0  # how often a good replica came or went
        self._appended: dict[int, None] = {}  # blocks with `longer`
        self._doubted: dict[tuple[int, WorkerId], float] = {}  # since when; 0 until it is looked at
        self._shared: dict[tuple[tuple[WorkerId, bool], ...], Mapping[WorkerId, bool]] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks.values())

    def get(self, block_id: int) -> Block | None:
        """The block with this id, if there is one."""
        return self._blocks.get(block_id)

    def of_file(self, file_id: int) -> list[Block]:
        """The blocks of a file, in order."""
        return [self._blocks[block_id] for block_id in self._of_file.get(file_id, ())]

    def covering(self, file_id: int, offset: int, length: int) -> Iterator[tuple[int, Block]]:
        """Of a closed file's blocks those that touch the range, each with where it begins in the file."""
        ids = self._of_file.get(file_id, ())
        if file_id not in self._ends:
            lengths = (max(0, self._blocks[block_id].length) for block_id in ids)  # the last may be open: an append
            self._ends[file_id] = list(accumulate(lengths))
        ends = self._ends[file_id]
        for index in range(bisect_right(ends, offset), len(ids)):
            block = self._blocks[ids[index]]
            begins = ends[index] - block.length
            if not block.is_committed or begins >= offset + length:
                break
            yield begins, block

    def on(self, worker: WorkerId) -> list[Block]:
        """The blocks that a worker holds, in whatever condition."""
        return [self._blocks[block_id] for block_id in self._of_worker.get(worker, ())]

    def unsettle(self, block_id: int) -> None:
        """Have repair look at a block, if it is still there."""
        if block_id in self._blocks:
            self.unsettled[block_id] = None

    def held_by(self, worker: WorkerId) -> int:
        """How many blocks a worker holds, in whatever condition."""
        return len(self._of_worker.get(worker, ()))

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, block_id: int, file_id: int, wanted: int, effects: Effects) -> Block:
        """A new block at the end of a file."""
        before = self._of_file.get(file_id, ())
        self._ends.pop(file_id, None)
        block = Block(block_id, file_id, len(before), wanted)
        self._of_file[file_id] = (*before, block_id)
        self._blocks[block_id] = block
        self._persist(block, effects)
        return block

    def begin_again(self, block: Block, effects: Effects) -> None:
        """Writing this block failed: whatever there is of it is void, and it is written under a new generation."""
        for worker in [*block.good, *block.damaged]:
            effects.command(worker, RemoveReplica(block.replica))
        for worker in [*block.good, *block.damaged, *block.absent, *block.leaving]:
            self.let_go(block, worker)
        block.told = None
        block.generation = block.tried = block.generation + 1
        self._persist(block, effects)

    def uncommitted(self, file_id: int) -> tuple[Block, Mapping[WorkerId, Replica]] | None:
        """Of a file that is appended to, the block that may have come further than was committed, and who has it so."""
        for block in self.of_file(file_id)[-1:]:
            held = block.longer if block.is_committed else block.told
            if held:
                return block, held
        return None

    def begin_longer(self, block: Block, effects: Effects) -> None:
        """Somebody appends to a committed block, or tries again to: what comes of it has a higher generation."""
        self.forget_longer(block, effects)
        block.longer = {}
        self._appended[block.id] = None
        block.tried += 1
        self._persist(block, effects)

    def forget_longer(self, block: Block, effects: Effects) -> None:
        """What was appended to a block and not committed is void."""
        for worker, replica in (block.longer or {}).items():
            effects.command(worker, RemoveReplica(replica))
        block.longer = None
        self._appended.pop(block.id, None)

    def commit_longer(self, block: Block, length: int, workers: Iterable[WorkerId], effects: Effects) -> None:
        """The longer block takes the place of what there was, on `workers`, which are live."""
        confirmed, block.longer = block.longer or {}, None
        self._appended.pop(block.id, None)
        for worker in [*block.good, *block.damaged, *block.leaving]:
            effects.command(worker, RemoveReplica(block.replica))
        for worker in [*block.good, *block.damaged, *block.absent, *block.leaving]:
            self.let_go(block, worker)
        block.generation, block.length = block.tried, length
        self._ends.pop(block.file_id, None)
        for worker in dict.fromkeys([*workers, *confirmed]):
            self._take_in(block, worker, is_confirmed=worker in confirmed)
        self._persist(block, effects)

    def commit(self, block: Block, length: int, workers: Iterable[WorkerId], effects: Effects) -> None:
        """The block is complete: `workers`, which are live, have it on their disks."""
        block.length, block.told = length, None
        self._ends.pop(block.file_id, None)
        for worker in workers:
            self._take_in(block, worker, is_confirmed=block.good.get(worker, False))
        self._persist(block, effects)
        self.unsettled[block.id] = None

    def _take_in(self, block: Block, worker: WorkerId, *, is_confirmed: bool) -> None:
        self._hold(block, worker, is_confirmed=is_confirmed)
        if not is_confirmed:
            self._doubted[block.id, worker] = 0.0

    def drop_open(self, file_id: int, effects: Effects) -> None:
        """Nobody appends to the file any more: what was not committed of it goes."""
        for block in self.of_file(file_id):
            self.forget_longer(block, effects)
            if not block.is_committed:
                left = tuple(each for each in self._of_file.pop(file_id) if each != block.id)
                if left:
                    self._of_file[file_id] = left
                self._ends.pop(file_id, None)
                self._drop(block, effects)

    def want(self, file_id: int, replicas: int) -> None:
        """From now on the blocks of a file should have so many good replicas."""
        for block in self.of_file(file_id):
            block.wanted = replicas
            self.unsettled[block.id] = None

    def drop_file(self, file_id: int, effects: Effects) -> None:
        """The file is gone: so are its blocks, and whoever holds them is told."""
        self._ends.pop(file_id, None)
        for block_id in self._of_file.pop(file_id, ()):
            self._drop(self._blocks[block_id], effects)

    def _drop(self, block: Block, effects: Effects) -> None:
        self.forget_longer(block, effects)
        for worker in [*block.good, *block.damaged]:
            effects.command(worker, RemoveReplica(block.replica))
        self.moves += len(block.good)
        for worker in [*block.good, *block.damaged, *block.absent, *block.leaving]:
            self._of_worker.get(worker, {}).pop(block.id, None)
        del self._blocks[block.id]
        self.unsettled.pop(block.id, None)
        effects.forget(TABLE, (block.id,))

    def expect_longer(self, file_id: int) -> None:
        """After a restart: the file is appended to, so what is longer than was committed may be so yet."""
        for block in self.of_file(file_id):
            if block.is_committed and block.tried > block.generation:
                block.longer = {}
                self._appended[block.id] = None

    # ── what is known of replicas ───────────────────────────────────────────────────────────────────────────────────

    def stored(self, block: Block, worker: WorkerId, replica: Replica) -> bool:
        """A live worker says that it has this replica; False when it should remove it, being stale or no true copy."""
        if replica.generation < block.generation:
            return False
        if replica.generation > block.tried:
            return True  # of a later time than this metadata: keep it, count it not
        if replica.generation > block.generation:
            if block.longer is None or replica.generation < block.tried:
                return False
            block.longer[worker] = replica
            return True
        if block.is_committed and replica.length != block.length:
            self.damage(block, worker, is_own_word=True)
            return True
        damage = block.damaged.get(worker)
        if damage is not None and (damage.is_removal_asked or not damage.is_own_word):
            self.unsettled[block.id] = None  # it may be a copy that came too late to count, and nobody waits for more
            return True  # until it says that it removed it, what it has is the damaged one, or will be removed
        if worker not in block.leaving:
            self._hold(block, worker, is_confirmed=True)
            if not block.is_committed:
                block.told = {**(block.told or {}), worker: replica}
        return True

    def ask_removal(self, block: Block, worker: WorkerId, effects: Effects) -> None:
        """Have a worker remove its good replica, which counts no longer."""
        block.good = self._share(_without(block.good, worker))
        self.moves += 1
        block.leaving = {**block.leaving, worker: None}
        effects.command(worker, RemoveReplica(block.replica))

    def ask_removal_of_damaged(self, block: Block, effects: Effects, *, is_on_own_word: bool = False) -> None:
        """Have the workers that have damaged replicas, and were not told so yet, remove them.

        `is_on_own_word`: only those that found the damage themselves.
        """
        for worker, damage in block.damaged.items():
            if not damage.is_removal_asked and (damage.is_own_word or not is_on_own_word):
                block.damaged = {**block.damaged, worker: replace(damage, is_removal_asked=True)}
                effects.command(worker, RemoveReplica(block.replica))

    def removed(self, block: Block, worker: WorkerId) -> None:
        """A worker no longer has the replica."""
        self.let_go(block, worker)
        self.unsettled[block.id] = None

    def damage(self, block: Block, worker: WorkerId, *, is_own_word: bool) -> None:
        """A worker's replica holds wrong bytes. What the worker stores after saying so itself is another one."""
        self.let_go(block, worker)
        block.damaged = {**block.damaged, worker: Damage(is_own_word)}
        self._of_worker.setdefault(worker, {})[block.id] = None
        self.unsettled[block.id] = None

    def suspect_damaged(self, block: Block) -> tuple[WorkerId, ...]:
        """The workers whose damaged replicas, unless they are to be removed, are suspects again until they look."""
        doubtful = [worker for worker, damage in block.damaged.items() if not damage.is_removal_asked]
        block.damaged = {**block.damaged, **dict.fromkeys(doubtful, Damage())}
        return tuple(doubtful)

    def verified(self, block: Block, worker: WorkerId, length: int) -> None:
        """A worker read the replica that a reader had called damaged, and it is not: it is good, if it is to stay.

        Its writer may have committed it meanwhile, so that it counts already, on the writer's word alone. One that is
        not as long as what was committed is none of this block.
        """
        if block.is_committed and length != block.length:
            self.damage(block, worker, is_own_word=True)
            return
        damage = block.damaged.get(worker)
        is_suspect = damage is not None and not damage.is_own_word and not damage.is_removal_asked
        if is_suspect or worker in block.good:
            self._hold(block, worker, is_confirmed=True)

    def doubt(self, now: float, confirm_s: float) -> None:
        """Give up replicas of which only a writer has told: their live workers would have said so by now.

        A worker that lost its disk and came back while a writer was about to commit is not known to have nothing. What
        no worker has confirmed yet is waited for.
        """
        for (block_id, worker), since in list(self._doubted.items()):
            block = self._blocks.get(block_id)
            if block is None or block.good.get(worker, True):
                del self._doubted[block_id, worker]
            elif not since:
                self._doubted[block_id, worker] = now
            elif now - since >= confirm_s and any(block.good.values()):
                del self._doubted[block_id, worker]
                self.removed(block, worker)

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`: nobody could say anything in that time."""
        self._doubted = {key: since + jump_s if since else 0.0 for key, since in self._doubted.items()}

    def lose(self, worker: WorkerId) -> None:
        """A worker is lost: what it had is absent, and what it had damaged is forgotten."""
        for block_id in self._appended:
            (self._blocks[block_id].longer or {}).pop(worker, None)
        for block_id in [*self._of_worker.get(worker, ())]:
            block = self._blocks[block_id]
            if worker in block.good:
                block.good = self._share(_without(block.good, worker))
                self.moves += 1
                (block.told or {}).pop(worker, None)
                block.absent = {**block.absent, worker: None}
            elif worker in block.damaged or worker in block.leaving:
                self.let_go(block, worker)
            self.unsettled[block_id] = None

    def forget_absent(self, worker: WorkerId) -> None:
        """A worker has been away for so long, or came back without them, that its absent replicas are given up."""
        for block_id in [*self._of_worker.get(worker, ())]:
            block = self._blocks[block_id]
            if worker in block.absent:
                self.let_go(block, worker)
                self.unsettled[block_id] = None

    def _hold(self, block: Block, worker: WorkerId, *, is_confirmed: bool) -> None:
        block.absent = _without(block.absent, worker)
        block.damaged = _without(block.damaged, worker)
        self.moves += worker not in block.good
        block.good = self._share({**block.good, worker: is_confirmed})
        self._of_worker.setdefault(worker, {})[block.id] = None
        self.unsettled[block.id] = None

    def let_go(self, block: Block, worker: WorkerId) -> None:
        """Count a worker's replica no longer, whatever it was."""
        self.moves += worker in block.good
        if block.told is not None:
            block.told.pop(worker, None)
        block.good = self._share(_without(block.good, worker))
        block.damaged = _without(block.damaged, worker)
        block.absent = _without(block.absent, worker)
        block.leaving = _without(block.leaving, worker)
        self._of_worker.get(worker, {}).pop(block.id, None)

    def _share(self, good: Mapping[WorkerId, bool]) -> Mapping[WorkerId, bool]:
        """The mapping that others with the same workers in the same order have, or this one for those to come."""
        if len(self._shared) > SHARED_MAX:
            self._shared.clear()  # who shares one goes on sharing it
        return self._shared.setdefault(tuple(good.items()), good)

    # ── the durable form ────────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _persist(block: Block, effects: Effects) -> None:
        what = (block.file_id, block.position, block.generation, block.length, block.tried)
        effects.persist(TABLE, (block.id,), what)

    def restore(self, row: tuple[int, int, int, int, int, int]) -> None:
        """Take in a row of `blocks` that was persisted, key, then values; in any order, and `restored` at the end."""
        block_id, file_id, position, generation, length, tried = row
        tried = max(tried, generation)  # 0 in rows of the first schema
        nobody = (_NOBODY, _NOBODY, _NOBODY, _NOBODY)  # said here, it takes half the time
        self._blocks[block_id] = Block(block_id, file_id, position, 0, generation, length, tried, *nobody)
        before = self._of_file.get(file_id)
        self._of_file[file_id] = (block_id,) if before is None else (*before, block_id)

    def restored(self, wanted_of: Callable[[int], int]) -> None:
        """All rows were taken in. All replicas are still unknown."""
        for file_id, ids in self._of_file.items():
            if len(ids) > 1:
                self._of_file[file_id] = tuple(sorted(ids, key=lambda each: self._blocks[each].position))
            wanted = wanted_of(file_id)
            for block_id in ids:
                self._blocks[block_id].wanted = wanted
        self.unsettled = dict.fromkeys(self._blocks)


K = TypeVar("K")


def _without(mapping: Mapping[WorkerId, K], worker: WorkerId) -> Mapping[WorkerId, K]:
    """The mapping, less one of its keys if it has it."""
    if worker not in mapping:
        return mapping
    return {key: value for key, value in mapping.items() if key != worker} or _NOBODY
