"""Say why nothing of a job runs, in words that complete "waits for"."""

from __future__ import annotations

from minireduce.core.compute.fair_share import Queues
from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.membership import Member, Membership
from minireduce.core.settings import ClusterSettings
from minireduce.core.views import JobState
from minireduce.ids import WorkerId


def why_waiting(
    job: Job,
    membership: Membership,
    loads: dict[WorkerId, WorkerLoad],
    queues: Queues,
    settings: ClusterSettings,
    now: float,
) -> str:
    """What a running job waits for; "" while something of it runs, or gathers the last of its input."""
    if job.state is not JobState.RUNNING or job.slots_used or (job.live_attempts and not job.wants_slots):
        return ""
    if membership.is_anyone_expected:
        return "workers that were there before the master restarted"
    step = next((step for step in job.steps if step.waiting_maps or step.waiting_reduces), None)
    taking = [member for member in membership.live() if member.takes_work and member.id in loads]
    if not taking:
        return "a worker: none is connected" if not membership.live() else "a worker: all are stopping or drained"
    machine_id = job.required_machine_id if step is None or step.index == 0 else ""
    able = [member for member in taking if machine_id in ("", member.profile.machine_id)]
    if not able:
        return "a worker on the machine whose disk holds the input"
    if step is None:
        return "a free slot"
    return _why_no_slot(job, step, able, loads, queues, settings, now)


def _why_no_slot(
    job: Job,
    step: Step,
    able: list[Member],
    loads: dict[WorkerId, WorkerLoad],
    queues: Queues,
    settings: ClusterSettings,
    now: float,
) -> str:
    needed_bytes = step.spec.memory_limit_bytes
    largest = max(able, key=lambda member: loads[member.id].memory_bytes)
    largest_bytes = loads[largest.id].memory_bytes
    if needed_bytes > largest_bytes:
        return (
            f"a worker with {_size(needed_bytes)} of memory for a task: the largest, {largest.id}, "
            f"has {_size(largest_bytes)}"
        )
    queue = queues.of(job)
    if queue.is_full:
        return f"a slot of its queue {queue.settings.name!r}, which has the {queue.settings.slots_max} that it may have"
    free = [loads[member.id] for member in able if loads[member.id].slots_free > 0]
    if not free:
        return "a free slot"
    if not any(load.has_memory_for(needed_bytes) for load in free):
        return f"{_size(needed_bytes)} of memory on a worker with a free slot"
    remaining_s = step.locality_wait.remaining_s(now, settings.locality_wait_node_s, settings.locality_wait_rack_s)
    if remaining_s:
        return f"a slot near its input, for {remaining_s:.1f} s more at most"
    return "a free slot"


def _size(count: int) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count} B"
