"""One job: its steps, their tasks, and which of them are wanted.

What is wanted follows from the end: every part of the last step is; a map output is while some reduce of its step has
not all its input yet; a part between steps is while the map task that reads it has not. So an output that is gone is
made again only when somebody still needs it, and what it needs in turn is made again too (`queue_wanted`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import field

from minireduce.core.compute.ahead import Brevity
from minireduce.core.compute.locality import Homes, LocalityWait
from minireduce.core.compute.queue import TaskQueue
from minireduce.core.compute.speculation import Pace
from minireduce.core.compute.task import ATTEMPTS_PER_EPOCH_MAX, Attempt, Task, TaskState, Winner
from minireduce.core.spec import JobSpec, LocalFiles, StepSpec
from minireduce.core.task_data import Counters, OutputSource
from minireduce.core.views import AttemptError, JobState, SkippedView
from minireduce.frozen import dataclass
from minireduce.ids import JobId, TaskId, TaskKind, WorkerId

FindHomes = Callable[["Step", Task], Homes]
"""Where a map task's input lies."""


OWN_GROUP = "minireduce"
"""The group of the counters that every job has."""


@dataclass(slots=True)
class Step:
    """One map and, unless it is map-only, one reduce.

    `ready` logs finished map outputs in the order of their commits; a later entry replaces an earlier one of its task.
    `paces`: how long its tasks take, `brevity`: how long its maps keep a process busy; `maps_done_s`: since when all
    its maps were seen to be done. `gather_paces`: how long a reduce waits after that for its input, when it was placed
    before that (False) or later (True).
    """

    index: int
    spec: StepSpec
    maps: list[Task]
    reduces: list[Task]
    maps_done: int = 0
    reduces_done: int = 0
    are_reduces_open: bool = False
    running: dict[TaskId, Task] = field(default_factory=dict)  # those with a live attempt, the longest first
    waiting_maps: TaskQueue = field(default_factory=TaskQueue)
    waiting_reduces: TaskQueue = field(default_factory=TaskQueue)
    locality_wait: LocalityWait = field(default_factory=LocalityWait)
    ready: list[OutputSource] = field(default_factory=list)
    looked_at: int = 0  # up to which map the homes were looked up again
    homes_doubted: int = 0  # of so many maps from there on the homes may be others by now
    paces: dict[TaskKind, Pace] = field(default_factory=lambda: {kind: Pace() for kind in TaskKind})
    gather_paces: dict[bool, Pace] = field(default_factory=lambda: {False: Pace(), True: Pace()})
    maps_done_s: float | None = None
    brevity: Brevity = field(default_factory=Brevity)

    @property
    def finals(self) -> list[Task]:
        """The tasks whose parts are what the step leaves."""
        return self.reduces if self.spec.reducers else self.maps

    @property
    def are_finals_done(self) -> bool:
        return (self.reduces_done if self.spec.reducers else self.maps_done) == len(self.finals)

    def tasks(self) -> Iterator[Task]:
        """All tasks, maps first."""
        yield from self.maps
        yield from self.reduces

    def next_waiting_maps(self, most: int) -> list[Task]:
        """Some maps that wait; others each time, until all had their turn."""
        turn = self.maps[self.looked_at : self.looked_at + most * 10]
        waiting = [task for task in turn if task.queue is self.waiting_maps][:most]
        passed = waiting[-1].id.index + 1 - self.looked_at if len(waiting) == most else len(turn)
        self.looked_at = (self.looked_at + passed) % len(self.maps)
        self.homes_doubted = max(0, self.homes_doubted - passed)
        return waiting

    def may_open_reduces(self, reduce_start_fraction: float) -> bool:
        """Whether enough maps are done for fetching to begin, and it has not begun."""
        return not self.are_reduces_open and self.maps_done >= len(self.maps) * reduce_start_fraction

    def count_done(self, task: Task, change: int) -> None:
        """A task became done (+1) or is done no longer (-1)."""
        if task.id.kind is TaskKind.MAP:
            self.maps_done += change
        else:
            self.reduces_done += change


