"""Names of jobs, tasks and attempts, and their one spelling.

An id is a plain value: ordered, hashable, and written as text that is safe as a file name, in a URL and in a log.
A job's id carries six hexadecimal digits of its cluster, so that ids of two clusters never meet in one directory.

Attempt numbers grow within a task and are never used twice, across restarts of the master too: each epoch of a master
starts its own hundred (see `core.compute.task`).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import StrEnum

from minireduce.errors import RequestError

JobId = str
WorkerId = str


class TaskKind(StrEnum):
    """What a task does: read a split and partition its pairs, or merge one partition and reduce it."""

    MAP = "map"
    REDUCE = "reduce"

    __hash__ = str.__hash__  # that of Enum is written in Python, and ids are looked up for every event


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """One task of one step (both counted from 0): `job-3f9a01-1_s0_m00012`."""

    job: JobId
    step: int
    kind: TaskKind
    index: int

    def __str__(self) -> str:
        return f"{self.job}_s{self.step}_{self.kind[0]}{self.index:05d}"

    def __hash__(self) -> int:
        return hash((self.job, self.index, self.step))  # what tells apart most, in one call


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """One try at a task: `job-3f9a01-1_s0_m00012_a0`."""

    task: TaskId
    number: int

    def __str__(self) -> str:
        return f"{self.task}_a{self.number}"

    def __hash__(self) -> int:
        return hash((self.task.job, self.task.index, self.number))


_JOB = r"job-[0-9a-f]{6}-[0-9]{1,9}"
_JOB_PATTERN = re.compile(_JOB)
_TASK_PATTERN = re.compile(rf"({_JOB})_s([0-9]{{1,4}})_([mr])([0-9]{{5,9}})")
_STEP_PATTERN = re.compile(rf"({_JOB})_s([0-9]{{1,4}})")
_REST_PATTERN = re.compile(r"([mr])([0-9]{5,9})_a([0-9]{1,9})")
_KINDS = {"m": TaskKind.MAP, "r": TaskKind.REDUCE}


def is_job_id(text: str) -> bool:
    """Whether `text` is spelled as a job's id; nothing else may become part of a path."""
    return _JOB_PATTERN.fullmatch(text) is not None


def parse_task_id(text: str) -> TaskId:
    """The task that `text` names. Raises RequestError."""
    match = _TASK_PATTERN.fullmatch(text)
    if match is None:
        raise RequestError(f"{text!r} is no task id", hint="a task id looks like job-3f9a01-1_s0_m00012")
    return TaskId(match[1], int(match[2]), _KINDS[match[3]], int(match[4]))


def parse_attempt_id(text: str) -> AttemptId:
    """The attempt that `text` names. Raises RequestError."""
    beginning, _, rest = text.rpartition("_")
    step, _, task = beginning.rpartition("_")
    known = _step_of(step)  # the same for all tasks of a step, and there are thousands a second
    match = _REST_PATTERN.fullmatch(f"{task}_{rest}") if known is not None else None
    if known is None or match is None:
        raise RequestError(f"{text!r} is no attempt id", hint="an attempt id looks like job-3f9a01-1_s0_m00012_a0")
    return AttemptId(TaskId(*known, _KINDS[match[1]], int(match[2])), int(match[3]))


@functools.lru_cache(maxsize=256)
def _step_of(text: str) -> tuple[JobId, int] | None:
    """Job and number of the step that is written so; None when it is none."""
    match = _STEP_PATTERN.fullmatch(text)
    return None if match is None else (match[1], int(match[2]))
