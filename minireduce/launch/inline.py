"""Run a whole job in this process, for debuggers, tests and small things: no daemon, no second process, no thread.

The splits are those of a cluster run, the tasks are the same engine functions over the same files, one after the
other, with random generators seeded alike; so with the same `reducers` every part has the same bytes. (What differs is
the order of sets of strings, unless PYTHONHASHSEED is 0 here too.) A breakpoint in user code stops here, and an
exception arrives as UserCodeError with the user's own traceback, the original one as its cause.

Intermediate files lie in a private directory that goes with the result. Publishing is left to `client.publish`, as
for parts that come from a cluster: an output directory appears whole or not at all.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from minireduce.api.bad_record import BadRecord
from minireduce.api.job import Job
from minireduce.api.partitioners import Range
from minireduce.api.skipping import SkipLimit
from minireduce.api.step import Step
from minireduce.attempt.places import part_origin
from minireduce.client.inputs import Inputs, resolve
from minireduce.client.job_spec import choose_reducers
from minireduce.client.publish import part_name
from minireduce.client.quarantine import read_skipped
from minireduce.client.sampling import choose, needs_bounds
from minireduce.client.splits import fitting_split_size, plan_splits_of_each, spread_split_size
from minireduce.core.spec import LocalFiles, NumberRange, ShippedFile, StoredFiles, StoredRange
from minireduce.disk import Disk, RealDisk
from minireduce.engine.bad_records import Care
from minireduce.engine.context import TaskContext
from minireduce.engine.index import DATA_NAME, INDEX_NAME, read_index
from minireduce.engine.merge import RunSlice
from minireduce.engine.parameters import with_input_ends
from minireduce.engine.part import PartForm
from minireduce.engine.read import RECORD_BYTES_MAX, read_pairs
from minireduce.engine.read_batches import numbers_of, opener
from minireduce.engine.tasks import MapWork, ReduceWork, run_task
from minireduce.engine.workplace import Workplace
from minireduce.errors import JobFailed, RequestError
from minireduce.ids import JobId, TaskId, TaskKind
from minireduce.launch.inline_tasks import InlineTasks

K = TypeVar("K")
V = TypeVar("V")

SPLIT_SIZE_BYTES = 64 << 20
MEMORY_LIMIT_BYTES = 1 << 30

Source = LocalFiles | NumberRange | Path
"""What a map reads here: a split, or a part of the step before."""


class InlineResult(Generic[K, V]):
    """The parts of a job that ran here, and what it counted; the files go with `close`, or when this is forgotten."""

    def __init__(
        self,
        job: str,
        folder: Path,
        parts: tuple[Path, ...],
        counters: dict[str, dict[str, int]],
        output: PartForm,
        skipped: tuple[BadRecord, ...] = (),
    ) -> None:
        self.id = job
        self.skipped = skipped
        self.parts = parts
        self.counters = counters
        self.output = output
        self.close = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def count(self) -> int:
        """How many parts there are."""
        return len(self.parts)

    def fetch(self, index: int, target: Path) -> None:
        """Copy one part to `target`."""
        target.touch()
        if self.parts[index].exists():  # one without pairs has no file
            shutil.copyfile(self.parts[index], target)

    def __iter__(self) -> Iterator[tuple[K, V]]:
        """The pairs, part by part. Raises RequestError for a text output, which keeps no types."""
        if self.output == "text":
            raise RequestError(f"{self.id} wrote text, which keeps no types", hint="run it without an output")
        for part in filter(Path.exists, self.parts):
            with part.open("rb") as stream:
                yield from read_pairs(stream, name=str(part))


def run_inline(
    job: Job[K, V],
    inputs: Sequence[str | os.PathLike[str]] | Inputs,
    *,
    output: PartForm = "pairs",
    reducers: int | None = None,
    usual_reducers: int | None = None,
    split_size_bytes: int = SPLIT_SIZE_BYTES,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    record_bytes_max: int = RECORD_BYTES_MAX,
    skip_limit: SkipLimit | None = None,
    files: tuple[ShippedFile, ...] = (),
) -> InlineResult[K, V]:
    """Run `job`; `output` is the form of the last step's parts.

    `reducers` goes before what the job's steps say, and that before `usual_reducers`; without any, the size of the
    input and this machine's cores decide.
    Raises UserCodeError, Corruption, RequestError, and JobFailed where more records cannot be computed than allowed.
    """
    found = inputs if isinstance(inputs, Inputs) else resolve(inputs)
    job_id = f"job-{secrets.token_hex(3)}-1"
    tasks = InlineTasks(skip_limit or job.skip_limit, files)

    def reducers_of(step: Step) -> int:
        return choose_reducers(step, reducers, usual_reducers, found.bytes_total, _cores())

    run = _InlineRun(job, job_id, found, reducers_of, memory_limit_bytes, record_bytes_max, output, tasks)
    try:
        parts = run.steps(split_size_bytes)
    except BaseException as error:
        shutil.rmtree(run.folder, ignore_errors=True)
        if isinstance(error, JobFailed):
            error.skipped = read_skipped(tasks.skipped)
        raise
    return InlineResult(job_id, run.folder, parts, run.counters, output, read_skipped(tasks.skipped))


class _InlineRun:
    """One job on its way through its steps."""

    def __init__(
        self,
        job: Job[Any, Any],
        job_id: JobId,
        inputs: Inputs,
        reducers_of: Callable[[Step], int],
        memory_limit_bytes: int,
        record_bytes_max: int,
        output: PartForm,
        tasks: InlineTasks,
    ) -> None:
        self._job, self._inputs, self._output = job, inputs, output
        self._job_id, self._tasks = job_id, tasks
        self._contexts: list[TaskContext] = []
        self._reducers_of, self._limit_bytes = reducers_of, memory_limit_bytes
        self._record_bytes_max = record_bytes_max
        self._disk: Disk = RealDisk()
        self.folder = Path(tempfile.mkdtemp(prefix="minireduce-"))
        self.counters: dict[str, dict[str, int]] = {}

    def steps(self, split_size_bytes: int) -> tuple[Path, ...]:
        """All steps, one after the other; the parts of the last."""
        first = self._job.steps[0]
        spread = spread_split_size(split_size_bytes, self._inputs.bytes_total, _cores())
        size_bytes = fitting_split_size(first, spread, first.memory_limit_bytes or self._limit_bytes)
        splits, input_ends = plan_splits_of_each(self._inputs, size_bytes, "")
        # Without a cluster there is no block store, so `resolve` has refused what would lie there.
        sources: list[Source] = [split for split in splits if not isinstance(split, StoredRange | StoredFiles)]
        parts: list[Path] = []
        for number, step in enumerate(with_input_ends(self._job, input_ends).steps):
            is_last = number == len(self._job.steps) - 1
            folder = self.folder / f"step-{number}"
            folder.mkdir()
            parts = self._step(number, step, sources, folder, self._output if is_last else "pairs")
            sources = list(parts)
        return tuple(parts)

    def _step(self, number: int, step: Step, sources: list[Source], folder: Path, output: PartForm) -> list[Path]:
        splits = [(TaskId(self._job_id, number, TaskKind.MAP, index), source) for index, source in enumerate(sources)]
        if step.is_map_only:
            made = [self._map(step.of_split(task.index), source, folder, task, 0, output) for task, source in splits]
            self._judge(TaskKind.MAP)
            return _parts_in(made)
        partitions = self._reducers_of(step)
        if number == 0 and needs_bounds(self._job):
            bounds = choose(self._job, self._inputs, partitions, _opened, self._tasks.fill)
            step = replace(step, partition=Range(bounds))
        maps = [self._map(step.of_split(task.index), source, folder, task, partitions) for task, source in splits]
        self._judge(TaskKind.MAP)
        reduce_ids = [TaskId(self._job_id, number, TaskKind.REDUCE, index) for index in range(partitions)]
        made = [self._reduce(step, maps, folder, task, output) for task in reduce_ids]
        self._judge(TaskKind.REDUCE)
        for directory in maps:
            shutil.rmtree(directory)
        return _parts_in(made)

    def _map(
        self, step: Step, source: Source, folder: Path, task: TaskId, partitions: int, form: PartForm = "pairs"
    ) -> Path:
        """The directory in which a map, or with no partitions its part, lies."""

        def run(place: Workplace) -> None:
            with ExitStack() as opened:
                if isinstance(source, Path):
                    work = _part_work(step, source, task, partitions, place, opened)
                else:
                    work = MapWork(records_of(step, source, place, opened, self._record_bytes_max), partitions)
                run_task(step, work, place)

        return self._perform(step, task, folder, form, run)

    def _reduce(self, step: Step, maps: list[Path], folder: Path, task: TaskId, form: PartForm) -> Path:
        runs = []
        for order, directory in enumerate(maps):
            offset, length = read_index(directory / INDEX_NAME)[task.index]
            runs.append(RunSlice(directory / DATA_NAME, offset, length, order))
        return self._perform(step, task, folder, form, lambda place: run_task(step, ReduceWork(runs), place))

    def _perform(
        self, step: Step, task: TaskId, folder: Path, form: PartForm, run: Callable[[Workplace], object]
    ) -> Path:
        """Do a task in a directory of its own, and count what it counted."""
        directory = folder / f"{task.kind}-{task.index:05d}"
        limit_bytes = step.memory_limit_bytes or self._limit_bytes

        def run_in(place: Path, context: TaskContext, care: Care) -> None:
            name, is_text = part_name(task.index), self._output == "text"
            run(Workplace(place, name, form, limit_bytes, context, self._disk, care, task.index, is_text))

        context = self._tasks.perform(task, directory, run_in)
        self._contexts.append(context)
        self._add(context)
        return directory

    def _judge(self, kind: TaskKind) -> None:
        """All tasks of this kind of a step are done."""
        self._tasks.judge(kind, self._contexts)
        self._contexts.clear()

    def _add(self, context: TaskContext) -> None:
        for (group, name), value in context.counters.items():
            counts = self.counters.setdefault(group, {})
            counts[name] = counts.get(name, 0) + value


def _parts_in(directories: list[Path]) -> list[Path]:
    """The parts that the tasks of a step left, in their order."""
    return [directory / part_name(index) for index, directory in enumerate(directories)]


def _part_work(step: Step, path: Path, task: TaskId, partitions: int, place: Workplace, opened: ExitStack) -> MapWork:
    """What this map has to do with a part of the step before."""
    if not path.exists():
        return MapWork(iter(()), partitions)
    context = place.context
    context.path, context.file = part_origin(task), str(path)
    part = opened.enter_context(path.open("rb"))
    size_bytes = path.stat().st_size
    records = opener(step)(part, offset=0, length=size_bytes, input_format=step.input, context=context)
    return MapWork(records, partitions, part)


def records_of(
    step: Step, source: LocalFiles | NumberRange, place: Workplace, opened: ExitStack, record_bytes_max: int
) -> Iterator[Any]:
    """The records of a split; in batches for a `map_batch`."""
    context = place.context
    if isinstance(source, NumberRange):
        return numbers_of(step)(source.begin, source.end, context=context)
    files = _local(step, source, context, record_bytes_max, passes_long=place.passes_bad)
    opened.callback(files.close)  # a failing map leaves it in the middle of a file
    return chain.from_iterable(files)


def _opened(path: str) -> BinaryIO:
    return Path(path).open("rb")


def _local(
    step: Step, source: LocalFiles, context: TaskContext, record_bytes_max: int, *, passes_long: bool
) -> Generator[Iterator[Any], None, None]:
    for part in source.ranges:
        context.path = part.path
        with Path(part.path).open("rb") as stream:
            yield opener(step)(
                stream,
                offset=part.offset,
                length=part.length,
                input_format=step.input,
                context=context,
                record_bytes_max=record_bytes_max,
                passes_long=passes_long,
            )


def _cores() -> int:
    """What stands for the slots of a cluster, so that the same parts come out as on one of this machine's own."""
    return os.cpu_count() or 1
