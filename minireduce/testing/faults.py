"""Which faults a simulation meets: drawn per seed, aimed at moments, counted when they strike.

Seeds differ in kind, not only in detail: each draws its own weather (none, some, or a tenth of all messages lost), its
own kinds of faults, and its own cluster.

A fault waits for the n-th of a kind of moment ("a map runs", "rows are written") and strikes then, or a little later if
its condition still holds, else at the next such moment. What never strikes is counted as such. At `heal_s` all of it
ends: nothing strikes any more, what is down starts, what is cut is joined; from then on the job must come to its end.

A seed proves something only if `STRIKES_MIN` of its faults struck, of `KINDS_MIN` kinds: enough are drawn for that, the
first of them early.
"""

from __future__ import annotations

import random
from enum import StrEnum

from minireduce.frozen import dataclass
from minireduce.testing.network import Weather


class Left(StrEnum):
    """What the end of a worker leaves of its disk. SOME: the machine went down before all was synced."""

    ALL = "its disk is kept"
    SOME = "its disk is kept in part"
    NOTHING = "its disk is lost"


class FaultKind(StrEnum):
    """What can be made to happen. The value is the name in reports."""

    WORKER_KILLED_MAPPING = "worker killed while mapping"
    WORKER_KILLED_AFTER_MAPS = "worker killed after its maps were done"
    WORKER_KILLED_REDUCING = "worker killed while reducing"
    WORKER_STOPPED = "worker stopped in good order"
    WORKER_PAUSED = "worker paused"
    WORKER_SLOW = "worker slowed down"
    OUTPUT_LOST = "output lost on a living worker"
    OUTPUT_DAMAGED = "output damaged on a living worker"
    COPY_DAMAGED = "fetched copy damaged"
    REPLICA_FLIPPED = "bit of a replica flipped"
    REPLICA_TORN = "replica cut short"
    REPLICA_MISDIRECTED = "write to one replica hit another"
    BLOCK_DISK_FULL = "block disk full"
    BLOCK_DISK_ERROR = "block disk failed to sync"
    STREAM_BROKEN = "stream broken"
    CUT_TO_MASTER = "link to the master cut"
    CUT_FROM_MASTER = "link from the master cut"
    CUT_BETWEEN_WORKERS = "link between workers cut"
    MASTER_KILLED = "master killed"
    MASTER_KILLED_BEFORE_DURABLE = "master killed between persist and durable"
    MASTER_KILLED_BEFORE_RELEASE = "master killed between durable and release"
    MASTER_PAUSED = "master paused"
    LOG_FULL = "log disk full"
    LOG_ERROR = "log sync failed"
    RACK_KILLED = "rack without power"
    RACK_CUT = "rack cut off from the master"
    MASTER_CLOCK_JUMPED = "master's clock jumped ahead"
    WORKER_CLOCK_JUMPED = "worker's clock jumped ahead"
    WALL_CLOCK_SET = "wall clock set"
    MASTER_OLD_COPY = "master started on an old copy of its metadata"
    WORKER_GHOST = "older process of a worker spoke up again"


_MOMENTS: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.WORKER_KILLED_MAPPING: ("a map runs",),
    FaultKind.WORKER_KILLED_AFTER_MAPS: ("a map is done",),
    FaultKind.WORKER_KILLED_REDUCING: ("a reduce runs",),
    FaultKind.WORKER_STOPPED: ("a map runs", "a reduce runs", "a map is done"),
    FaultKind.WORKER_PAUSED: ("a map runs", "a reduce runs", "a map is done"),
    FaultKind.WORKER_SLOW: ("a map runs",),
    FaultKind.OUTPUT_LOST: ("a map is done", "a reduce is done"),
    FaultKind.OUTPUT_DAMAGED: ("a map is done", "a reduce is done"),
    FaultKind.COPY_DAMAGED: ("a run is fetched",),
    FaultKind.REPLICA_FLIPPED: ("a replica is stored", "a map runs"),
    FaultKind.REPLICA_TORN: ("a replica is stored", "a map runs"),
    FaultKind.REPLICA_MISDIRECTED: ("a replica is stored", "a map runs"),
    FaultKind.BLOCK_DISK_FULL: ("a replica is stored",),
    FaultKind.BLOCK_DISK_ERROR: ("a replica is stored",),
    FaultKind.STREAM_BROKEN: ("a map runs", "a map is done", "a reduce is done"),
    FaultKind.CUT_TO_MASTER: ("a map runs", "a reduce runs"),
    FaultKind.CUT_FROM_MASTER: ("a map runs", "a map is done"),
    FaultKind.CUT_BETWEEN_WORKERS: ("a map is done",),
    FaultKind.MASTER_KILLED: ("a map runs", "a map is done", "a reduce runs", "a reduce is done"),
    FaultKind.MASTER_KILLED_BEFORE_DURABLE: ("rows are written",),
    FaultKind.MASTER_KILLED_BEFORE_RELEASE: ("rows are durable",),
    FaultKind.MASTER_PAUSED: ("a map runs", "a reduce runs"),
    FaultKind.LOG_FULL: ("rows are durable",),
    FaultKind.LOG_ERROR: ("rows are written",),
    FaultKind.RACK_KILLED: ("a map runs", "a map is done", "a reduce runs"),
    FaultKind.RACK_CUT: ("a map runs", "a reduce runs"),
    FaultKind.MASTER_CLOCK_JUMPED: ("a map runs", "a reduce runs"),
    FaultKind.WORKER_CLOCK_JUMPED: ("a map runs", "a reduce runs"),
    FaultKind.MASTER_OLD_COPY: ("a map is done", "a reduce runs"),
    FaultKind.WORKER_GHOST: ("a map runs", "a reduce runs", "a map is done"),
    FaultKind.WALL_CLOCK_SET: ("a map runs", "a reduce is done"),
}

