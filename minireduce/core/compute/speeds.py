"""What attempts tell of the speed of tasks and of workers, as they start and end.

How long a task takes is kept with its step (`Pace`, speculation.py), how fast a worker is here, and nothing of it
outlives the master.

Elsewhere: who is slow by that (slowness.py), what follows for attempts that run (stragglers.py).
"""

from __future__ import annotations

from collections.abc import Callable

from minireduce.core.compute.inputs import Inputs
from minireduce.core.compute.job import Step
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.slowness import WorkerSpeed
from minireduce.core.compute.speculation import Underway, remaining_s
from minireduce.core.compute.task import Attempt, Task
from minireduce.core.settings import ClusterSettings
from minireduce.ids import TaskKind, WorkerId


class Speeds:
    """How fast each worker has been of late."""

    def __init__(self, settings: ClusterSettings, inputs: Inputs, load_of: Callable[[WorkerId], WorkerLoad]) -> None:
        self._settings = settings
        self._inputs = inputs
        self._load_of = load_of
        self._workers: dict[WorkerId, WorkerSpeed] = {}

    def started(self, step: Step, task: Task, attempt: Attempt, now: float) -> None:
        """An attempt is about to run: how long did a reduce wait for its input, its wait for a slot left out?"""
        if task.id.kind is TaskKind.REDUCE:
            step.maps_done_s = now if step.maps_done_s is None else step.maps_done_s
            is_late = attempt.launched_s > step.maps_done_s
            since_s = max(attempt.launched_s, step.maps_done_s, self._load_of(attempt.worker).freed_s)
            step.gather_paces[is_late].add(now - since_s, task.input_bytes)

    def finished(self, step: Step, task: Task, attempt: Attempt, now: float) -> None:
        """An attempt is about to succeed: how long did such a task take, here?"""
        if attempt.started_s is None:
            return
        elapsed_s = now - attempt.started_s
        input_bytes = self._inputs.bytes_of(step, task)
        pace = step.paces[task.id.kind]
        if pace.is_known:
            self._tell_speed(attempt.worker, pace.expected_s(input_bytes), elapsed_s, now)
        pace.add(elapsed_s, input_bytes)

    def overtaken(self, step: Step, task: Task, attempt: Attempt, now: float) -> None:
        """An attempt is about to be ended because another was first."""
        pace = step.paces[task.id.kind]
        if pace.is_known and attempt.started_s is not None:
            expected_s = pace.expected_s(self._inputs.bytes_of(step, task))
            total_s = now - attempt.started_s + remaining_s(underway(attempt, now), expected_s)
            self._tell_speed(attempt.worker, expected_s, total_s, now)

    def _tell_speed(self, worker: WorkerId, expected_s: float, needed_s: float, now: float) -> None:
        if expected_s >= self._settings.slow_worker_task_s_min:
            self._workers.setdefault(worker, WorkerSpeed()).add(expected_s / max(needed_s, 1e-3), now)

    def forget_worker(self, worker: WorkerId) -> None:
        """The worker starts afresh, or is gone."""
        self._workers.pop(worker, None)

    def judge(self, overdue: dict[WorkerId, list[float]], now: float) -> list[tuple[WorkerId, WorkerSpeed]]:
        """Decide anew who is slow, with the speeds of what is overdue; those of whom another thing is thought now."""
        for worker in overdue:
            self._workers.setdefault(worker, WorkerSpeed())
        workers = self._workers.items()
        return [
            (worker, speed) for worker, speed in workers if speed.judge(overdue.get(worker, ()), now, self._settings)
        ]


def underway(attempt: Attempt, now: float, since_s: float | None = None) -> Underway:
    """How far an attempt is; `since_s`: from when it could have got on, else its launch."""
    elapsed_s = now - attempt.started_s if attempt.started_s is not None else None
    still_s = now - max(attempt.moved_s, attempt.launched_s if since_s is None else since_s)
    return Underway(elapsed_s, attempt.fraction, still_s, attempt.fraction_per_s)