@dataclass(slots=True)
class Job:
    """A job while it runs, and while its result is kept. `sequence` orders jobs by submission."""

    id: JobId
    key: str
    spec: JobSpec
    sequence: int
    submitted_at: float
    started_s: float
    steps: list[Step]
    state: JobState = JobState.RUNNING
    complete_s: float | None = None  # since when every part is there
    ended_s: float | None = None
    live_attempts: int = 0
    slots_used: int = 0
    served_s: float = 0.0  # when it last got a slot, or was submitted
    turn: int = 0  # its last one among all that any job had; 0 until it got a slot
    is_starved: bool = False  # below its share for so long that it takes any slot
    errors: list[AttemptError] = field(default_factory=list)
    reason: str = ""
    skipped_records: int = 0  # found to be bad, in all tasks
    sums: dict[tuple[str, str], int] = field(default_factory=dict)  # of counters, by group and name
    counted: dict[str, int] = field(default_factory=dict)  # by the scheduler itself, by name
    counted_durably: dict[str, int] = field(default_factory=dict)
    looked_at_s: float = -math.inf  # when that was last compared
    unwritten: list[Attempt] = field(default_factory=list)  # that ended, for the history
    history_written_s: float = -math.inf
    troubles: dict[WorkerId, dict[TaskId, None]] = field(default_factory=dict)  # tasks that fared badly on a worker
    excluded: tuple[WorkerId, ...] = ()  # workers that get no more of this job
    disagreed: dict[TaskId, None] = field(default_factory=dict)  # tasks of which two attempts wrote different pairs
    required_machine_id: str = field(init=False)  # whose disk holds some of the input; "": any worker can read it

    def __post_init__(self) -> None:
        local = (split.machine_id for split in self.spec.splits if isinstance(split, LocalFiles))
        self.required_machine_id = next(local, "")

    def task(self, task: TaskId) -> Task | None:
        """The task of this id, None when the job has no such task."""
        if task.step >= len(self.steps):
            return None
        step = self.steps[task.step]
        tasks = step.maps if task.kind is TaskKind.MAP else step.reduces
        return tasks[task.index] if task.index < len(tasks) else None

    def tasks(self) -> Iterator[Task]:
        """All tasks in order of steps."""
        for step in self.steps:
            yield from step.tasks()

    @property
    def has_waiting(self) -> bool:
        """Whether any task waits for a slot."""
        return any(step.waiting_maps.waiting or step.waiting_reduces.waiting for step in self.steps)

    @property
    def wants_slots(self) -> bool:
        """Whether any task waits that takes a slot at once."""
        return any(step.waiting_maps.waiting for step in self.steps)

    @property
    def is_complete(self) -> bool:
        """Whether every part of the last step is there."""
        return self.steps[-1].are_finals_done

    def is_final(self, task: Task) -> bool:
        """Whether what the task leaves is a part of the last step."""
        last = self.steps[-1]
        return task.id.step == last.index and (task.id.kind is TaskKind.REDUCE or not last.spec.reducers)

    def consumer(self, task: Task) -> Task | None:
        """The map task of the next step that reads this part; None for map outputs and for the last step."""
        step = self.steps[task.id.step]
        is_final = task.id.kind is TaskKind.REDUCE or not step.spec.reducers
        if not is_final or step.index + 1 == len(self.steps):
            return None
        return self.steps[step.index + 1].maps[task.id.index]

    def queue_wanted(self, homes: FindHomes, reduce_start_fraction: float) -> None:
        """Queue each pending task that is wanted and whose input is there. Looks at every task."""
        wanted = [True] * len(self.steps[-1].finals)
        for step in reversed(self.steps):
            if step.spec.reducers:
                _open_reduces(step, wanted, reduce_start_fraction)
                is_input_wanted = any(
                    want and not task.is_done and not task.has_started
                    for want, task in zip(wanted, step.reduces, strict=True)
                )
                wanted = [is_input_wanted] * len(step.maps)
            previous = self.steps[step.index - 1] if step.index else None
            for want, task in zip(wanted, step.maps, strict=True):
                is_input_there = previous is None or previous.finals[task.id.index].is_done
                if want and is_input_there and task.state is TaskState.PENDING and not task.is_queued:
                    step.waiting_maps.push(task, homes(step, task))
            wanted = [
                want and not task.is_done and not task.has_started for want, task in zip(wanted, step.maps, strict=True)
            ]

    def queue_again(self, task: Task, homes: FindHomes) -> bool:
        """Queue one task that was tried in vain, if it is wanted, without a look at all others. False where that cannot
        be said of one task alone: a reduce, or a map of one step among several, may need its input made again first.
        """
        if len(self.steps) > 1 or task.id.kind is not TaskKind.MAP:
            return False
        step = self.steps[0]
        is_wanted = not step.spec.reducers or any(not each.is_done and not each.has_started for each in step.reduces)
        if is_wanted and task.state is TaskState.PENDING and not task.is_queued:
            step.waiting_maps.push(task, homes(step, task))
        return True

    def skipped(self) -> tuple[SkippedView, ...]:
        """The records that finished tasks left out, and those that were found to be bad by tasks that have not."""
        return tuple(view for task in self.tasks() if task.skipped for view in task.left_out())

    def counters(self) -> Counters:
        """The sum over all committed tasks, each once, and the scheduler's own."""
        own = {(OWN_GROUP, name): value for name, value in self.counted.items()}
        return tuple((*key, self.sums.get(key, 0) + own.get(key, 0)) for key in sorted({*self.sums, *own}))

    def count_winner(self, winner: Winner, former: Winner | None) -> None:
        """Add what a committed attempt counted, in place of what an earlier winner of its task did."""
        for group, name, value in former.counters if former is not None else ():
            self._add(group, name, -value)
        for group, name, value in winner.counters:
            self._add(group, name, value)

    def _add(self, group: str, name: str, value: int) -> None:
        self.sums[group, name] = self.sums.get((group, name), 0) + value

    def count(self, name: str) -> None:
        """Add one to a counter of the scheduler's own."""
        self.counted[name] = self.counted.get(name, 0) + 1


def _open_reduces(step: Step, wanted: list[bool], reduce_start_fraction: float) -> None:
    """Queue reduces once enough maps are done for fetching to begin."""
    if not step.are_reduces_open and not step.may_open_reduces(reduce_start_fraction):
        return
    step.are_reduces_open = True
    for want, task in zip(wanted, step.reduces, strict=True):
        if want and task.state is TaskState.PENDING and not task.is_queued:
            step.waiting_reduces.push(task)


def make_steps(job: JobId, spec: JobSpec, epoch: int) -> list[Step]:
    """The tasks of a job: a map task for each split, and in later steps for each part of the step before."""
    first_number = (epoch - 1) * ATTEMPTS_PER_EPOCH_MAX
    steps: list[Step] = []
    maps = len(spec.splits)
    for index, step in enumerate(spec.steps):
        memory = step.memory_limit_bytes
        tasks, reduces = (
            [Task(TaskId(job, index, kind, number), first_number, memory) for number in range(count)]
            for kind, count in ((TaskKind.MAP, maps), (TaskKind.REDUCE, step.reducers))
        )
        steps.append(Step(index, step, tasks, reduces))
        maps = step.reducers or maps
    return steps
