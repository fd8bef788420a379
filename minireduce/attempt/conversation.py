"""What a worker says to its zygote and to its task processes, and what they answer.

With the zygote: `Fork` (with two descriptors: the task's socket and its progress page) is answered by `Forked` or
`ForkRefused`; `Kill` ends a task process and its whole process group; `Exited` tells how a task process ended, asked
for or not.

With a task process: it says `Ready` once. Then for each task the worker sends `LoadProgram` (the first time only) and
`RunTask`, and gets one of `Finished`, `Raised` and `InputUnusable`, before it sends the next. While a task runs it may
ask for bytes of stored files with `ReadRange`, which is answered by `RangeBytes`, by `BlockHere` with a descriptor of a
replica, which the task reads and verifies itself from then on, or by `RangeRefused`; a probe says `Probing` before user
code sees its record.

Many short tasks go in one `RunBatch`. `Ends` tell of them, in their order, until all have ended or are given back; the
first answer that is not `Finished` is the last. While one of them takes long, those behind it are given back.

Paths are text; sizes and offsets are bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from minireduce.core.spec import LocalFiles, NumberRange, Program
from minireduce.core.task_data import Counters, TaskError, TaskOutput
from minireduce.core.work.bad_records import PLAIN, Care
from minireduce.core.work.merging import GroupMerged, NotMerged
from minireduce.engine.disk_rates import Choice
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, TaskId

# ── worker and zygote ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Fork:
    """Make a task process. `token` comes back in `Forked`; `user` is the account to run as, or empty."""

    token: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL a task process and its group. Nothing happens when it has ended."""

    pid: int


@dataclass(frozen=True, slots=True)
class Forked:
    """The task process that was asked for under `token` runs."""

    token: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkRefused:
    """The system gave no process for `token`."""

    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A task process ended. `status` as in `subprocess`: the exit status, or minus the number of the signal."""

    pid: int
    status: int


ToZygote = Fork | Kill
FromZygote = Forked | ForkRefused | Exited


# ── what a task works on ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PartFile:
    """A typed part of the step before, on this machine."""

    path: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A range of a stored file, whose bytes the task asks its worker for."""

    path: str
    offset: int
    length: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class StoredRanges:
    """Ranges of stored files, to be read one after the other."""

    files: tuple[StoredFile, ...]

    @property
    def length(self) -> int:
        return sum(file.length for file in self.files)


@dataclass(frozen=True, slots=True)
class RunFile:
    """One partition's bytes within one map output; `order` is the index of the map task."""

    path: str
    offset: int
    length: int
    order: int


MapInput = LocalFiles | NumberRange | PartFile | StoredFile | StoredRanges


@dataclass(frozen=True, slots=True)
class MapTask:
    """Map `input` into `partitions` partitions; 0: a step without reduce, whose map writes a part."""

    input: MapInput
    partitions: int


@dataclass(frozen=True, slots=True)
class AheadFile:
    """Where `count` runs, from the one at the place `first` on, lie merged."""

    path: str
    first: int
    count: int
    length: int
    pairs: int


@dataclass(frozen=True, slots=True)
class ReduceTask:
    """Merge these runs, reduce each group and write a part."""

    runs: tuple[RunFile, ...]
    ahead: tuple[AheadFile, ...] = ()


@dataclass(frozen=True, slots=True)
class MergeTask:
    """Make the next group of a reduce that waits, if it is sure to be one, at `path`, in a directory that exists.

    The other fields are those of `StartMerge`.
    """

    runs: tuple[RunFile, ...]
    path: str
    runs_here: int
    bytes_here: int
    groups_before: int


# ── worker to task process ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LoadProgram:
    """The program of all tasks that this process will run."""

    program: Program


@dataclass(frozen=True, slots=True)
class RunTask:
    """Run one task.

    Everything it leaves goes into `directory`, which exists. `output_text`: the job writes text in the end. `care` says
    how its records are treated, `compression` when what it spills is compressed.
    """

    attempt: AttemptId
    work: MapTask | ReduceTask | MergeTask
    directory: str
    output_text: bool
    memory_limit_bytes: int
    record_bytes_max: int = 64 << 20
    care: Care = PLAIN
    compression: Choice = "auto"


@dataclass(frozen=True, slots=True)
class MapOfBatch:
    """Another map of the same step: all but this is as in the first of its batch."""

    index: int
    number: int
    input: LocalFiles | NumberRange


@dataclass(frozen=True, slots=True)
class RunBatch:
    """Run these one after the other. Each leaves what it does in a directory beside that of the first.

    `others` are those of files. Those of ranges of numbers, of which there are the most, stand in `ranges` as index,
    number, begin and end, one after the other. A batch has one of the two.
    """

    first: RunTask
    others: tuple[MapOfBatch, ...] = ()
    ranges: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RangeBytes:
    """The bytes asked for; fewer than asked for only at the end of the file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BlockHere:
    """The bytes asked for lie in a replica on this machine; a read-only descriptor of it travels beside this.

    The block is the file's bytes [begin, begin + length). `crcs` are its checksums, behind each other.
    """

    begin: int
    length: int
    crcs: bytes


@dataclass(frozen=True, slots=True)
class RangeRefused:
    """The bytes cannot be had."""

    reason: str


ToTask = LoadProgram | RunTask | RunBatch | RangeBytes | BlockHere | RangeRefused


# ── task process to worker ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ready:
    """The process runs. `idle_bytes` is its anonymous memory before it saw anything of a job."""

    idle_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The output is complete and durable in the task's directory. `is_spent`: the process left children and is not to
    be used again. `alike`: how long it worked for each of the tasks that followed in a batch and ended just so.
    """

    output: TaskOutput
    counters: Counters
    is_spent: bool = False
    busy_s: float = 0.0  # how long the process worked for it
    alike: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Raised:
    """The program, or the limit set for it, is at fault: the attempt failed. `suspects`: what a careful run found."""

    error: TaskError
    suspects: tuple[TaskError, ...] = ()


