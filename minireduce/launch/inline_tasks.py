"""Run one task in this process until it gives an output, leaving out the records that cannot be computed where that is
allowed.

What is looked for, probed and skipped is decided by the same search as on a worker (core/work/bad_records.py), so the
output and the quarantine are those of a cluster. Only what ends the process, or never comes back, cannot be survived
here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from minireduce.api.skipping import SkipLimit
from minireduce.attempt.conversation import Raised
from minireduce.attempt.shipped_files import lay_out
from minireduce.attempt.work import answer_to, care_of, record_data, suspect_error
from minireduce.core.compute.bad_records import too_large_share, too_many
from minireduce.core.settings import WorkerSettings
from minireduce.core.spec import ShippedFile
from minireduce.core.task_data import SkippedRecord, TaskError
from minireduce.core.views import SkippedView
from minireduce.core.work import bad_records
from minireduce.core.work.bad_records import PLAIN, GiveUp, Search
from minireduce.engine.bad_records import Care
from minireduce.engine.context import TaskContext
from minireduce.engine.seeding import seed_text, seeded
from minireduce.errors import InvariantViolation, JobFailed, RequestError
from minireduce.ids import AttemptId, TaskId, TaskKind

Run = Callable[[Path, TaskContext, Care], None]
"""Does the task once, in an empty directory."""


class InlineTasks:
    """The tasks of one job, and the records that they left out."""

    def __init__(self, limit: SkipLimit, files: tuple[ShippedFile, ...] = ()) -> None:
        self._limit = limit
        self.fill = partial(lay_out, files)  # puts what goes along with the job into a working directory
        self.skipped: list[SkippedView] = []

    def perform(self, task: TaskId, directory: Path, run: Run) -> TaskContext:
        """Do the task in `directory`, which is made. Raises what user code raised, and JobFailed above the limit."""
        search = Search((), PLAIN, WorkerSettings().probes_max) if self._limit.is_open else None
        told: dict[int, RequestError] = {}
        while True:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            context = TaskContext(attempt_id="inline", work_dir=directory / "work", fill=self.fill)
            trial = _Trial(context, search.care if search is not None else PLAIN)
            try:
                with seeded(seed_text(task.step, task.kind, task.index)):  # the chances that it would have on a cluster
                    run(directory, context, trial.care)
            except RequestError as error:
                if search is None:
                    raise
                trial.error = error
            if search is None or not trial.has_failed:
                give_up = search.went_through() if search is not None else None
                if give_up is None:
                    return context
                raise told[give_up.error.position]
            told.update(trial.told())
            failed, suspects = trial.failed()
            told.setdefault(failed.position, trial.first_error)
            following, bad = search.failed(failed, suspects, trial.probed(failed))
            if bad is not None:
                self._leave_out(SkippedView(AttemptId(task, 0), "", bad))
            if isinstance(following, GiveUp):
                raise told.get(following.error.position) or trial.first_error

    def judge(self, kind: TaskKind, contexts: list[TaskContext]) -> None:
        """Raise JobFailed where these, all tasks of one kind of a step, left out too large a share."""
        read, skipped = ("MAP_INPUT_RECORDS", "MAP_SKIPPED_RECORDS")
        if kind is TaskKind.REDUCE:
            read, skipped = ("REDUCE_INPUT_GROUPS", "REDUCE_SKIPPED_GROUPS")
        counts = [
            sum(context.counters.get(("minireduce", name), 0) for context in contexts) for name in (skipped, read)
        ]
        self._fail_for(too_large_share(kind, counts[0], counts[1], self._limit.fraction_max))

    def _leave_out(self, view: SkippedView) -> None:
        self.skipped.append(view)
        self._fail_for(too_many(len(self.skipped), self._limit.records_max))

    @staticmethod
    def _fail_for(reason: str) -> None:
        if reason:
            raise JobFailed(reason)


class _Trial:
    """One run of a task."""

    def __init__(self, context: TaskContext, care: bad_records.Care) -> None:
        self._context = context
        self._probed: tuple[bytes, bool, int] | None = None
        self.error: RequestError | None = None
        self.care = care_of(care, self._note_probe)

    @property
    def has_failed(self) -> bool:
        return self.error is not None or bool(self.care.suspects)

    @property
    def first_error(self) -> RequestError:
        """What user code raised first."""
        if self.care.suspects:
            return self.care.suspects[0].error
        if self.error is None:
            raise InvariantViolation("a run that did not fail is asked for its error")
        return self.error

    def told(self) -> dict[int, RequestError]:
        """The errors, by the positions of their records."""
        return {suspect.position: suspect.error for suspect in self.care.suspects}

    def failed(self) -> tuple[TaskError, list[TaskError]]:
        """How the run failed, and all suspects, as a worker would hear of it."""
        suspects = [suspect_error(suspect) for suspect in self.care.suspects]
        answer = answer_to(self.first_error if self.error is None else self.error)
        assert isinstance(answer, Raised)
        return answer.error if self.error is not None else suspects[0], suspects

    def probed(self, error: TaskError) -> SkippedRecord | None:
        """The record that was probed, with what it came to."""
        return None if self._probed is None else SkippedRecord(error, *self._probed)

    def _note_probe(self) -> None:
        self._probed = record_data(self._context.record)