_IMMEDIATE = frozenset(
    {
        FaultKind.MASTER_KILLED_BEFORE_DURABLE,
        FaultKind.MASTER_KILLED_BEFORE_RELEASE,
        FaultKind.LOG_FULL,
        FaultKind.LOG_ERROR,
    }
)


@dataclass(slots=True)
class Fault:
    """One fault: at the `nth` of `moment`, after `delay_s`, for `seconds`. `left` is of a worker's death."""

    kind: FaultKind
    moment: str
    nth: int
    delay_s: float
    seconds: float
    left: Left
    has_struck: bool = False

    def __str__(self) -> str:
        return f"{self.kind} (at number {self.nth} of {self.moment!r}, for {self.seconds:.1f} s)"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one seed meets."""

    weather: Weather
    faults: tuple[Fault, ...]
    heal_s: float

    @property
    def lacks_strikes(self) -> bool:
        """Whether too little has struck for the run to prove anything."""
        struck = [fault.kind for fault in self.faults if fault.has_struck]
        return len(struck) < STRIKES_MIN or len(set(struck)) < KINDS_MIN


CALM = Plan(Weather(), (), 0.0)
STRIKES_MIN = 5
KINDS_MIN = 3


OF_BLOCKS = (
    FaultKind.REPLICA_FLIPPED,
    FaultKind.REPLICA_TORN,
    FaultKind.REPLICA_MISDIRECTED,
    FaultKind.BLOCK_DISK_FULL,
    FaultKind.BLOCK_DISK_ERROR,
)
"""Faults of disks that hold blocks: drawn only where there are some."""

SURE = (
    FaultKind.WORKER_KILLED_MAPPING,
    FaultKind.WORKER_PAUSED,
    FaultKind.WORKER_SLOW,
    FaultKind.WORKER_STOPPED,
    FaultKind.STREAM_BROKEN,
    FaultKind.CUT_TO_MASTER,
    FaultKind.CUT_FROM_MASTER,
    FaultKind.MASTER_KILLED_BEFORE_DURABLE,
    FaultKind.MASTER_KILLED_BEFORE_RELEASE,
    FaultKind.RACK_CUT,
)
"""What finds its moment in nearly every run: some of these in each, so that it proves something."""


def draw_plan(rng: random.Random, *, has_blocks: bool) -> Plan:
    """The faults of one seed."""
    possible = [kind for kind in FaultKind if has_blocks or kind not in OF_BLOCKS]
    kinds = [*rng.sample(SURE, KINDS_MIN), *rng.sample(possible, rng.randint(2, 5))]
    if has_blocks:
        kinds.append(rng.choice(OF_BLOCKS[:3]))
    first = [_draw_fault(rng, kind, nth_max=8) for kind in kinds]
    more = [_draw_fault(rng, rng.choice(kinds), nth_max=100) for _ in range(rng.randint(4, 8))]
    return Plan(_draw_weather(rng), (*first, *more), heal_s=rng.uniform(20.0, 50.0))


def _draw_weather(rng: random.Random) -> Weather:
    slowest_s = rng.choice((0.005, 0.02, 0.2))
    if rng.random() < 0.4:
        return Weather(delay_s=(0.0005, slowest_s))
    return Weather(
        delay_s=(0.0005, slowest_s),
        loss=rng.choice((0.0, 0.01, 0.05, 0.1)),
        repeat=rng.choice((0.0, 0.05, 0.3)),
        reorder=rng.choice((0.0, 0.05, 0.3)),
    )


def _draw_fault(rng: random.Random, kind: FaultKind, nth_max: int) -> Fault:
    moment = rng.choice(_MOMENTS[kind])
    return Fault(
        kind,
        moment,
        nth=rng.randint(1, rng.choice((4, nth_max))),
        delay_s=0.0 if kind in _IMMEDIATE else rng.choice((0.0, rng.uniform(0.0, 0.5))),
        # Shortly over ten seconds a worker counts as lost, but does not yet know it.
        seconds=rng.choice((rng.uniform(0.2, 4.0), rng.uniform(4.0, 25.0), rng.uniform(10.0, 15.0))),
        left=rng.choice(list(Left)),
    )
