"""Run the attempts that the machine starts: from `StartAttempt` to `AttemptEnded`, by way of a task process.

Between the two lie the directory, the exact places of the input on this machine, the process (`slots`), and the file
that makes a finished output last. What of this fails without fault of user code is a loss.

An own output that turns out to be missing or damaged when it is to be read is told too, so that it is made again; so is
a damaged copy of another worker's output, since fetching it again may bring the same bytes.

Invariant: exactly one `AttemptEnded` for each `start`, whatever happens and however often it is stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minireduce.attempt.conversation import (
    AheadFile,
    MapTask,
    MergeTask,
    PartFile,
    ReduceTask,
    RunFile,
    RunTask,
    StoredFile,
    StoredRanges,
)
from minireduce.attempt.places import PART_NAME
from minireduce.core.messages import AttemptSucceeded, OpenJob
from minireduce.core.spec import LocalFiles
from minireduce.core.task_data import PartInput, PartitionInput, StoredInput, StoredInputs, TaskInput
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptOutcome,
    AttemptsEnded,
    AttemptsGivenBack,
    CopyFoundDamaged,
    InputRun,
    Killed,
    Lost,
    MergedGroup,
    OutputFoundMissing,
    StartAttempt,
    StartBatch,
    Succeeded,
)
from minireduce.core.work.bad_records import PLAIN
from minireduce.core.work.merging import MergeEnded, MergeOutcome, NotMerged, StartMerge
from minireduce.engine.disk_rates import Choice
from minireduce.engine.index import DATA_NAME, INDEX_NAME, read_index, source_name
from minireduce.errors import Corruption, NotFound
from minireduce.ids import AttemptId, JobId
from minireduce.worker.outputs import Outputs

if TYPE_CHECKING:
    from minireduce.worker.input_reader import InputReader
    from minireduce.worker.slots import Slots

log = logging.getLogger(__name__)

NO_INPUT = LocalFiles("", ())
"""What a task reads whose input is a part without pairs, of which there is no file."""


RunningEvent = AttemptEnded | AttemptsEnded | AttemptsGivenBack | MergeEnded | OutputFoundMissing | CopyFoundDamaged


class OwnOutputMissing(Exception):
    """An output of this worker cannot be read."""

    def __init__(self, attempt: AttemptId, cause: Exception) -> None:
        super().__init__(f"the output of {attempt}, which this worker wrote, cannot be read: {cause}")
        self.attempt = attempt


class Running:
    """The attempts that run on this worker. Events go to `tell`."""

    def __init__(
        self,
        outputs: Outputs,
        slots: Slots,
        inputs: InputReader,
        tell: Callable[[RunningEvent], None],
        compression: Choice = "auto",
    ) -> None:
        self._outputs = outputs
        self._inputs = inputs
        self._slots = slots
        self._tell = tell
        self._compression = compression
        self._jobs: dict[JobId, OpenJob] = {}
        self._tasks: dict[AttemptId, asyncio.Task[None]] = {}
        self._stopped: set[AttemptId] = set()

    def open_program(self, opened: OpenJob) -> None:
        """Keep a job's program for the attempts that follow."""
        self._jobs[opened.job] = opened

    def start(self, order: StartAttempt) -> None:
        """Run an attempt."""
        opened = self._jobs[order.attempt.task.job]
        self._tasks[order.attempt] = asyncio.create_task(self._live(order, opened), name=str(order.attempt))

    def start_batch(self, batch: StartBatch) -> None:
        """Run short maps of one step, one after the other in one process."""
        first = batch.orders[0].attempt
        opened = self._jobs[first.task.job]
        self._tasks[first] = asyncio.create_task(self._live_together(batch.orders, opened), name=f"batch of {first}")

    def start_merge(self, order: StartMerge) -> None:
        """Merge for an attempt that waits."""
        opened = self._jobs[order.attempt.task.job]
        self._tasks[order.attempt] = asyncio.create_task(self._live_ahead(order, opened), name=f"ahead {order.attempt}")

    def stop(self, attempt: AttemptId) -> None:
        """End an attempt, or what is merged for it. Where that has ended, the order came late: an attempt may start
        after its merge has ended, and is not meant.
        """
        if attempt in self._tasks:
            self._stopped.add(attempt)
        self._slots.stop(attempt)

    def drop_job(self, job: JobId) -> None:
        """Forget a job none of whose attempts runs any more, and end its warm processes."""
        self._jobs.pop(job, None)
        self._slots.drop_job(job)

    async def close(self) -> None:
        """End all attempts, of which no more is told, with all their processes."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._slots.close()

    async def _live(self, order: StartAttempt, opened: OpenJob) -> None:
        attempt = order.attempt
        try:
            outcome = await self._outcome(order, opened)
        except asyncio.CancelledError:
            raise
        except OwnOutputMissing as error:
            self._tell(OutputFoundMissing(error.attempt))
            outcome = Lost(str(error))
        except (OSError, Corruption) as error:
            outcome = Lost(f"the worker's disk: {error}")
        except Exception as error:
            log.exception("running %s failed", attempt)
            outcome = Lost(f"the worker failed: {error!r}")
        finally:
            del self._tasks[attempt]
            self._stopped.discard(attempt)
        self._tell(AttemptEnded(attempt, outcome))

    async def _live_together(self, orders: tuple[StartAttempt, ...], opened: OpenJob) -> None:
        left = {order.attempt: order for order in orders}
        outcome: AttemptOutcome = Lost("the worker failed")
        try:
            tasks = await asyncio.to_thread(lambda: tuple(self._prepare(order) for order in orders))
            timeout_s = orders[0].step.task_timeout_s
            async for told in self._slots.run_batch(opened.program, tasks, task_timeout_s=timeout_s):
                if isinstance(told, AttemptsEnded):
                    kept = await self._keep_outputs(told)
                    for ended in told.ends:
                        del left[ended.attempt]
                    self._tell(kept)
                else:
                    for attempt in told.attempts:
                        del left[attempt]
                        await asyncio.to_thread(self._outputs.clear, attempt)  # it may have been begun
                    self._tell(told)
        except asyncio.CancelledError:
            raise
        except OSError as error:
            outcome = Lost(f"the worker's disk: {error}")
        except Exception as error:
            log.exception("running a batch of %s failed", orders[0].attempt)
            outcome = Lost(f"the worker failed: {error!r}")
        finally:
            del self._tasks[orders[0].attempt]
            self._stopped.difference_update(order.attempt for order in orders)
        if left:
            self._tell(AttemptsEnded(tuple(AttemptEnded(attempt, outcome) for attempt in left)))

    async def _live_ahead(self, order: StartMerge, opened: OpenJob) -> None:
        """Whatever goes wrong here, the attempt itself will find and tell."""
        attempt = order.attempt
        outcome: MergeOutcome = NotMerged()
        try:
            task = await asyncio.to_thread(self._prepare_merge, order)
            if attempt in self._stopped:
                outcome = Killed()
            else:
                timeout_s = order.step.task_timeout_s
                outcome = await self._slots.merge(opened.program, task, task_timeout_s=timeout_s)
        except asyncio.CancelledError:
            raise
        except (OwnOutputMissing, OSError, Corruption) as error:
            log.info("nothing is merged ahead for %s: %s", attempt, error)
        except Exception:
            log.exception("merging ahead for %s failed", attempt)
        finally:
            del self._tasks[attempt]
            self._stopped.discard(attempt)
        self._tell(MergeEnded(attempt, outcome))

    async def _keep_outputs(self, told: AttemptsEnded) -> AttemptsEnded:
        """The same, once the outputs among them last."""
        reports = {
            ended.attempt: AttemptSucceeded(ended.attempt, ended.outcome.output, ended.outcome.counters)
            for ended in told.ends
            if isinstance(ended.outcome, Succeeded) and not ended.outcome.output.is_empty_part
        }
        if not reports:
            return told
        failed = await asyncio.to_thread(self._keep_each, tuple(reports.values()))
        ends = (AttemptEnded(each.attempt, failed.get(each.attempt, each.outcome)) for each in told.ends)
        return AttemptsEnded(tuple(ends), told.has_printed)

    def _keep_each(self, reports: tuple[AttemptSucceeded, ...]) -> dict[AttemptId, Lost]:
        """Those that could not be kept."""
        failed: dict[AttemptId, Lost] = {}
        for report in reports:
            try:
                self._outputs.keep(report)
            except OSError as error:
                failed[report.attempt] = Lost(f"the worker's disk: {error}")
        return failed

    async def _outcome(self, order: StartAttempt, opened: OpenJob) -> AttemptOutcome:
        task = await asyncio.to_thread(self._prepare, order)
        if order.attempt in self._stopped:
            return Killed()
        if stored := _stored_inputs(order.input):
            try:
                self._inputs.begin(order.attempt, stored, opened.read_token)
            except NotFound as error:
                return Lost(error.message)
        try:
            outcome = await self._slots.run(opened.program, task, task_timeout_s=order.step.task_timeout_s)
        finally:
            self._inputs.end(order.attempt)
        if isinstance(outcome, Succeeded):
            report = AttemptSucceeded(
                order.attempt, outcome.output, outcome.counters, outcome.input_bytes, outcome.largest_key
            )
            if not outcome.output.is_empty_part:
                await asyncio.to_thread(self._outputs.keep, report)
        if isinstance(outcome, Lost):
            self._tell_damage(order, task, outcome.reason)
        return outcome

    def _tell_damage(self, order: StartAttempt, task: RunTask, reason: str) -> None:
        """Where an attempt was lost to a damaged run, say which one: it would only be read again.

        A task process names the run first in what it says, or the file, which may hold several that are all lost then.
        """
        match task.work:
            case ReduceTask(runs):
                names = [(run.path, source_name(Path(run.path), run.offset)) for run in runs]
            case MapTask(PartFile(path)):
                names = [(path, path)]
            case _:
                return
        for run, (path, name) in zip(order.runs, names, strict=True):
            if reason.startswith((f"{path} ", f"{name} ")):
                is_own = run.is_own
                self._tell(OutputFoundMissing(run.source) if is_own else CopyFoundDamaged(order.attempt, run.source))

    # ── where the input is ──────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self, order: StartAttempt) -> RunTask:
        """Name the attempt's directory and find its input on this machine."""
        if order.care != PLAIN:
            self._outputs.clear(order.attempt)  # of what an earlier run of it left
        directory = self._outputs.place(order.attempt)
        return RunTask(
            attempt=order.attempt,
            work=self._work(order),
            directory=directory,
            output_text=order.output_text,
            memory_limit_bytes=order.step.memory_limit_bytes,
            record_bytes_max=order.step.record_bytes_max,
            care=order.care,
            compression=self._compression,
        )

    def _prepare_merge(self, order: StartMerge) -> RunTask:
        work = MergeTask(
            tuple(self._run_file(order.attempt, run, order.partition) for run in order.runs),
            self._outputs.place_ahead(order.attempt, order.first),
            order.runs_here,
            order.bytes_here,
            order.groups_before,
        )
        return RunTask(
            attempt=order.attempt,
            work=work,
            directory=self._outputs.place(order.attempt),
            output_text=False,
            memory_limit_bytes=order.step.memory_limit_bytes,
            compression=self._compression,
        )

    def _work(self, order: StartAttempt) -> MapTask | ReduceTask:
        match order.input:
            case PartitionInput(partition):
                runs = tuple(self._run_file(order.attempt, run, partition) for run in order.runs)
                return ReduceTask(runs, tuple(self._ahead_file(order.attempt, group) for group in order.ahead))
            case PartInput(source):
                if not source.bytes_total:
                    return MapTask(NO_INPUT, order.step.reducers)
                return MapTask(self._part_file(order.attempt, order.runs[0]), order.step.reducers)
            case StoredInput() as stored:
                return MapTask(_stored_file(stored), order.step.reducers)
            case StoredInputs(inputs):
                return MapTask(StoredRanges(tuple(map(_stored_file, inputs))), order.step.reducers)
        return MapTask(order.input, order.step.reducers)

    def _run_file(self, attempt: AttemptId, run: InputRun, partition: int) -> RunFile:
        order = run.source.task.index
        if not run.is_own:
            return RunFile(*self._outputs.fetched_run(attempt, run.source), order)
        directory = self._outputs.directory(run.source)
        try:
            offset, length = read_index(directory / INDEX_NAME)[partition]
            size = (directory / DATA_NAME).stat().st_size
        except (OSError, Corruption, IndexError) as cause:
            raise OwnOutputMissing(run.source, cause) from cause
        if size < offset + length:
            raise OwnOutputMissing(run.source, Corruption("it is shorter than its index says"))
        return RunFile(str(directory / DATA_NAME), offset, length, order)

    def _ahead_file(self, attempt: AttemptId, group: MergedGroup) -> AheadFile:
        path = self._outputs.place_ahead(attempt, group.first)
        return AheadFile(path, group.first, group.count, group.bytes_total, group.pairs)

    def _part_file(self, attempt: AttemptId, run: InputRun) -> PartFile:
        if not run.is_own:
            return PartFile(str(self._outputs.fetched(attempt, run.source)))
        path = self._outputs.directory(run.source) / PART_NAME
        if not path.exists() or not path.stat().st_size:
            raise OwnOutputMissing(run.source, FileNotFoundError(str(path)))
        return PartFile(str(path))


def _stored_inputs(source: TaskInput) -> tuple[StoredInput, ...]:
    if isinstance(source, StoredInputs):
        return source.inputs
    return (source,) if isinstance(source, StoredInput) else ()


def _stored_file(stored: StoredInput) -> StoredFile:
    return StoredFile(stored.path, stored.offset, stored.length, stored.file_bytes)
