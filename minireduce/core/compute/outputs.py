"""Committed outputs: one counts from now on, is still there after its worker came back, or is gone.

A task's first output that is reported wins. It is persisted, its rivals are killed, and what waited for it comes next:
the reduces of its step, the map of the next step that reads it, or the end of the job. One that is gone is made again
only if somebody still needs it (`Job.queue_wanted`), and a copy of a part takes its place where there is one.

Invariants: a task has at most one winner whose output is there; what is announced to workers, and what a worker keeps,
follows each change of winner. Not here: which report wins and which late twin is refused (reports.py), and what workers
that come and go have with them (arrivals.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minireduce.core.compute.completing import complete_if_done
from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.records import persist_winner
from minireduce.core.compute.task import Attempt, AttemptState, Task, Winner
from minireduce.core.effects import Effects
from minireduce.core.messages import AttemptSucceeded
from minireduce.core.views import JobState
from minireduce.ids import TaskKind, WorkerId

if TYPE_CHECKING:
    from minireduce.core.compute.state import ComputeState


def commit(
    state: ComputeState, job: Job, task: Task, worker: WorkerId, report: AttemptSucceeded, now: float, fx: Effects
) -> None:
    """This output counts: persist it, end the task's other attempts, and queue what waited for it."""
    winner = Winner(report.attempt, worker, report.output, report.counters)
    job.count_winner(winner, task.winner)
    task.win(winner)
    state.load_of(worker).keep(task)
    persist_winner(task, fx)
    step = job.steps[task.id.step]
    first = task.find(report.attempt)
    if first is not None and first.is_backup:
        job.count("NUM_BACKUPS_WON")
    for rival in task.live_attempts:
        if rival.is_backup:
            job.count("NUM_BACKUPS_LOST")
        state.speeds.overtaken(step, task, rival, now)
        state.kill_attempt(job, task, rival, now, f"{report.attempt} was first", fx)
    step.count_done(task, 1)
    if task.id.kind is TaskKind.MAP and step.spec.reducers:
        _map_output_is_ready(state, job, step, task)
    else:
        _part_is_ready(state, job, task, first, now, fx)


def _map_output_is_ready(state: ComputeState, job: Job, step: Step, task: Task) -> None:
    if task.winner is not None:
        step.ready.append(task.source(state.address_of(task.winner.worker)))
        state.announcements.add(job.id, step.index)
    if step.may_open_reduces(state.settings.reduce_start_fraction):
        state.queue_wanted(job)


def _part_is_ready(
    state: ComputeState, job: Job, task: Task, attempt: Attempt | None, now: float, effects: Effects
) -> None:
    consumer = job.consumer(task)
    if consumer is None:
        if attempt is not None and not job.is_complete:
            state.copies.part_is_done(task, now - attempt.launched_s)
        complete_if_done(state, job, now, effects)
    else:
        state.wait_again(job, consumer)


def confirm(state: ComputeState, job: Job, task: Task, now: float, effects: Effects) -> bool:
    """The worker came back, perhaps at another address, and still has the output: announce it afresh. Whether a
    consumer must be queued again for it.
    """
    step = job.steps[task.id.step]
    if task.id.kind is TaskKind.MAP and step.spec.reducers:
        _map_output_is_ready(state, job, step, task)
    consumer = job.consumer(task)
    if consumer is None:
        return False
    waiting = [attempt for attempt in consumer.live_attempts if attempt.state is AttemptState.LAUNCHED]
    for attempt in waiting:
        state.kill_attempt(job, consumer, attempt, now, f"the output of {task.id} has moved", effects)
    return bool(waiting)


def lose_output(state: ComputeState, task: Task, now: float, why: str, effects: Effects) -> None:
    """A committed output is gone. The caller calls `requeue` in the end, which queues what is wanted again."""
    job = state.jobs[task.id.job]
    winner = task.winner
    if winner is None or not winner.worker:
        return
    state.load_of(winner.worker).outputs.pop(task.id, None)
    heir = state.copies.inherit(task)
    if heir:
        _move_output(state, task, heir, effects)
        return
    task.lose_output()
    persist_winner(task, effects)
    job.steps[task.id.step].count_done(task, -1)
    if task.id.kind is TaskKind.MAP:
        state.announcements.retract(winner.attempt)
    consumer = job.consumer(task)
    if consumer is not None:
        consumer.leave_queue()  # it has no input now; queued again when that is back
        for attempt in consumer.live_attempts:
            if attempt.state is AttemptState.LAUNCHED:
                reason = f"its input, the output of {task.id}, is gone: {why}"
                state.kill_attempt(job, consumer, attempt, now, reason, effects)
    if job.state is JobState.PUBLISHING:
        job.complete_s = None
        state.change(job, JobState.RUNNING, now, effects)


def _move_output(state: ComputeState, task: Task, heir: WorkerId, effects: Effects) -> None:
    """A copy takes the place of the winner's part."""
    task.move_output(heir)
    state.load_of(heir).outputs[task.id] = task
    persist_winner(task, effects)
    state.copies.want(task)
