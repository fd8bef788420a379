"""Carry out what the master assigned to this worker: jobs, attempts, the outputs that finished attempts left.

Commands come in, and news of processes and fetches; out go orders to the shell (`actions`) and what the master must
hear (`reports`), which `worker.py` drains after each event. Commands are idempotent by id: an attempt that is launched
again is answered by what is known of it.

Invariants: every attempt that was launched is answered by one report of its end; a job's files are removed when none of
its processes can write any more; an output that was reported is kept until the master drops it.
Not here: how the master is reached, and what happens when it stays away (session.py, worker.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from functools import lru_cache
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
    FetchFailed,
    KillAttempt,
    LaunchAttempt,
    MapOutputsLost,
    MapOutputsReady,
    OpenJob,
    PartCopyFailed,
    RecordsSkipped,
    ReleaseWorker,
    Report,
    WorkerProfile,
)
from minireduce.core.settings import WorkerSettings
from minireduce.core.task_data import OutputSource, PartInput, PartitionInput
from minireduce.core.work.attempts import (
    Attempt,
    AttemptEnded,
    AttemptOutcome,
    Attempts,
    AttemptsEnded,
    AttemptsGivenBack,
    Change,
    CopyFoundDamaged,
    Failed,
    Killed,
    Lost,
    OutputFoundMissing,
    Phase,
    ProgressMade,
    StartAttempt,
    StartBatch,
    StopAttempt,
    Succeeded,
)
from minireduce.core.work.bad_records import PLAIN, Care, GiveUp, Search
from minireduce.core.work.copies import Copies, CopyEnded, KeepCopy
from minireduce.core.work.fetches import PART, CancelFetch, FetchEnded, Fetches, StartFetch
from minireduce.core.work.pace import Paces
from minireduce.errors import InvariantViolation
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind

# ── what goes out (beside what attempts and fetches declare) ────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class OpenProgram:
    """A job's attempts will follow: keep its program and its read token at hand."""

    opened: OpenJob


