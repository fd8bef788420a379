"""Even out how full the workers' disks are: slowly, all the time, one replica after the other.

What counts is the used share of a worker's disks, beside the share that all of them together use. A replica goes from
a worker above that to one below it, of which one at least is more than `balance_threshold` away: so a newcomer is
filled from workers that are all a little above. A worker of weight 2 counts as having twice the disks, so it is filled
twice as far, in keeping with where new replicas go (placement.py). The fullest give and the emptiest get first. It ends
when nobody is further off than the threshold, or what is there cannot go elsewhere. Nothing is moved while anything
needs repair.

A move is a copy, and once that is confirmed the source gives its replica up, as one too many (`repair`): at no moment
are there fewer replicas. It must leave the block on as many racks and machines as before. At most `balance_bytes_per_s`
are moved from or to one worker, and one replica at a time.

Decided from what is known for certain only: never while workers are expected after a restart of the master, and what
was moved lately is counted in, since workers measure their disks only now and then.

Invariants: no block has two moves at a time; a move never goes to a worker that holds the block in whatever condition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice

from minireduce.core.effects import Effects
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.copying import Copying
from minireduce.core.storage.placement import FREE_BYTES_KEPT, PlacementPolicy
from minireduce.core.storage.places import Place, Places
from minireduce.core.storage.repair import Repair
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

LOOK_INTERVAL_S = 1.0
MEASURED_AFTER_S = 30.0
"""A worker's measure of its disks knows what was moved so long ago."""
BLOCKS_TRIED_MAX = 200
"""Of a worker's blocks so many are tried at a look; the next look tries others."""


@dataclass(frozen=True, slots=True)
class _Moved:
    """What was moved lately, and may not be measured yet."""

    at_s: float
    source: WorkerId
    target: WorkerId
    bytes: int


class Balance:
    """The moves for the sake of balance."""

    def __init__(
        self,
        settings: ClusterSettings,
        blocks: Blocks,
        copying: Copying,
        repair: Repair,
        places: Places,
        policy: PlacementPolicy,
    ) -> None:
        self._settings = settings
        self._blocks = blocks
        self._copying = copying
        self._repair = repair
        self._places = places
        self._policy = policy
        self._next_look_s = 0.0
        self._moved: deque[_Moved] = deque()
        self._busy_until_s: dict[WorkerId, float] = {}
        self._begin_at: dict[WorkerId, int] = {}

    def tick(self, now: float, effects: Effects) -> None:
        """Begin the moves that are due."""
        if now < self._next_look_s or not self._settings.balance_bytes_per_s:
            return
        self._next_look_s = now + LOOK_INTERVAL_S
        while self._moved and now - self._moved[0].at_s >= MEASURED_AFTER_S:
            self._moved.popleft()
        if self._places.is_anyone_expected or not self._repair.is_idle:
            return
        live = dict(self._places.live())
        self._busy_until_s = {worker: until for worker, until in self._busy_until_s.items() if until > now}
        shares = self._shares(live)
        if len(shares) > 1:
            self._look(live, shares, now, effects)

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`."""
        self._next_look_s += jump_s
        self._busy_until_s = {worker: until + jump_s for worker, until in self._busy_until_s.items()}

    def _shares(self, live: Mapping[WorkerId, Place]) -> dict[WorkerId, float]:
        """How far each worker's used share is above that of all together, by what was measured and moved since."""
        moved: dict[WorkerId, int] = {}
        for each in self._moved:
            moved[each.source] = moved.get(each.source, 0) - each.bytes
            moved[each.target] = moved.get(each.target, 0) + each.bytes
        known = {worker: place for worker, place in live.items() if place.capacity_bytes and place.free_bytes}
        used = {
            worker: place.capacity_bytes - place.free_bytes + moved.get(worker, 0) for worker, place in known.items()
        }
        capacity = sum(place.weighted_capacity for place in known.values())
        mean = sum(used.values()) / capacity if capacity else 0.0
        return {worker: used[worker] / place.weighted_capacity - mean for worker, place in known.items()}

    def _look(
        self, live: Mapping[WorkerId, Place], shares: Mapping[WorkerId, float], now: float, effects: Effects
    ) -> None:
        threshold = self._settings.balance_threshold
        above = sorted((worker for worker, share in shares.items() if share > 0), key=lambda w: (-shares[w], w))
        below = sorted((worker for worker, share in shares.items() if share < 0), key=lambda w: (shares[w], w))
        for source in above:
            far = 0.0 if shares[source] > threshold else threshold  # one of the two is far from the mean
            targets = [live[worker] for worker in below if shares[worker] < -far and self._is_free(live[worker], now)]
            if targets and self._is_free(live[source], now, is_source=True):
                self._move_one(source, targets, live, now, effects)

    def _is_free(self, place: Place, now: float, *, is_source: bool = False) -> bool:
        worker = place.worker
        is_due = self._busy_until_s.get(worker, 0.0) <= now and not self._copying.load.get(worker, 0)
        return is_due and not place.is_draining and (is_source or place.takes_replicas)

    def _move_one(
        self, source: WorkerId, targets: list[Place], live: Mapping[WorkerId, Place], now: float, effects: Effects
    ) -> None:
        """Move one of a worker's replicas to the first of `targets` that may have it."""
        held = self._blocks.on(source)
        begin = self._begin_at.get(source, 0) % max(1, len(held))
        for block in islice(held[begin:] + held[:begin], BLOCKS_TRIED_MAX):
            begin += 1
            if not self._may_move(block, source, live):
                continue
            for target in targets:
                if self._suits(block, source, target, live):
                    self._begin_at[source] = begin
                    self._start(block, source, target, now, effects)
                    return
        self._begin_at[source] = begin

    def _may_move(self, block: Block, source: WorkerId, live: Mapping[WorkerId, Place]) -> bool:
        """Whether a block is as it should be, and known to be so, so that one of its replicas may go elsewhere."""
        return (
            block.is_committed
            and block.longer is None
            and len(block.good) == block.wanted
            and block.good.get(source, False)
            and all(worker in live for worker in block.good)
            and not (block.damaged or block.absent or block.leaving or self._copying.targets(block.id))
        )

    def _suits(self, block: Block, source: WorkerId, target: Place, live: Mapping[WorkerId, Place]) -> bool:
        if target.worker in block.good or target.free_bytes < block.length + FREE_BYTES_KEPT:
            return False
        before = [live[worker] for worker in block.good]
        after = [place for place in before if place.worker != source] + [target]
        return self._policy.keeps_spread(before, after) and not self._copying.is_avoided(block.id, target.worker)

    def _start(self, block: Block, source: WorkerId, target: Place, now: float, effects: Effects) -> None:
        self._copying.start(block, source, target, now, effects)
        self._repair.move(block, source)
        self._moved.append(_Moved(now, source, target.worker, block.length))
        takes_s = block.length / self._settings.balance_bytes_per_s
        for worker in (source, target.worker):
            self._busy_until_s[worker] = now + takes_s
