"""Somebody cannot read an output or a part: who is to blame, and what is made again or moved.

Who says that an output is gone is believed: it is made again. Where there is only silence, either end may be cut off
(`blame`): the reading attempt goes to another worker, which costs little as it has not begun, or the output is made
again elsewhere. Reports about an output that no longer counts are late, and change nothing; so is silence that an
attempt met which reads no more: a worker that was cut off tells of it when it is back.
"""

from __future__ import annotations

from minireduce.core.compute import outputs
from minireduce.core.compute.excluding import could_go_elsewhere, note_trouble
from minireduce.core.compute.losses import find_live, lose_attempt
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import AttemptState
from minireduce.core.effects import Effects
from minireduce.core.membership import Member
from minireduce.core.messages import DropOutputs, FetchFailed, KillAttempt, PartCopyFailed
from minireduce.ids import WorkerId


def fetch_failed(state: ComputeState, member: Member, report: FetchFailed, now: float, effects: Effects) -> None:
    """Someone cannot read an output. If its worker says that it is gone, it is made again. If it does not answer, time
    after time, either end may be cut off: the reading attempt is lost, so that another worker tries, or the output is
    made again (`blame`).
    """
    job = state.jobs.get(report.source.task.job)
    task = job.task(report.source.task) if job is not None else None
    if job is None or task is None or not task.is_done or task.winner is None:
        return
    if task.winner.attempt != report.source:
        return
    if not report.is_gone and find_live(state, member, report.attempt) is None:
        return
    source = task.winner.worker
    if member.id in task.copies and report.attempt == report.source:
        state.copies.lost(task, member.id)  # only its own copy is gone
        return
    task.fetch_reports += 1
    if not report.is_gone:
        state.complaints.note(member.id, source, now)
        witnesses = max(state.complaints.sources_of(member.id), state.complaints.readers_of(source))
        is_seen = max(task.fetch_reports, witnesses) >= state.settings.fetch_reports_max
        may_move = is_seen or task.fetch_reports >= state.settings.fetch_reports_to_move
        if may_move and _move_reader(state, member, report, source, now, effects):
            task.fetch_reports = 0
            return
        if not is_seen:
            return
        task.shunned[source] = None
    effects.command(source, DropOutputs((report.source,)))
    outputs.lose_output(state, task, now, report.reason, effects)
    state.requeue(job)


def part_copy_failed(state: ComputeState, member: Member, report: PartCopyFailed, now: float, effects: Effects) -> None:
    """Someone could not copy a part: another tries, or the part is made again when its worker does not have it."""
    job = state.jobs.get(report.attempt.task.job)
    task = job.task(report.attempt.task) if job is not None else None
    if job is None or task is None or task.winner is None:
        return
    source = state.copies.failed(task, member.id)
    if report.is_gone and source and (task.winner.attempt, task.winner.worker) == (report.attempt, source):
        effects.command(source, DropOutputs((report.attempt,)))
        outputs.lose_output(state, task, now, report.reason, effects)
        state.requeue(job)


def _move_reader(
    state: ComputeState, member: Member, report: FetchFailed, source: WorkerId, now: float, effects: Effects
) -> bool:
    """Take the reading attempt from its worker if that is to blame and another can try. Whether that was done."""
    found = find_live(state, member, report.attempt)
    if found is None or found[2].state is not AttemptState.LAUNCHED:
        return False
    job, task, attempt = found
    is_reader_to_blame = state.complaints.sources_of(member.id) >= state.complaints.readers_of(source)
    if not is_reader_to_blame or task.moves >= state.settings.fetch_moves_max:
        return False
    if not could_go_elsewhere(state, job, task, member.id):
        return False
    task.moves += 1
    task.shunned[member.id] = None
    if could_go_elsewhere(state, job, task, source):
        task.shunned[source] = None  # the trouble may be between the two, and a third reaches both
    why = f"worker {member.id} cannot read the output of {report.source}: {report.reason}"
    effects.command(member.id, KillAttempt(attempt.id, why))
    lose_attempt(state, job, task, attempt, why, now, effects)
    note_trouble(state, job, task, member.id)
    state.requeue(job)
    return True
