"""What each worker is busy with: its slots and memory, the attempts on it, and the jobs that were opened there."""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from minireduce.core.compute.locality import NO_SPOT, Spot
from minireduce.core.compute.task import Attempt, AttemptState, Task
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind


@dataclass(slots=True)
class WorkerLoad:
    """One worker's work. A map attempt holds a slot and its memory from its launch on, a reduce attempt once it has all
    its input; until then it is `gathering`, and of each step only as many may gather as there are slots: what others
    gather may wait for this very step, even by way of another job, and nobody would ever go on.
    """

    slots: int  # fewer than it has while it is slow
    memory_bytes: int = 0
    spot: Spot = NO_SPOT
    is_slow: bool = False
    freed_s: float = 0.0  # when an attempt last ended here
    attempts: dict[AttemptId, tuple[Task, Attempt]] = field(default_factory=dict)
    outputs: dict[TaskId, Task] = field(default_factory=dict)
    copies: dict[TaskId, Task] = field(default_factory=dict)  # parts whose winner is on another worker
    opened: dict[JobId, None] = field(default_factory=dict)
    slots_used: int = 0
    memory_used_bytes: int = 0
    gathering: Counter[tuple[JobId, int]] = field(default_factory=Counter)  # of which step

    @property
    def slots_free(self) -> int:
        return self.slots - self.slots_used

    def has_memory_for(self, memory_limit_bytes: int) -> bool:
        """Whether an attempt with this limit fits beside those that run."""
        return self.memory_used_bytes + memory_limit_bytes <= self.memory_bytes

    def could_hold(self, memory_limit_bytes: int) -> bool:
        """Whether an attempt with this limit would fit if nothing ran here."""
        return memory_limit_bytes <= self.memory_bytes

    def gathering_for(self, job: JobId, step: int) -> int:
        """How many reduces of this step gather here."""
        return self.gathering.get((job, step), 0)

    @property
    def attempts_per_slot(self) -> float:
        """How busy the worker is, and is going to be."""
        return len(self.attempts) / max(self.slots, 1)

    def keep(self, task: Task) -> None:
        """The output of a task's winner is here, unless it is one that needs no place."""
        if task.winner is not None and not task.winner.output.is_empty_part:
            self.outputs[task.id] = task

    def add(self, task: Task, attempt: Attempt) -> int:
        """An attempt was placed here. Gives back how many slots it takes by that."""
        self.attempts[attempt.id] = (task, attempt)
        return self._count(task, attempt, 1)

    def remove(self, task: Task, attempt: Attempt) -> int:
        """It is about to end: called while its state is still the live one. Gives back the change in slots used."""
        if self.attempts.pop(attempt.id, None) is None:
            return 0
        return self._count(task, attempt, -1)

    def start(self, task: Task) -> int:
        """A launched attempt of this task begins to run. Gives back the change in slots used."""
        if task.id.kind is not TaskKind.REDUCE:
            return 0
        self._count_gathering(task.id, -1)
        return self._take(task, 1)

    def _count(self, task: Task, attempt: Attempt, change: int) -> int:
        if task.id.kind is TaskKind.REDUCE and attempt.state is AttemptState.LAUNCHED:
            self._count_gathering(task.id, change)
            return 0
        return self._take(task, change)

    def _take(self, task: Task, change: int) -> int:
        self.slots_used += change
        self.memory_used_bytes += change * task.memory_limit_bytes
        return change

    def _count_gathering(self, task: TaskId, change: int) -> None:
        self.gathering[task.job, task.step] += change
        if not self.gathering[task.job, task.step]:
            del self.gathering[task.job, task.step]
