"""Run one task in this process: open its input, call the engine, and say how it ended.

Which fault is whose is decided here, once: what user code raised is `Raised` and counts against the task's attempts;
an input that changed, damaged bytes and files or disks that fail are `InputUnusable`, for which user code is not to
blame. A file that is not of its format is the same for every attempt: it is `Raised` with kind "unreadable", and no
other attempt follows. Memory that could not be had is `Raised` with kind "memory", as it is when the worker finds the
limit overrun.

User code may fork. A child that comes back from user code, or raises out of it, ends: it has the parent's files and
socket, and there is one task and one answer. It finds no further record, so it forks no children of its own.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from minireduce.api.job import Job
from minireduce.api.step import Step
from minireduce.attempt.conversation import (
    Finished,
    InputUnusable,
    MapInput,
    MapTask,
    MergeTask,
    PartFile,
    Probing,
    Raised,
    ReduceTask,
    RunFile,
    RunTask,
    StoredFile,
    StoredRanges,
)
from minireduce.attempt.framing import TaskSocket
from minireduce.attempt.inputs import Unusable, open_local, open_part, open_stored
from minireduce.attempt.places import PART_NAME, part_origin
from minireduce.attempt.shipped_files import lay_out
from minireduce.attempt.watch import Watch
from minireduce.core.spec import LocalFiles, NumberRange, ShippedFile
from minireduce.core.storage.staged_paths import origin_of
from minireduce.core.task_data import UNREADABLE, Counters, TaskError, TaskOutput
from minireduce.core.work import bad_records
from minireduce.core.work.merging import GroupMerged, NotMerged
from minireduce.disk import RealDisk
from minireduce.engine.bad_records import Care, Suspect
from minireduce.engine.context import TaskContext
from minireduce.engine.disk_rates import DiskRates
from minireduce.engine.errors import UnreadableFile, UnreadableInput, UserCodeError
from minireduce.engine.faults import user_traceback
from minireduce.engine.frame_compression import compression_for
from minireduce.engine.merge import MergedRun, RunSlice
from minireduce.engine.merge_ahead import merge_ahead, passes_for_certain
from minireduce.engine.part import PartOutput
from minireduce.engine.read_batches import numbers_of, opener
from minireduce.engine.read_formats import UnreadableRecord
from minireduce.engine.tasks import MapWork, ReduceWork, run_task
from minireduce.engine.workplace import Workplace
from minireduce.errors import Corruption, MinireduceError, RequestError

_KINDS = {"builtins.MemoryError": "memory", "pyarrow.lib.ArrowMemoryError": "memory", "builtins.SystemExit": "exited"}

TEXT_LENGTH_MAX = 20_000
"""Characters of a message or traceback that are kept: its beginning and its end."""

_at_work: list[TaskContext] = []

RECORD_KEPT_BYTES_MAX = 4096
"""Bytes of a bad record that are kept with it: the whole can be read at its place."""

COUNTERS_MAX = 1000
"""Counters of one attempt; a counter for each key would drown the master."""

Answer = Finished | Raised | InputUnusable | GroupMerged | NotMerged


class TaskRun:
    """One task of a job, from its input to the answer."""

    def __init__(
        self,
        job: Job[Any, Any],
        task: RunTask,
        *,
        files: tuple[ShippedFile, ...],
        worker: TaskSocket,
        watch: Watch,
        idle_bytes: int,
        disk_rates: DiskRates,
    ) -> None:
        self._task = task
        step = job.steps[task.attempt.task.step]
        self._step: Step = step.of_split(task.attempt.task.index) if isinstance(task.work, MapTask) else step
        self._worker = worker
        self._watch = watch
        self._context = TaskContext(
            path=_input_path(task),
            attempt_id=str(task.attempt),
            work_dir=f"{task.directory}/work",
            fill=partial(lay_out, files),
            on_progress=lambda _: watch.page.beat(),
            idle_bytes=idle_bytes,
            marks=watch.page.marks,
            on_each=watch.note_record if task.care.is_place_exact else None,
            compression=compression_for(task.compression, task.memory_limit_bytes, disk_rates),
        )
        self._care = care_of(task.care, self._tell_probe)
        self._place = Workplace(
            task.directory,
            PART_NAME,
            "text" if task.output_text and task.attempt.task.step == len(job.steps) - 1 else "pairs",
            task.memory_limit_bytes,
            self._context,
            RealDisk(),
            self._care,
            task.attempt.task.index,
            task.output_text,
        )

    def run(self, began_s: float) -> Answer:
        """Do the task, which began then by `perf_counter`. Never raises for what can go wrong in it."""
        _at_work.append(self._context)
        try:
            with self._watch.over(self._context, _input_bytes(self._task)):
                work = self._task.work
                if isinstance(work, MergeTask):
                    return self._merge_ahead(work)
                output = self._output(work)
        except (Exception, SystemExit) as error:
            self._context.end_if_forked()
            return self._with_suspects(answer_to(error))
        finally:
            _at_work.remove(self._context)
        if len(self._context.counters) > COUNTERS_MAX:
            too_many = RequestError(
                f"the task counted under {len(self._context.counters)} names, more than {COUNTERS_MAX}",
                hint="counters are for a few totals; yield what belongs to a key",
            )
            return answer_to(too_many)
        if self._care.suspects:
            return self._with_suspects(Raised(suspect_error(self._care.suspects[0])))
        return Finished(output, _counters(self._context), busy_s=time.perf_counter() - began_s)

    def _output(self, work: MapTask | ReduceTask) -> TaskOutput:
        with ExitStack() as opened:
            made = run_task(self._step, self._input(work, opened), self._place)
        if isinstance(made, PartOutput):
            return TaskOutput(
                digest=made.digest,
                bytes_total=made.bytes_written,
                records=made.records,
                skipped=tuple(self._care.skipped),
            )
        return TaskOutput(
            digest=made.digest,
            bytes_total=sum(made.partition_bytes),
            records=_map_output_records(self._context),
            partition_bytes_log2=bytes(rounded_log2(size) for size in made.partition_bytes),
            skipped=tuple(self._care.skipped),
        )

    def _input(self, work: MapTask | ReduceTask, opened: ExitStack) -> MapWork | ReduceWork:
        if isinstance(work, MapTask):
            part = None
            if isinstance(work.input, PartFile):
                self._context.file = work.input.path
                part = opened.enter_context(open_part(work.input.path))
            return MapWork(self._records(work.input, part, opened), work.partitions, part)
        runs = _slices(work.runs)
        groups = [
            (runs[each.first : each.first + each.count], MergedRun(Path(each.path), each.length, each.pairs))
            for each in work.ahead
        ]
        return ReduceWork(runs, {tuple(run.order for run in parts if run.length): whole for parts, whole in groups})

    def _merge_ahead(self, work: MergeTask) -> GroupMerged | NotMerged:
        limit_bytes, disk = self._place.memory_limit_bytes, self._place.disk
        passes = passes_for_certain(self._step, memory_limit_bytes=limit_bytes, bytes_here=work.bytes_here)
        if passes is None:
            return NotMerged()
        path, made = Path(work.path), None
        if passes.is_certain(work.groups_before, work.runs_here):
            disk.remove(path)  # of what was broken off before
            made = merge_ahead(self._step, _slices(work.runs), passes, path, self._place)
        if made is None:
            return NotMerged(passes.at_once, passes.runs_max)
        whole, count = made
        return GroupMerged(count, whole.length, whole.pairs, passes.at_once, passes.runs_max)

    def _tell_probe(self) -> None:
        """Say which record user code is about to see, for it may be the last that is heard of this process."""
        self._worker.send(Probing(*record_data(self._context.record)))

    def _with_suspects(self, answer: Answer) -> Answer:
        if not isinstance(answer, Raised):
            return answer
        return Raised(answer.error, tuple(suspect_error(suspect) for suspect in self._care.suspects))

    def _records(self, source: MapInput, part: BinaryIO | None, opened: ExitStack) -> Iterator[Any]:
        pieces = self._pieces(source, part)
        opened.callback(pieces.close)  # a failing map leaves it in the middle of a file
        return chain.from_iterable(pieces)

    def _pieces(self, source: MapInput, part: BinaryIO | None) -> Generator[Iterator[Any], None, None]:
        """The records of one file after the other, chained by C: a generator around them would cost each."""
        match source:
            case LocalFiles():
                yield from self._local_records(source)
            case NumberRange(begin, end):
                yield numbers_of(self._step)(begin, end, context=self._context)
            case PartFile(path):
                assert part is not None
                yield self._read(part, 0, _file_bytes(path))
            case StoredFile():
                yield from self._stored_records((source,))
            case StoredRanges(files):
                yield from self._stored_records(files)
        self._context.end_if_forked()

    def _local_records(self, source: LocalFiles) -> Iterator[Iterator[Any]]:
        for index, part in enumerate(source.ranges):
            self._context.path = part.path
            self._watch.page.at_input(index)
            with open_local(part) as stream:
                yield self._read(stream, part.offset, part.length)

    def _stored_records(self, files: tuple[StoredFile, ...]) -> Iterator[Iterator[Any]]:
        for index, file in enumerate(files):
            self._context.path = origin_of(file.path)
            self._watch.page.at_input(index)
            with open_stored(file.path, file.file_bytes, self._worker) as stream:
                yield self._read(stream, file.offset, file.length)

    def _read(self, stream: BinaryIO, offset: int, length: int) -> Iterator[Any]:
        return opener(self._step)(
            stream,
            offset=offset,
            length=length,
            input_format=self._step.input,
            context=self._context,
            record_bytes_max=self._task.record_bytes_max,
            passes_long=not self._care.is_plain,
        )


def _slices(runs: tuple[RunFile, ...]) -> list[RunSlice]:
    return [RunSlice(Path(run.path), run.offset, run.length, run.order) for run in runs]


def _leave_no_records() -> None:
    for context in _at_work:
        context.forsake_records()


os.register_at_fork(after_in_child=_leave_no_records)


def care_of(care: bad_records.Care, on_probe: Callable[[], None]) -> Care:
    """How the engine is to treat bad records in a run that the worker wants with this care."""
    return Care(
        is_careful=care.is_careful,
        skips={place.position: place.proof for place in care.skips},
        probe=None if care.probe == bad_records.NO_PROBE else care.probe,
        on_probe=on_probe,
    )


def answer_to(error: BaseException) -> Answer:
    """What the worker is told when a task or the loading of its program ended with `error`."""
    match error:
        case UserCodeError():
            is_unreadable = isinstance(error, UnreadableInput)
            return Raised(
                TaskError(
                    kind=UNREADABLE if is_unreadable else _KINDS.get(error.exception_type, "raised"),
                    type_name=error.exception_type or ("" if is_unreadable else "UserCodeError"),
                    message=_told(str(error)),
                    traceback=_told(error.traceback_text),
                    path=error.path,
                    offset=-1 if error.offset is None else error.offset,
                    record=_told(error.record),
                    position=-1 if error.position is None else error.position,
                    proof=error.proof,
                )
            )
        case UnreadableFile():  # to read it elsewhere or later would not help
            return Raised(TaskError(UNREADABLE, "", _told(str(error))))
        case Unusable() | Corruption():
            return InputUnusable(str(error))
        case OSError():  # the engine tells apart what user code raised
            return InputUnusable(f"a file or disk of this worker fails: {error}")
        case MemoryError():
            message = "the system refused memory to the task"
            return Raised(TaskError("memory", "MemoryError", message, user_traceback(error)))
        case MinireduceError():
            return Raised(TaskError("raised", type(error).__name__, str(error)))
    # Nobody's fault but ours: all frames are told, so that a report of it is of use.
    return Raised(
        TaskError("raised", type(error).__name__, _told(str(error)), _told("".join(traceback.format_exception(error))))
    )


def _told(text: str) -> str:
    """`text` as it can travel: of a bearable length, what is no Unicode written out."""
    cut = (
        text if len(text) <= TEXT_LENGTH_MAX else f"{text[: TEXT_LENGTH_MAX // 2]} ... {text[-TEXT_LENGTH_MAX // 2 :]}"
    )
    return cut.encode(errors="backslashreplace").decode()


def rounded_log2(size_bytes: int) -> int:
    """The rounded-up base-2 logarithm of a size, at least 1, so that 0 says empty."""
    return max(1, (size_bytes - 1).bit_length()) if size_bytes else 0


def suspect_error(suspect: Suspect) -> TaskError:
    """What is told of a record that a careful run could not compute."""
    answer = answer_to(suspect.error)
    assert isinstance(answer, Raised)
    return replace(answer.error, position=suspect.position, proof=suspect.proof)


def record_data(record: object) -> tuple[bytes, bool, int]:
    """The beginning of a record, whether it is text, and how many bytes the whole has."""
    if isinstance(record, bytes):
        return record[:RECORD_KEPT_BYTES_MAX], False, len(record)
    if isinstance(record, UnreadableRecord):
        return record.beginning[:RECORD_KEPT_BYTES_MAX], False, record.bytes_total
    whole = (record if isinstance(record, str) else repr(record)).encode(errors="backslashreplace")
    return whole[:RECORD_KEPT_BYTES_MAX].decode(errors="ignore").encode(), True, len(whole)


def _counters(context: TaskContext) -> Counters:
    return tuple((group, name, value) for (group, name), value in sorted(context.counters.items()))


def _map_output_records(context: TaskContext) -> int:
    return next((value for (_, name), value in context.counters.items() if name == "MAP_OUTPUT_RECORDS"), 0)


def _input_path(task: RunTask) -> str:
    match task.work:
        case MapTask(input=LocalFiles(ranges=ranges)):
            return ranges[0].path if ranges else ""
        case MapTask(input=StoredRanges(files)):
            return files[0].path if files else ""
        case MapTask(input=PartFile()):
            return part_origin(task.attempt.task)
        case MapTask(input=StoredFile(path)):
            return path
    return ""


def _input_bytes(task: RunTask) -> int:
    match task.work:
        case MapTask(input=PartFile(path)):
            return _file_bytes(path)
        case MapTask(input=LocalFiles() | NumberRange() | StoredFile() | StoredRanges() as source):
            return source.length
        case ReduceTask(runs) | MergeTask(runs):
            return sum(run.length for run in runs)
    return 0


def _file_bytes(path: str) -> int:
    """The size of a file; 0 when it is not there, which whoever opens it finds out."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
