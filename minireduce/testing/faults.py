"""Which faults a simulation meets: drawn per seed, aimed at moments, counted when they strike.

Seeds differ in kind, not only in detail: each draws its own weather (none, some, or a third of all messages lost), its
own few kinds of faults, and its own cluster. Some seeds are calm, as a control.

A fault waits for the n-th of a kind of moment ("a map runs", "rows are written") and strikes then, or a little later if
its condition still holds, else at the next such moment. What never strikes is counted as such. At `heal_s` all of it
ends: nothing strikes any more, what is down starts, what is cut is joined; from then on the job must come to its end.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

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


_MOMENTS: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.WORKER_KILLED_MAPPING: ("a map runs",),
    FaultKind.WORKER_KILLED_AFTER_MAPS: ("a map is done",),
    FaultKind.WORKER_KILLED_REDUCING: ("a reduce runs",),
    FaultKind.WORKER_STOPPED: ("a map runs", "a reduce runs", "a map is done"),
    FaultKind.WORKER_PAUSED: ("a map runs", "a reduce runs", "a map is done"),
    FaultKind.WORKER_SLOW: ("a map runs",),
    FaultKind.OUTPUT_LOST: ("a map is done", "a reduce is done"),
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
    def is_calm(self) -> bool:
        return not self.faults and not (self.weather.loss or self.weather.repeat or self.weather.reorder)


CALM = Plan(Weather(), (), 0.0)


def draw_plan(rng: random.Random) -> Plan:
    """The faults of one seed; one seed in ten is calm."""
    if rng.random() < 0.1:
        return CALM
    kinds = rng.sample(list(FaultKind), rng.randint(1, 5))
    faults = tuple(_draw_fault(rng, rng.choice(kinds)) for _ in range(rng.randint(3, 10)))
    faults[0].nth = 1  # so that something strikes
    return Plan(_draw_weather(rng), faults, heal_s=rng.uniform(15.0, 45.0))


def _draw_weather(rng: random.Random) -> Weather:
    slowest_s = rng.choice((0.005, 0.02, 0.2))
    if rng.random() < 0.4:
        return Weather(delay_s=(0.0005, slowest_s))
    return Weather(
        delay_s=(0.0005, slowest_s),
        loss=rng.choice((0.0, 0.01, 0.1, 0.3)),
        repeat=rng.choice((0.0, 0.05, 0.3)),
        reorder=rng.choice((0.0, 0.05, 0.3)),
    )


def _draw_fault(rng: random.Random, kind: FaultKind) -> Fault:
    moment = rng.choice(_MOMENTS[kind])
    is_rows = moment.startswith("rows")
    return Fault(
        kind,
        moment,
        nth=rng.randint(1, rng.choice((4, 60 if is_rows else 25))),
        delay_s=0.0 if kind in _IMMEDIATE else rng.choice((0.0, rng.uniform(0.0, 0.5))),
        # Shortly over ten seconds a worker counts as lost, but does not yet know it.
        seconds=rng.choice((rng.uniform(0.2, 4.0), rng.uniform(4.0, 25.0), rng.uniform(10.0, 15.0))),
        left=rng.choice(list(Left)),
    )
