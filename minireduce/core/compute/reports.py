"""What workers say about attempts and fetches, and what follows from it.

A report may come late: the attempt was killed, its worker was taken for lost, another attempt won, the job is over.
That is normal. Such a report changes nothing, and the worker is told to remove what it still keeps.

Elsewhere: attempts that are lost (losses.py), outputs that somebody cannot read (fetch_failures.py).
"""

from __future__ import annotations

from minireduce.core.compute import bad_records, disagreement, fetch_failures, outputs
from minireduce.core.compute.disagreement import Verdict
from minireduce.core.compute.draining import worker_drains
from minireduce.core.compute.ending import end_job
from minireduce.core.compute.excluding import note_trouble
from minireduce.core.compute.job import Job
from minireduce.core.compute.losses import find_live, lost
from minireduce.core.compute.records import persist_failure
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import AttemptState, Task, Winner
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
from minireduce.ids import AttemptId


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
                note_trouble(state, found[0], found[1], member.id)
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
            worker_drains(state, member.id)
        case PartCopyFailed():
            fetch_failures.part_copy_failed(state, member, report, now, effects)
        case FetchFailed():
            fetch_failures.fetch_failed(state, member, report, now, effects)


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
        state.speeds.finished(job.steps[task.id.step], task, attempt, now)
        state.end_attempt(job, task, attempt, AttemptState.SUCCEEDED, now, "")
    if has_other_digest and winner is not None and not _may_replace(state, job, task, winner, report, now, effects):
        effects.command(member.id, DropOutputs((report.attempt,)))
        return
    too_many = bad_records.exceeds_share(job, task, report)
    if too_many and job.state is not JobState.SUCCEEDED:
        end_job(state, job, JobState.FAILED, too_many, now, effects)
        return
    outputs.commit(state, job, task, member.id, report, now, effects)
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
        end_job(state, job, JobState.SUCCEEDED if is_acknowledged else JobState.FAILED, reason, now, effects)
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
    state.end_attempt(job, task, attempt, AttemptState.FAILED, now, report.error.summary)
    task.failures += 1
    job.count("NUM_FAILED_MAPS" if task.id.kind == "map" else "NUM_FAILED_REDUCES")
    job.errors.insert(0, AttemptError(attempt.id, attempt.worker, report.error))
    del job.errors[state.settings.errors_kept_max :]
    persist_failure(attempt.id, attempt.worker, report.error, effects)
    note_trouble(state, job, task, member.id)
    is_blamed_again = bad_records.is_blamed_again(job, task, report.error)
    if bad_records.is_hopeless(job, report.error) and job.state is not JobState.SUCCEEDED:
        reason = f"{task.id} cannot read its input, nor could another attempt"
        end_job(state, job, JobState.FAILED, reason, now, effects)
    elif is_blamed_again and job.state is not JobState.SUCCEEDED:
        end_job(state, job, JobState.FAILED, bad_records.describe_blamed(task, report.error), now, effects)
    elif task.failures >= job.spec.attempts_max and job.state is not JobState.SUCCEEDED:
        times = "once" if task.failures == 1 else f"{task.failures} times"
        end_job(state, job, JobState.FAILED, f"{task.id} failed {times}", now, effects)
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
