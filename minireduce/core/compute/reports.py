"""What workers say about attempts and fetches, and what follows from it.

A report may come late: the attempt was killed, its worker was taken for lost, another attempt won, the job is over.
That is normal. Such a report changes nothing, and the worker is told to remove what it still keeps.
"""

from __future__ import annotations

from minireduce.core.compute import bad_records, disagreement
from minireduce.core.compute.disagreement import Verdict
from minireduce.core.compute.job import Job
from minireduce.core.compute.records import persist_failure
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import Attempt, AttemptState, Task, Winner
from minireduce.core.effects import Effects
from minireduce.core.membership import Member
from minireduce.core.messages import (
    AttemptFailed,
    AttemptKilled,
    AttemptLost,
    AttemptPrinted,
    AttemptProgressed,
    AttemptReturned,
    AttemptStarted,
    AttemptSucceeded,
    DropJob,
    DropOutputs,
    FetchFailed,
    KillAttempt,
    PartCopyFailed,
    RecordsSkipped,
    Report,
    WorkerStopping,
)
from minireduce.core.views import AttemptError, JobState
from minireduce.ids import AttemptId, WorkerId


def take_report(state: ComputeState, member: Member, report: Report, now: float, effects: Effects) -> None:
    """Act on one report of a member that may speak."""
    match report:
        case AttemptStarted():
            _started(state, member, report.attempt, now, effects)
        case AttemptProgressed():
            _progressed(state, member, report, now)
        case AttemptPrinted():
            _printed(state, member, report, effects)
        case AttemptSucceeded():
            succeeded(state, member, report, now, effects)
        case AttemptFailed():
            _failed(state, member, report, now, effects)
        case AttemptLost():
            found = find_live(state, member, report.attempt)
            if found is not None and not member.is_stopping:
                state.note_trouble(found[0], found[1], member.id)
            lost(state, member, report.attempt, report.reason, now, effects)
        case RecordsSkipped():
            bad_records.take_skipped(state, member.id, report, now, effects)
        case AttemptKilled():
            lost(state, member, report.attempt, "its worker ended it", now, effects)
        case AttemptReturned():
            _returned(state, member, report.attempt, now)
        case WorkerStopping():
            member.is_stopping = True
            state.copies.worker_stops(member.id)
            state.leave(member.id)
        case PartCopyFailed():
            _part_copy_failed(state, member, report, now, effects)
        case FetchFailed():
            _fetch_failed(state, member, report, now, effects)


def find_live(state: ComputeState, member: Member, attempt: AttemptId) -> tuple[Job, Task, Attempt] | None:
    """The attempt if it is live on this member."""
    entry = state.load_of(member.id).attempts.get(attempt)
    return (state.jobs[attempt.task.job], *entry) if entry is not None else None


def _started(state: ComputeState, member: Member, attempt: AttemptId, now: float, effects: Effects) -> None:
    found = find_live(state, member, attempt)
    if found is None:
        effects.command(member.id, KillAttempt(attempt, "it is not wanted"))
        return
    state.start(*found, now)


def _progressed(state: ComputeState, member: Member, report: AttemptProgressed, now: float) -> None:
    found = find_live(state, member, report.attempt)
    if found is not None:
        _, task, attempt = found
        task.note_input(report)
        attempt.progress(report.fraction, report.records, now, state.settings.backup_rate_window_s)
        attempt.status = report.status


def _printed(state: ComputeState, member: Member, report: AttemptPrinted, effects: Effects) -> None:
    """Text may come late, and is worth keeping as long as its job is remembered."""
    if report.attempt.task.job in state.jobs or report.attempt.task.job in state.ended:
        state.printed.take(report, member.id, effects)


def succeeded(state: ComputeState, member: Member, report: AttemptSucceeded, now: float, effects: Effects) -> None:
    """An output is complete on its worker: the first one for a task wins, whoever made it."""
    job = state.jobs.get(report.attempt.task.job)
    task = job.task(report.attempt.task) if job is not None else None
    if job is None or task is None:
        effects.command(member.id, DropJob(report.attempt.task.job))
        return
    attempt = task.find(report.attempt)
    winner = task.winner
    has_other_digest = winner is not None and winner.output.digest != report.output.digest
    if has_other_digest:
        job.disagreed[task.id] = None
    if task.is_done and winner is not None:
        if winner.attempt == report.attempt and winner.worker == member.id:
            return  # said again
        if winner.attempt == report.attempt and not has_other_digest and state.copies.copied(job, task, member.id):
            return
        if attempt is not None and attempt.state.is_live:
            state.end_attempt(job, task, attempt, AttemptState.KILLED, now, f"{winner.attempt} was first")
        effects.command(member.id, DropOutputs((report.attempt,)))
        return
    if attempt is not None and attempt.state.is_live:
        task.note_input(report)
        if task.id.kind == "map":
            job.steps[task.id.step].brevity.add(report.busy_s)
        state.stragglers.finished(job.steps[task.id.step], task, attempt, now)
        state.end_attempt(job, task, attempt, AttemptState.SUCCEEDED, now, "")
    if has_other_digest and winner is not None and not _may_replace(state, job, task, winner, report, now, effects):
        effects.command(member.id, DropOutputs((report.attempt,)))
        return
    too_many = bad_records.exceeds_share(job, task, report)
    if too_many and job.state is not JobState.SUCCEEDED:
        state.end_job(job, JobState.FAILED, too_many, now, effects)
        return
    state.commit(job, task, member.id, report, now, effects)
    if has_other_digest:
        state.requeue(job)


