"""Keep the homes of waiting maps (the workers that have their input) true while replicas and workers come and go.

A map that waits stands in the queue under its homes (queue.py). A worker that leaves, or that a job excludes, is taken
out at once, since what waits to come to it waits in vain. A replica that was copied, or a worker that came, is noticed
later, a bounded number of tasks each tick: it can only make a task's place better.

Not here: where input lies (inputs.py), and how long a task waits for a home (locality.py).
"""

from __future__ import annotations

from minireduce.core.compute.job import Job
from minireduce.core.compute.state import ComputeState
from minireduce.ids import WorkerId

HOMES_LOOKED_UP_PER_TICK = 100


def doubt(state: ComputeState) -> None:
    """Workers came or went: look all homes up again."""
    state.homes_known = None


def leave(state: ComputeState, worker: WorkerId) -> None:
    """What waits to come to a worker need not wait for that."""
    for job in state.hungry.values():
        leave_in(state, job, worker)


def leave_in(state: ComputeState, job: Job, worker: WorkerId) -> None:
    """What waits in one job to come to a worker need not wait for that."""
    node = state.load_of(worker).spot.node
    for step in job.steps:
        for task in step.waiting_maps.near_to(node):
            step.waiting_maps.move(task, state.inputs.homes(step, task))


def look_up(state: ComputeState) -> None:
    """See replicas that were copied or came back while tasks wait: some tasks each time, one after the other. Where
    splits lie is looked up again only when some replica has moved or some worker has come.
    """
    moves = state.replica_moves()
    if state.homes_known != moves:
        state.homes_known = moves
        for job in state.hungry.values():
            job.steps[0].homes_doubted = len(job.steps[0].maps)
    left = HOMES_LOOKED_UP_PER_TICK
    for job in state.hungry.values():
        for step in job.steps:
            if left > 0 and step.waiting_maps and (step.index or step.homes_doubted):
                for task in step.next_waiting_maps(left):
                    step.waiting_maps.move(task, state.inputs.homes(step, task))
                    left -= 1
