"""Choose which task goes to which worker next.

The job with the fewest live attempts goes first, the earlier one among equals; within a job, maps that lie near a free
worker, then maps in order. Reduces are placed beside the maps, on the worker with the fewest of them, as soon as their
step has opened them: they take no slot until all their input is local, so they cannot starve the maps they wait for.
A file on a client's disk can be read only by workers of that machine.

Elsewhere: what is wanted at all (job.py), near work first (queue.py), counting slots (load.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.task import AttemptState, Task
from minireduce.core.membership import Member
from minireduce.core.views import JobState
from minireduce.ids import WorkerId


@dataclass(frozen=True, slots=True)
class Assignment:
    """This task should be tried on this worker."""

    job: Job
    step: Step
    task: Task
    member: Member
    is_near: bool


Launch = Callable[[Assignment], None]
"""Carries an assignment out; the loads and queues that the next choice is made from change by it."""


def assign(jobs: list[Job], members: list[Member], loads: dict[WorkerId, WorkerLoad], launch: Launch) -> None:
    """Launch tasks until no free worker finds one."""
    _assign_reduces(jobs, members, loads, launch)
    while True:
        is_launched = False
        free = [member for member in members if loads[member.id].slots_free > 0]
        for member in sorted(free, key=lambda member: -loads[member.id].slots_free):
            choice = _choose_map(jobs, member, members)
            if choice is not None:
                launch(choice)
                is_launched = True
        if not is_launched:
            return


def _choose_map(jobs: list[Job], member: Member, members: list[Member]) -> Assignment | None:
    for job in _by_share(jobs):
        machine_id = job.required_machine_id
        for step in job.steps:
            if step.index == 0 and machine_id and machine_id != member.profile.machine_id:
                continue
            eligible = [other for other in members if step.index or not machine_id or _is_on(other, machine_id)]
            task = step.waiting_maps.choose_for(member.id, _avoids(eligible))
            if task is not None:
                return Assignment(job, step, task, member, step.waiting_maps.is_near(task, member.id))
    return None


def _assign_reduces(jobs: list[Job], members: list[Member], loads: dict[WorkerId, WorkerLoad], launch: Launch) -> None:
    avoids = _avoids(members)
    for job in _by_share(jobs):
        for step in job.steps:
            while step.waiting_reduces:
                choice = next(_reduce_choices(job, step, members, loads, avoids), None)
                if choice is None:
                    break
                launch(Assignment(job, step, *choice, is_near=False))


def _reduce_choices(
    job: Job,
    step: Step,
    members: list[Member],
    loads: dict[WorkerId, WorkerLoad],
    avoids: Callable[[Task, WorkerId], bool],
) -> Iterator[tuple[Task, Member]]:
    for member in sorted(members, key=lambda member: _reduces_per_slot(loads[member.id])):
        if loads[member.id].gathering_for(job.id, step.index) < loads[member.id].slots:
            task = step.waiting_reduces.choose_for(member.id, avoids)
            if task is not None:
                yield task, member


def _reduces_per_slot(load: WorkerLoad) -> float:
    return (load.gathering + load.slots_used) / max(load.slots, 1)


def _by_share(jobs: list[Job]) -> list[Job]:
    return sorted(
        (job for job in jobs if job.state in (JobState.RUNNING, JobState.PUBLISHING, JobState.SUCCEEDED)),
        key=lambda job: (job.live_attempts, job.sequence),
    )


def _is_on(member: Member, machine_id: str) -> bool:
    return member.profile.machine_id == machine_id


def _avoids(eligible: list[Member]) -> Callable[[Task, WorkerId], bool]:
    """A task avoids the workers on which it failed, as long as there is one on which it did not."""

    def avoids(task: Task, worker: WorkerId) -> bool:
        if not task.failures:
            return False
        failed_on = {attempt.worker for attempt in task.attempts if attempt.state is AttemptState.FAILED}
        return worker in failed_on and any(member.id not in failed_on for member in eligible)

    return avoids