def _may_replace(
    state: ComputeState, job: Job, task: Task, former: Winner, report: AttemptSucceeded, now: float, effects: Effects
) -> bool:
    """Whether other pairs than those of the former winner may count; those that were reading them begin again."""
    verdict, user = disagreement.judge(job, task)
    if verdict is Verdict.FAIL:
        reason = disagreement.describe(former.attempt, report.attempt, user)
        # What was acknowledged stays so: its result is gone, and nothing else is shown in its place.
        is_acknowledged = job.state is JobState.SUCCEEDED
        state.end_job(job, JobState.SUCCEEDED if is_acknowledged else JobState.FAILED, reason, now, effects)
    if verdict is not Verdict.TAKE:
        return False
    for reader, reading in disagreement.readings(job, task):
        state.kill_attempt(job, reader, reading, now, f"{task.id} now has other pairs than it read", effects)
    return True


def _failed(state: ComputeState, member: Member, report: AttemptFailed, now: float, effects: Effects) -> None:
    found = find_live(state, member, report.attempt)
    if found is None:
        return
    job, task, attempt = found
    message = f"{report.error.type_name}: {report.error.message}" if report.error.type_name else report.error.message
    state.end_attempt(job, task, attempt, AttemptState.FAILED, now, message)
    task.failures += 1
    job.count("NUM_FAILED_MAPS" if task.id.kind == "map" else "NUM_FAILED_REDUCES")
    job.errors.insert(0, AttemptError(attempt.id, attempt.worker, report.error))
    del job.errors[state.settings.errors_kept_max :]
    persist_failure(attempt.id, attempt.worker, report.error, effects)
    state.note_trouble(job, task, member.id)
    is_blamed_again = bad_records.is_blamed_again(job, task, report.error)
    if is_blamed_again and job.state is not JobState.SUCCEEDED:
        state.end_job(job, JobState.FAILED, bad_records.describe_blamed(task, report.error), now, effects)
    elif task.failures >= job.spec.attempts_max and job.state is not JobState.SUCCEEDED:
        times = "once" if task.failures == 1 else f"{task.failures} times"
        state.end_job(job, JobState.FAILED, f"{task.id} failed {times}", now, effects)
    else:
        state.try_again(job, task)


def _returned(state: ComputeState, member: Member, attempt: AttemptId, now: float) -> None:
    """A worker could not begin what it was given: its tasks are not as short as they seemed."""
    found = find_live(state, member, attempt)
    if found is not None:
        job, task, live = found
        state.end_attempt(job, task, live, AttemptState.RETURNED, now, "")
        job.steps[task.id.step].brevity.was_wrong(now - live.launched_s)
        state.wait_again(job, task)


def lost(state: ComputeState, member: Member, attempt: AttemptId, why: str, now: float, effects: Effects) -> None:
    """An attempt ended through no fault of user code."""
    found = find_live(state, member, attempt)
    if found is not None:
        lose_attempt(state, *found, why, now, effects)
        state.try_again(found[0], found[1])


def lose_attempt(
    state: ComputeState, job: Job, task: Task, attempt: Attempt, why: str, now: float, effects: Effects
) -> None:
    """Count a loss. Too many of one task end the job: something in the cluster is wrong, and trying on hides it."""
    state.end_attempt(job, task, attempt, AttemptState.LOST, now, why)
    task.losses += 1
    if task.losses > job.spec.losses_max and job.state is not JobState.SUCCEEDED:
        reasons = {each.message for each in task.attempts if each.state is AttemptState.LOST}
        which = "each" if len(reasons) == 1 else "the last"
        reason = f"{task.id} was lost {task.losses} times, {which} time because: {why}"
        state.end_job(job, JobState.FAILED, reason, now, effects)


def _fetch_failed(state: ComputeState, member: Member, report: FetchFailed, now: float, effects: Effects) -> None:
    """Someone cannot read an output. If its worker says that it is gone, it is made again. If it does not answer, time
    after time, either end may be cut off: the reading attempt is lost, so that another worker tries, or the output is
    made again (`blame`). Reports about an output that no longer counts are late.
    """
    job = state.jobs.get(report.source.task.job)
    task = job.task(report.source.task) if job is not None else None
    if job is None or task is None or not task.is_done or task.winner is None:
        return
    if task.winner.attempt != report.source:
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
    state.lose_output(task, now, report.reason, effects)
    state.requeue(job)


def _part_copy_failed(
    state: ComputeState, member: Member, report: PartCopyFailed, now: float, effects: Effects
) -> None:
    """Someone could not copy a part: another tries, or the part is made again when its worker does not have it."""
    job = state.jobs.get(report.attempt.task.job)
    task = job.task(report.attempt.task) if job is not None else None
    if job is None or task is None or task.winner is None:
        return
    source = state.copies.failed(task, member.id)
    if report.is_gone and source and (task.winner.attempt, task.winner.worker) == (report.attempt, source):
        effects.command(source, DropOutputs((report.attempt,)))
        state.lose_output(task, now, report.reason, effects)
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
    if not state.could_go_elsewhere(job, task, member.id):
        return False
    task.moves += 1
    task.shunned[member.id] = None
    if state.could_go_elsewhere(job, task, source):
        task.shunned[source] = None  # the trouble may be between the two, and a third reaches both
    why = f"worker {member.id} cannot read the output of {report.source}: {report.reason}"
    effects.command(member.id, KillAttempt(attempt.id, why))
    lose_attempt(state, job, task, attempt, why, now, effects)
    state.note_trouble(job, task, member.id)
    state.requeue(job)
    return True
