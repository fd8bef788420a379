"""Bring in what other tasks left: the input of this worker's attempts, and parts that it is to keep a copy of.

The master tells where outputs are as they come to be, and takes that back when one is lost. An attempt may start once
its last run is at hand, and may have to wait again if one goes before it has a slot. What cannot be got, is missing
from this worker's own disk, or proves to be damaged, is told to the master.

Not here: which fetch goes first (fetches.py), the stages of a copy (copies.py), what attempts go through (attempts.py).
"""

from __future__ import annotations

from functools import lru_cache

from minireduce.core.messages import (
    AttemptSucceeded,
    CopyPart,
    FetchFailed,
    MapOutputsLost,
    MapOutputsReady,
    OpenJob,
    PartCopyFailed,
)
from minireduce.core.task_data import OutputSource, PartInput, PartitionInput
from minireduce.core.work.attempts import Attempt, Attempts, Change, CopyFoundDamaged, OutputFoundMissing, Phase
from minireduce.core.work.copies import Copies, CopyEnded
from minireduce.core.work.fetches import PART, FetchEnded, Fetches, FetchesEnded
from minireduce.core.work.orders import Outbox, RemoveOutputs
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind, WorkerId


class Incoming:
    """What comes to one worker. `attempts`, `outputs` and `out` are those of its assignments."""

    def __init__(
        self,
        worker: WorkerId,
        attempts: Attempts,
        outputs: dict[AttemptId, AttemptSucceeded],
        fetches: Fetches,
        out: Outbox,
    ) -> None:
        self._worker = worker
        self._attempts = attempts
        self._outputs = outputs
        self._fetches = fetches
        self._copies = Copies(fetches)
        self._sources: dict[JobId, dict[TaskId, OutputSource]] = {}
        self._out = out

    def open_job(self, job: JobId) -> None:
        """The master will tell where outputs of this job are."""
        self._sources.setdefault(job, {})

    def forget_job(self, job: JobId) -> None:
        """Nothing of this job is here."""
        self._sources.pop(job, None)

    # ── inputs ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def expect(self, attempt: Attempt, opened: OpenJob, now: float) -> None:
        """An attempt was taken in: it waits for its input, or has all of it."""
        task, token = attempt.id.task, opened.read_token
        match attempt.input:
            case PartitionInput(partition, maps):
                tasks = _map_tasks(task.job, task.step, maps)
                shares = attempt.step.reducers
                self._fetches.expect(attempt.id, tasks, partition=partition, shares=shares, read_token=token)
                known = self._sources[task.job]
                self._announce(attempt, tuple(known[each] for each in tasks if each in known), now)
            case PartInput(source) if source.bytes_total:
                self._fetches.expect(attempt.id, (source.attempt.task,), partition=PART, shares=1, read_token=token)
                self._announce(attempt, (source,), now)
            case _:
                self._attempts.change(attempt, Change.INPUT_COMPLETE, now)

    def map_outputs_ready(self, command: MapOutputsReady, now: float) -> None:
        """These outputs are there now, or at another place than before."""
        known = self._sources.get(command.job)
        if known is None:
            return  # dropped here after a long silence; a new session begins with OpenJob
        known.update((source.attempt.task, source) for source in command.sources)
        for attempt in self._attempts.of_job(command.job):
            if attempt.holds_slot:
                continue
            if isinstance(attempt.input, PartitionInput) and attempt.id.task.step == command.step:
                self._announce(attempt, command.sources, now)
            elif isinstance(attempt.input, PartInput) and attempt.phase is Phase.WAITING:
                task = attempt.input.source.attempt.task
                self._announce(attempt, tuple(s for s in command.sources if s.attempt.task == task), now)

    def _announce(self, attempt: Attempt, sources: tuple[OutputSource, ...], now: float) -> None:
        cancelled, missing = self._fetches.announce(attempt.id, sources)
        self._out.actions.extend(cancelled)
        self._out.reports.extend(missing)
        self._note_input(attempt.id, now)

    def _note_input(self, attempt_id: AttemptId, now: float) -> None:
        """An attempt whose last run came to hand may start."""
        attempt = self._attempts.get(attempt_id)
        if attempt is not None and attempt.phase is Phase.WAITING and self._fetches.is_complete(attempt_id):
            self._attempts.change(attempt, Change.INPUT_COMPLETE, now)

    def map_outputs_lost(self, command: MapOutputsLost, now: float) -> None:
        """These outputs are gone; others will be told of."""
        for lost in command.attempts:
            known = self._sources.get(lost.task.job, {})
            if lost.task in known and known[lost.task].attempt == lost:
                del known[lost.task]
            self.withdraw(lost, now)

    def withdraw(self, lost: AttemptId, now: float) -> None:
        """An output is not to be read any more: what had it as input waits for another."""
        if lost in self._copies.orders:
            self.drop_copy(lost)
        cancelled, lacking = self._fetches.withdraw(lost)
        self._out.actions.extend(cancelled)
        for attempt_id in lacking:
            attempt = self._attempts.get(attempt_id)
            if attempt is not None and attempt.phase is Phase.READY:
                self._attempts.change(attempt, Change.INPUT_LACKING, now)

    # ── what became of fetches and files ────────────────────────────────────────────────────────────────────────────

    def fetches_ended(self, event: FetchesEnded, now: float) -> None:
        """Note what fetches brought."""
        for ended in event.ended:
            self._fetch_ended(ended, now)

    def _fetch_ended(self, event: FetchEnded, now: float) -> None:
        attempt, failed = self._fetches.ended(event, now)
        if attempt is not None and attempt in self._copies.orders:
            actions, reports = self._copies.fetched(attempt, failed)
            self._out.actions.extend(actions)
            self._out.reports.extend(reports)
            self._out.actions.extend(RemoveOutputs((report.attempt,)) for report in reports)
            return
        self._out.reports.extend(failed)
        if attempt is not None:
            self._note_input(attempt, now)

    def output_found_missing(self, event: OutputFoundMissing, now: float) -> None:
        """Tell the master, and those attempts here that would read it in place."""
        lost = event.attempt
        if self._outputs.pop(lost, None) is None:
            return  # dropped meanwhile
        self._out.actions.append(RemoveOutputs((lost,)))
        self.withdraw(lost, now)
        reason = f"worker {self._worker} cannot read it"
        self._out.reports.append(FetchFailed(lost, lost, is_gone=True, reason=reason))

    def copy_found_damaged(self, event: CopyFoundDamaged) -> None:
        """Tell the master, which has the output made again once several copies of it were found so."""
        reason = f"what worker {self._worker} fetched of it is damaged"
        self._out.reports.append(FetchFailed(event.attempt, event.source, is_gone=False, reason=reason))

    # ── copies of parts ─────────────────────────────────────────────────────────────────────────────────────────────

    def copy_part(self, command: CopyPart) -> None:
        """Fetch a part and keep it."""
        self._copies.begin(command)

    def drop_copy(self, attempt: AttemptId) -> None:
        """A copy under way is not wanted any more."""
        self._out.actions.extend(self._copies.drop(attempt))
        self._out.actions.append(RemoveOutputs((attempt,)))

    def drop_all_copies(self) -> None:
        """The worker is about to end."""
        for attempt in list(self._copies.orders):
            self.drop_copy(attempt)

    def drop_copies_of(self, job: JobId) -> None:
        """A job is dropped; its files go with it."""
        for attempt in self._copies.of_job(job):
            self._out.actions.extend(self._copies.drop(attempt))

    def copy_ended(self, event: CopyEnded) -> None:
        """Tell the master of a part that is here now, or why it is not."""
        part = self._copies.ended(event)
        if part is not None:
            self._outputs[event.attempt] = part
            self._out.reports.append(part)
            return
        if event.attempt not in self._outputs:
            self._out.actions.append(RemoveOutputs((event.attempt,)))
        if event.error:
            self._out.reports.append(PartCopyFailed(event.attempt, is_gone=False, reason=event.error))


@lru_cache(maxsize=64)
def _map_tasks(job: JobId, step: int, maps: int) -> tuple[TaskId, ...]:
    """The maps of a step, one tuple for all reduces that read them: there may be thousands of both."""
    return tuple(TaskId(job, step, TaskKind.MAP, index) for index in range(maps))
