"""Decide what becomes of a job all of whose parts are there.

Text parts are now the client's to publish, and the job ends when that has said so. A job whose result stays in the
cluster is done: at once where its parts have second copies, else as soon as they have, waited for no longer than
`part_copy_wait_s`. A part that is lost meanwhile puts the job back to where it was.

Not here: making the copies (copies.py), the end itself and jobs that nobody publishes or closes (ending.py).
"""

from __future__ import annotations

from minireduce.core.compute.job import Job
from minireduce.core.compute.state import ComputeState
from minireduce.core.effects import Effects
from minireduce.core.spec import OutputKind
from minireduce.core.views import JobState


def complete_if_done(state: ComputeState, job: Job, now: float, effects: Effects) -> None:
    """All parts are there: text parts are now the client's to publish, anything else is done."""
    if job.state is not JobState.RUNNING or not job.is_complete:
        return
    if job.spec.output is not OutputKind.RESULT:
        job.complete_s = now
        state.change(job, JobState.PUBLISHING, now, effects)
        return
    if job.id not in state.copying_until:
        state.copying_until[job.id] = now + state.settings.part_copy_wait_s
        state.copies.want_all(job)
    if state.copies.is_waiting(job) and now < state.copying_until[job.id]:
        return
    del state.copying_until[job.id]
    job.complete_s = job.ended_s = now
    state.change(job, JobState.SUCCEEDED, now, effects)


def complete_copied(state: ComputeState, now: float, effects: Effects) -> None:
    """Look again at the jobs that wait for the copies of their parts."""
    for job in [state.jobs[job] for job in state.copying_until]:
        if job.is_complete:
            complete_if_done(state, job, now, effects)
        else:
            del state.copying_until[job.id]  # a part was lost before it had a copy
