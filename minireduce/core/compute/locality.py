"""How far a worker is from a task's input, and how long a job lets slots pass by for a nearer one.

A task's *homes* are the machines that hold most of its input, and their racks. A worker is local to the task on such a
machine, rack-local in such a rack, else remote. When a slot comes up for which a job has nothing local, the job lets
it pass and other jobs may take it; after a bounded wait it takes what is in the rack, after a second one anything. The
wait begins anew with each local launch: then local slots do come up. After delay scheduling (EuroSys 2010), which stops
there; but a machine without any of the input would then stand idle as long as others launch. So of the slots that pass
a job by without a break, one is taken after `WAITS_MAX` such waits, wherever it is.

Invariants: a wait ends by itself (`LocalityWait.level`); nothing waits for a home that cannot come (`queue` moves tasks
whose homes are all gone to those without any), nor when the input has no home at all.
Elsewhere: which task and worker go together (scheduler.py), where the replicas are (storage).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum

from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

HOME_FRACTION_MIN = 0.9
"""A machine or rack that holds so much of what the best one holds is a home as well."""


WAITS_MAX = 5
"""So many waits, both together, slots pass a job by at most, local launches or not."""


BREAK_S = 1.0
"""When no slot passed by for longer, that was a break. One that stays free passes by with each tick."""


class Level(IntEnum):
    """How far a worker may be from a task's input, the nearest first."""

    NODE = 0
    RACK = 1
    ANY = 2


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a worker stands. `node` is its machine: workers of one machine share its disks' nearness."""

    node: str
    rack: str


NO_SPOT = Spot("", "")

FindSpot = Callable[[WorkerId], Spot | None]
"""Where a worker stands that may take work in; None for one that is lost or stopping."""


@dataclass(frozen=True, slots=True)
class Homes:
    """The machines that hold most of a task's input, and the racks that do. Both empty: it is equally far from all."""

    nodes: tuple[str, ...] = ()
    racks: tuple[str, ...] = ()

    def level_of(self, spot: Spot) -> Level:
        """How far a worker there is from the input."""
        if spot.node in self.nodes:
            return Level.NODE
        return Level.RACK if spot.rack in self.racks else Level.ANY


NOWHERE = Homes()


def find_homes(pieces: Iterable[tuple[int, Iterable[WorkerId]]], find_spot: FindSpot) -> Homes:
    """The homes of an input made of pieces: the length of each, and the workers that hold it."""
    nodes: dict[str, int] = {}
    racks: dict[str, int] = {}
    pieces = tuple(pieces)
    for length, holders in pieces:
        spots = [spot for spot in map(find_spot, holders) if spot is not None]
        if len(pieces) == 1:  # the common case: all who hold it hold as much
            return Homes(tuple({spot.node: None for spot in spots}), tuple({spot.rack: None for spot in spots}))
        for node in dict.fromkeys(spot.node for spot in spots):
            nodes[node] = nodes.get(node, 0) + length
        for rack in dict.fromkeys(spot.rack for spot in spots):
            racks[rack] = racks.get(rack, 0) + length
    return Homes(_best(nodes), _best(racks))


def _best(held: dict[str, int]) -> tuple[str, ...]:
    least = max(held.values(), default=0) * HOME_FRACTION_MIN
    return tuple(place for place, length in held.items() if length >= least)


@dataclass(slots=True)
class LocalityWait:
    """One step's patience. `since_s`: since when slots pass it by, None while it finds local work. `idle_since_s`:
    since when they do so without a break, local work or not; `passed_s`: when the last one did.
    """

    since_s: float | None = None
    idle_since_s: float | None = None
    passed_s: float = 0.0

    def level(self, now: float, node_s: float, rack_s: float) -> Level:
        """How far from its input a task may go now."""
        if node_s + rack_s <= 0:
            return Level.ANY
        if self.idle_since_s is not None and self.passed_s - self.idle_since_s >= WAITS_MAX * (node_s + rack_s):
            return Level.ANY
        waited_s = 0.0 if self.since_s is None else now - self.since_s
        if waited_s < node_s:
            return Level.NODE
        return Level.RACK if waited_s < node_s + rack_s else Level.ANY

    def remaining_s(self, now: float, node_s: float, rack_s: float) -> float:
        """How long until anything is taken; 0 while nothing is waited for."""
        return max(0.0, self.since_s + node_s + rack_s - now) if self.since_s is not None else 0.0

    def slot_passed(self, now: float) -> None:
        """A slot came up, and nothing that waits is near it."""
        if self.since_s is None:
            self.since_s = now
        if self.idle_since_s is None or now - self.passed_s > BREAK_S:
            self.idle_since_s = now
        self.passed_s = now

    def launched(self, level: Level, now: float, node_s: float) -> None:
        """A task went to a worker at this distance."""
        if level is not Level.NODE:
            self.idle_since_s = None
        if level is Level.NODE:
            self.since_s = None
        elif level is Level.RACK:
            self.since_s = now - node_s
