"""The durable form of jobs: which rows are written when, and how a state is built from them after a restart.

Persisted are submissions, winners, failures that count, and how a job ended. Launches, progress and losses are not:
what runs is told by the workers when they register again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from minireduce.core.compute.job import Job, make_steps
from minireduce.core.compute.task import Attempt, AttemptState, Task, TaskState, Winner
from minireduce.core.effects import Effects, Row
from minireduce.core.plain import from_plain, to_plain
from minireduce.core.spec import JobSpec
from minireduce.core.task_data import Counters, SkippedRecord, TaskError, TaskOutput
from minireduce.core.views import AttemptError, JobState, JobView, SkippedView
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind, WorkerId

COUNTED_OF_KIND = (
    (TaskKind.MAP, "TOTAL_LAUNCHED_MAPS", "NUM_FAILED_MAPS"),
    (TaskKind.REDUCE, "TOTAL_LAUNCHED_REDUCES", "NUM_FAILED_REDUCES"),
)
"""What the scheduler counts of each kind of task: attempts, and those that failed."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """What is kept of a job once nothing of it is left in the cluster."""

    key: str
    view: JobView
    skipped: tuple[SkippedView, ...] = ()


def persist_job(job: Job, effects: Effects) -> None:
    """The job as submitted, with its state."""
    values = (job.key, str(job.state), job.submitted_at, to_plain(job.spec), None)
    effects.persist("jobs", (job.id,), values)


def persist_progress(job: Job, now: float, effects: Effects) -> None:
    """What would else begin anew with each master: how long the job runs, and what the scheduler counted."""
    job.counted_durably = dict(job.counted)
    elapsed_s = (now if job.ended_s is None else job.ended_s) - job.started_s
    effects.persist("progress", (job.id,), (elapsed_s, tuple(sorted(job.counted.items()))))


def persist_end(job: JobId, ended: EndedJob, effects: Effects) -> None:
    """What is left of the job: what people ask about. Its tasks are forgotten."""
    view = ended.view
    effects.persist("jobs", (job,), (ended.key, str(view.state), view.submitted_at, None, _view_to_plain(view)))
    effects.forget("winners", (job,))
    effects.forget("failures", (job,))
    effects.forget("progress", (job,))
    effects.forget("skipped", (job,))
    for skipped in ended.skipped:
        persist_skipped(skipped, effects)


def persist_winner(task: Task, effects: Effects) -> None:
    """The attempt whose output counts, and where that is ("" once it is gone)."""
    winner = task.winner
    if winner is not None:
        values = (winner.attempt.number, winner.worker, _plain_output(winner.output), winner.counters)
        effects.persist("winners", _task_key(task.id), values)


@lru_cache(maxsize=256)
def _plain_output(output: TaskOutput) -> Any:
    """Many short tasks leave the same, which is nothing."""
    return to_plain(output)


def persist_failure(attempt: AttemptId, worker: WorkerId, error: TaskError, effects: Effects) -> None:
    """A failure that counts."""
    effects.persist("failures", (*_task_key(attempt.task), attempt.number), (worker, to_plain(error)))


def persist_skipped(view: SkippedView, effects: Effects) -> None:
    """A record that was found to be bad."""
    key = (*_task_key(view.attempt.task), view.record.place.position)
    effects.persist("skipped", key, (view.attempt.number, view.worker, to_plain(view.record)))


def restore_jobs(
    rows: Iterable[Row], epoch: int, now: float, at: float
) -> tuple[dict[JobId, Job], dict[JobId, EndedJob]]:
    """The jobs that go on, with their winners and failures, and those that have ended. `at` is the time of the wall
    clock, 0 if that is not known. Raises Corruption.
    """
    by_table: dict[str, list[Row]] = {}
    for row in rows:
        by_table.setdefault(row.table, []).append(row)
    jobs: dict[JobId, Job] = {}
    ended: dict[JobId, EndedJob] = {}
    for row in sorted(by_table.get("jobs", ()), key=lambda row: sequence_of(row.key[0])):
        key, state, submitted_at, spec, finished = _values(row)
        job = row.key[0]
        if spec is None:
            ended[job] = EndedJob(key, _view_from_plain(finished))
        else:
            jobs[job] = _restore_job(job, key, JobState(state), submitted_at, from_plain(JobSpec, spec), epoch, now)
    for row in by_table.get("winners", ()):
        _restore_winner(jobs, row)
    for row in by_table.get("failures", ()):
        _restore_failure(jobs, row, now)
    for row in by_table.get("progress", ()):
        if row.key[0] in jobs:
            _restore_progress(jobs[row.key[0]], row, now)
    for job_left in jobs.values():
        _recount(job_left, now, at)
    for row in by_table.get("skipped", ()):
        _restore_skipped(jobs, ended, row)
    return jobs, ended


def sequence_of(job: JobId) -> int:
    """The place of a job in the order of submissions."""
    return int(job.rpartition("-")[2])


def _restore_job(
    job: JobId, key: str, state: JobState, submitted_at: float, spec: JobSpec, epoch: int, now: float
) -> Job:
    restored = Job(job, key, spec, sequence_of(job), submitted_at, now, make_steps(job, spec, epoch), served_s=now)
    restored.state = state
    if state is not JobState.RUNNING:
        restored.complete_s = now  # no clock of this process can say since when
    if state is JobState.SUCCEEDED:
        restored.ended_s = now
    return restored


def _restore_progress(job: Job, row: Row, now: float) -> None:
    elapsed_s, counted = _values(row)
    job.counted = dict(counted)
    job.counted_durably = dict(counted)
    job.started_s = now - elapsed_s


def _recount(job: Job, now: float, at: float) -> None:
    """Make up for what happened between the last look at a job and the end of its master, as far as that is known."""
    if at and not job.state.is_ended:
        job.started_s = min(job.started_s, now - max(0.0, at - job.submitted_at))
    for kind, launched, failed in COUNTED_OF_KIND:
        tasks = [task for step in job.steps for task in (step.maps if kind is TaskKind.MAP else step.reduces)]
        failures = sum(task.failures for task in tasks)
        wins = sum(task.winner is not None for task in tasks)
        for name, least in ((launched, wins + failures), (failed, failures)):
            if job.counted.get(name, 0) < least:
                job.counted[name] = least


def _restore_winner(jobs: dict[JobId, Job], row: Row) -> None:
    task = _find_task(jobs, row)
    if task is None:
        return
    number, worker, output, counters = _values(row)
    pairs: Counters = tuple((group, name, value) for group, name, value in counters)
    task.winner = Winner(AttemptId(task.id, number), worker, from_plain(TaskOutput, output), pairs)
    jobs[task.id.job].count_winner(task.winner, None)
    if worker:
        task.state = TaskState.DONE
        jobs[task.id.job].steps[task.id.step].count_done(task, 1)


def _restore_failure(jobs: dict[JobId, Job], row: Row, now: float) -> None:
    task = _find_task(jobs, row)
    if task is not None:
        worker, error = _values(row)
        blamed = from_plain(TaskError, error).position
        if blamed >= 0:
            task.blamed[blamed] = None
        task.failures += 1
        attempt = AttemptId(task.id, row.key[4])
        jobs[task.id.job].errors.insert(0, AttemptError(attempt, worker, from_plain(TaskError, error)))
        # Kept as an attempt too: its worker may not know that the report arrived, and say it again.
        task.attempts.append(Attempt(attempt, worker, now, AttemptState.FAILED, ended_s=now))
        jobs[task.id.job].troubles.setdefault(worker, {})[task.id] = None


def _restore_skipped(jobs: dict[JobId, Job], ended: dict[JobId, EndedJob], row: Row) -> None:
    job, step, kind, index, position = row.key
    number, worker, record = _values(row)
    attempt = AttemptId(TaskId(job, step, TaskKind(kind), index), number)
    view = SkippedView(attempt, worker, from_plain(SkippedRecord, record))
    task = _find_task(jobs, row)
    if task is not None:
        task.skipped[position] = view
        jobs[job].skipped_records += 1
    elif job in ended:
        ended[job] = replace(ended[job], skipped=(*ended[job].skipped, view))


def _find_task(jobs: dict[JobId, Job], row: Row) -> Task | None:
    job, step, kind, index = row.key[:4]
    return jobs[job].task(TaskId(job, step, TaskKind(kind), index)) if job in jobs else None


def _task_key(task: TaskId) -> tuple[Any, ...]:
    return (task.job, task.step, str(task.kind), task.index)


def _values(row: Row) -> tuple[Any, ...]:
    return row.values or ()


def _view_to_plain(view: JobView) -> Any:
    plain = to_plain(view)
    plain["errors"] = tuple((str(error.attempt), error.worker, to_plain(error.error)) for error in view.errors)
    return plain


def _view_from_plain(plain: Any) -> JobView:
    from minireduce.ids import parse_attempt_id

    errors = tuple(
        AttemptError(parse_attempt_id(attempt), worker, from_plain(TaskError, error))
        for attempt, worker, error in plain["errors"]
    )
    view: JobView = from_plain(JobView, {**plain, "errors": ()})
    return JobView(**{**{name: getattr(view, name) for name in JobView.__slots__}, "errors": errors})
