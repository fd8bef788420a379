"""Keep as many good replicas of each block as its file asked for: copy what is missing, remove what is too much.

Blocks that may need attention are looked at on the next tick. Those that need a copy wait in a queue by risk: one good
replica left, then fewer than a third of what is wanted, then the others, and last those that have enough, but all on
one rack; what somebody asked to read and could not, or not well, comes before all of them. A copy goes from a worker
that has the block to one chosen by the placement policy; `copying` keeps each worker's share small, so that repair
never drowns the work itself.

A worker that fell silent often comes back: for `repair_delay_s` its replicas are hoped for and not copied, except where
only one good replica is left; for `maintenance_s` where it stopped in good order. After a restart of the master
`repair_delay_s` passes before anything is copied, unless all workers that were known have come back or are given up
sooner. What a draining worker has is not relied on, and neither is it removed.

Removing is done from certainty only: a surplus replica goes when its holder and enough others have answered that they
still have it (`surplus`); a damaged one goes when enough good ones are there, or when it stands in the way of the
only worker on which a good one could be made, and this has found it so itself.

Invariants: no good replica is removed while fewer than `wanted` confirmed others exist; a block without any good
replica is left alone, for its workers may return; a tick looks at a bounded number of blocks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import islice

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import ReplicaConfirmed
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.copying import Copying
from minireduce.core.storage.placement import FREE_BYTES_KEPT, PlacementPolicy, Rule, Want
from minireduce.core.storage.places import Place, Places
from minireduce.core.storage.surplus import Surplus
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

LEVELS = 5
CHANGED_PER_TICK_MAX = 20_000
WAITING_PER_TICK_MAX = 2_000
"""So many blocks of each kind are looked at on one tick: what changed, and what waits for its turn."""
ASKED_FOR_MAX = 10_000
"""So many blocks are remembered as asked for, the latest."""


@dataclass(slots=True)
class _Round:
    """One tick's view: who is live, who takes replicas, and who may send or get one more."""

    live: Mapping[WorkerId, Place]
    effects: Effects
    now: float
    is_quiet: bool
    takers: dict[WorkerId, Place]
    senders: dict[WorkerId, None]
    receivers: dict[WorkerId, Place]
    racks: int

    @property
    def has_room(self) -> bool:
        return bool(self.senders and self.receivers)


