"""Keep as many good replicas of each block as its file asked for: copy what is missing, remove what is too much.

Blocks that may need attention are looked at on every tick, those at the highest risk first: one good replica left, then
fewer than a third of what is wanted, then the others. A copy goes from a worker that has the block to one chosen by
`placement`; each worker takes part in a few at a time, so that repair never drowns the work itself.

A worker that fell silent often comes back: for `repair_delay_s` its replicas are hoped for and not copied, except where
only one good replica is left. After a restart of the master the same time passes before anything is copied, unless all
workers that were known have come back or are given up sooner.

Removing is done from certainty only: a surplus replica goes when its holder and enough others have themselves said, to
this master, that they have it; a damaged one goes when enough good ones are there, or when it stands in the way of the
only worker on which a good one could be made.

Invariants: no good replica is removed while fewer than `wanted` confirmed others exist; at most one copy of a block
goes to one worker; a block without any good replica is left alone, for its workers may return.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from minireduce.core.effects import Effects
from minireduce.core.messages import RemoveReplica, ReplicateBlock
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.placement import Want, choose_surplus, choose_targets
from minireduce.core.storage.places import Place, Places
from minireduce.core.storage.tokens import BlockTokens
from minireduce.ids import WorkerId

LEVELS = 3


@dataclass(frozen=True, slots=True)
class Copy:
    """A replica on its way. It counts as failed after `deadline_s`."""

    block_id: int
    source: WorkerId
    target: WorkerId
    deadline_s: float


@dataclass(slots=True)
class _Round:
    """One tick's view: who is live, how many copies each takes part in, and which are coming for each block."""

    live: Mapping[WorkerId, Place]
    effects: Effects
    now: float
    load: dict[WorkerId, int] = field(default_factory=dict)
    coming: dict[int, list[WorkerId]] = field(default_factory=dict)

    def count(self, copy: Copy) -> None:
        self.coming.setdefault(copy.block_id, []).append(copy.target)
        for worker in (copy.source, copy.target):
            self.load[worker] = self.load.get(worker, 0) + 1


