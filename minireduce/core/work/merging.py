"""Decide when a slot that nothing else wants merges ahead for a reduce that waits for other maps.

A reduce with more runs than it may merge at once brings them together in groups first. Such a group may be made while
the reduce still waits, once as many neighbouring runs are here as go into it, and enough in all that it is sure to be
one (`engine.merge_ahead`). What goes into one depends on the program, so the first answer of a process tells; before
that, one is asked only for a reduce with `merge_runs_min` runs.

A slot must have been free for `merge_after_s`, since between two maps it always is for a moment. When an attempt wants
a slot, all merging is broken off, which costs what the group at hand had come to. A reduce that is ready itself waits
for the end of its group: it would make that first of all.

Invariants: one group at a time for each attempt, which does not start before that has ended; what was merged is given
to the attempt only if its runs are still those that went into it. The runs stay, so whatever becomes of a merge, the
attempt lacks nothing. Not here: bringing runs here (fetches.py), damage in them, which the attempt itself will find.
"""

from __future__ import annotations

from dataclasses import field

from minireduce.core.settings import WorkerSettings
from minireduce.core.spec import StepSpec
from minireduce.core.work.attempts import Attempts, InputRun, Killed, MergedGroup
from minireduce.core.work.fetches import Fetches, Inputs
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class GroupMerged:
    """The first `count` of the runs are one. `at_once` of an attempt's make a group, until `runs_max` are left."""

    count: int
    bytes_total: int
    pairs: int
    at_once: int
    runs_max: int


@dataclass(frozen=True, slots=True)
class NotMerged:
    """Nothing was made: there must be more runs (the numbers as in `GroupMerged`), or, with 0, it is not to be done."""

    at_once: int = 0
    runs_max: int = 0


MergeOutcome = GroupMerged | NotMerged | Killed


@dataclass(frozen=True, slots=True)
class MergeEnded:
    """A merge came to an end. Exactly one follows each `StartMerge`, stopped or not."""

    attempt: AttemptId
    outcome: MergeOutcome


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StartMerge:
    """Make the next group of a waiting attempt from `runs`, which begin at the place `first` and follow each other.

    Of all its runs `runs_here` that are not empty are at hand, with `bytes_here` at least; so many groups were made.
    """

    attempt: AttemptId
    step: StepSpec
    partition: int
    first: int
    runs: tuple[InputRun, ...]
    runs_here: int
    bytes_here: int
    groups_before: int


@dataclass(frozen=True, slots=True)
class StopMerge:
    """End what is merged for this attempt."""

    attempt: AttemptId


# ── what is known of an attempt that waits ──────────────────────────────────────────────────────────────────────────

RUNS_ASKED_MAX = 256
"""Runs that a process is given before it said how many it takes."""


@dataclass(slots=True)
class _Plan:
    """How far an attempt is. `at_once` 0: not known yet. `groups`, each with what went into it."""

    at_once: int = 0
    runs_max: int = 0
    place: int = 0
    groups: list[tuple[MergedGroup, tuple[InputRun, ...]]] = field(default_factory=list)
    is_over: bool = False

    def is_due(self, runs_here: int, runs_min: int) -> bool:
        """Whether the next group is sure to be one, as far as is known."""
        if not self.at_once:
            return runs_here >= runs_min
        return runs_here >= self.runs_max + (len(self.groups) + 1) * (self.at_once - 1)

    def row(self, inputs: Inputs) -> tuple[InputRun, ...]:
        """The runs at hand that follow each other, as many as go into a group; none if they are fewer."""
        row: list[InputRun] = []
        filled = 0
        most = self.at_once or RUNS_ASKED_MAX
        for task in inputs.tasks[self.place :]:
            if filled == most or task not in inputs.runs:
                break
            row.append(inputs.runs[task])
            filled += task in inputs.sizes
        return tuple(row) if filled >= max(self.at_once, 1) else ()


@dataclass(slots=True)
class _UnderWay:
    order: StartMerge
    is_stopping: bool = False