class Repair:
    """The repair queue."""

    def __init__(
        self,
        settings: ClusterSettings,
        blocks: Blocks,
        copying: Copying,
        places: Places,
        policy: PlacementPolicy,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._blocks = blocks
        self._copying = copying
        self._surplus = Surplus(settings, blocks, policy)
        self._places = places
        self._policy = policy
        self._rng = rng
        self._queue: tuple[dict[int, None], ...] = tuple({} for _ in range(LEVELS))
        self._level: dict[int, int] = {}  # of those in the queue
        self._asked_for: dict[int, None] = {}
        self._moving: dict[int, WorkerId] = {}  # whose replica goes once the block is on one worker more
        self._absent_until_s: dict[WorkerId, float] = {}
        self._later: dict[int, None] = {}  # nothing is done about them while it is quiet
        self._parked: dict[int, None] = {}  # they want more replicas than there are workers
        self._quiet_until_s = 0.0

    @property
    def waiting(self) -> int:
        """How many blocks wait for their turn."""
        return len(self._level)

    @property
    def is_idle(self) -> bool:
        """Whether nothing needs repair that could be repaired."""
        return not self._level and not self._later and not self._blocks.unsettled and not self._absent_until_s

    # ── what happened ───────────────────────────────────────────────────────────────────────────────────────────────

    def restarted(self, now: float) -> None:
        """The master has just started: replicas become known as workers join."""
        self._quiet_until_s = now + self._settings.repair_delay_s

    def worker_lost(self, worker: WorkerId, now: float, wait_s: float) -> None:
        """Hope for the replicas of a worker for so long, and forget the copies from and to it."""
        self._absent_until_s[worker] = now + wait_s
        self._copying.forget_worker(worker)
        self._surplus.forget_worker(worker)

    def worker_joined(self, worker: WorkerId) -> None:
        """A worker is there and has said what it holds. Commands of its earlier session may be lost, so copies are.

        That copies to it failed before tells nothing any more.
        """
        self._absent_until_s.pop(worker, None)
        self._copying.trust(worker)
        self._copying.forget_worker(worker)
        self._surplus.forget_worker(worker)
        self.look_again()

    def worker_drains(self, worker: WorkerId) -> None:
        """A worker is to be done without, or no longer: what it answered before counts no more."""
        self._surplus.forget_worker(worker)

    def confirmed(self, worker: WorkerId, answer: ReplicaConfirmed, now: float) -> None:
        """A worker answers that it still has a replica."""
        self._surplus.answered(worker, answer, now)

    def look_again(self) -> None:
        """There may be workers now for what wants more replicas than there were."""
        self._blocks.unsettled.update(self._parked)
        self._parked.clear()

    def hurry(self, block: Block) -> None:
        """Copy this block now, though replicas may come back with their workers, and copies may fail again."""
        for worker in [*block.absent]:
            self._blocks.let_go(block, worker)
        self._copying.trust_with(block.id)
        self.ask_for(block)

    def ask_for(self, block: Block) -> None:
        """Somebody wants to read a block and found it damaged, or nowhere: it comes first, as soon as it can be had."""
        self._asked_for.pop(block.id, None)
        self._asked_for[block.id] = None
        if len(self._asked_for) > ASKED_FOR_MAX:
            del self._asked_for[next(iter(self._asked_for))]
        self._blocks.unsettled[block.id] = None

    def move(self, block: Block, source: WorkerId) -> None:
        """A copy for the sake of balance is on its way: `source` is to give its replica up once that is there."""
        self._moving[block.id] = source

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`."""
        self._quiet_until_s += jump_s
        self._blocks.shift_deadlines(jump_s)
        self._copying.shift_deadlines(jump_s)
        self._surplus.forget_all()
        self._absent_until_s = {worker: at + jump_s for worker, at in self._absent_until_s.items()}

    # ── what to do ──────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, now: float, effects: Effects) -> None:
        """Give up what took too long, and command the copies and removals that are due."""
        self._expire(now)
        self._blocks.doubt(now, self._settings.worker_lost_s)
        if self._places.is_anyone_expected and now < self._quiet_until_s:
            return
        if not self._blocks.unsettled and not self._level and not self._later:
            return
        round_ = self._begin_round(now, effects)
        if not round_.is_quiet:
            self._blocks.unsettled.update(self._later)
            self._later.clear()
        self._look_at_changed(round_)
        self._settle_waiting(round_)

    def _expire(self, now: float) -> None:
        for worker, until_s in list(self._absent_until_s.items()):
            if now >= until_s:
                del self._absent_until_s[worker]
                self._blocks.forget_absent(worker)
        self._copying.expire(now)

    def _begin_round(self, now: float, effects: Effects) -> _Round:
        live = dict(self._places.live())
        is_quiet = now < self._quiet_until_s and bool(self._absent_until_s)
        takers = {worker: place for worker, place in live.items() if place.takes_replicas}
        racks = len({place.rack for place in takers.values()})
        round_ = _Round(live, effects, now, is_quiet, takers, {}, {}, racks)
        for worker, place in live.items():
            if self._copying.is_free(worker):
                if self._copying.may_send(worker, now):
                    round_.senders[worker] = None
                if place.takes_replicas and self._copying.may_receive(worker, now):
                    round_.receivers[worker] = place
        return round_

    def _look_at_changed(self, round_: _Round) -> None:
        """Put what needs copies into the queue, and do for the others what there is to do."""
        unsettled = self._blocks.unsettled
        for block_id in list(islice(unsettled, CHANGED_PER_TICK_MAX)):
            del unsettled[block_id]
            self._dequeue(block_id)
            block = self._blocks.get(block_id)
            if block is None:
                self._asked_for.pop(block_id, None)
                self._surplus.drop(block_id)
            elif round_.is_quiet and risk_level(block) > 0 and block_id not in self._asked_for:
                self._later[block_id] = None  # replicas on workers that have not come back yet are not even known
            elif self._missing(block, round_) > 0:
                self._enqueue(block)
            elif self._rule_for_spread(block, round_) is not None:
                self._enqueue(block, LEVELS - 1)
            else:
                if block.good:
                    self._asked_for.pop(block_id, None)
                self._settle(block, round_)

    def _enqueue(self, block: Block, level: int = -1) -> None:
        if level < 0:
            level = 0 if block.id in self._asked_for else 1 + risk_level(block)
        self._level[block.id] = level
        self._queue[level][block.id] = None

    def _dequeue(self, block_id: int) -> None:
        level = self._level.pop(block_id, None)
        if level is not None:
            del self._queue[level][block_id]

    def _settle_waiting(self, round_: _Round) -> None:
        """Start copies of what waits, as long as there is room. Who cannot be helped now lets the others pass."""
        left = WAITING_PER_TICK_MAX
        for queue in self._queue:
            if not round_.has_room:
                return
            for block_id in list(islice(queue, left)):
                left -= 1
                level = self._level[block_id]
                self._dequeue(block_id)
                block = self._blocks.get(block_id)
                if block is not None and not self._settle(block, round_):
                    self._enqueue(block, level)
                if not round_.has_room:
                    return

    def _staying(self, block: Block, round_: _Round) -> list[WorkerId]:
        """Who has a good replica and is not to be done without."""
        return [worker for worker in block.good if worker not in round_.live or not round_.live[worker].is_draining]

    def _missing(self, block: Block, round_: _Round) -> int:
        """How many replicas are to be copied; at most 0 where nothing is to be, or can be."""
        if not block.is_committed or not block.good:
            return 0
        hoped = len(block.absent) if len(block.good) > 1 else 0
        return block.wanted - len(self._staying(block, round_)) - len(self._copying.targets(block.id)) - hoped

    def _settle(self, block: Block, round_: _Round) -> bool:
        """Command what this block needs now; False when it must be looked at again though nothing changes."""
        missing = self._missing(block, round_)
        if missing > 0:
            return self._copy(block, missing, round_)
        rule = self._rule_for_spread(block, round_)
        if rule is not None:
            return self._spread(block, rule, round_)
        is_complete = block.is_committed and len(self._staying(block, round_)) >= block.wanted
        if is_complete and block.good and not self._copying.targets(block.id):
            self._blocks.ask_removal_of_damaged(block, round_.effects)
            self._remove_surplus(block, round_)
        return True

    def _rule_for_spread(self, block: Block, round_: _Round) -> Rule | None:
        """What one more worker must obey, where a block has enough replicas that could all be lost at once; else None.

        Only where there is such a worker, and all is known of the block and nothing under way.
        """
        if round_.racks < 2 or not block.is_committed or not 1 < len(block.good) == block.wanted:
            return None
        if block.damaged or block.absent or block.leaving or self._copying.targets(block.id):
            return None
        rule = self._policy.needs_other([round_.live[worker] for worker in block.good if worker in round_.live])
        if rule is None or not any(rule(place) and self._has_room(place, block) for place in round_.takers.values()):
            return None
        return rule

    @staticmethod
    def _has_room(place: Place, block: Block) -> bool:
        return place.free_bytes >= block.length + FREE_BYTES_KEPT

    def _spread(self, block: Block, rule: Rule, round_: _Round) -> bool:
        """Have one replica more where it makes the block safer; the one too many goes then. False: it must wait."""
        targets = [place for place in round_.receivers.values() if rule(place) and self._has_room(place, block)]
        targets = [place for place in targets if not self._copying.is_avoided(block.id, place.worker)]
        sources = [worker for worker in block.good if worker in round_.senders]
        if not targets or not sources:
            return False
        holders = tuple(round_.live[worker] for worker in block.good if worker in round_.live)
        (target,) = self._policy.choose_targets(targets, Want(1, block.length, holders), self._copying.load, self._rng)
        self._start_copy(block, min(sources, key=lambda worker: self._copying.load.get(worker, 0)), target, round_)
        return True

    def _copy(self, block: Block, missing: int, round_: _Round) -> bool:
        """Start copies of this block; False when some must wait for their turn."""
        holders = dict.fromkeys(
            [*block.good, *self._copying.targets(block.id), *block.damaged, *block.leaving]
        )  # those that leave are looked over for a moment, too, or the order to remove could come after a copy
        if not any(worker not in holders for worker in round_.takers):
            # The only place for a good replica is where a bad one lies, if its worker says so itself.
            self._blocks.ask_removal_of_damaged(block, round_.effects, is_on_own_word=True)
            self._parked[block.id] = None
            return True
        targets = [
            place
            for place in round_.receivers.values()
            if place.worker not in holders and not self._copying.is_avoided(block.id, place.worker)
        ]
        keeping = tuple(
            round_.live[worker] for worker in holders if worker in round_.live and not round_.live[worker].is_draining
        )
        want = Want(missing, block.length, keeping)
        for place in self._policy.choose_targets(targets, want, self._copying.load, self._rng):
            sources = [worker for worker in block.good if worker in round_.senders and worker != place.worker]
            if not sources:
                return False
            source = min(sources, key=lambda worker: (self._copying.load.get(worker, 0), worker))
            self._start_copy(block, source, place, round_)
            missing -= 1
        return missing == 0

    def _start_copy(self, block: Block, source: WorkerId, target: Place, round_: _Round) -> None:
        self._copying.start(block, source, target, round_.now, round_.effects)
        for worker in (source, target.worker):
            is_free = self._copying.is_free(worker)
            if not is_free or not self._copying.may_send(worker, round_.now):
                round_.senders.pop(worker, None)
            if not is_free or not self._copying.may_receive(worker, round_.now):
                round_.receivers.pop(worker, None)

    def _remove_surplus(self, block: Block, round_: _Round) -> None:
        """Remove good replicas too many, as far as that is certain. Those of draining workers are none too many."""
        staying = self._staying(block, round_)
        confirmed = {worker: round_.live[worker] for worker in staying if block.good[worker] and worker in round_.live}
        moving = self._moving.get(block.id, "")
        if self._surplus.remove(block, confirmed, moving, round_.now, round_.effects):
            self._moving.pop(block.id, None)


def risk_level(block: Block) -> int:
    """0: one good replica or none. 1: less than a third of those wanted. 2: anything else."""
    if len(block.good) <= 1 < block.wanted:
        return 0
    return 1 if len(block.good) * 3 < block.wanted else 2
