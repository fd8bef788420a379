"""What each worker is busy with: its slots, the attempts on it, and the jobs that were opened there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from minireduce.core.compute.task import Attempt, AttemptState, Task
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind


@dataclass(slots=True)
class WorkerLoad:
    """One worker's work. A map attempt holds a slot from its launch on, a reduce attempt once it has all its input;
    until then it is `gathering`, and of each step only as many may gather as there are slots: what others gather may
    wait for this very step, even by way of another job, and nobody would ever go on.
    """

    slots: int
    attempts: dict[AttemptId, tuple[Task, Attempt]] = field(default_factory=dict)
    outputs: dict[TaskId, Task] = field(default_factory=dict)
    opened: dict[JobId, None] = field(default_factory=dict)
    slots_used: int = 0
    gathering: Counter[tuple[JobId, int]] = field(default_factory=Counter)  # of which step

    @property
    def slots_free(self) -> int:
        return self.slots - self.slots_used

    def gathering_for(self, job: JobId, step: int) -> int:
        """How many reduces of this step gather here."""
        return self.gathering.get((job, step), 0)

    @property
    def attempts_per_slot(self) -> float:
        """How busy the worker is, and is going to be."""
        return len(self.attempts) / max(self.slots, 1)

    def add(self, task: Task, attempt: Attempt) -> None:
        """An attempt was placed here."""
        self.attempts[attempt.id] = (task, attempt)
        self._count(attempt, 1)

    def remove(self, attempt: Attempt) -> None:
        """It is about to end: called while its state is still the live one."""
        if self.attempts.pop(attempt.id, None) is not None:
            self._count(attempt, -1)

    def start(self, attempt: Attempt) -> None:
        """It is about to be RUNNING: called while it is still LAUNCHED."""
        if attempt.id.task.kind is TaskKind.REDUCE:
            self._count_gathering(attempt.id.task, -1)
            self.slots_used += 1

    def _count(self, attempt: Attempt, change: int) -> None:
        if attempt.id.task.kind is TaskKind.REDUCE and attempt.state is AttemptState.LAUNCHED:
            self._count_gathering(attempt.id.task, change)
        else:
            self.slots_used += change

    def _count_gathering(self, task: TaskId, change: int) -> None:
        self.gathering[task.job, task.step] += change
        if not self.gathering[task.job, task.step]:
            del self.gathering[task.job, task.step]
