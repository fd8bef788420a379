"""What becomes of records that cannot be computed: which are left out, how many may be, and when a record ends its job.

Where a job allows it, workers find bad records and report each (`RecordsSkipped`, work/bad_records.py). A report is
written down before anything follows from it, and every later attempt of the task begins with what is known by then.
What counts in the end is what each task's winner left out (`Job.skipped`): that is the job's quarantine.

A job may give a number of records, which ends it as soon as it is exceeded, or a share of those that were read, which
is judged for each step when all of its maps, or all of its reduces, are done.

Where a job allows nothing, a record on which a task fails a second time ends it at once: to try a third time would only
cost time. Input that is not of its format, which the engine finds and no user code, ends it at the first time.

Not here: how a bad record is found and proved (work/bad_records.py), how it is left out (the engine).
"""

from __future__ import annotations

from minireduce.core.compute.ending import end_job
from minireduce.core.compute.job import Job
from minireduce.core.compute.records import persist_skipped
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import Task
from minireduce.core.effects import Effects
from minireduce.core.messages import AttemptSucceeded, RecordsSkipped
from minireduce.core.spec import SKIPPED_MAX
from minireduce.core.task_data import UNREADABLE, Counters, TaskError
from minireduce.core.views import JobState, SkippedView
from minireduce.ids import TaskKind, WorkerId

FLAG = "--skip-bad-records"


def take_skipped(state: ComputeState, worker: WorkerId, report: RecordsSkipped, now: float, effects: Effects) -> None:
    """A worker found records of a task to be bad. What comes late is known already, or of a job that is over."""
    job = state.jobs.get(report.attempt.task.job)
    task = job.task(report.attempt.task) if job is not None else None
    if job is None or task is None or not job.spec.skips_bad_records:
        return
    for record in report.records:
        if record.place.position not in task.skipped:
            view = SkippedView(report.attempt, worker, record)
            task.skipped[record.place.position] = view
            job.skipped_records += 1
            persist_skipped(view, effects)
    reason = too_many(job.skipped_records, job.spec.skipped_max)
    if reason and job.state is not JobState.SUCCEEDED:
        end_job(state, job, JobState.FAILED, reason, now, effects)


def too_many(skipped: int, records_max: int) -> str:
    """Why a job fails that has found so many bad records; "" when it need not. 0 allowed: a share is, which is judged
    later, but there is a number that no job may exceed.
    """
    most = min(records_max or SKIPPED_MAX, SKIPPED_MAX)
    return f"{skipped} records could not be computed, and {FLAG} allows {most}" if skipped > most else ""


def exceeds_share(job: Job, task: Task, report: AttemptSucceeded) -> str:
    """Why the job fails if this output counts; "" when it need not."""
    fraction_max = job.spec.skipped_fraction_max
    step = job.steps[task.id.step]
    tasks, done = (step.maps, step.maps_done) if task.id.kind is TaskKind.MAP else (step.reduces, step.reduces_done)
    if not fraction_max or done + 1 < len(tasks):
        return ""
    others = [other.winner for other in tasks if other is not task and other.winner is not None]
    outputs = [(winner.output, winner.counters) for winner in others] + [(report.output, report.counters)]
    skipped = sum(len(output.skipped) for output, _ in outputs)
    read = sum(_read_by(task.id.kind, counters) for _, counters in outputs)
    return too_large_share(task.id.kind, skipped, read, fraction_max)


def too_large_share(kind: TaskKind, skipped: int, read: int, fraction_max: float) -> str:
    """Why a job fails of which all maps, or all reduces, of a step left out so many and read so many others; "" when it
    need not, as where no share is the limit.
    """
    total = read + skipped
    if not fraction_max or skipped <= fraction_max * total:
        return ""
    noun = "records" if kind is TaskKind.MAP else "keys"
    return f"{skipped} of {total} {noun} could not be computed, and {FLAG} allows {100 * fraction_max:.6g}% of them"


def _read_by(kind: TaskKind, counters: Counters) -> int:
    name = "MAP_INPUT_RECORDS" if kind is TaskKind.MAP else "REDUCE_INPUT_GROUPS"
    return sum(value for group, each, value in counters if (group, each) == ("minireduce", name))


def is_hopeless(job: Job, error: TaskError) -> bool:
    """Whether each other attempt will fail alike: the input is not of its format, and what of it is not may not be left
    out.
    """
    return error.kind == UNREADABLE and (error.offset < 0 or not job.spec.skips_bad_records)


def is_blamed_again(job: Job, task: Task, error: TaskError) -> bool:
    """Whether an attempt of the task failed at this very record before; remembers this time."""
    if job.spec.skips_bad_records or error.position < 0:
        return False
    is_known = error.position in task.blamed
    task.blamed[error.position] = None
    return is_known


def describe_blamed(task: Task, error: TaskError) -> str:
    """Why the job fails at this record."""
    noun = "record" if task.id.kind is TaskKind.MAP else "key"
    where = f" of {error.path}" if error.path else ""
    if error.offset >= 0:
        where += f" at offset {error.offset}"
    shown = f" {error.record}" if error.record else f" number {error.position + 1}"
    return f"{task.id} failed twice at the {noun}{shown}{where} ({FLAG} leaves such records out)"
