"""All jobs that are not over, what every worker is busy with, and the few changes that everything else is made of.

The changes: launch an attempt, start it, end it; queue its task again; end a job. Each keeps the attempt, its task, its
job, the worker's load and the durable form in step. Who calls them: `reports` (what workers say), `arrivals` (workers
that come and go), `submission` (what clients ask), `outputs` (what winners leave).

Invariants: an attempt is in its worker's load exactly while it is live; a job that has ended has no live attempts.
Elsewhere: which workers a job excludes (excluding.py), where waiting maps have their input (homes.py), what becomes of
a job whose parts are all there (completing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from minireduce.core.compute import ending
from minireduce.core.compute.blame import Complaints
from minireduce.core.compute.completing import complete_copied, complete_if_done
from minireduce.core.compute.copies import Copies
from minireduce.core.compute.fair_share import Queues
from minireduce.core.compute.history import History
from minireduce.core.compute.homes import Homes
from minireduce.core.compute.inputs import HoldersOf, Inputs, LocateStored
from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.locality import Level, Spot
from minireduce.core.compute.map_outputs import Announcements
from minireduce.core.compute.preemption import Preemption
from minireduce.core.compute.printed import PrintedText
from minireduce.core.compute.records import (
    COUNTED_OF_KIND,
    EndedJob,
    persist_job,
    persist_progress,
)
from minireduce.core.compute.scheduler import Assignment, Scheduler
from minireduce.core.compute.stragglers import Stragglers
from minireduce.core.compute.task import ATTEMPTS_PER_EPOCH_MAX, Attempt, AttemptState, Task, TaskState
from minireduce.core.compute.waiting import why_waiting
from minireduce.core.effects import Effects
from minireduce.core.membership import Member, Membership
from minireduce.core.messages import KillAttempt, LaunchAttempt, OpenJob
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import OutputKind
from minireduce.core.views import JobState
from minireduce.ids import JobId, TaskId, TaskKind, WorkerId

PREEMPTED = "PREEMPTED_ATTEMPTS"
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
        self._drop_leftovers = drop_leftovers
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
        self._with_room: dict[WorkerId, None] = {}  # those that may take something that they could not take before
        self._unsettled: dict[JobId, Job] = {}  # those that must be looked at as a whole
        self._is_everybody_asked = True
        self.homes = Homes(self, replica_moves)
        self._are_copies_known = False  # after a restart, once all workers have listed theirs
        self.copying_until: dict[JobId, float] = {}  # complete jobs that wait for the copies of their result
        self._used_up: dict[TaskId, None] = {}  # tasks that must not be tried again
        self.inputs = Inputs(self._job, self.address_of, self._find_spot, locate_stored, holders_of)
        self.queues = Queues(settings)
        self._preemption = Preemption(settings, self.queues, self._could_run)
        self._scheduler = Scheduler(settings, self.queues, self.loads, self._taking)
        self.stragglers = Stragglers(self)

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
        is_open = member is not None and member.is_live and self._is_taking(member) and worker not in job.excluded
        return self.loads[worker].spot if is_open else None

    def leave(self, worker: WorkerId) -> None:
        """A worker takes in no more: what waits to come to it need not wait for that, and what only it holds is
        wanted elsewhere.
        """
        self.homes.leave(worker)
        self.copies.worker_drains(worker)
        self.ask_everybody()  # what avoided the others may come to them now

    # ── attempts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def schedule(self, now: float, effects: Effects) -> None:
        """Give free workers something to do. After a restart, only once all that are expected are back or lost: they
        may still run what would be launched again.
        """
        self._settle(now, effects)
        for key in [key for key, job in self.hungry.items() if key not in self.jobs or not job.has_waiting]:
            del self.hungry[key]
        if self.hungry and not self.membership.is_anyone_expected:
            asked = self.workers_that_take() if self._is_everybody_asked else self._workers_with_room()
            jobs = self.hungry.values()
            self._scheduler.assign(jobs, asked, now, lambda choice: self.launch(choice, now, effects))
            self._is_everybody_asked = False
        self._with_room.clear()
        self.stragglers.look(now, effects)
        if self._used_up:
            self._end_used_up(now, effects)
        if not self.membership.is_anyone_expected:
            if not self._are_copies_known:
                self._are_copies_known = True
                self.want_copies()
            self.copies.order(effects)
            if self.copying_until:
                complete_copied(self, now, effects)
        self.announcements.announce(now, effects)

    def ask_everybody(self) -> None:
        """Something changed that may let any worker take what it could not take before."""
        self._is_everybody_asked = True

    def workers_that_take(self) -> list[Member]:
        """Those that may be given attempts."""
        return list(self._taking())

    def _taking(self) -> Iterator[Member]:
        return (member for member in self.membership if member.is_live and self._is_taking(member))

    def _workers_with_room(self) -> list[Member]:
        members = [self.membership.get(worker) for worker in self._with_room]
        return [member for member in members if member is not None and member.is_live and self._is_taking(member)]

    def _is_taking(self, member: Member) -> bool:
        return member.takes_work and member.id in self.loads

    def is_wanted(self, member: Member) -> bool:
        """Whether an ordinary task waits that this worker may run, now that it has a slot free."""
        return any(
            step.waiting_maps and self._scheduler.may_run(job, step, member)
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
            self._used_up[task.id] = None
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
            self.stragglers.started(job.steps[task.id.step], task, attempt, now)
            self.queues.count(job, self.load_of(attempt.worker).start(task))
            self._stop_gathering(attempt)
            if task.id.kind is TaskKind.REDUCE:
                self._with_room[attempt.worker] = None  # another may gather in its place
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
        self._with_room[attempt.worker] = None

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
        self._unsettled[job.id] = job

    def _settle(self, now: float, effects: Effects) -> None:
        for job in self._unsettled.values():
            if job.id in self.jobs:
                self.queue_wanted(job)
                complete_if_done(self, job, now, effects)
        self._unsettled.clear()

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, now: float, effects: Effects) -> None:
        """Time passed."""
        ending.end_overdue(self, now, effects)
        for job in list(self.jobs.values()):
            if now - job.looked_at_s >= self.settings.progress_interval_s:
                job.looked_at_s = now
                if job.counted != job.counted_durably:
                    persist_progress(job, now, effects)
                self.history.write_early(job, now, effects)
        self._take_back_slots(now, effects)
        self.homes.look()
        self.ask_everybody()
        self.copies.look_again()

    def _take_back_slots(self, now: float, effects: Effects) -> None:
        jobs = [job for job in self.jobs.values() if job.state is JobState.RUNNING]
        if len(jobs) < 2:
            return
        slots = sum(self.loads[member.id].slots for member in self.workers_that_take())
        for victim in self._preemption.choose(jobs, slots, now):
            why = f"its slot is {victim.hungry.id}'s share"
            self.kill_attempt(victim.job, victim.task, victim.attempt, now, why, effects)
            victim.job.count(PREEMPTED)
            self.try_again(victim.job, victim.task)

    def _could_run(self, job: Job, worker: WorkerId, freed_bytes: int) -> bool:
        member = self.membership.get(worker)
        step = next((step for step in job.steps if step.waiting_maps), None)
        if member is None or step is None or not member.is_live or not self._is_taking(member):
            return False
        return self._scheduler.may_run(job, step, member, freed_bytes)

    def _end_used_up(self, now: float, effects: Effects) -> None:
        for task in self._used_up:
            job = self.jobs.get(task.job)
            if job is not None and job.state is not JobState.SUCCEEDED:
                reason = f"{task} was begun {ATTEMPTS_PER_EPOCH_MAX} times: its workers or its outputs keep being lost"
                self.end_job(job, JobState.FAILED, reason, now, effects)
        self._used_up.clear()

    def change(self, job: Job, state: JobState, now: float, effects: Effects) -> None:
        """A job is in another state, for people and after a restart too."""
        job.state = state
        persist_job(job, effects)
        persist_progress(job, now, effects)
        effects.changed(job.id)

    def end_job(self, job: Job, state: JobState, reason: str, now: float, effects: Effects) -> None:
        """The job is over, and nothing of it stays in the cluster but what people may ask about it."""
        self.copying_until.pop(job.id, None)
        ending.end_job(self, job, state, reason, now, effects)
        self._drop_leftovers(job.spec.output_path, job.id, job.key, effects)

    def is_unended(self, key: str) -> bool:
        """Whether the job of the submission with this key has not ended."""
        return self.by_key.get(key) in self.jobs

    def waiting_for(self, job: Job, now: float) -> str:
        """Why nothing of a running job runs, in words; "" when something does."""
        if job.id in self.copying_until:
            return "second copies of its parts"
        return why_waiting(job, self.membership, self.loads, self.queues, self.settings, now)