class Repair:
    """The repair queue and the copies that are under way."""

    def __init__(
        self, settings: ClusterSettings, blocks: Blocks, places: Places, tokens: BlockTokens, rng: random.Random
    ) -> None:
        self._settings = settings
        self._blocks = blocks
        self._places = places
        self._tokens = tokens
        self._rng = rng
        self._copies: dict[tuple[int, WorkerId], Copy] = {}
        self._avoided_until_s: dict[tuple[int, WorkerId], float] = {}
        self._absent_since_s: dict[WorkerId, float] = {}
        self._parked: dict[int, None] = {}  # they want more replicas than there are workers
        self._quiet_until_s = 0.0

    @property
    def copying(self) -> int:
        """How many copies are under way."""
        return len(self._copies)

    # ── what happened ───────────────────────────────────────────────────────────────────────────────────────────────

    def restarted(self, now: float) -> None:
        """The master has just started: replicas become known as workers join."""
        self._quiet_until_s = now + self._settings.repair_delay_s

    def worker_lost(self, worker: WorkerId, now: float) -> None:
        """Hope for the replicas of a worker, and forget the copies from and to it."""
        self._absent_since_s[worker] = now
        self._forget_copies_of(worker)

    def worker_joined(self, worker: WorkerId) -> None:
        """A worker is there and has said what it holds. Commands of its earlier session may be lost, so copies are.

        That copies to it failed before tells nothing any more.
        """
        self._absent_since_s.pop(worker, None)
        self._avoided_until_s = {key: until for key, until in self._avoided_until_s.items() if key[1] != worker}
        self._forget_copies_of(worker)
        self._blocks.unsettled.update(self._parked)
        self._parked.clear()

    def stored(self, block_id: int, worker: WorkerId) -> None:
        """A replica arrived. It may be one of a generation that is over, so the block is looked at again."""
        if self._copies.pop((block_id, worker), None) is not None:
            self._unsettle(block_id)

    def hurry(self, block: Block) -> None:
        """Copy this block now, though replicas may come back with their workers, and copies may fail again."""
        for worker in [*block.absent]:
            self._blocks.let_go(block, worker)
        self._avoided_until_s = {key: until for key, until in self._avoided_until_s.items() if key[0] != block.id}
        self._blocks.unsettled[block.id] = None

    def copying_to(self, block_id: int) -> list[WorkerId]:
        """The workers to which copies of a block are on their way."""
        return [target for copied, target in self._copies if copied == block_id]

    def copy_failed(self, block_id: int, source: WorkerId, now: float) -> None:
        """`source` could not send its replica: try another pair, and leave these targets alone for a while."""
        for copy in list(self._copies.values()):
            if (copy.block_id, copy.source) == (block_id, source):
                self._give_up(copy, now)

    def _give_up(self, copy: Copy, now: float) -> None:
        key = (copy.block_id, copy.target)
        del self._copies[key]
        self._avoided_until_s[key] = now + self._settings.copy_retry_after_s
        self._unsettle(copy.block_id)

    def _forget_copies_of(self, worker: WorkerId) -> None:
        for key, copy in list(self._copies.items()):
            if worker in (copy.source, copy.target):
                del self._copies[key]
                self._unsettle(copy.block_id)

    def _unsettle(self, block_id: int) -> None:
        if self._blocks.get(block_id) is not None:
            self._blocks.unsettled[block_id] = None

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`."""
        self._quiet_until_s += jump_s
        self._blocks.shift_deadlines(jump_s)
        self._absent_since_s = {worker: at + jump_s for worker, at in self._absent_since_s.items()}
        self._copies = {
            key: Copy(copy.block_id, copy.source, copy.target, copy.deadline_s + jump_s)
            for key, copy in self._copies.items()
        }

    # ── what to do ──────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, now: float, effects: Effects) -> None:
        """Give up what took too long, and command the copies and removals that are due."""
        self._expire(now)
        self._blocks.doubt(now, self._settings.worker_lost_s)
        if not self._blocks.unsettled or (self._places.is_anyone_expected and now < self._quiet_until_s):
            return
        round_ = _Round(dict(self._places.live()), effects, now)
        for copy in self._copies.values():
            round_.count(copy)
        is_quiet = now < self._quiet_until_s and bool(self._absent_since_s)
        for block in self._by_risk():
            if is_quiet and risk_level(block) > 0:
                break  # replicas on workers that have not come back yet are not even known
            if self._settle(block, round_):
                self._blocks.unsettled.pop(block.id, None)

    def _expire(self, now: float) -> None:
        for worker, since in list(self._absent_since_s.items()):
            if now - since >= self._settings.repair_delay_s:
                del self._absent_since_s[worker]
                self._blocks.forget_absent(worker)
        for copy in list(self._copies.values()):
            if now >= copy.deadline_s:
                self._give_up(copy, now)
        self._avoided_until_s = {key: until for key, until in self._avoided_until_s.items() if until > now}

    def _by_risk(self) -> list[Block]:
        levels: list[list[Block]] = [[] for _ in range(LEVELS)]
        for block_id in self._blocks.unsettled:
            block = self._blocks.get(block_id)
            if block is not None:
                levels[risk_level(block)].append(block)
        return [block for level in levels for block in level]

    def _settle(self, block: Block, round_: _Round) -> bool:
        """Command what this block needs now; False when it must be looked at again though nothing changes."""
        if not block.is_committed or not block.good:
            return True
        coming = round_.coming.get(block.id, [])
        hoped = len(block.absent) if len(block.good) > 1 else 0
        missing = block.wanted - len(block.good) - len(coming) - hoped
        if missing > 0:
            return self._copy(block, missing, round_)
        if not coming and len(block.good) >= block.wanted:
            _remove_damaged(block, round_.effects)
            self._remove_surplus(block, round_)
        return True

    def _copy(self, block: Block, missing: int, round_: _Round) -> bool:
        """Start copies of this block; False when some must wait for their turn."""
        holders = [*block.good, *round_.coming.get(block.id, ()), *block.damaged, *block.leaving]
        taken = [round_.live[worker] for worker in holders if worker in round_.live]
        if len(taken) >= len(round_.live):
            _remove_damaged(block, round_.effects)  # the only place for a good replica is where a bad one lies
            self._parked[block.id] = None
            return True
        targets = [
            place
            for place in round_.live.values()
            if self._is_free(place.worker, round_) and (block.id, place.worker) not in self._avoided_until_s
        ]
        for place in choose_targets(targets, Want(missing, block.length, tuple(taken)), round_.load, self._rng):
            sources = [worker for worker in block.good if worker in round_.live and self._is_free(worker, round_)]
            if not sources:
                return False
            source = min(sources, key=lambda worker: (round_.load.get(worker, 0), worker))
            self._start_copy(block, source, place, round_)
            missing -= 1
        return missing == 0

    def _is_free(self, worker: WorkerId, round_: _Round) -> bool:
        return round_.load.get(worker, 0) < self._settings.copies_per_worker_max

    def _start_copy(self, block: Block, source: WorkerId, target: Place, round_: _Round) -> None:
        copy_s = self._settings.copy_timeout_s + block.length / self._settings.copy_bytes_per_s_min
        copy = Copy(block.id, source, target.worker, round_.now + copy_s)
        self._copies[block.id, target.worker] = copy
        round_.count(copy)
        token = self._tokens.write(block.id, block.generation)
        round_.effects.command(source, ReplicateBlock(block.replica, target.worker, target.data_address, token))

    def _remove_surplus(self, block: Block, round_: _Round) -> None:
        """Remove good replicas too many, as far as that is certain."""
        confirmed = [worker for worker, is_confirmed in block.good.items() if is_confirmed and worker in round_.live]
        while len(confirmed) > block.wanted:
            place = choose_surplus([round_.live[worker] for worker in confirmed])
            confirmed.remove(place.worker)
            self._blocks.ask_removal(block, place.worker, round_.effects)


def _remove_damaged(block: Block, effects: Effects) -> None:
    for worker, damage in block.damaged.items():
        if not damage.is_removal_asked:
            block.damaged[worker] = replace(damage, is_removal_asked=True)
            effects.command(worker, RemoveReplica(block.replica))


def risk_level(block: Block) -> int:
    """0: one good replica or none. 1: less than a third of those wanted. 2: anything else."""
    if len(block.good) <= 1 < block.wanted:
        return 0
    return 1 if len(block.good) * 3 < block.wanted else 2
