"""Choose which task goes to which worker next.

The job with the fewest live attempts goes first, the earlier one among equals; within a job, maps that lie near a free
worker, then maps in order. Reduces are placed beside the maps, on the worker with the fewest attempts for its slots, as
soon as their step has opened them: they take no slot until all their input is local, so they cannot starve the maps
they wait for. A file on a client's disk can be read only by workers of that machine. A job goes to no worker that it
excludes (blame.py).

Only workers that may take something are asked (`asked`): when nothing was queued since the last time, those that have
got room since. So an event of one worker costs the same among ten workers and among a thousand.

Elsewhere: what is wanted at all (job.py), near work first (queue.py), counting slots (load.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.queue import Avoids
from minireduce.core.compute.task import Task
from minireduce.core.membership import Member
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

Everybody = Callable[[], list[Member]]
"""All workers that take in attempts: asked for only when a task has failed before."""


def assign(
    jobs: list[Job], asked: list[Member], everybody: Everybody, loads: dict[WorkerId, WorkerLoad], launch: Launch
) -> None:
    """Launch tasks until none of the workers asked finds one."""
    for job in _by_share(jobs):
        for step in job.steps:
            if step.waiting_reduces:
                _place_reduces(job, step, asked, _avoids(everybody, job), loads, launch)
    free = asked
    while free := [member for member in free if loads[member.id].slots_free > 0]:
        by_room = sorted(free, key=lambda member: -loads[member.id].slots_free)
        free = [member for member in by_room if _launch_map(jobs, member, everybody, launch)]


def _launch_map(jobs: list[Job], member: Member, everybody: Everybody, launch: Launch) -> bool:
    choice = _choose_map(jobs, member, everybody)
    if choice is not None:
        launch(choice)
    return choice is not None


def _choose_map(jobs: list[Job], member: Member, everybody: Everybody) -> Assignment | None:
    for job in _by_share(jobs):
        machine_id = job.required_machine_id
        for step in job.steps:
            is_bound = bool(machine_id) and step.index == 0
            if not step.waiting_maps or (is_bound and machine_id != member.profile.machine_id):
                continue
            if member.id in job.excluded:
                continue
            task = step.waiting_maps.choose_for(member.id, _avoids(everybody, job, machine_id if is_bound else ""))
            if task is not None:
                return Assignment(job, step, task, member, member.id in task.homes)
    return None


def _place_reduces(
    job: Job, step: Step, asked: list[Member], avoids: Avoids, loads: dict[WorkerId, WorkerLoad], launch: Launch
) -> None:
    """Each goes to the worker that is the least busy then; one that has no room for this step is asked no more."""
    ranked = [
        (loads[member.id].attempts_per_slot, order)
        for order, member in enumerate(asked)
        if member.id not in job.excluded
    ]
    heapq.heapify(ranked)
    while ranked and step.waiting_reduces:
        order = ranked[0][1]
        member, load = asked[order], loads[asked[order].id]
        has_room = load.gathering_for(job.id, step.index) < load.slots
        task = step.waiting_reduces.choose_for(member.id, avoids) if has_room else None
        if task is None:
            heapq.heappop(ranked)
            continue
        launch(Assignment(job, step, task, member, is_near=False))
        heapq.heapreplace(ranked, (load.attempts_per_slot, order))


def _by_share(jobs: list[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: (job.live_attempts, job.sequence)) if len(jobs) > 1 else jobs


def _avoids(everybody: Everybody, job: Job, machine_id: str = "") -> Avoids:
    """A task avoids workers on which it fared badly, as long as there is one (of this machine) on which it did not."""

    def avoids(task: Task, worker: WorkerId) -> bool:
        avoided = task.avoided
        return worker in avoided and any(
            member.id not in avoided and member.id not in job.excluded and machine_id in ("", member.profile.machine_id)
            for member in everybody()
        )

    return avoids