@dataclass(frozen=True, slots=True)
class InputUnusable:
    """Something around user code is at fault (input changed or damaged, disk full): the attempt is lost."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ends:
    """How the next tasks of a batch ended: one answer for each, but that many which end alike share one. The last
    `given_back` of those that are left then will not be run.
    """

    answers: tuple[Finished | Raised | InputUnusable, ...]
    given_back: int = 0


@dataclass(frozen=True, slots=True)
class ReadRange:
    """Asks for bytes of a stored file, while a task runs. `in_place`: a descriptor of them will do as well."""

    path: str
    offset: int
    length: int
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Probing:
    """User code is about to see this record, alone. The fields are those of `SkippedRecord`."""

    data: bytes
    is_text: bool
    bytes_total: int


FromTask = Ready | Finished | Raised | InputUnusable | Ends | ReadRange | Probing | GroupMerged | NotMerged


def kept_bytes_max(limit_bytes: int) -> int:
    """How much memory more than when it began a process may hold after a task, to be kept for the next of its job."""
    return limit_bytes // 4


def memory_told(used_bytes: int, limit_bytes: int, children: int = 0) -> str:
    """What is said of a task that ran out of memory: how much it had, with so many processes that it had started, the
    limit, and what to do.
    """
    used, limit = used_bytes >> 20, limit_bytes >> 20
    who = {0: "it", 1: "it and a process that it started"}.get(children, f"it and {children} processes that it started")
    return f"{who} used {used} MiB, and its limit is {limit} MiB: keep less in memory at once, or raise memory_limit"


def tasks_of(batch: RunBatch) -> Iterator[RunTask]:
    """The tasks of a batch, each as if it had come alone."""
    first = batch.first
    yield first
    task, beside = first.attempt.task, first.directory.rpartition("/")[0]
    assert isinstance(first.work, MapTask)
    for index, number, source in _others_of(batch):
        attempt = AttemptId(TaskId(task.job, task.step, task.kind, index), number)
        yield RunTask(
            attempt,
            MapTask(source, first.work.partitions),
            f"{beside}/{attempt}",
            first.output_text,
            first.memory_limit_bytes,
            first.record_bytes_max,
            first.care,
            first.compression,
        )


def _others_of(batch: RunBatch) -> Iterator[tuple[int, int, LocalFiles | NumberRange]]:
    yield from ((each.index, each.number, each.input) for each in batch.others)
    words = iter(batch.ranges)
    for index, number, begin, end in zip(words, words, words, words, strict=True):
        yield index, number, NumberRange(begin, end)


def batch_of(tasks: Sequence[RunTask]) -> RunBatch:
    """As one message what is the same in all tasks but their input: maps of one step, of files or ranges of numbers."""
    others = [(task.attempt, task.work.input) for task in tasks[1:] if isinstance(task.work, MapTask)]
    if all(isinstance(source, NumberRange) for _, source in others):
        ranges: list[int] = []
        for attempt, source in others:
            assert isinstance(source, NumberRange)
            ranges += (attempt.task.index, attempt.number, source.begin, source.end)
        return RunBatch(tasks[0], ranges=tuple(ranges))
    maps = []
    for attempt, source in others:
        assert isinstance(source, LocalFiles | NumberRange)
        maps.append(MapOfBatch(attempt.task.index, attempt.number, source))
    return RunBatch(tasks[0], tuple(maps))


def fold(answers: Iterable[Finished | Raised | InputUnusable]) -> tuple[Finished | Raised | InputUnusable, ...]:
    """The answers of tasks that ended one after the other, those that ended alike as one."""
    folded: list[Finished | Raised | InputUnusable] = []
    alike: list[float] = []
    for answer in answers:
        last = folded[-1] if folded else None
        if isinstance(last, Finished) and isinstance(answer, Finished) and _are_alike(last, answer):
            alike.append(answer.busy_s)
            continue
        _close(folded, alike)
        folded.append(answer)
    _close(folded, alike)
    return tuple(folded)


def _are_alike(one: Finished, other: Finished) -> bool:
    return (one.output, one.counters, one.is_spent) == (other.output, other.counters, other.is_spent)


def _close(folded: list[Finished | Raised | InputUnusable], alike: list[float]) -> None:
    if alike:
        last = folded[-1]
        assert isinstance(last, Finished)
        folded[-1] = replace(last, alike=tuple(alike))
        alike.clear()


def unfold(
    answers: Iterable[Finished | Raised | InputUnusable],
) -> Iterator[tuple[Finished | Raised | InputUnusable, float]]:
    """The answer of each task, and how long the process worked for it."""
    for answer in answers:
        if not isinstance(answer, Finished):
            yield answer, 0.0
            continue
        yield answer, answer.busy_s
        for busy_s in answer.alike:
            yield answer, busy_s
