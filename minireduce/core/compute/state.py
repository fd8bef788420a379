"""All jobs that are not over, what every worker is busy with, and the few changes that everything else is made of.

The changes: launch an attempt, start it, end it; queue its task again. Each keeps the attempt, its task, its job, the
worker's load and the durable form in step. Who calls them: `reports` (what workers say), `arrivals` (workers that come
and go), `submission` (what clients ask), `outputs` (what winners leave), and `rounds`, after each event.

Invariants: an attempt is in its worker's load exactly while it is live; a job that has ended has no live attempts.
Elsewhere: which workers a job excludes (excluding.py), where waiting maps have their input (homes.py), what becomes of
a job whose parts are all there (completing.py), the end of a job (ending.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from minireduce.core.compute.blame import Complaints
from minireduce.core.compute.copies import Copies
from minireduce.core.compute.fair_share import Queues
from minireduce.core.compute.history import History
from minireduce.core.compute.inputs import HoldersOf, Inputs, LocateStored
from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.locality import Level, Spot
from minireduce.core.compute.map_outputs import Announcements
from minireduce.core.compute.printed import PrintedText
from minireduce.core.compute.records import (
    COUNTED_OF_KIND,
    EndedJob,
    persist_job,
    persist_progress,
)
from minireduce.core.compute.scheduler import Assignment, Scheduler
from minireduce.core.compute.speeds import Speeds
from minireduce.core.compute.task import Attempt, AttemptState, Task, TaskState
from minireduce.core.compute.waiting import why_waiting
from minireduce.core.effects import Effects
from minireduce.core.membership import Member, Membership
from minireduce.core.messages import KillAttempt, LaunchAttempt, OpenJob
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import OutputKind
from minireduce.core.views import JobState
from minireduce.ids import JobId, TaskId, TaskKind, WorkerId

LAUNCHED = {kind: launched for kind, launched, _ in COUNTED_OF_KIND}
BACKUPS = {TaskKind.MAP: "NUM_BACKUP_MAPS", TaskKind.REDUCE: "NUM_BACKUP_REDUCES"}
LOCAL = {Level.NODE: "DATA_LOCAL_MAPS", Level.RACK: "RACK_LOCAL_MAPS", Level.ANY: "OTHER_LOCAL_MAPS"}


class ComputeState:
    """Mutable state of the computing half of the master's machine."""

    def __init__(
        self,
        settings: ClusterSettings,
        membership: Membership,
        make_read_token: Callable[[JobId], str],
        locate_stored: LocateStored,
        holders_of: HoldersOf,
        drop_leftovers: Callable[[str, JobId, str, Effects], None],
        replica_moves: Callable[[], int] = lambda: 0,
    ) -> None:
        self.settings = settings
        self.membership = membership
        self.make_read_token = make_read_token
        self.drop_leftovers = drop_leftovers
        self.jobs: dict[JobId, Job] = {}
        self.ended: dict[JobId, EndedJob] = {}
        self.by_key: dict[str, JobId] = {}  # the job of each submission that is remembered
        self.loads: dict[WorkerId, WorkerLoad] = {}
        self.printed = PrintedText(settings)
        self.history = History(settings)
        self.announcements = Announcements(self.find_step)
        self.copies = Copies(settings, membership, self.find_job, self.load_of, make_read_token)
        self.complaints = Complaints(settings.fetch_complaint_kept_s)
        self.hungry: dict[JobId, Job] = {}  # those with tasks that may wait for a slot
        self.with_room: dict[WorkerId, None] = {}  # those that may take something that they could not take before
        self.unsettled: dict[JobId, Job] = {}  # those that must be looked at as a whole
        self.is_everybody_asked = True
        self.replica_moves = replica_moves
        self.homes_known: int | None = None  # as of so many moves of replicas; None: workers came or went since
        self.copying_until: dict[JobId, float] = {}  # complete jobs that wait for the copies of their result
        self.used_up: dict[TaskId, None] = {}  # tasks that must not be tried again
        self.inputs = Inputs(self._job, self.address_of, self._find_spot, locate_stored, holders_of)
        self.queues = Queues(settings)
        self.scheduler = Scheduler(settings, self.queues, self.loads, self._taking)
        self.speeds = Speeds(settings, self.inputs, self.load_of)

    # ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def find_step(self, job: JobId, step: int) -> Step | None:
        """A step of a job that is not over."""
        return self.jobs[job].steps[step] if job in self.jobs else None

    def find_job(self, job: JobId) -> Job | None:
        """A job that is not over."""
        return self.jobs.get(job)

    def _job(self, job: JobId) -> Job:
        return self.jobs[job]

    def load_of(self, worker: WorkerId) -> WorkerLoad:
        """What a worker is busy with; made when the worker is first met."""
        load = self.loads.get(worker)
        if load is None:
            load = self.loads[worker] = WorkerLoad(slots=0)
        return load

    def address_of(self, worker: WorkerId) -> str:
        """Where a worker's block server listens; "" when the worker cannot be heard."""
        member = self.membership.get(worker)
        return member.profile.data_address if member is not None and member.is_live else ""

    def _find_spot(self, job: Job, worker: WorkerId) -> Spot | None:
        member = self.membership.get(worker)
        is_open = member is not None and member.is_live and self.is_taking(member) and worker not in job.excluded
        return self.loads[worker].spot if is_open else None

    # ── attempts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask_everybody(self) -> None:
        """Something changed that may let any worker take what it could not take before."""
        self.is_everybody_asked = True

    def workers_that_take(self) -> list[Member]:
        """Those that may be given attempts."""
        return list(self._taking())

    def _taking(self) -> Iterator[Member]:
        return (member for member in self.membership if member.is_live and self.is_taking(member))

    def is_taking(self, member: Member) -> bool:
        return member.takes_work and member.id in self.loads

    def is_wanted(self, member: Member) -> bool:
        """Whether an ordinary task waits that this worker may run, now that it has a slot free."""
        return any(
            step.waiting_maps and self.scheduler.may_run(job, step, member)
            for job in self.hungry.values()
            if not self.queues.of(job).is_full
            for step in job.steps
        )

    def queue_wanted(self, job: Job) -> None:
        """Queue whatever of a job is wanted and not under way."""
        job.queue_wanted(self.inputs.homes, self.settings.reduce_start_fraction)
        self.feed(job)

    def wait_again(self, job: Job, task: Task) -> None:
        """A map whose input is there, as it was just to be read, waits for a slot again unless another tries it."""
        if task.state is TaskState.PENDING and not task.is_queued:
            step = job.steps[task.id.step]
            step.waiting_maps.push(task, self.inputs.homes(step, task))
            self.feed(job)

    def feed(self, job: Job) -> None:
        """Something of a job may wait for a slot now."""
        self.hungry[job.id] = job
        self.ask_everybody()

    def launch(self, choice: Assignment, now: float, effects: Effects) -> Attempt | None:
        """Begin an attempt, unless its task has been begun too often."""
        job, step, task, worker = choice.job, choice.step, choice.task, choice.member.id
        if task.is_used_up:
            task.leave_queue()
            self.used_up[task.id] = None
            return None
        self.open_job(job, worker, effects)
        attempt = task.launch(worker, now, is_backup=choice.is_backup)
        self.track(job, task, attempt)
        job.count(LAUNCHED[task.id.kind])
        if choice.is_backup:
            job.count(BACKUPS[task.id.kind])
        if choice.level is not None:
            job.count(LOCAL[choice.level])
        task_input = self.inputs.of(step, task, worker)
        skips = tuple(view.record.place for view in task.skipped.values())
        effects.command(worker, LaunchAttempt(attempt.id, task_input, task.failures > 0, skips))
        return attempt

    def open_job(self, job: Job, worker: WorkerId, effects: Effects) -> None:
        """Make sure that a worker knows the job before it hears of an attempt."""
        load = self.load_of(worker)
        if job.id not in load.opened:
            load.opened[job.id] = None
            is_text = job.spec.output is not OutputKind.RESULT
            token = self.make_read_token(job.id)
            effects.command(worker, OpenJob(job.id, job.spec.program, job.spec.steps, is_text, token))

    def track(self, job: Job, task: Task, attempt: Attempt) -> None:
        """An attempt lives now on its worker."""
        self.queues.count(job, self.load_of(attempt.worker).add(task, attempt))
        job.live_attempts += 1
        running = job.steps[task.id.step].running
        if task.id not in running:
            running[task.id] = task
            task.running_since_s = attempt.launched_s
        if task.id.kind is TaskKind.REDUCE:
            self.announcements.begin(attempt.worker, job.id, task.id.step)

    def start(self, job: Job, task: Task, attempt: Attempt, now: float) -> None:
        """An attempt has its input and a slot. Hearing it again is normal after a new session."""
        if attempt.state is AttemptState.LAUNCHED:
            self.speeds.started(job.steps[task.id.step], task, attempt, now)
            self.queues.count(job, self.load_of(attempt.worker).start(task))
            self._stop_gathering(attempt)
            if task.id.kind is TaskKind.REDUCE:
                self.with_room[attempt.worker] = None  # another may gather in its place
            attempt.become(AttemptState.RUNNING, now)

    def end_attempt(self, job: Job, task: Task, attempt: Attempt, state: AttemptState, now: float, why: str) -> None:
        """A live attempt is over."""
        self.queues.count(job, self.load_of(attempt.worker).remove(task, attempt))
        self._stop_gathering(attempt)
        self.load_of(attempt.worker).freed_s = now
        attempt.become(state, now, why)
        self.history.note_end(job, attempt)
        job.live_attempts -= 1
        task.settle()
        if not task.live_attempts:
            job.steps[task.id.step].running.pop(task.id, None)
        self.with_room[attempt.worker] = None

    def _stop_gathering(self, attempt: Attempt) -> None:
        task = attempt.id.task
        if task.kind is TaskKind.REDUCE and attempt.state is AttemptState.LAUNCHED:
            self.announcements.end(attempt.worker, task.job, task.step)

    def kill_attempt(self, job: Job, task: Task, attempt: Attempt, now: float, why: str, effects: Effects) -> None:
        """A live attempt is no longer wanted."""
        self.end_attempt(job, task, attempt, AttemptState.KILLED, now, why)
        effects.command(attempt.worker, KillAttempt(attempt.id, why))

    # ── what is wanted again ────────────────────────────────────────────────────────────────────────────────────────

    def want_copies(self) -> None:
        """Of every part that is there: after a restart, and when there are at last enough workers."""
        for job in self.jobs.values():
            self.copies.want_all(job)

    def try_again(self, job: Job, task: Task) -> None:
        """After an attempt that was in vain: queue its task again if it is wanted."""
        if job.id not in self.jobs or not job.queue_again(task, self.inputs.homes):
            self.requeue(job)
        else:
            self.feed(job)

    def requeue(self, job: Job) -> None:
        """After losses: queue again whatever is wanted and not under way, once all of this event is taken in. For that
        every task is looked at, so it is done once, however many workers went together.
        """
        self.unsettled[job.id] = job

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def change(self, job: Job, state: JobState, now: float, effects: Effects) -> None:
        """A job is in another state, for people and after a restart too."""
        job.state = state
        persist_job(job, effects)
        persist_progress(job, now, effects)
        effects.changed(job.id)

    def is_unended(self, key: str) -> bool:
        """Whether the job of the submission with this key has not ended."""
        return self.by_key.get(key) in self.jobs

    def waiting_for(self, job: Job, now: float) -> str:
        """Why nothing of a running job runs, in words; "" when something does."""
        if job.id in self.copying_until:
            return "second copies of its parts"
        return why_waiting(job, self.membership, self.loads, self.queues, self.settings, now)
