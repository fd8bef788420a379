"""Run one failed map task of a job again, in this process, so that a debugger can look at it.

What a task read is forgotten by the cluster with its job, and an embedded cluster is gone altogether. So the command
that submitted a job file keeps, where it fails, what its failed maps read: below `~/.cache/minireduce/replay`, of the
latest `JOBS_KEPT_MAX` jobs. The code is not kept: what is run is what the job file says now.

Maps of the first step over local files and numbers only. What other tasks read was made by tasks, and went with the
job; stored files are the cluster's to read.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgpack

from minireduce.api.skipping import SkipLimit
from minireduce.attempt.load import SOURCE, load_job, source_program
from minireduce.client.shipping import read_files
from minireduce.core.plain import from_plain, to_plain
from minireduce.core.spec import JobSpec, LocalFiles, LocalRange, NumberRange, OutputKind, Program, StepSpec
from minireduce.disk import RealDisk
from minireduce.engine.bad_records import Care
from minireduce.engine.context import TaskContext
from minireduce.engine.tasks import MapWork, run_task
from minireduce.engine.workplace import Workplace
from minireduce.errors import NotFound, RequestError
from minireduce.frozen import dataclass
from minireduce.ids import TaskId, TaskKind
from minireduce.launch.here import told_as_by_a_cluster
from minireduce.launch.inline import records_of
from minireduce.launch.inline_tasks import InlineTasks
from minireduce.machine import fingerprint

JOBS_KEPT_MAX = 20
_SUFFIX = ".replay"


@dataclass(frozen=True, slots=True)
class KeptTask:
    """A map task, and what it read."""

    index: int
    split: LocalFiles | NumberRange


@dataclass(frozen=True, slots=True)
class KeptJob:
    """The failed maps of a job. `program` has the paths of its file and of those that go along, not their bytes."""

    program: Program
    step: StepSpec
    tasks: tuple[KeptTask, ...]
    writes_text: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a task came to that did not fail this time."""

    records_in: int
    records_out: int


def keep(job: str, spec: JobSpec, failed: Iterable[TaskId]) -> TaskId | None:
    """Keep what these tasks read, as far as they can be run again; the first of them that can."""
    maps = sorted({task for task in failed if task.kind is TaskKind.MAP and task.step == 0})
    splits = [(task.index, spec.splits[task.index]) for task in maps]
    tasks = tuple(KeptTask(index, split) for index, split in splits if isinstance(split, LocalFiles | NumberRange))
    if spec.program.kind != SOURCE or not tasks:
        return None
    files = tuple(replace(file, data=b"") for file in spec.program.files)
    is_text = spec.output is not OutputKind.RESULT
    kept = KeptJob(replace(spec.program, body=b"", files=files), spec.steps[0], tasks, is_text)
    with contextlib.suppress(OSError):  # a home that cannot be written to: then there is nothing to offer
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f"{job}.draft"
        draft.write_bytes(msgpack.packb(to_plain(kept), unicode_errors="surrogateescape"))
        draft.rename(folder / f"{job}{_SUFFIX}")
        by_age = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
        for path in by_age[:-JOBS_KEPT_MAX]:
            path.unlink(missing_ok=True)
        return next(task for task in maps if task.index == tasks[0].index)
    return None


def replay(task: TaskId, on_changed: Callable[[str], None]) -> Replayed:
    """Run the task; `on_changed` hears of files that are no longer as they were when the job ran.

    Raises JobFailed where user code raises, and NotFound or RequestError where the task cannot be run here.
    """
    kept = _kept(task)
    split = next((each.split for each in kept.tasks if each.index == task.index), None)
    if split is None or task.kind is not TaskKind.MAP or task.step != 0:
        raise RequestError(
            f"{task} cannot be run again by itself: what it read went with its job, or it did not fail",
            hint="run the whole job in this process: minireduce submit … --inline",
        )
    program = source_program(Path(kept.program.origin), kept.program.parameters, kept.program.modules)
    if program.sha256 != kept.program.sha256:
        on_changed(program.origin)
    for part in split.ranges if isinstance(split, LocalFiles) else ():
        if _is_changed(part):
            on_changed(part.path)
    files = read_files(Path(file.origin) for file in kept.program.files)
    for now, then in zip(files, kept.program.files, strict=True):
        if now.sha256 != then.sha256:
            on_changed(now.origin)
    step = load_job(program).steps[0].of_split(task.index)

    def run(directory: Path, context: TaskContext, care: Care) -> None:
        limit_bytes, is_text = kept.step.memory_limit_bytes, kept.writes_text
        place = Workplace(directory, "part", "pairs", limit_bytes, context, RealDisk(), care, task.index, is_text)
        with ExitStack() as opened:
            records = records_of(step, split, place, opened, kept.step.record_bytes_max)
            run_task(step, MapWork(records, 0 if step.is_map_only else max(1, kept.step.reducers)), place)

    with tempfile.TemporaryDirectory(prefix="minireduce-replay-") as folder, told_as_by_a_cluster():
        context = InlineTasks(SkipLimit(), files).perform(task, Path(folder) / "task", run)
    counted = {name: value for (group, name), value in context.counters.items() if group == "minireduce"}
    return Replayed(counted.get("MAP_INPUT_RECORDS", 0), counted.get("MAP_OUTPUT_RECORDS", 0))


def _kept(task: TaskId) -> KeptJob:
    path = _folder() / f"{task.job}{_SUFFIX}"
    try:
        plain = msgpack.unpackb(path.read_bytes(), use_list=False, unicode_errors="surrogateescape")
    except FileNotFoundError:
        raise NotFound(
            f"nothing is kept here of {task.job}",
            hint=f"what failed under `minireduce submit` is kept where that was typed, in {path.parent}",
        ) from None
    kept: KeptJob = from_plain(KeptJob, plain)
    return kept


def _is_changed(part: LocalRange) -> bool:
    try:
        return fingerprint(Path(part.path).stat()) != part.fingerprint
    except OSError:  # opening it will tell
        return True


def _folder() -> Path:
    return Path.home() / ".cache" / "minireduce" / "replay"
