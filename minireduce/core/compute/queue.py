"""The tasks of one step and kind that wait for a slot: in order, by what they are near to, and those near to nothing.

A task that must be done again goes first, since others wait for it. Otherwise a worker is offered what lies near it
before what comes next in order, and of that, what fewest others are near to: they could take it, too, but only so long
as they have nothing else. Who may take how much is the scheduler's to say.

Entries are removed lazily: one counts while its task is in this queue, and near a place while that is among its homes.
The numbers of waiting tasks are exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from minireduce.core.compute.locality import NOWHERE, Homes, Level, Spot
from minireduce.core.compute.task import Task

LOOK_AHEAD_TASKS_MAX = 32
"""How many unsuitable tasks a worker may pass over before it is given none of a queue."""

CHOICES_COMPARED_MAX = 6
"""Among how many tasks near a worker the one is chosen that is near the fewest others."""

IsSuitable = Callable[[Task], bool]


class TaskQueue:
    """First come, first served, near work first."""

    def __init__(self) -> None:
        self.waiting = 0
        self._with_homes = 0  # of those that wait
        self._again: deque[Task] = deque()
        self._in_order: deque[Task] = deque()
        self._homeless: deque[Task] = deque()
        self._near: dict[str, deque[Task]] = {}
        self._in_rack: dict[str, deque[Task]] = {}
        self._near_counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return self.waiting > 0

    @property
    def has_again(self) -> bool:
        """Whether a task waits that was tried before."""
        return self._has(self._again, _always)

    @property
    def is_homeless(self) -> bool:
        """Whether all that wait are equally far from all workers."""
        return not self._with_homes

    @property
    def has_homeless(self) -> bool:
        """Whether a task waits that is equally far from all workers."""
        return self._has(self._homeless, _is_homeless)

    # ── who waits ───────────────────────────────────────────────────────────────────────────────────────────────────

    def push(self, task: Task, homes: Homes = NOWHERE) -> None:
        """Put a task at the end, or among the first when it was tried before."""
        task.queue = self
        task.homes = NOWHERE
        self.waiting += 1
        (self._again if task.attempts else self._in_order).append(task)
        self._settle(task, homes)

    def move(self, task: Task, homes: Homes) -> None:
        """The homes of a waiting task have changed."""
        if homes != task.homes:
            self._count_near(task, -1)
            self._settle(task, homes)

    def left(self, task: Task) -> None:
        """A task waits no more; called by the task, which is still in this queue."""
        self.waiting -= 1
        self._count_near(task, -1)

    def _settle(self, task: Task, homes: Homes) -> None:
        former, task.homes = task.homes, homes
        for node in homes.nodes:
            if node not in former.nodes:
                self._near.setdefault(node, deque()).append(task)
        for rack in homes.racks:
            if rack not in former.racks:
                self._in_rack.setdefault(rack, deque()).append(task)
        if not homes.nodes:
            self._homeless.append(task)
        self._count_near(task, 1)

    def _count_near(self, task: Task, change: int) -> None:
        if not task.homes.nodes:
            return
        self._with_homes += change
        for node in task.homes.nodes:
            self._near_counts[node] = self._near_counts.get(node, 0) + change

    # ── who goes next ───────────────────────────────────────────────────────────────────────────────────────────────

    def count_near(self, node: str) -> int:
        """How many waiting tasks have their input on this machine."""
        return self._near_counts.get(node, 0)

    def near_to(self, node: str) -> list[Task]:
        """Tasks that wait with their input on this machine, in order."""
        return [task for task in self._near.get(node, ()) if task.queue is self and node in task.homes.nodes]

    def again(self) -> list[Task]:
        """The first of those that were tried before."""
        first: list[Task] = []
        while len(first) < LOOK_AHEAD_TASKS_MAX and self._has(self._again, _always):
            first.append(self._again.popleft())
        self._again.extendleft(reversed(first))
        return first

    def choose(self, level: Level, spot: Spot, is_suitable: IsSuitable) -> Task | None:
        """The task so near that a worker at `spot` should take next; it waits until it is launched."""
        if level is Level.NODE:
            return self._choose_near(spot.node, is_suitable)
        if level is Level.RACK:
            in_rack = self._in_rack.get(spot.rack)
            return self._first(in_rack, lambda task: spot.rack in task.homes.racks, is_suitable) if in_rack else None
        return self._first(self._again, _always, is_suitable) or self._first(self._in_order, _always, is_suitable)

    def choose_homeless(self, is_suitable: IsSuitable) -> Task | None:
        """The first of those that are equally far from all workers."""
        return self._first(self._homeless, _is_homeless, is_suitable)

    def _choose_near(self, node: str, is_suitable: IsSuitable) -> Task | None:
        entries = self._near.get(node)
        if not entries or not self.count_near(node):
            return None
        compared: list[Task] = []
        met: list[Task] = []
        while entries and len(compared) < CHOICES_COMPARED_MAX and len(met) < LOOK_AHEAD_TASKS_MAX:
            task = entries.popleft()
            if task.queue is self and node in task.homes.nodes:
                met.append(task)
                if is_suitable(task):
                    compared.append(task)
        entries.extendleft(reversed(met))
        return min(compared, key=lambda task: self._others(task, node)) if compared else None

    def _others(self, task: Task, node: str) -> tuple[int, int]:
        """How well others could take the task: how many are near it, and what else the neediest of them would have."""
        counts = [self._near_counts[home] for home in task.homes.nodes if home != node]
        return len(counts), -min(counts, default=0)

    def _has(self, entries: deque[Task], is_one: IsSuitable) -> bool:
        while entries and not (entries[0].queue is self and is_one(entries[0])):
            entries.popleft()
        return bool(entries)

    def _first(self, entries: deque[Task], is_one: IsSuitable, is_suitable: IsSuitable) -> Task | None:
        passed: list[Task] = []
        while len(passed) < LOOK_AHEAD_TASKS_MAX and self._has(entries, is_one) and not is_suitable(entries[0]):
            passed.append(entries.popleft())
        found = entries[0] if len(passed) < LOOK_AHEAD_TASKS_MAX and entries else None
        entries.extendleft(reversed(passed))
        return found


def _always(_: Task) -> bool:
    return True


def _is_homeless(task: Task) -> bool:
    return not task.homes.nodes
