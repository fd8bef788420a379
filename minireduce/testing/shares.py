"""Judge how slots and memory are shared among the jobs of a simulated cluster.

- The books are right: what queues, jobs and workers count as used is the same.
- A queue that may use so many slots gets no map beyond that.
- No worker runs attempts whose memory limits together are more than it has, one alone aside.
- A job that has no slot, and has waited for longer than nearness to its input allows, sees no slot that it could use go
  to a job of its queue that has some already and no higher priority, nor to a queue that has some while its own has
  none. So a small job beside a large one waits for at most a second or a task, whichever is longer.

What preemption takes back is not judged here: it shows in what starves otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from minireduce.core.compute.job import Job
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.locality import Level
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import Task
from minireduce.core.membership import Member
from minireduce.core.views import JobState
from minireduce.ids import AttemptId, JobId, TaskKind, WorkerId
from minireduce.testing.busy import may_take
from minireduce.testing.tell import attempt as told
from minireduce.testing.wrong import Wrong

if TYPE_CHECKING:
    from minireduce.testing.master import SimMaster
    from minireduce.testing.worker import SimWorker

PATIENCE_S = 1.0
"""So long a job may be without a slot, and others get some, whatever the reason."""


class Shares:
    """Watches one cluster over all lives of its master."""

    def __init__(self, master: SimMaster, workers: dict[str, SimWorker]) -> None:
        self._master = master
        self._workers = workers
        self._hungry_since: dict[JobId, float] = {}

    def master_started(self) -> None:
        """A new master knows nothing of how long anybody waited."""
        self._hungry_since.clear()

    def look(self) -> None:
        """One tick of the master. Raises Wrong."""
        compute, now = self._master.state._compute, self._master.now()  # noqa: SLF001 - the truth within
        self._judge_books(compute)
        self._judge_memory()
        since = self._hungry_since
        self._hungry_since = {job.id: since.get(job.id, now) for job in compute.jobs.values() if _is_hungry(job)}

    @staticmethod
    def _judge_books(compute: ComputeState) -> None:
        by_queue: dict[str, int] = {}
        for job in compute.jobs.values():
            by_queue[job.spec.queue] = by_queue.get(job.spec.queue, 0) + job.slots_used
        for job in compute.jobs.values():
            counted = compute.queues.of(job).slots_used
            if counted != by_queue[job.spec.queue]:
                raise Wrong(f"queue {job.spec.queue} counts {counted} slots, its jobs {by_queue[job.spec.queue]}")
        of_workers = sum(load.slots_used for load in compute.loads.values())
        if of_workers != sum(by_queue.values()):
            raise Wrong(f"workers count {of_workers} slots as used, jobs {sum(by_queue.values())}")

    def _judge_memory(self) -> None:
        for worker in self._workers.values():
            limits = [order.step.memory_limit_bytes for order in worker.running.values()]
            if worker.node.is_up and len(limits) > 1 and sum(limits) > worker.shape.memory_bytes:
                raise Wrong(f"{worker.name} runs {len(limits)} attempts that may use {sum(limits)} bytes together")

    def launched(self, launches: Iterable[tuple[AttemptId, WorkerId]]) -> None:
        """These attempts were launched by one step of the master, which is over. Raises Wrong."""
        compute = self._master.state._compute  # noqa: SLF001 - the truth within
        launched = list(launches)
        for place, (attempt, worker) in enumerate(launched):
            job = compute.jobs.get(attempt.task.job)
            member = self._master.state._membership.get(worker)  # noqa: SLF001 - as above
            if job is None or member is None or worker not in compute.loads or attempt.task.kind is not TaskKind.MAP:
                continue
            task = job.task(attempt.task)
            begun = task.find(attempt) if task is not None else None
            if task is None or begun is None or begun not in task.live_attempts:
                continue
            queue = compute.queues.of(job)
            if 0 < queue.settings.slots_max < queue.slots_used:
                most = f"of at most {queue.settings.slots_max}"
                raise Wrong(f"{told(attempt)} brought queue {queue.settings.name} to {queue.slots_used} slots {most}")
            if not begun.is_backup:
                self._judge_turn(compute, job, task, member, [later.task.job for later, _ in launched[place:]])

    def _judge_turn(
        self, compute: ComputeState, job: Job, task: Task, member: Member, launched_since: list[JobId]
    ) -> None:
        """Whether it was this job's turn. `launched_since`: the jobs of this launch and the later ones of the step."""
        now = self._master.now()
        for other in compute.jobs.values():
            since = self._hungry_since.get(other.id, now)
            if other is job or now - since <= PATIENCE_S or not _is_hungry(other):
                continue
            is_before = self._is_before(compute, other, job, launched_since)
            if is_before and self._could_go(compute, other, task, member, now):
                waited = f"has had none for {now - since:.1f} s, and could use it"
                raise Wrong(f"{task.id} of {job.key!r} got a slot on {member.id}, but {other.key!r} {waited}")

    @staticmethod
    def _is_before(compute: ComputeState, hungry: Job, job: Job, launched_since: list[JobId]) -> bool:
        """Whether a job without a slot goes before one that had some already, if it is in the same queue or its own
        had none.
        """
        its_queue, queue = compute.queues.of(hungry), compute.queues.of(job)
        if its_queue is queue:
            return job.slots_used > launched_since.count(job.id) and hungry.spec.priority >= job.spec.priority
        peers = {peer.id for peer in compute.jobs.values() if compute.queues.of(peer) is queue}
        of_queue = sum(launched in peers for launched in launched_since)
        return not its_queue.slots_used and queue.slots_used > of_queue

    def _could_go(self, compute: ComputeState, hungry: Job, task: Task, member: Member, now: float) -> bool:
        """Whether a map of the hungry job could have gone there in place of `task`, its locality wait being over."""
        settings, load = self._master.settings, compute.loads[member.id]
        without = WorkerLoad(load.slots, load.memory_bytes)
        without.memory_used_bytes = load.memory_used_bytes - task.memory_limit_bytes
        return any(
            step.locality_wait.level(now - PATIENCE_S, settings.locality_wait_node_s, settings.locality_wait_rack_s)
            is Level.ANY
            and may_take(hungry, step, member, without)
            for step in hungry.steps
            if step.waiting_maps
        )


def _is_hungry(job: Job) -> bool:
    return job.state is JobState.RUNNING and job.wants_slots and not job.slots_used
