"""Say whether a draining worker can be done without, and if not, what it still waits for.

That is so when no attempt runs on it, no output there is needed by a job that runs (a part that others hold too is
not), and no block relies on it. Who sees to that: `storage.repair`, `compute.copies` and the scheduler, which all
regard what `Member.takes_work` says.
"""

from __future__ import annotations

from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.state import ComputeState
from minireduce.core.membership import Member
from minireduce.core.storage.state import StorageState
from minireduce.core.views import DrainView


def show_drain(member: Member, load: WorkerLoad | None, compute: ComputeState, storage: StorageState) -> DrainView:
    """How far a draining worker is."""
    if not member.is_live:
        return DrainView(False, 0, 0, 0, 0, 0.0, "it is not there: what it holds is looked at once it comes back")
    left = storage.drain_left(member.id)
    attempts = len(load.attempts) if load is not None else 0
    outputs = _outputs_needed(member, load, compute) if load is not None else 0
    reasons = [f"{_count(left.blocks, 'block')}: {left.why}"] if left.blocks else [left.why] if left.why else []
    reasons += [f"{_count(attempts, 'attempt')} still running"] if attempts else []
    reasons += [f"{_count(outputs, 'output')} needed by jobs that run"] if outputs else []
    is_done = not reasons
    if is_done and left.scarce:
        reasons.append(f"{_count(left.scarce, 'block')} with fewer replicas than wanted, for lack of other workers")
    return DrainView(is_done, left.blocks, left.bytes, attempts, outputs, left.left_s, "; ".join(reasons))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _outputs_needed(member: Member, load: WorkerLoad, compute: ComputeState) -> int:
    """How many outputs a job would have to make again. A part of a result is needed until others hold it too."""
    needed = 0
    for task in load.outputs.values():
        job = compute.jobs.get(task.id.job)
        if job is not None and not (job.is_final(task) and compute.copies.is_elsewhere(task, member.id)):
            needed += 1
    return needed
