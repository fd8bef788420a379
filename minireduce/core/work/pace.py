"""How long the tasks of a step take here, and so how many of them a task process is given at once.

A batch is as long as `batch_s` is expected to hold: then handing it over, and waking up for its end, costs little for
each task, and yet nothing is behind another for long. Before the first task of a step has ended here none is batched,
nor is a step whose tasks print, since what comes from a process belongs to the attempt that it was given.
"""

from __future__ import annotations

from minireduce.core.settings import WorkerSettings
from minireduce.ids import TaskId, TaskKind

_NEWEST_WEIGHT = 0.125


class Paces:
    """Of the steps of one job."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._means_s: dict[tuple[int, TaskKind], float] = {}
        self._are_alone: dict[tuple[int, TaskKind], None] = {}

    def ended(self, task: TaskId, busy_s: float) -> None:
        """A task has ended, for which its process worked so long."""
        step = (task.step, task.kind)
        mean_s = self._means_s.get(step)
        self._means_s[step] = busy_s if mean_s is None else mean_s + _NEWEST_WEIGHT * (busy_s - mean_s)

    def keep_alone(self, task: TaskId) -> None:
        """Tasks like this one must each have their process for themselves."""
        self._are_alone[task.step, task.kind] = None

    def batch_size(self, task: TaskId) -> int:
        """How many tasks like this one to hand over at once."""
        step = (task.step, task.kind)
        mean_s = self._means_s.get(step)
        if mean_s is None or step in self._are_alone or task.kind is not TaskKind.MAP:
            return 1
        fitting = int(self._settings.batch_s / max(mean_s, 1e-6))
        return max(1, min(fitting, self._settings.batch_tasks_max))
