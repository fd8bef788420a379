"""Keep the homes of waiting maps (the workers that have their input) true while replicas and workers come and go.

A map that waits stands in the queue under its homes (queue.py). A worker that leaves, or that a job excludes, is taken
out at once, since what waits to come to it waits in vain. A replica that was copied, or a worker that came, is noticed
later, a bounded number of tasks each tick: it can only make a task's place better.

Not here: where input lies (inputs.py), and how long a task waits for a home (locality.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minireduce.core.compute.job import Job
from minireduce.ids import WorkerId

if TYPE_CHECKING:
    from minireduce.core.compute.state import ComputeState

HOMES_LOOKED_UP_PER_TICK = 100


class Homes:
    """The homes of all tasks that wait for a slot. `replica_moves` counts replicas that came or went."""

    def __init__(self, state: ComputeState, replica_moves: Callable[[], int]) -> None:
        self._state = state
        self._replica_moves = replica_moves
        self._known: int | None = None  # as of so many moves of replicas; None: workers came or went since

    def doubt(self) -> None:
        """Workers came or went: look all homes up again."""
        self._known = None

    def leave(self, worker: WorkerId) -> None:
        """What waits to come to a worker need not wait for that."""
        for job in self._state.hungry.values():
            self.leave_in(job, worker)

    def leave_in(self, job: Job, worker: WorkerId) -> None:
        """What waits in one job to come to a worker need not wait for that."""
        node = self._state.load_of(worker).spot.node
        for step in job.steps:
            for task in step.waiting_maps.near_to(node):
                step.waiting_maps.move(task, self._state.inputs.homes(step, task))

    def look(self) -> None:
        """See replicas that were copied or came back while tasks wait: some tasks each time, one after the other.
        Where splits lie is looked up again only when some replica has moved or some worker has come.
        """
        hungry = self._state.hungry
        moves = self._replica_moves()
        if self._known != moves:
            self._known = moves
            for job in hungry.values():
                job.steps[0].homes_doubted = len(job.steps[0].maps)
        left = HOMES_LOOKED_UP_PER_TICK
        for job in hungry.values():
            for step in job.steps:
                if left > 0 and step.waiting_maps and (step.index or step.homes_doubted):
                    for task in step.next_waiting_maps(left):
                        step.waiting_maps.move(task, self._state.inputs.homes(step, task))
                        left -= 1
