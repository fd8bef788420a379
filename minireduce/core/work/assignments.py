"""Carry out what the master assigned to this worker: jobs, attempts, the outputs that finished attempts left.

Commands come in, and news of processes; out go orders to the shell and what the master must hear (`orders.Outbox`).
Commands are idempotent by id: an attempt that is launched again is answered by what is known of it.

Invariants: every attempt that was launched is answered by one report of its end; a job's files are removed when none of
its processes can write any more; an output that was reported is kept until the master drops it.
Not here: what comes from other workers (incoming.py); how the master is reached, and what happens when it stays away
(session.py, worker.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from random import Random
from typing import Any

from minireduce.core.messages import (
    AttemptFailed,
    AttemptKilled,
    AttemptLost,
    AttemptProgressed,
    AttemptReturned,
    AttemptStarted,
    AttemptSucceeded,
    CopyPart,
    DropJob,
    DropOutputs,
    KillAttempt,
    LaunchAttempt,
    MapOutputsLost,
    MapOutputsReady,
    OpenJob,
    PartCopyFailed,
    RecordsSkipped,
    ReleaseWorker,
    WorkerProfile,
)
from minireduce.core.settings import WorkerSettings
from minireduce.core.task_data import PartInput, PartitionInput
from minireduce.core.work.attempts import (
    Attempt,
    AttemptEnded,
    AttemptOutcome,
    Attempts,
    AttemptsEnded,
    AttemptsGivenBack,
    Change,
    Failed,
    Killed,
    Lost,
    Phase,
    ProgressMade,
    StartBatch,
    StopAttempt,
    Succeeded,
)
from minireduce.core.work.bad_records import PLAIN, Care, GiveUp, Search
from minireduce.core.work.fetches import Fetches
from minireduce.core.work.incoming import Incoming
from minireduce.core.work.merging import MergeEnded, Merging
from minireduce.core.work.orders import (
    CloseProgram,
    EndReport,
    OpenProgram,
    Outbox,
    RemoveFetched,
    RemoveJob,
    RemoveOutputs,
)
from minireduce.core.work.pace import Paces
from minireduce.errors import InvariantViolation
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskId


@dataclass(slots=True)
class _Job:
    """What the master said of a job, and how its attempts ended here, should it ask again."""

    opened: OpenJob
    paces: Paces
    ended: dict[AttemptId, EndReport] = field(default_factory=dict)
    is_dropped: bool = False  # but some of its processes have not ended yet


class Assignments:
    """All jobs, attempts and outputs of one worker. `outputs` is what its disks held at start."""

    def __init__(
        self, profile: WorkerProfile, settings: WorkerSettings, *, outputs: tuple[AttemptSucceeded, ...], rng: Random
    ) -> None:
        self._profile = profile
        self._settings = settings
        self.outputs = {output.attempt: output for output in outputs}
        self.attempts = Attempts(slots=profile.slots, memory_bytes=profile.memory_bytes)
        self.out = Outbox()
        self._fetches = Fetches(worker=profile.worker, own_outputs=self.outputs, settings=settings, rng=rng)
        self.merging = Merging(self.attempts, self._fetches, settings)
        self.incoming = Incoming(profile.worker, self.attempts, self.outputs, self._fetches, self.out)
        self._jobs: dict[JobId, _Job] = {}
        self._progress: dict[AttemptId, AttemptProgressed] = {}
        self._is_stopping = False
        self.is_released = False

    def obey(self, command: Any, now: float) -> None:
        """Carry out one command."""
        self._COMMANDS[type(command)](self, command, now)

    def start_what_can(self, now: float) -> None:
        """Give free slots to attempts that are ready, and room on the network to those that wait."""
        if self._is_stopping:
            return
        while admissible := self.attempts.admissible():
            self._start(admissible[0], len(admissible), now)
        if not self._fetches.is_idle:
            self.out.actions.extend(self._fetches.plan(now, self.attempts.exceeding_max))
        self.out.actions.extend(self.merging.plan(now))

    def _first_care(self, attempt: Attempt) -> Care:
        """How the first run of an attempt treats its records."""
        if not attempt.step.skips_bad_records:
            return Care(is_place_exact=attempt.is_retry)
        is_wary = attempt.is_retry or bool(attempt.skips)
        care = Care(is_place_exact=is_wary, is_careful=is_wary, skips=attempt.skips)
        attempt.search = Search(attempt.skips, care, self._settings.probes_max)
        return care

    def _start(self, attempt: Attempt, slots: int, now: float) -> None:
        """Give a slot to an attempt, with others behind it if they are all short; `slots` are there for all of them.
        What is short is not worth telling that it started: the master hears of that if it lasts.
        """
        attempt.runs, _ = self._fetches.release(attempt.id)
        self.attempts.change(attempt, Change.ADMITTED, now)
        ahead = self.merging.take(attempt.id, attempt.runs)
        first = replace(attempt.start(self._first_care(attempt)), ahead=ahead)
        size = self._jobs[attempt.id.task.job].paces.batch_size(attempt.id.task)
        followers = self.attempts.followers(attempt, size, slots) if size > 1 and attempt.may_be_batched else []
        if not followers:
            self.out.actions.append(first)
            attempt.is_told = True
            self.out.reports.append(AttemptStarted(attempt.id))
            return
        self.attempts.batch([attempt, *followers], now)
        self.out.actions.append(StartBatch((first, *(each.start(PLAIN) for each in followers))))

    def give_back_late(self, now: float) -> None:
        """Give those maps back to the master that have waited for a slot for long: another worker may have one."""
        for attempt in self.attempts.ready_since(now - self._settings.hand_back_after_s):
            self.attempts.change(attempt, Change.UNWANTED, now)
            self.out.reports.append(AttemptReturned(attempt.id))

    def stop(self, now: float) -> None:
        """End all attempts and take in no more."""
        self._is_stopping = True
        for attempt in self.attempts:
            self._end_unwanted(attempt, _STOPPING, now)
        self.incoming.drop_all_copies()

    @property
    def holds_parts(self) -> bool:
        """Whether parts are here, which others may have to copy before this worker ends."""
        return any(not report.output.partition_bytes_log2 for report in self.outputs.values())

    def give_up(self, now: float) -> list[JobId]:
        """Drop everything; gives back the jobs that were here."""
        opened = [job for job, known in self._jobs.items() if not known.is_dropped]
        jobs = list(dict.fromkeys([*opened, *(attempt.task.job for attempt in self.outputs)]))
        for job in jobs:
            self._drop_job(DropJob(job), now)
        return jobs

    def knows(self, job: JobId) -> bool:
        """Whether a job is open here, or any attempt or output of it."""
        return (
            job in self._jobs
            or any(attempt.task.job == job for attempt in self.outputs)
            or bool(self.attempts.of_job(job))
        )

    def close_idle_jobs(self) -> None:
        """A new session began, in which the master opens again each job that it wants here. One that has ended
        meanwhile it may never name again, unless the lists of `Hello` remind it.
        """
        busy = {attempt.id.task.job for attempt in self.attempts} | {attempt.task.job for attempt in self.outputs}
        for job in [job for job in self._jobs if job not in busy]:
            del self._jobs[job]
            self.incoming.forget_job(job)
            self.out.actions.append(CloseProgram(job))

    def take_progress(self) -> list[AttemptProgressed]:
        """The latest progress of each attempt that made some since the last time."""
        progress, self._progress = list(self._progress.values()), {}
        return progress

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open_job(self, command: OpenJob, _: float) -> None:
        job = self._jobs.setdefault(command.job, _Job(command, Paces(self._settings)))
        job.opened, job.is_dropped = command, False
        self.incoming.open_job(command.job)
        self.out.actions.append(OpenProgram(command))

    def _launch_attempt(self, command: LaunchAttempt, now: float) -> None:
        attempt_id = command.attempt
        job = self._jobs.get(attempt_id.task.job)
        if attempt_id in self.attempts:
            return
        if attempt_id in self.outputs:
            self.out.reports.append(self.outputs[attempt_id])
        elif job is None or job.is_dropped:
            self.out.reports.append(AttemptLost(attempt_id, "its job is not open on this worker"))
        elif attempt_id in job.ended:
            self.out.reports.append(job.ended[attempt_id])
        elif self._is_stopping:
            self.out.reports.append(AttemptLost(attempt_id, _STOPPING))
        else:
            self._take_in(job, command, now)

    def _take_in(self, job: _Job, command: LaunchAttempt, now: float) -> None:
        task = command.attempt.task
        step = job.opened.steps[task.step]
        attempt = Attempt(
            command.attempt,
            command.input,
            step,
            output_text=job.opened.output_text,
            is_retry=command.is_retry,
            skips=command.skips,
        )
        self.attempts.add(attempt)
        self.incoming.expect(attempt, job.opened, now)

    def _map_outputs_ready(self, command: MapOutputsReady, now: float) -> None:
        self.incoming.map_outputs_ready(command, now)

    def _map_outputs_lost(self, command: MapOutputsLost, now: float) -> None:
        self.incoming.map_outputs_lost(command, now)

    def _copy_part(self, command: CopyPart, _: float) -> None:
        attempt = command.part.attempt
        if attempt in self.outputs:
            self.out.reports.append(self.outputs[attempt])
        elif self._is_stopping:
            self.out.reports.append(PartCopyFailed(attempt, is_gone=False, reason=_STOPPING))
        else:
            self.incoming.copy_part(command)

    def _release_worker(self, _command: ReleaseWorker, _now: float) -> None:
        self.is_released = True

    def _kill_attempt(self, command: KillAttempt, now: float) -> None:
        attempt = self.attempts.get(command.attempt)
        job = self._jobs.get(command.attempt.task.job)
        if attempt is not None:
            self._end_unwanted(attempt, command.reason, now)
        elif command.attempt not in self.outputs and (job is None or command.attempt not in job.ended):
            self.out.reports.append(AttemptKilled(command.attempt))  # given up here before; the master waits for a word

    def _end_unwanted(self, attempt: Attempt, reason: str, now: float) -> None:
        if attempt.phase is Phase.RUNNING or attempt.phase is Phase.BEHIND:
            self.out.actions.append(StopAttempt(attempt.id, reason))
        self.attempts.change(attempt, Change.UNWANTED, now)
        if attempt.phase is Phase.ENDED:
            self._settle_end(attempt, self._unwanted_report(attempt.id))

    def _drop_outputs(self, command: DropOutputs, now: float) -> None:
        held = tuple(attempt for attempt in command.attempts if self.outputs.pop(attempt, None) is not None)
        if held:
            self.out.actions.append(RemoveOutputs(held))
        for attempt in command.attempts:
            self.incoming.withdraw(attempt, now)

    def _drop_job(self, command: DropJob, now: float) -> None:
        for attempt_id in [attempt for attempt in self.outputs if attempt.task.job == command.job]:
            del self.outputs[attempt_id]
        self.incoming.drop_copies_of(command.job)
        job = self._jobs.get(command.job)
        for attempt in self.attempts.of_job(command.job):
            self._end_unwanted(attempt, "its job was dropped", now)
        if job is not None:
            job.is_dropped = True
        self._remove_if_over(command.job)

    def _remove_if_over(self, job: JobId) -> None:
        """A job's files go when none of its processes can write any more."""
        if not self.attempts.has_job(job):
            self._jobs.pop(job, None)
            self.incoming.forget_job(job)
            self.out.actions.append(RemoveJob(job))

    # ── what became of processes ────────────────────────────────────────────────────────────────────────────────────

    def progress_made(self, event: ProgressMade) -> None:
        """Keep the latest."""
        attempt = self.attempts.get(event.attempt)
        if attempt is not None:  # otherwise said just before it ended
            if not attempt.is_told and attempt.holds_slot:
                attempt.is_told = True
                self.out.reports.append(AttemptStarted(attempt.id))
            self._progress[event.attempt] = AttemptProgressed(
                event.attempt, event.fraction, event.records, event.status, event.input_bytes, event.largest_key
            )

    def attempt_ended(self, event: AttemptEnded, now: float) -> None:
        """Report the end of a process, and keep its output if it is one that is wanted."""
        attempt = self.attempts.get(event.attempt)
        if attempt is None:
            raise InvariantViolation(f"attempt {event.attempt} ended on {self._profile.worker}, where none such ran")
        was_wanted = attempt.phase is Phase.RUNNING
        outcome = event.outcome
        if was_wanted and attempt.search is not None:
            following = self._search_on(attempt, attempt.search, outcome)
            if isinstance(following, Care):
                self.out.actions.append(attempt.start(following))
                return
            outcome = following
        self.attempts.change(attempt, Change.PROCESS_ENDED, now)
        if not was_wanted:
            self._settle_end(attempt, self._unwanted_report(attempt.id))
            return
        match outcome:
            case Succeeded(output, counters, input_bytes, largest_key, busy_s):
                report = AttemptSucceeded(attempt.id, output, counters, input_bytes, largest_key, busy_s)
                self._note_pace(attempt.id.task, busy_s)
                if not output.is_empty_part:
                    self.outputs[attempt.id] = report
                self._progress.pop(attempt.id, None)
                self.out.reports.append(report)
                if isinstance(attempt.input, PartInput | PartitionInput):
                    self.out.actions.append(RemoveFetched(attempt.id))
            case Failed(error=error):
                self._settle_end(attempt, AttemptFailed(attempt.id, error))
            case Lost(reason):
                self._settle_end(attempt, AttemptLost(attempt.id, reason))
            case Killed():
                self._settle_end(attempt, AttemptLost(attempt.id, "its process was killed from outside"))

    def merge_ended(self, event: MergeEnded) -> None:
        """Note what a free slot did for an attempt that waits."""
        self.merging.ended(event)
        job = self._jobs.get(event.attempt.task.job)
        if job is not None and job.is_dropped:
            self._remove_if_over(event.attempt.task.job)

    def _search_on(self, attempt: Attempt, search: Search, outcome: AttemptOutcome) -> Care | AttemptOutcome:
        """Where bad records may be skipped: how to run the attempt again, or what it came to."""
        following: Care | GiveUp | None = None
        match outcome:
            case Failed():
                following, bad = search.failed(outcome.error, outcome.suspects, outcome.probed)
                if bad is not None:
                    self.out.reports.append(RecordsSkipped(attempt.id, (bad,)))
            case Succeeded():
                following = search.went_through()
        if isinstance(following, GiveUp):
            return Failed(following.error)
        return outcome if following is None else following

    def attempts_ended(self, event: AttemptsEnded, now: float) -> None:
        """Report the ends of attempts of a batch, in their order."""
        for ended in event.ends:
            if event.has_printed and ended.attempt.task.job in self._jobs:
                self._jobs[ended.attempt.task.job].paces.keep_alone(ended.attempt.task)
            self.attempt_ended(ended, now)

    def attempts_given_back(self, event: AttemptsGivenBack, now: float) -> None:
        """These did not end; what is still wanted is ready again."""
        for attempt_id in event.attempts:
            attempt = self.attempts.get(attempt_id)
            if attempt is None:
                raise InvariantViolation(
                    f"attempt {attempt_id} was given back to {self._profile.worker}, which lacks it"
                )
            self.attempts.change(attempt, Change.GIVEN_BACK, now)
            if attempt.phase is Phase.ENDED:
                self._settle_end(attempt, self._unwanted_report(attempt_id))

    def _note_pace(self, task: TaskId, busy_s: float) -> None:
        if busy_s and task.job in self._jobs:
            self._jobs[task.job].paces.ended(task, busy_s)

    def _unwanted_report(self, attempt: AttemptId) -> EndReport:
        return AttemptKilled(attempt) if not self._is_stopping else AttemptLost(attempt, _STOPPING)

    def _settle_end(self, attempt: Attempt, report: EndReport) -> None:
        """An attempt ended without an output: leave nothing of it but the report."""
        _, cancelled = self._fetches.release(attempt.id)
        self.out.actions.extend(cancelled)
        self.out.actions.extend(self.merging.drop(attempt.id))
        self._progress.pop(attempt.id, None)
        self.out.reports.append(report)
        job = self._jobs[attempt.id.task.job]
        job.ended[attempt.id] = report
        self.out.actions.append(RemoveOutputs((attempt.id,)))
        if job.is_dropped:
            self._remove_if_over(attempt.id.task.job)

    _COMMANDS: Mapping[type, Callable[[Assignments, Any, float], None]] = {
        OpenJob: _open_job,
        LaunchAttempt: _launch_attempt,
        MapOutputsReady: _map_outputs_ready,
        MapOutputsLost: _map_outputs_lost,
        KillAttempt: _kill_attempt,
        DropOutputs: _drop_outputs,
        DropJob: _drop_job,
        CopyPart: _copy_part,
        ReleaseWorker: _release_worker,
    }


_STOPPING = "its worker was told to stop"