class Merging:
    """What is merged ahead on one worker. `attempts` and `fetches` are those of its assignments."""

    def __init__(self, attempts: Attempts, fetches: Fetches, settings: WorkerSettings) -> None:
        self._attempts = attempts
        self._fetches = fetches
        self._settings = settings
        self._plans: dict[AttemptId, _Plan] = {}
        self._under_way: dict[AttemptId, _UnderWay] = {}
        self._wanted_at = 0.0  # when slots were wanted last

    def plan(self, now: float) -> list[StartMerge | StopMerge]:
        """What to begin and what to break off now, once attempts have got what they can."""
        if not self._settings.merges_ahead:
            return []
        if self._attempts.want_slots:
            self._wanted_at = now
            return [stop for attempt in self._under_way for stop in self._stop(attempt)]
        if self._attempts.free_slots <= 0:
            if not self._under_way:
                self._wanted_at = now
            return []
        if now - self._wanted_at < self._settings.merge_after_s:
            return []
        return self._begin_some()

    def take(self, attempt: AttemptId, runs: tuple[InputRun, ...]) -> tuple[MergedGroup, ...]:
        """An attempt starts with these runs: what was merged of them."""
        plan = self._plans.pop(attempt, None)
        if plan is None:
            return ()
        return tuple(group for group, parts in plan.groups if runs[group.first : group.first + group.count] == parts)

    def drop(self, attempt: AttemptId) -> list[StopMerge]:
        """An attempt ended before it started: nothing is to be merged for it."""
        self._plans.pop(attempt, None)
        return self._stop(attempt) if attempt in self._under_way else []

    def ended(self, event: MergeEnded) -> None:
        """Note what became of a merge."""
        order = self._under_way.pop(event.attempt).order
        self._attempts.end_merge(event.attempt)
        plan = self._plans.get(event.attempt)
        if plan is None:
            return  # its attempt ended meanwhile
        match event.outcome:
            case GroupMerged(count, bytes_total, pairs, at_once, runs_max):
                plan.at_once, plan.runs_max = at_once, runs_max
                plan.place = order.first + count
                group = MergedGroup(order.first, count, bytes_total, pairs)
                plan.groups.append((group, order.runs[:count]))
            case NotMerged(at_once, runs_max):
                is_news = (at_once, runs_max) != (plan.at_once, plan.runs_max)
                plan.is_over = not at_once or not is_news
                plan.at_once, plan.runs_max = at_once, runs_max
            case Killed():
                pass  # a slot was wanted: it is tried again

    def _stop(self, attempt: AttemptId) -> list[StopMerge]:
        under_way = self._under_way[attempt]
        if under_way.is_stopping:
            return []
        under_way.is_stopping = True
        return [StopMerge(attempt)]

    def _begin_some(self) -> list[StartMerge | StopMerge]:
        begun: list[StartMerge | StopMerge] = []
        for inputs in self._fetches.waiting_for_partitions():
            order = self._next(inputs)
            if order is None:
                continue
            attempt = self._attempts.get(inputs.attempt)
            if attempt is None or not self._attempts.begin_merge(attempt):
                break
            self._under_way[inputs.attempt] = _UnderWay(order)
            begun.append(order)
        return begun

    def _next(self, inputs: Inputs) -> StartMerge | None:
        attempt = self._attempts.get(inputs.attempt)
        plan = self._plans.get(inputs.attempt) or _Plan()
        if attempt is None or inputs.attempt in self._under_way or plan.is_over:
            return None
        if not plan.is_due(len(inputs.sizes), self._settings.merge_runs_min):
            return None
        runs = plan.row(inputs)
        if not runs:
            return None
        self._plans[inputs.attempt] = plan
        return StartMerge(
            inputs.attempt,
            attempt.step,
            inputs.partition,
            plan.place,
            runs,
            runs_here=len(inputs.sizes),
            bytes_here=sum(inputs.sizes.values()),
            groups_before=len(plan.groups),
        )
