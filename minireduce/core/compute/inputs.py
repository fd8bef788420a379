"""What each task reads: where it lies, how much it is, and how its worker is told.

A map of the first step reads its split; a map of a later step the part that the task of the same number left in the
step before; a reduce its partition of all map outputs of its step, which it is told of one by one (map_outputs.py).

Elsewhere: what nearness is worth (locality.py), where the replicas of blocks are (storage).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.locality import NOWHERE, Homes, Spot, find_homes
from minireduce.core.compute.task import Task
from minireduce.core.spec import Split, StoredFiles, StoredRange
from minireduce.core.task_data import PartInput, PartitionInput, StoredInput, StoredInputs, TaskInput
from minireduce.errors import InvariantViolation
from minireduce.ids import JobId, TaskKind, WorkerId

LocateStored = Callable[[StoredRange, WorkerId], StoredInput]
"""Where the blocks of a stored range are, the nearest to a worker first."""

HoldersOf = Callable[[StoredRange], Iterable[tuple[int, Iterable[WorkerId]]]]
"""Of each block of a stored range, how many bytes of the range it holds, and which workers hold it."""


class Inputs:
    """The inputs of the tasks of jobs that are not over."""

    def __init__(
        self,
        job: Callable[[JobId], Job],
        address_of: Callable[[WorkerId], str],
        find_spot: Callable[[Job, WorkerId], Spot | None],
        locate_stored: LocateStored,
        holders_of: HoldersOf,
    ) -> None:
        self._job = job
        self._address_of = address_of
        self._find_spot = find_spot
        self._locate_stored = locate_stored
        self._holders_of = holders_of

    def homes(self, step: Step, task: Task) -> Homes:
        """Where a map task's input lies, as far as anybody there may take the task."""
        job = self._job(task.id.job)
        if step.index:
            producer = _producer(job, step, task)
            part = [(1, (producer.winner.worker,))] if producer.winner else []
            return find_homes(part, lambda worker: self._find_spot(job, worker))
        split = job.spec.splits[task.id.index]
        if not isinstance(split, StoredRange | StoredFiles):
            return NOWHERE  # as near to all, and there may be very many
        pieces = chain.from_iterable(map(self._holders_of, _stored_ranges(split)))
        return find_homes(pieces, lambda worker: self._find_spot(job, worker))

    def bytes_of(self, step: Step, task: Task) -> int:
        """How much a task reads; of a reduce 0 until an attempt has said so."""
        if task.id.kind is TaskKind.REDUCE:
            return task.input_bytes
        job = self._job(task.id.job)
        if not step.index:
            return job.spec.splits[task.id.index].length
        winner = _producer(job, step, task).winner
        return winner.output.bytes_total if winner is not None else 0

    def is_there(self, step: Step, task: Task) -> bool:
        """Whether an attempt can be told what to read: a part that a map needs may be gone while an attempt that read
        it is still at work.
        """
        is_part = step.index > 0 and task.id.kind is TaskKind.MAP
        return not is_part or _producer(self._job(task.id.job), step, task).is_done

    def of(self, step: Step, task: Task, worker: WorkerId) -> TaskInput:
        """What an attempt of the task on this worker is told to read."""
        if task.id.kind is TaskKind.REDUCE:
            return PartitionInput(task.id.index, len(step.maps))
        job = self._job(task.id.job)
        if step.index:
            producer = _producer(job, step, task)
            if producer.winner is None:
                raise InvariantViolation(f"{task.id} was launched before {producer.id} had an output")
            return PartInput(producer.source(self._address_of(producer.winner.worker)))
        split = job.spec.splits[task.id.index]
        if isinstance(split, StoredFiles):
            return StoredInputs(tuple(self._locate_stored(part, worker) for part in split.ranges))
        return self._locate_stored(split, worker) if isinstance(split, StoredRange) else split


def _producer(job: Job, step: Step, task: Task) -> Task:
    """The task of the step before whose part a map reads."""
    return job.steps[step.index - 1].finals[task.id.index]


def _stored_ranges(split: Split) -> tuple[StoredRange, ...]:
    if isinstance(split, StoredFiles):
        return split.ranges
    return (split,) if isinstance(split, StoredRange) else ()
