"""Take slots back from jobs that have more than their share, for a job that has waited long enough for its own.

Slots come free by themselves whenever a task ends, and go to whoever is furthest below its share; so only long tasks
make a job wait. One that has waited for `preempt_after_s`, with fewer slots than its share and more to do, gets them:
the youngest attempts of the job that is most above its share are killed, since they lose the least. Killed attempts
count against nobody.

Shares are what each would have if all slots were dealt out anew: to queues by weight, within a queue to higher
priorities first and among equals by weight, and to nobody more than it can use.

Invariants: nothing is taken back and forth: only whole slots count, a job gives none that would bring it below its
share, nor its last one; when what was freed did not help, the job waits `preempt_after_s` again; at most
`preempted_per_tick_max` attempts are killed at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator
from itertools import islice

from minireduce.core.compute.fair_share import Queues
from minireduce.core.compute.job import Job
from minireduce.core.compute.task import Attempt, AttemptState, Task
from minireduce.core.settings import ClusterSettings
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskKind, WorkerId

EPSILON = 1e-9
"""Shares are sums of fractions: so close to a whole slot is one."""


@dataclass(frozen=True, slots=True)
class Victim:
    """This attempt should be killed, so that `hungry` gets its slot."""

    job: Job
    task: Task
    attempt: Attempt
    hungry: Job


CouldRun = Callable[[Job, WorkerId, int], bool]
"""Whether a job's waiting tasks could run on a worker in place of an attempt that frees so much memory."""


@dataclass(slots=True)
class _Hunger:
    since_s: float
    slots_when_helped: int = -1


class Preemption:
    """Remembers since when each job has less than its share."""

    def __init__(self, settings: ClusterSettings, queues: Queues, could_run: CouldRun) -> None:
        self._settings = settings
        self._queues = queues
        self._could_run = could_run
        self._hungers: dict[JobId, _Hunger] = {}

    def choose(self, jobs: list[Job], slots: int, now: float) -> list[Victim]:
        """What should be killed now; `slots` are those of all workers. Marks the jobs that are starved."""
        shares = self._queues.shares(jobs, slots)
        self._hungers = {
            job.id: self._hungers.get(job.id) or _Hunger(now)
            for job in jobs
            if job.wants_slots and job.slots_used < _whole(shares[job.id])
        }
        spare = {job.id: job.slots_used - max(1, math.ceil(shares[job.id] - EPSILON)) for job in jobs}
        victims: list[Victim] = []
        for job in jobs:
            job.is_starved = self._is_starved(job, now)
            if job.is_starved:
                lacking = _whole(shares[job.id]) - job.slots_used
                most = min(lacking, self._settings.preempted_per_tick_max - len(victims))
                taken = {victim.attempt.id: None for victim in victims}
                victims.extend(islice(self._choose_for(job, jobs, spare, taken), most))
        return victims

    def _is_starved(self, job: Job, now: float) -> bool:
        hunger = self._hungers.get(job.id)
        if hunger is None or now - hunger.since_s < self._settings.preempt_after_s:
            return False
        if job.slots_used <= hunger.slots_when_helped:
            self._hungers[job.id] = _Hunger(now)
            return False
        hunger.slots_when_helped = job.slots_used
        return True

    def _choose_for(
        self, hungry: Job, jobs: list[Job], spare: dict[JobId, int], taken: Container[AttemptId]
    ) -> Iterator[Victim]:
        youngest: dict[JobId, list[tuple[Task, Attempt]]] = {}
        while (job := max(jobs, key=lambda each: spare[each.id])) and spare[job.id] > 0:
            if job.id not in youngest:
                youngest[job.id] = [
                    (task, attempt)
                    for task, attempt in sorted(_holding_slots(job), key=lambda pair: pair[1].launched_s)
                    if attempt.id not in taken and self._could_run(hungry, attempt.worker, task.memory_limit_bytes)
                ]
            if not youngest[job.id]:
                spare[job.id] = 0
                continue
            spare[job.id] -= 1
            yield Victim(job, *youngest[job.id].pop(), hungry)


def _whole(share: float) -> int:
    return math.floor(share + EPSILON)


def _holding_slots(job: Job) -> Iterator[tuple[Task, Attempt]]:
    for step in job.steps:
        for task in step.running.values():
            for attempt in task.live_attempts:
                if task.id.kind is TaskKind.MAP or attempt.state is AttemptState.RUNNING:
                    yield task, attempt
