"""The end of a job: what is written down of it, what is dropped everywhere, and which jobs are ended for being late.

Of a job that is over stays what people ask about: its view, its bad records, its attempts, what they printed. Each has
a limit of its own; the jobs themselves one of number (`jobs_kept_max`), with which all the rest of the earliest goes.

Late is a job that runs beyond its time limit, and one whose parts nobody publishes or closes.
"""

from __future__ import annotations

from dataclasses import replace

from minireduce.core.compute.job import Job
from minireduce.core.compute.records import EndedJob, persist_end
from minireduce.core.compute.show import show_job
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import AttemptState
from minireduce.core.effects import Effects
from minireduce.core.messages import DropJob
from minireduce.core.views import JobState


def end_job(state: ComputeState, job: Job, how: JobState, reason: str, now: float, effects: Effects) -> None:
    """The job is over: nothing of it stays in the cluster but what people may ask about it."""
    state.copying_until.pop(job.id, None)
    for task in job.tasks():
        for attempt in task.live_attempts:
            state.end_attempt(job, task, attempt, AttemptState.KILLED, now, f"the job has {how}")
    job.state = how
    job.reason = job.reason or reason
    job.ended_s = now if job.ended_s is None else job.ended_s
    ended = EndedJob(job.key, show_job(job, now, state.settings), job.skipped())
    state.copies.job_is_over(job)
    del state.jobs[job.id]
    state.ended[job.id] = ended
    persist_end(job.id, ended, effects)
    state.history.keep(job, now, effects)
    _drop_everywhere(state, job, effects)
    _drop_oldest(state, effects)
    if ended.skipped:
        _drop_oldest_skipped(state, effects)
    effects.changed(job.id)
    state.drop_leftovers(job.spec.output_path, job.id, job.key, effects)


def end_overdue(state: ComputeState, now: float, effects: Effects) -> None:
    """Time passed: end jobs beyond their time limit, and those whose parts nobody has published or closed for
    `results_keep_s`, for which workers hold disk space.
    """
    kept_s = state.settings.results_keep_s
    for job in list(state.jobs.values()):
        limit_s = job.spec.time_limit_s
        if job.complete_s is not None and now - job.complete_s > kept_s:
            if job.state is JobState.PUBLISHING:
                reason = f"its client did not publish the output within {kept_s:g} s"
                end_job(state, job, JobState.FAILED, reason, now, effects)
            else:
                end_job(state, job, JobState.SUCCEEDED, "", now, effects)
        elif limit_s and job.state is JobState.RUNNING and not job.is_complete and now - job.started_s > limit_s:
            reason = f"it was not done within its time limit of {limit_s:g} s"
            end_job(state, job, JobState.FAILED, reason, now, effects)


def _drop_everywhere(state: ComputeState, job: Job, effects: Effects) -> None:
    for worker, load in state.loads.items():
        load.opened.pop(job.id, None)
        for task in [task for task in load.outputs if task.job == job.id]:
            del load.outputs[task]
        for task in [task for task in load.copies if task.job == job.id]:
            del load.copies[task]
        effects.command(worker, DropJob(job.id))


def _drop_oldest(state: ComputeState, effects: Effects) -> None:
    while len(state.ended) > state.settings.jobs_kept_max:
        oldest = next(iter(state.ended))
        state.printed.forget(oldest, effects)
        state.history.forget(oldest, effects)
        del state.by_key[state.ended.pop(oldest).key]
        effects.forget("jobs", (oldest,))
        effects.forget("skipped", (oldest,))


def _drop_oldest_skipped(state: ComputeState, effects: Effects) -> None:
    """Forget bad records of the jobs that ended first, where there are too many of all."""
    kept = sum(len(ended.skipped) for ended in state.ended.values())
    for job, ended in list(state.ended.items()):
        if kept <= state.settings.skipped_kept_max:
            return
        kept -= len(ended.skipped)
        state.ended[job] = replace(ended, skipped=())
        effects.forget("skipped", (job,))
