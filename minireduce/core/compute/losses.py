"""Attempts that ended through no fault of user code, and the limit of that.

A loss does not count among the failures of its task; but what is lost over and over shows that something in the cluster
is wrong, or that the task itself ends its process in a way that cannot be told from a kill.
"""

from __future__ import annotations

from minireduce.core.compute.ending import end_job
from minireduce.core.compute.job import Job
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import Attempt, AttemptState, Task
from minireduce.core.effects import Effects
from minireduce.core.membership import Member
from minireduce.core.views import JobState
from minireduce.ids import AttemptId


def find_live(state: ComputeState, member: Member, attempt: AttemptId) -> tuple[Job, Task, Attempt] | None:
    """The attempt if it is live on this member."""
    entry = state.load_of(member.id).attempts.get(attempt)
    return (state.jobs[attempt.task.job], *entry) if entry is not None else None


def lost(state: ComputeState, member: Member, attempt: AttemptId, why: str, now: float, effects: Effects) -> None:
    """An attempt ended through no fault of user code."""
    found = find_live(state, member, attempt)
    if found is not None:
        lose_attempt(state, *found, why, now, effects)
        state.try_again(found[0], found[1])


def lose_attempt(
    state: ComputeState, job: Job, task: Task, attempt: Attempt, why: str, now: float, effects: Effects
) -> None:
    """Count a loss. Too many of one task end the job: something in the cluster is wrong, and trying on hides it."""
    state.end_attempt(job, task, attempt, AttemptState.LOST, now, why)
    task.losses += 1
    if task.losses > job.spec.losses_max and job.state is not JobState.SUCCEEDED:
        reasons = {each.message for each in task.attempts if each.state is AttemptState.LOST}
        which = "each" if len(reasons) == 1 else "the last"
        reason = f"{task.id} was lost {task.losses} times, {which} time because: {why}"
        end_job(state, job, JobState.FAILED, reason, now, effects)
