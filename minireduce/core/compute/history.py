"""What is kept of attempts that ended: who tried what, when, where, and how it ended.

It is written into the durable form, and read from there when somebody asks; here stands only how many attempts are kept
of each job. Most is written once, when the job ends. So that a restart of the master does not lose it, what did not
succeed and what took `history_early_s_min` or more is written every `history_interval_s` while the job runs. The many
short ones that succeeded are not, which keeps tasks that take next to nothing from paying for this: after a restart the
row of each winner still says which attempt won, but not when.

Limits: `job_history_max` attempts of a job, those that did not succeed first, since they are what people look
for, and those that were returned last; early ones that succeeded may be half of that. `history_max` of all
jobs, beyond which those of the earliest jobs that ended go.

Invariant: an attempt stands in the first of all rows that name it as it ended; what later rows or this master say of it
is less.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import groupby
from typing import Any

from minireduce.core.compute.job import Job
from minireduce.core.compute.show import show_attempt, show_earlier_winner
from minireduce.core.compute.task import Attempt, AttemptState, Winner
from minireduce.core.effects import Effects, Row
from minireduce.core.settings import ClusterSettings
from minireduce.core.views import AttemptView, TaskView
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind

TABLE = "history"
ATTEMPTS_PER_ROW = 1000
MESSAGE_CHARACTERS_MAX = 300


@dataclass(slots=True)
class _Kept:
    """What is kept of one job, in how many rows: `total` attempts were made."""

    attempts: int = 0
    total: int = 0
    rows: int = 0
    is_over: bool = False


class History:
    """The attempts that ended, of all jobs that are remembered."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._early_s_min = settings.history_early_s_min
        self._jobs: dict[JobId, _Kept] = {}
        self._attempts = 0

    def restore(self, rows: Iterable[Row], over: Container[JobId]) -> None:
        """Know again how much an earlier master kept; `rows` come without the attempts. `over` are the ended jobs."""
        for row in rows:
            if row.table == TABLE and row.values is not None:
                job, place = row.key
                attempts, total, _ = row.values
                kept = self._jobs.setdefault(job, _Kept(is_over=job in over))
                kept.total = max(kept.total, total)
                kept.rows = max(kept.rows, place + 1)
                kept.attempts += attempts
                self._attempts += attempts

    def has(self, job: JobId) -> bool:
        """Whether anything of a job is kept."""
        return job in self._jobs

    def note_end(self, job: Job, attempt: Attempt) -> None:
        """An attempt has ended: it is to be written early, unless it is one of many that are soon over."""
        state = attempt.state
        if state is AttemptState.SUCCEEDED:
            if attempt.elapsed_s < self._early_s_min:
                return
        elif state is AttemptState.RETURNED:
            return
        job.unwritten.append(attempt)

    def write_early(self, job: Job, now: float, effects: Effects) -> None:
        """Write down what ended since the last time, if it is time."""
        if not job.unwritten or now - job.history_written_s < self._settings.history_interval_s:
            return
        job.history_written_s = now
        kept = self._jobs.setdefault(job.id, _Kept())
        most = self._settings.job_history_max
        good = [attempt for attempt in job.unwritten if attempt.state is AttemptState.SUCCEEDED]
        others = [attempt for attempt in job.unwritten if attempt.state is not AttemptState.SUCCEEDED]
        chosen = others[: max(0, most - kept.attempts)]
        chosen += good[: max(0, most // 2 - kept.attempts - len(chosen))]
        self._write(job, kept, [show_attempt(attempt, job.started_s, now) for attempt in chosen], effects)
        for attempt in chosen:
            attempt.is_written = True
        job.unwritten.clear()

    def keep(self, job: Job, now: float, effects: Effects) -> None:
        """The job has ended: write down what was not."""
        kept = self._jobs.pop(job.id, _Kept())  # the latest to end stands last
        self._jobs[job.id] = kept
        attempts = [attempt for task in job.tasks() for attempt in task.attempts if not attempt.is_written]
        earlier = [show_earlier_winner(winner) for winner in _earlier_winners(job)]
        chosen = _choose(attempts, max(0, self._settings.job_history_max - kept.attempts))
        left_out = len(attempts) - len(chosen)
        self._write(job, kept, [show_attempt(attempt, job.started_s, now) for attempt in chosen], effects, left_out)
        room = max(0, self._settings.job_history_max - kept.attempts)
        self._write(job, kept, earlier[:room], effects, max(0, len(earlier) - room))
        kept.is_over = True
        job.unwritten.clear()
        for each in [each for each, other in self._jobs.items() if other.is_over and each != job.id]:
            if self._attempts <= self._settings.history_max:
                return
            self.forget(each, effects)

    def forget(self, job: JobId, effects: Effects) -> None:
        """Nothing of the job's attempts is to be kept any more."""
        kept = self._jobs.pop(job, None)
        if kept is not None and kept.attempts:
            self._attempts -= kept.attempts
            effects.forget(TABLE, (job,))

    def left_out(self, job: JobId) -> int:
        """How many attempts of a job are not kept."""
        kept = self._jobs.get(job)
        return kept.total - kept.attempts if kept is not None else 0

    def _write(self, job: Job, kept: _Kept, views: list[AttemptView], effects: Effects, left_out: int = 0) -> None:
        """Write these behind what is kept; so many more are left out."""
        kept.total += len(views) + left_out
        for begin in range(0, len(views), ATTEMPTS_PER_ROW):
            packed = tuple(map(_pack, views[begin : begin + ATTEMPTS_PER_ROW]))
            effects.persist(TABLE, (job.id, kept.rows), (len(packed), kept.total, packed))
            kept.rows += 1
            kept.attempts += len(packed)
            self._attempts += len(packed)


def _earlier_winners(job: Job) -> Iterator[Winner]:
    """Those of attempts that an earlier master saw win."""
    for task in job.tasks():
        if task.winner is not None and task.find(task.winner.attempt) is None:
            yield task.winner


def read_tasks(rows: Iterable[Row]) -> list[TaskView]:
    """The tasks of a job with the attempts that are kept, from its rows in their order, read whole."""
    views: dict[AttemptId, AttemptView] = {}
    for row in rows:
        for packed in (row.values or ())[2]:
            view = _unpack(row.key[0], packed)
            views.setdefault(view.attempt, view)
    tasks = []
    for task, attempts in groupby(sorted(views.values(), key=_order), key=lambda view: view.attempt.task):
        tried = tuple(attempts)
        is_done = any(view.state == AttemptState.SUCCEEDED for view in tried)
        tasks.append(TaskView(task, "done" if is_done else "pending", tried))
    return tasks


def merge_tasks(kept: list[TaskView], known: list[TaskView]) -> list[TaskView]:
    """The tasks of a job that runs: what this master knows of them, and what is kept of earlier ones. Of one that is
    over, of which nothing is known but what is kept, that.
    """
    if not known:
        return kept
    attempts = {task.task: task.attempts for task in kept}
    merged = []
    for task in known:
        views = {view.attempt: view for view in (*task.attempts, *attempts.get(task.task, ()))}
        merged.append(TaskView(task.task, task.state, tuple(sorted(views.values(), key=_order))))
    return merged


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
