"""Decide which workers get no more of a job, and whether a task could go elsewhere.

A worker on which several tasks of a job failed, or were lost by its own fault, is taken to be bad for that job; which
ones, and that enough are left, `choose_excluded` says (blame.py). It is judged afresh after each trouble and when
workers come or go, so a worker that was excluded may be taken back. What waited to come to an excluded worker waits no
longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minireduce.core.compute import homes
from minireduce.core.compute.blame import choose_excluded
from minireduce.core.compute.job import Job
from minireduce.core.compute.task import Task
from minireduce.core.membership import Member
from minireduce.ids import TaskKind, WorkerId

if TYPE_CHECKING:
    from minireduce.core.compute.state import ComputeState


def note_trouble(state: ComputeState, job: Job, task: Task, worker: WorkerId) -> None:
    """The task failed on the worker, or was lost there by the worker's own fault."""
    job.troubles.setdefault(worker, {})[task.id] = None
    _judge_workers(state, job)


def judge_all_workers(state: ComputeState) -> None:
    """Workers came or went: for each job the bound on those excluded may be another, and homes may be."""
    homes.doubt(state)
    for job in state.jobs.values():
        _judge_workers(state, job)


def _judge_workers(state: ComputeState, job: Job) -> None:
    if not job.troubles:
        return
    most_bytes = max(step.memory_limit_bytes for step in job.spec.steps)
    usable = [
        member.id
        for member in state.workers_that_take()
        if _may_use(job, member) and state.loads[member.id].could_hold(most_bytes)
    ]
    before, job.excluded = job.excluded, choose_excluded(job.troubles, usable, state.settings.troubled_tasks_min)
    for worker in job.excluded:
        if worker not in before:
            homes.leave_in(state, job, worker)
    if len(job.excluded) < len(before):
        homes.doubt(state)
        state.feed(job)


def could_go_elsewhere(state: ComputeState, job: Job, task: Task, worker: WorkerId) -> bool:
    """Whether a worker that the task does not avoid could take it in place of `worker`."""
    return any(
        other.id != worker
        and other.id not in task.avoided
        and other.id not in job.excluded
        and state.loads[other.id].could_hold(task.memory_limit_bytes)
        for other in state.workers_that_take()
        if task.id.step or task.id.kind is TaskKind.REDUCE or _may_use(job, other)
    )


def _may_use(job: Job, member: Member) -> bool:
    """Whether the worker can read the job's input."""
    return job.required_machine_id in ("", member.profile.machine_id)
