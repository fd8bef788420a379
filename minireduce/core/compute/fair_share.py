"""Whose turn it is: which of the jobs that wait for slots is furthest below its share.

Queues share the slots by their weights, and the jobs of a queue share what it has by theirs. The queue with the fewest
slots for its weight goes first, within it the jobs of the highest priority, among these the one with the fewest slots
for its weight. Among equals, queues as well as jobs, goes first who was served longest ago: with one slot, all have the
same share whenever it comes free. A queue that has as many slots as it may have at once takes no more.

Nobody starves: a job that wants slots and got none for `priority_wait_s` goes before higher priorities of its
queue, once; so the lowest gets a trickle. Shares are of running slots: no memory of the past, as in Hadoop's fair
scheduler, so a job that was alone for an hour owes nobody anything.

Elsewhere: which task and which worker (scheduler.py); taking slots back (preemption.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from minireduce.core.compute.job import Job
from minireduce.core.settings import ClusterSettings, QueueSettings
from minireduce.frozen import dataclass
from minireduce.ids import JobId

Turn = tuple[float, int, str, bool, int, float, int, int]
"""What jobs are sorted by: the smallest goes first."""


@dataclass(slots=True)
class Queue:
    """A queue of jobs with the slots that they use together."""

    settings: QueueSettings
    slots_used: int = 0
    turn: int = 0  # the last one that one of its jobs had

    @property
    def is_full(self) -> bool:
        return 0 < self.settings.slots_max <= self.slots_used

    @property
    def room(self) -> int:
        """How many slots more it may use."""
        return self.settings.slots_max - self.slots_used if self.settings.slots_max else sys.maxsize

    @property
    def used_by_weight(self) -> float:
        return self.slots_used / self.settings.weight


class Queues:
    """All queues by name. One that the settings no longer name, but a job of an earlier master does, has no limit."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._priority_wait_s_max = settings.priority_wait_s
        self._turns = 0
        self._configured = tuple(queue.name for queue in settings.queues)
        self._queues = {queue.name: Queue(queue) for queue in settings.queues}

    def of(self, job: Job) -> Queue:
        """The queue that a job was submitted to."""
        name = job.spec.queue
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(QueueSettings(name))
        return queue

    @property
    def configured(self) -> tuple[str, ...]:
        """The names of the queues to which jobs can be submitted."""
        return self._configured

    def count(self, job: Job, change: int) -> None:
        """So many slots more are used by a job."""
        if change:
            job.slots_used += change
            self.of(job).slots_used += change

    def served(self, job: Job, now: float) -> None:
        """A job got a slot, or several."""
        self._turns += 1
        job.turn = self.of(job).turn = self._turns
        job.served_s = now

    def first(self, jobs: Sequence[Job], now: float) -> Job | None:
        """Whose turn it is among these; None when all their queues are full."""
        if len(jobs) == 1:
            return None if self.of(jobs[0]).is_full else jobs[0]
        return min(
            (job for job in jobs if not self.of(job).is_full), key=lambda job: self._turn(job, now), default=None
        )

    def shares(self, jobs: Iterable[Job], slots: int) -> dict[JobId, float]:
        """How many slots each job would have if all were dealt out anew."""
        by_queue: dict[str, list[Job]] = {}
        for job in jobs:
            by_queue.setdefault(job.spec.queue, []).append(job)
        claims = []
        for members in by_queue.values():
            settings = self.of(members[0]).settings
            wanted = sum(map(_wanted, members))
            claims.append((settings.weight, min(wanted, settings.slots_max or wanted)))
        shares: dict[JobId, float] = {}
        for members, part in zip(by_queue.values(), divide(slots, claims), strict=True):
            left = part
            for priority in sorted({job.spec.priority for job in members}, reverse=True):
                equals = [job for job in members if job.spec.priority == priority]
                given = divide(left, [(job.spec.weight, _wanted(job)) for job in equals])
                left -= sum(given)
                shares |= {job.id: share for job, share in zip(equals, given, strict=True)}
        return shares

    def _turn(self, job: Job, now: float) -> Turn:
        queue, spec = self.of(job), job.spec
        is_patient = now - job.served_s < self._priority_wait_s_max
        used_by_weight = job.slots_used / spec.weight
        of_queue = (queue.used_by_weight, queue.turn, spec.queue)
        return (*of_queue, is_patient, -spec.priority, used_by_weight, job.turn, job.sequence)


def _wanted(job: Job) -> int:
    return job.slots_used + sum(step.waiting_maps.waiting for step in job.steps)


def divide(amount: float, claims: Sequence[tuple[float, float]]) -> list[float]:
    """The amount by weight among claims of (weight, wanted); what one does not want, the others share."""
    given = [0.0] * len(claims)
    weight_left = sum(weight for weight, _ in claims)
    for index in sorted(range(len(claims)), key=lambda index: claims[index][1] / claims[index][0]):
        weight, wanted = claims[index]
        given[index] = min(wanted, amount * weight / weight_left)
        amount -= given[index]
        weight_left -= weight
    return given
