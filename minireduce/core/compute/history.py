"""What is kept of the attempts of ended jobs: who tried what, when, where, and how it ended.

Written once, when the job ends, into the durable form, and read from there when somebody asks; here stands only how
many attempts are kept of each job. Limits: `history_job_attempts_max` attempts of a job, those that did not succeed
first, since they are what people look for, and those that were returned last; `history_attempts_max` of all jobs,
beyond which the earliest jobs' go.

What an earlier master launched is not in it, unless it was adopted: launches are not persisted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from minireduce.core.compute.job import Job
from minireduce.core.compute.show import show_attempt
from minireduce.core.compute.task import Attempt, AttemptState
from minireduce.core.effects import Effects, Row
from minireduce.core.settings import ClusterSettings
from minireduce.core.views import AttemptView, TaskView
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind

TABLE = "history"
ATTEMPTS_PER_ROW = 1000
MESSAGE_CHARACTERS_MAX = 300


@dataclass(slots=True)
class _Kept:
    """What is kept of one job: `total` attempts were made."""

    attempts: int = 0
    total: int = 0


class History:
    """The attempts of all ended jobs that are remembered."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._jobs: dict[JobId, _Kept] = {}
        self._attempts = 0

    def restore(self, rows: Iterable[Row]) -> None:
        """Know again how much an earlier master kept; `rows` come without the attempts."""
        for row in rows:
            if row.table == TABLE and row.values is not None:
                attempts, total, _ = row.values
                kept = self._jobs.setdefault(row.key[0], _Kept(0, total))
                kept.attempts += attempts
                self._attempts += attempts

    def keep(self, job: Job, now: float, effects: Effects) -> None:
        """The job has ended: write its attempts down."""
        attempts = [attempt for task in job.tasks() for attempt in task.attempts]
        chosen = _choose(attempts, self._settings.history_job_attempts_max)
        self._jobs[job.id] = _Kept(len(chosen), len(attempts))
        self._attempts += len(chosen)
        for place, begin in enumerate(range(0, len(chosen), ATTEMPTS_PER_ROW)):
            some = chosen[begin : begin + ATTEMPTS_PER_ROW]
            packed = tuple(_pack(show_attempt(attempt, job.started_s, now)) for attempt in some)
            effects.persist(TABLE, (job.id, place), (len(some), len(attempts), packed))
        while self._attempts > self._settings.history_attempts_max and len(self._jobs) > 1:
            self.forget(next(iter(self._jobs)), effects)

    def forget(self, job: JobId, effects: Effects) -> None:
        """Nothing of the job's attempts is to be kept any more."""
        kept = self._jobs.pop(job, None)
        if kept is not None and kept.attempts:
            self._attempts -= kept.attempts
            effects.forget(TABLE, (job,))

    def left_out(self, job: JobId) -> int:
        """How many attempts of an ended job are not kept."""
        kept = self._jobs.get(job)
        return kept.total - kept.attempts if kept is not None else 0


def read_tasks(rows: Iterable[Row]) -> list[TaskView]:
    """The tasks of an ended job with their attempts, from its rows, read whole."""
    views = sorted((_unpack(row.key[0], packed) for row in rows for packed in (row.values or ())[2]), key=_order)
    tasks = []
    for task, attempts in groupby(views, key=lambda view: view.attempt.task):
        tried = tuple(attempts)
        is_done = any(view.state == AttemptState.SUCCEEDED for view in tried)
        tasks.append(TaskView(task, "done" if is_done else "pending", tried))
    return tasks


def _order(view: AttemptView) -> tuple[Any, ...]:
    task = view.attempt.task
    return task.step, task.kind, task.index, view.attempt.number


def _choose(attempts: list[Attempt], most: int) -> list[Attempt]:
    """At most so many, in the order of their tasks: those that did not succeed first, those that never began last."""
    if len(attempts) <= most:
        return attempts
    last = (AttemptState.SUCCEEDED, AttemptState.RETURNED)
    ranked = sorted(attempts, key=lambda attempt: last.index(attempt.state) if attempt.state in last else -1)
    return sorted(ranked[:most], key=lambda attempt: attempt.id)


def _pack(view: AttemptView) -> tuple[Any, ...]:
    task = view.attempt.task
    message = view.message[:MESSAGE_CHARACTERS_MAX]
    return (
        task.step,
        str(task.kind),
        task.index,
        view.attempt.number,
        view.worker,
        view.state,
        view.fraction,
        view.elapsed_s,
        message,
        view.launched_at_s,
        view.started_at_s,
        view.is_backup,
    )


def _unpack(job: JobId, packed: tuple[Any, ...]) -> AttemptView:
    step, kind, index, number, worker, state, fraction, elapsed_s, message, launched_at_s, started_at_s, is_backup = (
        packed
    )
    return AttemptView(
        attempt=AttemptId(TaskId(job, step, TaskKind(kind), index), number),
        worker=worker,
        state=state,
        fraction=fraction,
        elapsed_s=elapsed_s,
        message=message,
        is_backup=is_backup,
        launched_at_s=launched_at_s,
        started_at_s=started_at_s,
    )
