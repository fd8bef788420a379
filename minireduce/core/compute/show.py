"""Views of jobs and tasks, made from the state as it is now."""

from __future__ import annotations

from collections.abc import Iterator

from minireduce.core.compute import disagreement, hot_keys
from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.task import Attempt, AttemptState, Task, Winner
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import OutputKind
from minireduce.core.texts import RECORDS_LEFT_OUT
from minireduce.core.views import AttemptView, JobState, JobView, ResultView, TaskCounts, TaskView
from minireduce.errors import RequestError, Unavailable
from minireduce.ids import TaskKind


def show_job(job: Job, now: float, settings: ClusterSettings, waiting_for: str = "") -> JobView:
    """The job with its counters so far."""
    ended_s = now if job.ended_s is None else job.ended_s
    return JobView(
        job=job.id,
        name=job.spec.name,
        state=job.state,
        output=job.spec.output,
        output_path=job.spec.output_path,
        submitted_at=job.submitted_at,
        elapsed_s=max(0.0, ended_s - job.started_s),
        fraction=_fraction(job),
        tasks=tuple(count for step in job.steps for count in _counts(step)),
        counters=job.counters(),
        errors=tuple(job.errors),
        reason=job.reason,
        waiting_for=waiting_for,
        notes=tuple(_notes(job, settings)),
    )


def _notes(job: Job, settings: ClusterSettings) -> Iterator[str]:
    yield from disagreement.notes(job)
    if job.skipped_records:
        noun = "record is" if job.skipped_records == 1 else "records are"
        yield f"{job.skipped_records} {noun} {RECORDS_LEFT_OUT}"
    yield from hot_keys.notes(job, settings)
    for worker in job.excluded:
        count = len(job.troubles[worker])
        yield f"worker {worker} gets no more of this job: {count} of its tasks failed or were lost there"


def show_task(job: Job, task: Task, now: float) -> TaskView:
    """The task with its attempts of this epoch, and earlier ones that failed or won."""
    attempts = [show_attempt(attempt, job.started_s, now) for attempt in task.attempts]
    if task.winner is not None and task.find(task.winner.attempt) is None:
        attempts.insert(0, show_earlier_winner(task.winner))
    return TaskView(task.id, str(task.state), tuple(attempts))


def show_earlier_winner(winner: Winner) -> AttemptView:
    """An attempt that won before this master began: when that was is not known, only where its output is."""
    return AttemptView(winner.attempt, winner.worker, str(AttemptState.SUCCEEDED), 1.0, 0.0, launched_at_s=-1.0)


def show_attempt(attempt: Attempt, began_s: float, now: float) -> AttemptView:
    """The attempt; its times since `began_s`, when its job was submitted."""
    ended_s = now if attempt.ended_s is None else attempt.ended_s
    return AttemptView(
        attempt=attempt.id,
        worker=attempt.worker,
        state="running" if attempt.state is AttemptState.LAUNCHED else str(attempt.state),
        fraction=1.0 if attempt.state is AttemptState.SUCCEEDED else attempt.fraction,
        elapsed_s=ended_s - attempt.launched_s,
        message=attempt.message or attempt.status,
        is_backup=attempt.is_backup,
        launched_at_s=attempt.launched_s - began_s,
        started_at_s=-1.0 if attempt.started_s is None else attempt.started_s - began_s,
    )


def show_result(job: Job, addresses: dict[str, str], read_token: str) -> ResultView:
    """Where the last step's parts are.

    Raises RequestError before they are made, and Unavailable while one that was lost is made again.
    """
    finals = job.steps[-1].finals
    if not job.is_complete:
        if job.state is JobState.SUCCEEDED:
            raise Unavailable(
                f"a part of {job.id} was lost with its worker and is being made again",
                hint=f"ask again in a while; `minireduce status {job.id}` shows how far it is",
            )
        raise RequestError(f"{job.id} is {job.state}: it has no result yet", hint=f"minireduce wait {job.id}")
    return ResultView(
        job=job.id,
        state=job.state,
        parts=tuple(task.source(_address(task, addresses)) for task in finals if task.is_done),
        records=tuple(task.winner.output.records for task in finals if task.is_done and task.winner),
        digests=tuple(task.winner.output.digest for task in finals if task.is_done and task.winner),
        is_text=job.spec.output is not OutputKind.RESULT,
        read_token=read_token,
    )


def _address(task: Task, addresses: dict[str, str]) -> str:
    return addresses.get(task.winner.worker, "") if task.winner is not None else ""


def _counts(step: Step) -> list[TaskCounts]:
    kinds = [(TaskKind.MAP, step.maps, step.maps_done)]
    if step.spec.reducers:
        kinds.append((TaskKind.REDUCE, step.reduces, step.reduces_done))
    return [
        TaskCounts(step.index, kind, len(tasks), done, sum(task.kind is kind for task in step.running))
        for kind, tasks, done in kinds
    ]


def _fraction(job: Job) -> float:
    total = sum(len(step.maps) + len(step.reduces) for step in job.steps)
    done = float(sum(step.maps_done + step.reduces_done for step in job.steps))
    for step in job.steps:
        done += sum(max(attempt.fraction for attempt in task.live_attempts) for task in step.running.values())
    return done / total if total else 1.0
