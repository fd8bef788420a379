"""The tasks of one step and kind that wait for a slot, in order, with the work that is near each worker at hand.

A task that must be done again goes first, since others wait for it. A worker is offered what lies near it before what
comes next in order. A task does not go back to a worker on which it failed while another worker could take it.

Entries are removed lazily: `Task.is_queued` says whether an entry still counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from minireduce.core.compute.task import Task
from minireduce.ids import WorkerId

LOOK_AHEAD_TASKS_MAX = 32
"""How many unsuitable tasks a worker may pass over before it is given none of a queue."""

Avoids = Callable[[Task, WorkerId], bool]


class TaskQueue:
    """First come, first served, near work first."""

    def __init__(self) -> None:
        self._again: deque[Task] = deque()
        self._in_order: deque[Task] = deque()
        self._near: dict[WorkerId, deque[Task]] = {}

    def push(self, task: Task, homes: Iterable[WorkerId] = ()) -> None:
        """Put a task at the end, or among the first when it was tried before."""
        task.is_queued = True
        task.homes = tuple(homes)
        (self._again if task.attempts else self._in_order).append(task)
        for worker in task.homes:
            self._near.setdefault(worker, deque()).append(task)

    def choose_for(self, worker: WorkerId, avoids: Avoids) -> Task | None:
        """The task that `worker` should take next; it stays queued until it is launched."""
        for entries in (self._again, self._near.get(worker), self._in_order):
            if entries:
                task = _first(entries, worker, avoids)
                if task is not None:
                    return task
        return None

    def __bool__(self) -> bool:
        return any(_has_entries(entries) for entries in (self._again, self._in_order))


def _has_entries(entries: deque[Task]) -> bool:
    while entries and not entries[0].is_queued:
        entries.popleft()
    return bool(entries)


def _first(entries: deque[Task], worker: WorkerId, avoids: Avoids) -> Task | None:
    if not _has_entries(entries):
        return None
    for task in islice(entries, LOOK_AHEAD_TASKS_MAX):
        if task.is_queued and not avoids(task, worker):
            return task
    return None
