"""Measure how busy the slots of live workers are while tasks wait for one.

A scheduler that leaves slots idle while there is work is wrong in a way that no output shows. Looked at on each tick of
the master: whenever a map task stands in a queue, all slots of workers that the master can hear count, and of these the
ones that it has given away (`assigned`) and the ones in which a process runs (`running`); between the two lie the
messages, which weather delays.

Not counted is what nothing can be done about: a master that waits for its workers after a restart, workers that stop,
that are cut off, or that are gone without the master knowing it yet; and slots that a job lets pass for a nearer one,
which it may do for a bounded time only.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from minireduce.frozen import dataclass
from minireduce.ids import JobId
from minireduce.testing.wrong import Wrong

if TYPE_CHECKING:
    from minireduce.core.compute.job import Job, Step
    from minireduce.core.compute.load import WorkerLoad
    from minireduce.core.membership import Member
    from minireduce.core.settings import ClusterSettings
    from minireduce.testing.master import SimMaster
    from minireduce.testing.worker import SimWorker

BUSY_FRACTION_MIN = 0.8
SLOT_TICKS_MIN = 200
"""Less than this measures little but the moments between launches and starts."""

WAIT_SLACK_S = 1.0
"""The master looks once a tick, and only then finds that a wait is over."""

SILENCE_S_MAX = 2.0
"""Of a worker that still counts as live: it should be heard every second."""


@dataclass(slots=True)
class SlotUse:
    """Sums over ticks of the master in which tasks waited. `judges_running`: whether a launch takes much less time than
    a task, which is not so where many messages are lost, or tasks take milliseconds.
    """

    judges_running: bool = True
    slots: int = 0
    assigned: int = 0
    running: int = 0
    passed: int = 0  # slots that a job let pass for one that is nearer to its input, or that none of the tasks may take
    _looked_at: float = 0.0
    _idle_since: dict[tuple[JobId, int], float] = field(default_factory=dict)

    @property
    def assigned_fraction(self) -> float:
        return self.assigned / self.slots if self.slots else 1.0

    @property
    def running_fraction(self) -> float:
        return self.running / self.slots if self.slots else 1.0

    @property
    def is_idle(self) -> bool:
        """Whether too many slots stood idle beside waiting tasks."""
        if self.slots < SLOT_TICKS_MIN:
            return False
        is_late = self.judges_running and self.running_fraction < BUSY_FRACTION_MIN
        return is_late or self.assigned_fraction < BUSY_FRACTION_MIN

    def add(self, other: SlotUse) -> None:
        self.slots += other.slots
        self.assigned += other.assigned
        self.running += other.running
        self.passed += other.passed

    def look(self, master: SimMaster, workers: dict[str, SimWorker]) -> None:
        """One tick of the master."""
        membership, compute = master.state._membership, master.state._compute  # noqa: SLF001 - the truth within
        jobs = [job for job in compute.jobs.values() if not compute.queues.of(job).is_full]
        waiting = [(job, step) for job in jobs for step in job.steps if step.waiting_maps]
        if membership.is_anyone_expected or not waiting:
            self._idle_since.clear()
            return
        now, idle = master.now(), []
        for member in membership.live():
            worker = workers[member.id]
            load = compute.loads.get(member.id)
            if load is None or not member.takes_work or not worker.node.is_up or worker.node.is_paused:
                continue
            if not worker.state.is_joined or now - member.heard_at_s > SILENCE_S_MAX:
                continue
            if master.world.network.is_cut(master.node.name, worker.node.name):
                continue
            if load.slots_free > 0:
                for_whom = [(job, step) for job, step in waiting if may_take(job, step, member, load)]
                idle += for_whom
                if not for_whom or any(step.locality_wait.since_s is not None for _, step in for_whom):
                    self.passed += load.slots_free
                    self.slots -= load.slots_free
            self.slots += load.slots
            self.assigned += min(load.slots_used, load.slots)
            self.running += min(len(worker.running), load.slots)
        self._judge_waits({(job.id, step.index): step for job, step in idle}, now, master.settings)

    def _judge_waits(self, idle: dict[tuple[JobId, int], Step], now: float, settings: ClusterSettings) -> None:
        """No step lets slots pass for longer than it may, counted from the last launch of one of its maps."""
        bound_s = settings.locality_wait_node_s + settings.locality_wait_rack_s + WAIT_SLACK_S
        if now - self._looked_at > WAIT_SLACK_S:  # the master stood still, or its clock jumped
            self._idle_since.clear()
        self._looked_at = now
        for key in [key for key in self._idle_since if key not in idle]:
            del self._idle_since[key]
        for key, step in idle.items():
            launches = [attempt.launched_s for task in step.maps for attempt in task.attempts[-1:]]
            if launches and max(launches) > self._idle_since.get(key, now):
                self._idle_since[key] = now
            waited_s = now - self._idle_since.setdefault(key, now)
            if waited_s > bound_s:
                raise Wrong(f"maps of {key[0]} wait beside free slots for {waited_s:.1f} s")


def may_take(job: Job, step: Step, member: Member, load: WorkerLoad) -> bool:
    """Whether some waiting map of a step may run on a worker that has a slot for it."""
    if member.id in job.excluded or not load.has_memory_for(step.spec.memory_limit_bytes):
        return False
    if step.index == 0 and job.required_machine_id not in ("", member.profile.machine_id):
        return False
    return any(task.is_queued and member.id not in task.avoided for task in step.maps)