@dataclass(frozen=True, slots=True)
class RemoveOutputs:
    """Remove all that these attempts wrote and all that was fetched for them."""

    attempts: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class RemoveFetched:
    """Remove what was fetched for this attempt, which has succeeded and needs it no more."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """Remove everything of a job: files, program, warm processes. None of its attempts runs any more."""

    job: JobId


@dataclass(frozen=True, slots=True)
class CloseProgram:
    """Nothing of a job is here: forget its program and end its warm processes. `OpenProgram` may follow."""

    job: JobId


AssignmentAction = (
    OpenProgram
    | CloseProgram
    | StartAttempt
    | StartBatch
    | StopAttempt
    | StartFetch
    | CancelFetch
    | KeepCopy
    | RemoveOutputs
    | RemoveFetched
    | RemoveJob
)

EndReport = AttemptFailed | AttemptLost | AttemptKilled


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Job:
    """What the master said of a job, and how its attempts ended here, should it ask again."""

    opened: OpenJob
    paces: Paces
    sources: dict[TaskId, OutputSource] = field(default_factory=dict)
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
        self._fetches = Fetches(worker=profile.worker, own_outputs=self.outputs, settings=settings, rng=rng)
        self._copies = Copies(self._fetches)
        self._jobs: dict[JobId, _Job] = {}
        self._progress: dict[AttemptId, AttemptProgressed] = {}
        self._is_stopping = False
        self.is_released = False
        self.actions: list[AssignmentAction] = []
        self.reports: list[Report] = []

    def obey(self, command: Any, now: float) -> None:
        """Carry out one command."""
        self._COMMANDS[type(command)](self, command, now)

    def drain(self) -> tuple[list[AssignmentAction], list[Report]]:
        """What has gathered since the last time."""
        actions, self.actions = self.actions, []
        reports, self.reports = self.reports, []
        return actions, reports

    def start_what_can(self, now: float) -> None:
        """Give free slots to attempts that are ready, and room on the network to those that wait."""
        if self._is_stopping:
            return
        while admissible := self.attempts.admissible():
            self._start(admissible[0], len(admissible), now)
        if not self._fetches.is_idle:
            self.actions.extend(self._fetches.plan(now, self.attempts.exceeding_max))

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
        first = attempt.start(self._first_care(attempt))
        size = self._jobs[attempt.id.task.job].paces.batch_size(attempt.id.task)
        followers = self.attempts.followers(attempt, size, slots) if size > 1 and attempt.may_be_batched else []
        if not followers:
            self.actions.append(first)
            attempt.is_told = True
            self.reports.append(AttemptStarted(attempt.id))
            return
        self.attempts.batch([attempt, *followers], now)
        self.actions.append(StartBatch((first, *(each.start(PLAIN) for each in followers))))

    def give_back_late(self, now: float) -> None:
        """Give those maps back to the master that have waited for a slot for long: another worker may have one."""
        for attempt in self.attempts.ready_since(now - self._settings.hand_back_after_s):
            self.attempts.change(attempt, Change.UNWANTED, now)
            self.reports.append(AttemptReturned(attempt.id))

    def stop(self, now: float) -> None:
        """End all attempts and take in no more."""
        self._is_stopping = True
        for attempt in self.attempts:
            self._end_unwanted(attempt, _STOPPING, now)
        for attempt_id in list(self._copies.orders):
            self._drop_copy(attempt_id)

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
            self.actions.append(CloseProgram(job))

    def take_progress(self) -> list[AttemptProgressed]:
        """The latest progress of each attempt that made some since the last time."""
        progress, self._progress = list(self._progress.values()), {}
        return progress

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open_job(self, command: OpenJob, _: float) -> None:
        job = self._jobs.setdefault(command.job, _Job(command, Paces(self._settings)))
        job.opened, job.is_dropped = command, False
        self.actions.append(OpenProgram(command))

    def _launch_attempt(self, command: LaunchAttempt, now: float) -> None:
        attempt_id = command.attempt
        job = self._jobs.get(attempt_id.task.job)
        if attempt_id in self.attempts:
            return
        if attempt_id in self.outputs:
            self.reports.append(self.outputs[attempt_id])
        elif job is None or job.is_dropped:
            self.reports.append(AttemptLost(attempt_id, "its job is not open on this worker"))
        elif attempt_id in job.ended:
            self.reports.append(job.ended[attempt_id])
        elif self._is_stopping:
            self.reports.append(AttemptLost(attempt_id, _STOPPING))
        else:
            self._take_in(job, command, now)

    def _take_in(self, job: _Job, command: LaunchAttempt, now: float) -> None:
        task = command.attempt.task
        step = job.opened.steps[task.step]
        is_last = task.step == len(job.opened.steps) - 1 and (task.kind is TaskKind.REDUCE or step.reducers == 0)
        attempt = Attempt(
            command.attempt,
            command.input,
            step,
            output_text=is_last and job.opened.output_text,
            is_retry=command.is_retry,
            skips=command.skips,
        )
        self.attempts.add(attempt)
        token = job.opened.read_token
        match command.input:
            case PartitionInput(partition, maps):
                tasks = _map_tasks(task.job, task.step, maps)
                self._fetches.expect(attempt.id, tasks, partition=partition, shares=step.reducers, read_token=token)
                self._announce(attempt, tuple(job.sources[task] for task in tasks if task in job.sources), now)
            case PartInput(source) if source.bytes_total:
                self._fetches.expect(attempt.id, (source.attempt.task,), partition=PART, shares=1, read_token=token)
                self._announce(attempt, (source,), now)
            case _:
                self.attempts.change(attempt, Change.INPUT_COMPLETE, now)

    def _map_outputs_ready(self, command: MapOutputsReady, now: float) -> None:
        job = self._jobs.get(command.job)
        if job is None:
            return  # dropped here after a long silence; a new session begins with OpenJob
        job.sources.update((source.attempt.task, source) for source in command.sources)
        for attempt in self.attempts.of_job(command.job):
            if attempt.holds_slot:
                continue
            if isinstance(attempt.input, PartitionInput) and attempt.id.task.step == command.step:
                self._announce(attempt, command.sources, now)
            elif isinstance(attempt.input, PartInput) and attempt.phase is Phase.WAITING:
                task = attempt.input.source.attempt.task
                self._announce(attempt, tuple(s for s in command.sources if s.attempt.task == task), now)

    def _announce(self, attempt: Attempt, sources: tuple[OutputSource, ...], now: float) -> None:
        cancelled, missing = self._fetches.announce(attempt.id, sources)
        self.actions.extend(cancelled)
        self.reports.extend(missing)
        self._note_input(attempt.id, now)

    def _note_input(self, attempt_id: AttemptId, now: float) -> None:
        """An attempt whose last run came to hand may start."""
        attempt = self.attempts.get(attempt_id)
        if attempt is not None and attempt.phase is Phase.WAITING and self._fetches.is_complete(attempt_id):
            self.attempts.change(attempt, Change.INPUT_COMPLETE, now)

    def _map_outputs_lost(self, command: MapOutputsLost, now: float) -> None:
        for lost in command.attempts:
            job = self._jobs.get(lost.task.job)
            if job is not None and lost.task in job.sources and job.sources[lost.task].attempt == lost:
                del job.sources[lost.task]
            self._withdraw(lost, now)

    def _copy_part(self, command: CopyPart, _: float) -> None:
        attempt = command.part.attempt
        if attempt in self.outputs:
            self.reports.append(self.outputs[attempt])
        elif self._is_stopping:
            self.reports.append(PartCopyFailed(attempt, is_gone=False, reason=_STOPPING))
        else:
            self._copies.begin(command)

    def _drop_copy(self, attempt: AttemptId) -> None:
        self.actions.extend(self._copies.drop(attempt))
        self.actions.append(RemoveOutputs((attempt,)))

    def copy_ended(self, event: CopyEnded) -> None:
        """Tell the master of a part that is here now, or why it is not."""
        part = self._copies.ended(event)
        if part is not None:
            self.outputs[event.attempt] = part
            self.reports.append(part)
            return
        if event.attempt not in self.outputs:
            self.actions.append(RemoveOutputs((event.attempt,)))
        if event.error:
            self.reports.append(PartCopyFailed(event.attempt, is_gone=False, reason=event.error))

    def _release_worker(self, _command: ReleaseWorker, _now: float) -> None:
        self.is_released = True

    def _withdraw(self, lost: AttemptId, now: float) -> None:
        if lost in self._copies.orders:
            self._drop_copy(lost)
        cancelled, lacking = self._fetches.withdraw(lost)
        self.actions.extend(cancelled)
        for attempt_id in lacking:
            attempt = self.attempts.get(attempt_id)
            if attempt is not None and attempt.phase is Phase.READY:
                self.attempts.change(attempt, Change.INPUT_LACKING, now)

    def _kill_attempt(self, command: KillAttempt, now: float) -> None:
        attempt = self.attempts.get(command.attempt)
        job = self._jobs.get(command.attempt.task.job)
        if attempt is not None:
            self._end_unwanted(attempt, command.reason, now)
        elif command.attempt not in self.outputs and (job is None or command.attempt not in job.ended):
            self.reports.append(AttemptKilled(command.attempt))  # given up here before; the master waits for a word

    def _end_unwanted(self, attempt: Attempt, reason: str, now: float) -> None:
        if attempt.phase is Phase.RUNNING or attempt.phase is Phase.BEHIND:
            self.actions.append(StopAttempt(attempt.id, reason))
        self.attempts.change(attempt, Change.UNWANTED, now)
        if attempt.phase is Phase.ENDED:
            self._settle_end(attempt, self._unwanted_report(attempt.id))

    def _drop_outputs(self, command: DropOutputs, now: float) -> None:
        held = tuple(attempt for attempt in command.attempts if self.outputs.pop(attempt, None) is not None)
        if held:
            self.actions.append(RemoveOutputs(held))
        for attempt in command.attempts:
            self._withdraw(attempt, now)

    def _drop_job(self, command: DropJob, now: float) -> None:
        for attempt_id in [attempt for attempt in self.outputs if attempt.task.job == command.job]:
            del self.outputs[attempt_id]
        for attempt_id in self._copies.of_job(command.job):
            self.actions.extend(self._copies.drop(attempt_id))
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
            self.actions.append(RemoveJob(job))

    # ── what became of processes and fetches ────────────────────────────────────────────────────────────────────────

    def progress_made(self, event: ProgressMade) -> None:
        """Keep the latest."""
        attempt = self.attempts.get(event.attempt)
        if attempt is not None:  # otherwise said just before it ended
            if not attempt.is_told and attempt.holds_slot:
                attempt.is_told = True
                self.reports.append(AttemptStarted(attempt.id))
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
                self.actions.append(attempt.start(following))
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
                self.reports.append(report)
                if isinstance(attempt.input, PartInput | PartitionInput):
                    self.actions.append(RemoveFetched(attempt.id))
            case Failed(error=error):
                self._settle_end(attempt, AttemptFailed(attempt.id, error))
            case Lost(reason):
                self._settle_end(attempt, AttemptLost(attempt.id, reason))
            case Killed():
                self._settle_end(attempt, AttemptLost(attempt.id, "its process was killed from outside"))

    def _search_on(self, attempt: Attempt, search: Search, outcome: AttemptOutcome) -> Care | AttemptOutcome:
        """Where bad records may be skipped: how to run the attempt again, or what it came to."""
        following: Care | GiveUp | None = None
        match outcome:
            case Failed():
                following, bad = search.failed(outcome.error, outcome.suspects, outcome.probed)
                if bad is not None:
                    self.reports.append(RecordsSkipped(attempt.id, (bad,)))
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
        self.actions.extend(cancelled)
        self._progress.pop(attempt.id, None)
        self.reports.append(report)
        job = self._jobs[attempt.id.task.job]
        job.ended[attempt.id] = report
        self.actions.append(RemoveOutputs((attempt.id,)))
        if job.is_dropped:
            self._remove_if_over(attempt.id.task.job)

    def output_found_missing(self, event: OutputFoundMissing, now: float) -> None:
        """Tell the master, and those attempts here that would read it in place."""
        lost = event.attempt
        if self.outputs.pop(lost, None) is None:
            return  # dropped meanwhile
        self.actions.append(RemoveOutputs((lost,)))
        self._withdraw(lost, now)
        reason = f"worker {self._profile.worker} cannot read it"
        self.reports.append(FetchFailed(lost, lost, is_gone=True, reason=reason))

    def copy_found_damaged(self, event: CopyFoundDamaged) -> None:
        """Tell the master, which has the output made again once several copies of it were found so."""
        reason = f"what worker {self._profile.worker} fetched of it is damaged"
        self.reports.append(FetchFailed(event.attempt, event.source, is_gone=False, reason=reason))

    def fetch_ended(self, event: FetchEnded, now: float) -> None:
        """Note what a fetch brought."""
        attempt, failed = self._fetches.ended(event, now)
        if attempt is not None and attempt in self._copies.orders:
            actions, reports = self._copies.fetched(attempt, failed)
            self.actions.extend(actions)
            self.reports.extend(reports)
            self.actions.extend(RemoveOutputs((report.attempt,)) for report in reports)
            return
        self.reports.extend(failed)
        if attempt is not None:
            self._note_input(attempt, now)

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


@lru_cache(maxsize=64)
def _map_tasks(job: JobId, step: int, maps: int) -> tuple[TaskId, ...]:
    """The maps of a step, one tuple for all reduces that read them: there may be thousands of both."""
    return tuple(TaskId(job, step, TaskKind.MAP, index) for index in range(maps))
