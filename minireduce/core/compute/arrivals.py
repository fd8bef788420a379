"""Workers that come and go: what they bring, what goes with them.

A worker that enters anew lists what it has. Outputs of winners are confirmed by digest; outputs of tasks that have no
winner win, though the attempt was once taken for lost; all else is dropped. Attempts that run there are adopted by id.
What the master thought to be there and is not listed, is lost.

An output that lacks bad records of which nothing is known does not win: what was found out about them went with the
process that found it, or is yet to come, and then the attempt's success comes after it.
"""

from __future__ import annotations

from minireduce.core.compute import homes, outputs
from minireduce.core.compute.excluding import judge_all_workers
from minireduce.core.compute.job import Job
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.locality import Spot
from minireduce.core.compute.losses import lose_attempt
from minireduce.core.compute.reports import succeeded
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import Task
from minireduce.core.effects import Effects
from minireduce.core.membership import Member
from minireduce.core.messages import AttemptSucceeded, DropJob, DropOutputs, Hello, KillAttempt
from minireduce.ids import AttemptId, JobId, WorkerId


def worker_came(state: ComputeState, member: Member, hello: Hello, now: float, effects: Effects) -> None:
    """A worker was taken in anew with these lists."""
    load = state.load_of(member.id)
    profile = hello.profile
    load.slots, load.memory_bytes, load.is_slow = profile.slots, profile.memory_bytes, False
    load.spot = Spot(profile.machine_id or profile.worker, profile.rack)
    state.speeds.forget_worker(member.id)
    load.opened.clear()
    held = {output.attempt: output for output in hello.outputs}
    running = set(hello.running)
    touched = _lose_what_is_not_there(state, load, held, running, now, effects)
    state.copies.worker_came(member.id)
    for task in [task for task in load.copies.values() if not _is_winner_among(task, held)]:
        state.copies.lost(task, member.id)
    state.announcements.forget_worker(member.id)
    state.complaints.forget(member.id)
    judge_all_workers(state)
    state.ask_everybody()
    for output in hello.outputs:
        if _check_output(state, member, output, now, effects):
            touched[output.attempt.task.job] = None
    for attempt in hello.running:
        _check_attempt(state, member, attempt, now, effects)
    _gather_again(state, load, member.id)
    if state.copies.were_workers_too_few():
        state.want_copies()
    for job in [state.jobs[job] for job in touched if job in state.jobs]:
        state.requeue(job)


def _lose_what_is_not_there(
    state: ComputeState,
    load: WorkerLoad,
    held: dict[AttemptId, AttemptSucceeded],
    running: set[AttemptId],
    now: float,
    effects: Effects,
) -> dict[JobId, None]:
    touched: dict[JobId, None] = {}
    for task, attempt in list(load.attempts.values()):
        if attempt.id not in running and attempt.id not in held and attempt.state.is_live:
            job = state.jobs[task.id.job]
            lose_attempt(state, job, task, attempt, "its worker came back without it", now, effects)
            touched[job.id] = None
    for task in list(load.outputs.values()):
        winner = task.winner
        if winner is not None and task.id.job in state.jobs and not _is_winner_among(task, held):
            outputs.lose_output(state, task, now, "its worker came back without it", effects)
            touched[task.id.job] = None
    return touched


def _is_winner_among(task: Task, held: dict[AttemptId, AttemptSucceeded]) -> bool:
    output = held.get(task.winner.attempt) if task.winner is not None else None
    return output is not None and task.winner is not None and output.output.digest == task.winner.output.digest


def _check_output(state: ComputeState, member: Member, output: AttemptSucceeded, now: float, effects: Effects) -> bool:
    """Confirm an output, or let it win. Whether anything must be queued again for it: that means a look at all tasks of
    the job, and after a restart there are as many workers that come as there are.
    """
    job = state.jobs.get(output.attempt.task.job)
    task = job.task(output.attempt.task) if job is not None else None
    winner = task.winner if task is not None else None
    if winner is not None and winner.attempt == output.attempt and winner.output.digest != output.output.digest:
        effects.command(member.id, DropOutputs((output.attempt,)))
        return False
    is_confirmed = winner is not None and (winner.attempt, winner.worker) == (output.attempt, member.id)
    if job is not None and task is not None and is_confirmed:
        return outputs.confirm(state, job, task, now, effects)
    if task is not None and not task.skipped.keys() >= set(output.output.skipped):
        return False
    succeeded(state, member, output, now, effects)
    return False


def _check_attempt(state: ComputeState, member: Member, attempt: AttemptId, now: float, effects: Effects) -> None:
    """Keep or adopt what runs, if anybody wants it."""
    if attempt in state.load_of(member.id).attempts:
        state.open_job(state.jobs[attempt.task.job], member.id, effects)
        return
    job = state.jobs.get(attempt.task.job)
    if job is None:
        effects.command(member.id, DropJob(attempt.task.job))
        return
    task = job.task(attempt.task)
    if task is None or task.is_done or task.find(attempt) is not None or task.live_attempts:
        effects.command(member.id, KillAttempt(attempt, "it is not wanted"))
        return
    state.open_job(job, member.id, effects)
    state.track(job, task, task.adopt(attempt, member.id, now))


def _gather_again(state: ComputeState, load: WorkerLoad, worker: WorkerId) -> None:
    """Announce anew to the reduce attempts that were kept; those just adopted are counted afresh with them."""
    state.announcements.forget_worker(worker)
    for task, attempt in load.attempts.values():
        if attempt.state == "launched" and task.id.kind == "reduce":
            state.announcements.begin(worker, task.id.job, task.id.step)


def worker_went(state: ComputeState, worker: WorkerId, now: float, effects: Effects) -> None:
    """A worker was not heard for too long: its attempts and its outputs are lost."""
    load = state.loads.pop(worker, None)
    if load is None:
        return
    state.loads[worker] = load  # the changes below look their worker up
    homes.leave(state, worker)
    touched: dict[JobId, Job] = {}
    for task, attempt in list(load.attempts.values()):
        job = state.jobs.get(task.id.job)
        if job is not None:
            lose_attempt(state, job, task, attempt, f"worker {worker} was lost", now, effects)
            touched[job.id] = job
    for task in list(load.outputs.values()):
        if task.id.job in state.jobs:
            touched[task.id.job] = state.jobs[task.id.job]
            outputs.lose_output(state, task, now, f"worker {worker} was lost", effects)
    state.copies.worker_gone(worker)
    del state.loads[worker]
    state.speeds.forget_worker(worker)
    state.announcements.forget_worker(worker)
    state.complaints.forget(worker)
    judge_all_workers(state)
    state.ask_everybody()
    for job in touched.values():
        state.requeue(job)
