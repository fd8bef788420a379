"""What follows when two attempts of one task wrote different pairs from the same input.

Their digests tell. As long as nobody has used what the earlier one wrote, the later one may take its place: those that
were reading the earlier one are run again. But once a task has finished with the earlier output, another that would
read the later one belongs to a different computation, and their results do not fit together: the job fails, and says
which task wavers. So a job whose map function looks at the clock or at a random number still gives one answer, or none.

A job that has succeeded stays so: its owner was told, and may have read its result. When a part of that is lost with
all its copies and comes out otherwise the second time, the result is given up, and whoever asks for it hears why.

An output is *used* when a task that read it has finished, or when what that task left was used in turn. Where one task
alone reads an output there can be no conflict: whatever it reads is one computation.

Not here: taking the winner's part when a late twin disagrees (reports.py); that harms nothing and is only noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from minireduce.core.compute.job import Job
from minireduce.core.compute.task import Attempt, Task
from minireduce.core.views import JobState
from minireduce.ids import AttemptId, TaskId, TaskKind

TASKS_SHOWN_MAX = 3


class Verdict(StrEnum):
    """What to do with the later output."""

    TAKE = "take"
    DROP = "drop"  # nobody would read it, and those who might one day must not
    FAIL = "fail"


def judge(job: Job, task: Task) -> tuple[Verdict, str]:
    """Whether the later output of `task` may count, and, when it makes the job fail, who has used the earlier one."""
    readers = _readers_of(job, task)
    if not readers and job.state is JobState.SUCCEEDED:
        return Verdict.FAIL, "its owner could read the result"
    if len(readers) < 2:
        return Verdict.TAKE, ""
    known: dict[TaskId, bool] = {}
    used = [reader for reader in readers if _is_used(job, reader, known)]
    if not used:
        return Verdict.TAKE, ""
    return (Verdict.FAIL, f"{used[0].id} has finished") if len(used) < len(readers) else (Verdict.DROP, "")


def readings(job: Job, task: Task) -> Iterator[tuple[Task, Attempt]]:
    """The attempts under way that may mix the earlier output with what others read of the later one."""
    readers = _readers_of(job, task)
    for reader in readers if len(readers) > 1 else ():
        for attempt in reader.live_attempts:
            yield reader, attempt


def describe(earlier: AttemptId, later: AttemptId, user: str) -> str:
    """Why the job cannot go on."""
    return (
        f"{earlier.task} is not deterministic: {earlier} and {later} wrote different pairs from the same input, and "
        f"{user} with what the former wrote; look in its {earlier.task.kind} function for random numbers, the time, "
        "the order of a set, or anything else that differs from run to run"
    )


def notes(job: Job) -> Iterator[str]:
    """What people should know of tasks that waver."""
    if job.disagreed:
        shown = ", ".join(map(str, list(job.disagreed)[:TASKS_SHOWN_MAX]))
        more = f" and {len(job.disagreed) - TASKS_SHOWN_MAX} more" if len(job.disagreed) > TASKS_SHOWN_MAX else ""
        yield f"attempts of {shown}{more} wrote different pairs from the same input: the code is not deterministic"


def _is_used(job: Job, task: Task, known: dict[TaskId, bool]) -> bool:
    """Whether what the task made is there, or was read by one that is used or in the middle of it."""
    if task.id not in known:
        known[task.id] = task.is_done or (
            task.winner is not None
            and any(reader.has_started or _is_used(job, reader, known) for reader in _readers_of(job, task))
        )
    return known[task.id]


def _readers_of(job: Job, task: Task) -> list[Task]:
    step = job.steps[task.id.step]
    if task.id.kind is TaskKind.MAP and step.spec.reducers:
        return step.reduces
    consumer = job.consumer(task)
    return [consumer] if consumer is not None else []
