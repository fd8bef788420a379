"""Choose which running attempts deserve a backup.

A job ends with its slowest task, so a free slot may run a second attempt of a task that is expected to end late.
Estimated times to the end are compared, not progress: the task that started last is behind, not slow. Input size is
divided out first, so a task with ten times the data is no straggler. After LATE (OSDI 2008).

What a fresh attempt would need is learnt from tasks of the same step and kind that have finished. What an attempt
still needs follows from the fraction of its input that it has read and the time that it took for that; and since a
machine that stands still reports no fraction at all, or an old one, never less than the time for which nothing was
heard: what has not moved for a minute may well not move for another. A machine that falls ill in the middle of a task
is found by the task's rate of late, where that is worse than its rate so far.

Invariants: one backup per task; at most max(1, 10 %) of the slots; never on the original's worker, another machine
preferred; never on a slow worker; the attempt that has the longest way to go first.
Elsewhere: what is looked at and when (stragglers.py), slow workers (slowness.py), killing the loser (state.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import field
from statistics import median

from minireduce.core.settings import ClusterSettings
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, TaskKind, WorkerId

PACE_TASKS_MAX = 100
"""So many of the latest finished tasks tell how long one takes now."""


@dataclass(slots=True)
class Pace:
    """How long tasks of one step and kind take. What was added counts only after `refresh`: a median is dear, and how
    long a task should take is asked far more often than it changes.
    """

    is_known: bool = False
    usual_s: float = 0.0
    usual_bytes: float = 0.0
    _latest: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_TASKS_MAX))
    _has_news: bool = False

    def add(self, seconds: float, input_bytes: int) -> None:
        """A task of so much input took so long."""
        self._latest.append((seconds, input_bytes))
        self._has_news = True

    def refresh(self) -> None:
        """Let what was added since count."""
        if self._has_news:
            self.usual_s = median(seconds for seconds, _ in self._latest)
            self.usual_bytes = median(input_bytes for _, input_bytes in self._latest)
            self.is_known, self._has_news = True, False

    def expected_s(self, input_bytes: int) -> float:
        """How long a task of so much input should take. One with little input gets the usual time all the same: a part
        of it, such as starting, does not depend on input.
        """
        return self.usual_s * max(1.0, input_bytes / self.usual_bytes) if self.usual_bytes else self.usual_s


@dataclass(frozen=True, slots=True)
class Underway:
    """How an attempt stands. `elapsed_s` counts from when it had its input and a slot, and is None before that.

    `still_s` is how long nothing new was heard of it, so `fraction` was true so long ago. `fraction_per_s` is its rate
    of late, 0 when too little was heard to tell.
    """

    elapsed_s: float | None
    fraction: float
    still_s: float
    fraction_per_s: float = 0.0


def remaining_s(attempt: Underway, expected_s: float) -> float:
    """How long an attempt may still need, if a usual one needs `expected_s`."""
    if attempt.elapsed_s is None:
        return attempt.still_s + expected_s
    if attempt.fraction <= 0.0:
        return max(expected_s - attempt.elapsed_s, attempt.still_s)
    left = 1.0 - attempt.fraction
    left_s = (attempt.elapsed_s - attempt.still_s) * left / attempt.fraction
    if attempt.fraction_per_s > 0.0:
        left_s = max(left_s, left / attempt.fraction_per_s)
    return max(left_s - attempt.still_s, attempt.still_s)


@dataclass(frozen=True, slots=True)
class Straggler:
    """An attempt that a fresh one may overtake.

    `avoided` are the workers on which its task runs, or should not be tried again; `node` is the machine on which it
    runs; `homes` lie near its input; `required_node` is the only machine that can read it, "" when all can.
    """

    attempt: AttemptId
    remaining_s: float
    fresh_s: float
    memory_bytes: int = 0
    avoided: frozenset[WorkerId] = frozenset()
    node: str = ""
    homes: tuple[str, ...] = ()
    required_node: str = ""


@dataclass(slots=True)
class FreeWorker:
    """A worker on a machine, with slots that no ordinary task wants, and its memory. `slots_claimed` will be taken by
    reduces that gather there: before the backup of a reduce has its input, they have theirs.
    """

    worker: WorkerId
    node: str
    slots_free: int
    memory_free_bytes: int = 0
    slots_claimed: int = 0

    def has_slot_for(self, attempt: AttemptId) -> bool:
        """Whether a backup of this attempt would find a slot."""
        return self.slots_free > (self.slots_claimed if attempt.task.kind is TaskKind.REDUCE else 0)


def is_straggler(remaining: float, fresh_s: float, age_s: float, settings: ClusterSettings) -> bool:
    """Whether a fresh attempt is expected to end clearly earlier than one of this age."""
    return (
        age_s >= max(settings.backup_age_s_min, fresh_s * settings.backup_age_fraction_min)
        and remaining - fresh_s >= settings.backup_gain_s_min
        and remaining >= fresh_s * settings.backup_gain_ratio_min
    )


def backups_max(slots: int, settings: ClusterSettings) -> int:
    """How many backups a cluster of so many slots may run at once."""
    return max(1, int(slots * settings.backup_slots_fraction))


def choose_backups(
    stragglers: Iterable[Straggler], places: Iterable[FreeWorker], count_max: int
) -> list[tuple[Straggler, WorkerId]]:
    """Which of them get a backup where, at most `count_max`; the one that would end last first. Takes from the room of
    the places what it gives away.
    """
    free = list(places)
    chosen: list[tuple[Straggler, WorkerId]] = []
    for straggler in sorted(stragglers, key=lambda each: (-each.remaining_s, each.attempt)):
        if len(chosen) >= count_max or not free:
            break
        place = choose_place(straggler, free)
        if place is not None:
            chosen.append((straggler, place.worker))
            place.slots_free -= 1
            place.memory_free_bytes -= straggler.memory_bytes
            if not place.slots_free:
                free.remove(place)
    return chosen


def choose_place(straggler: Straggler, places: Iterable[FreeWorker]) -> FreeWorker | None:
    """Where a backup of it should run: on another machine, then near its input, then where most is free."""
    fit = [
        place
        for place in places
        if place.worker not in straggler.avoided
        and straggler.required_node in ("", place.node)
        and straggler.memory_bytes <= place.memory_free_bytes
        and place.has_slot_for(straggler.attempt)
    ]
    return min(
        fit,
        key=lambda place: (place.node == straggler.node, place.node not in straggler.homes, -place.slots_free),
        default=None,
    )
