"""How far a draining worker is from being one that can be done without, as far as blocks go.

A block is safe without it when it has as many good replicas as it wants on workers that stay, or one on each of them
where there are fewer. What is left is counted again every `LOOK_INTERVAL_S`, and how fast that became less says how
long the rest may take. Copying itself is the business of `repair`, which does not count on draining workers.

Decides nothing, and is worth nothing after a restart of the master: it looks again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import field

from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.copying import Copying
from minireduce.core.storage.places import Place, Places
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

LOOK_INTERVAL_S = 2.0
LOOKS_KEPT = 30


@dataclass(frozen=True, slots=True)
class BlocksLeft:
    """What of a draining worker's blocks is not safe without it. `why` is empty when nothing is left.

    `left_s` estimates the rest; 0 where that is not known. `scarce` of the others have fewer replicas than they want,
    though they are on all workers that stay.
    """

    blocks: int = 0
    bytes: int = 0
    left_s: float = 0.0
    scarce: int = 0
    why: str = ""


@dataclass(slots=True)
class _Drain:
    looks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=LOOKS_KEPT))
    next_look_s: float = 0.0
    left: BlocksLeft = field(default_factory=BlocksLeft)


class Draining:
    """The draining workers that are live."""

    def __init__(self, settings: ClusterSettings, blocks: Blocks, copying: Copying, places: Places) -> None:
        self._settings = settings
        self._blocks = blocks
        self._copying = copying
        self._places = places
        self._drains: dict[WorkerId, _Drain] = {}

    def begins(self, worker: WorkerId) -> None:
        """A worker shall be done without: what it holds is looked at on the next tick."""
        self._drains[worker] = _Drain(left=BlocksLeft(why="what it holds has not been looked at yet"))

    def ends(self, worker: WorkerId) -> None:
        """It shall not."""
        self._drains.pop(worker, None)

    def left(self, worker: WorkerId) -> BlocksLeft:
        """What was left on a worker at the last look."""
        drain = self._drains.get(worker)
        return drain.left if drain is not None else BlocksLeft()

    def tick(self, now: float) -> None:
        """Look at those that are due."""
        due = [worker for worker, drain in self._drains.items() if now >= drain.next_look_s]
        if not due:
            return
        live = dict(self._places.live())
        for worker in due:
            if worker in live:
                self._look(worker, self._drains[worker], live, now)

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`."""
        for drain in self._drains.values():
            drain.looks = deque(((at_s + jump_s, left) for at_s, left in drain.looks), LOOKS_KEPT)

    def _look(self, worker: WorkerId, drain: _Drain, live: Mapping[WorkerId, Place], now: float) -> None:
        drain.next_look_s = now + LOOK_INTERVAL_S
        takers = sum(place.takes_replicas for place in live.values())
        left: list[Block] = []
        scarce = 0
        for block in self._blocks.on(worker):
            if worker in block.absent:
                continue
            staying = sum(holder in live and not live[holder].is_draining for holder in block.good)
            if not block.is_committed or staying < min(block.wanted, max(1, takers)):
                left.append(block)
            elif staying < block.wanted:
                scarce += 1
        left_bytes = sum(max(block.length, 0) for block in left)
        drain.looks.append((now, left_bytes))
        drain.left = BlocksLeft(len(left), left_bytes, self._estimate_s(drain), scarce, self._why(left, takers))

    @staticmethod
    def _estimate_s(drain: _Drain) -> float:
        (began_s, before), (now, left) = drain.looks[0], drain.looks[-1]
        if left <= 0 or before <= left or now <= began_s:
            return 0.0
        return left * (now - began_s) / (before - left)

    def _why(self, left: list[Block], takers: int) -> str:
        if not left:
            return ""
        if not takers:
            return "no other worker takes replicas: start one"
        being_written = sum(not block.is_committed for block in left)
        lost = sum(block.is_committed and not block.good for block in left)
        copying = sum(bool(self._copying.targets(block.id)) for block in left)
        waiting = len(left) - being_written - lost - copying
        reasons = (
            (copying, "being copied"),
            (waiting, "waiting for their turn, or for a worker with room"),
            (being_written, "being written"),
            (lost, "without a good replica anywhere"),
        )
        return ", ".join(f"{count} {reason}" for count, reason in reasons if count)
