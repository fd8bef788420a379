"""What a task process is at work on, and what its end means for its attempts.

The verdict on an attempt is its first fault: an overrun limit is a failure, and so is a process that left by itself or
by a signal. SIGKILL that we did not send is a loss: it mostly comes from outside, from the system's memory killer or a
person, and nothing tells it from one that user code sent to itself, which must not make a record bad for somebody
else's deed. What is lost over and over at one record is said so (`losses_max` ends it). A process that has closed its
connection to us failed as well, but at which record is not known for sure, so none is blamed.

Elsewhere: starting the process, watching over it and waiting for its end (slots.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from minireduce.attempt.conversation import (
    MapTask,
    PartFile,
    Probing,
    RunTask,
    StoredFile,
    StoredRanges,
    memory_told,
)
from minireduce.attempt.places import STDERR_NAME, part_origin
from minireduce.attempt.progress import CUT_OFF, Progress
from minireduce.core.spec import LocalFiles
from minireduce.core.task_data import SkippedRecord, TaskError
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptOutcome,
    AttemptsEnded,
    AttemptsGivenBack,
    Failed,
    Lost,
    ProgressMade,
)
from minireduce.frozen import dataclass
from minireduce.worker.task_processes import TaskProcess

CRASH_LINES_MAX = 40
LOOKS_MIN = 3
"""Looks after the last sign of life: then what a process says of its record is not what it said before."""
KILLS_FROM_OUTSIDE = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


@dataclass(slots=True)
class Run:
    """A process at work on one task, or on the `count` tasks of a batch, of which `told` have ended.

    `verdict` is what the task at `blamed` comes to once the process has ended. `is_ahead`: its attempt has not
    begun, so nobody is told how far it is.
    """

    tasks: tuple[RunTask, ...]
    task_timeout_s: float
    count: int = 1
    is_ahead: bool = False
    told: int = 0
    blamed: int | None = None
    process: TaskProcess | None = None
    verdict: AttemptOutcome | None = None
    alive_at: float = 0.0
    alive_mark: tuple[int, int] = (-1, -1)
    alive_looks: int = 0  # of the process, when it last gave a sign of life
    reported_at: float = 0.0
    reported: ProgressMade | None = None
    probing: Probing | None = None

    @property
    def place(self) -> int:
        """The place of the task that is blamed, or else of the one in work."""
        if self.blamed is not None:
            return self.blamed
        place = self.process.page.place if self.process is not None else 0
        return min(max(place, self.told), self.count - 1)  # user code can write to the page

    @property
    def task(self) -> RunTask:
        """The task that is blamed, or else the one in work."""
        return self.tasks[self.place]

    @property
    def is_cut_off(self) -> bool:
        """Whether the process said last that it can no longer speak to us."""
        return self.process is not None and self.process.page.read().mark == CUT_OFF

    def end(self, verdict: AttemptOutcome) -> None:
        """Kill the process; the first reason counts, for the task in work."""
        if self.verdict is None:
            self.blamed = self.place
            self.verdict = verdict
            if self.process is not None:
                self.process.kill()


def blaming(probing: Probing | None, outcome: AttemptOutcome) -> AttemptOutcome:
    """What became of a probe, with its record."""
    if probing is None or not isinstance(outcome, Failed):
        return outcome
    record = SkippedRecord(outcome.error, probing.data, probing.is_text, probing.bytes_total)
    return Failed(outcome.error, probed=record)


def verdict_on(run: Run, status: int | None) -> AttemptOutcome:
    """What the exit status of a process that nobody here killed means for its attempt."""
    if status is None:
        return Lost("the zygote ended, and all task processes with it")
    if status == -signal.SIGKILL and (used_bytes := _used_when_killed(run)) is not None:
        return Failed(error_at_work(run, "memory", "", out_of_memory(run, used_bytes)))
    if status == -signal.SIGKILL or -status in KILLS_FROM_OUTSIDE:
        return Lost(_told_of_kill(run, signal.Signals(-status)))
    if status == -signal.SIGBUS:
        return Lost("a file that its process had mapped cannot be read any more (SIGBUS)")
    if status < 0:
        name = _name_of(-status)
        told = _last_words(run)
        return Failed(error_at_work(run, "crashed", name, f"the process was ended by the signal {name}", told))
    if run.is_cut_off:
        return Failed(cut_off())
    return Failed(error_at_work(run, "exited", "", f"user code ended the process with status {status}"))


def cut_off() -> TaskError:
    """The error of a process that can tell nothing any more. It worked on after it was cut off, so the record that its
    page names now may be a later one.
    """
    return TaskError(
        "crashed",
        "",
        "the process cut its connection to the worker: user code has closed a descriptor that it had not opened, as "
        "os.closerange does, or written to one",
    )


def error_at_work(run: Run, kind: str, type_name: str, message: str, told: str = "") -> TaskError:
    """An error about a process that cannot speak for itself, at the place that its progress page last named.

    Of several records that were marked together none is blamed, unless one is known to be in work: the process, which
    still lived, has looked at it again and again while the time that it may take ran out.
    """
    assert run.process is not None
    at = run.process.page.read()
    is_waited_for = kind == "timeout" and bool(at.record) and at.looks - run.alive_looks >= LOOKS_MIN
    if at.marked == 1 or is_waited_for:
        position = at.mark if at.marked == 1 else at.records - 1
        offset, record, proof = at.offset, at.record, at.proof
    else:
        position, offset, record, proof = -1, -1, "", 0
    return TaskError(
        kind,
        type_name,
        message + (f" (at {_told_place(at, position)})" if at.mark >= 0 else ""),
        traceback=told,
        path=_path_of(run.task, at.input_index),
        offset=offset,
        record=record,
        position=position,
        proof=proof,
    )


def _told_place(at: Progress, position: int) -> str:
    """Where a process was at work, in words."""
    if position >= 0:
        return f"record {position + 1}"
    return f"one of the records {at.mark + 1} to {at.mark + at.marked}"


def told_of_the_rest(run: Run, outcome: AttemptOutcome) -> Iterator[AttemptsEnded | AttemptsGivenBack]:
    """The process of a batch is gone: the task that is blamed has come to `outcome`, and the others are given back."""
    left = range(run.told, run.count)
    blamed = run.place
    back = tuple(run.tasks[place].attempt for place in left if place != blamed)
    if back:
        yield AttemptsGivenBack(back)
    if blamed in left:  # it may have ended before the kill that was meant for it
        yield AttemptsEnded((AttemptEnded(run.tasks[blamed].attempt, outcome),))


def _told_of_kill(run: Run, number: signal.Signals) -> str:
    """What is seen of a kill that may be anybody's: at which record it struck."""
    assert run.process is not None
    at = run.process.page.read()
    path = _path_of(run.task, at.input_index)
    record = _told_place(at, at.mark if at.marked == 1 else -1)
    place = f" at {record} of its task" + (f", in {path}" if path else "") if at.mark >= 0 else ""
    by = "somebody, by the system for want of memory" if number is signal.SIGKILL else "somebody"
    return f"its process was killed ({number.name}){place}, by {by} or by user code itself"


def _used_when_killed(run: Run) -> int | None:
    """How much the task used when the kernel ended it for that; None when it did not."""
    process = run.process
    used_bytes = process.group.killed_at_bytes() if process is not None and process.group is not None else None
    return None if used_bytes is None or process is None else max(0, used_bytes - process.idle_bytes)


def out_of_memory(run: Run, used_bytes: int, children: int = 0) -> str:
    told = memory_told(used_bytes, run.task.memory_limit_bytes, children)
    return f"the task ran out of memory: {told}"


def _name_of(number: int) -> str:
    """What a signal is called; some have only a number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(run: Run) -> str:
    """What the interpreter wrote about a crash, the user's frames only; empty when it could not."""
    assert run.process is not None
    text = run.process.printing.said(STDERR_NAME)
    _, found, told = text.rpartition("Fatal Python error: ")
    told, _, _ = told.partition("\nExtension modules:")
    lines = [line for line in told.splitlines() if _PACKAGE not in line and '"<frozen ' not in line]
    return found + "\n".join(lines[:CRASH_LINES_MAX])


def _path_of(task: RunTask, input_index: int) -> str:
    match task.work:
        case MapTask(input=LocalFiles(ranges=ranges)) if 0 <= input_index < len(ranges):
            return ranges[input_index].path
        case MapTask(input=StoredRanges(files)) if 0 <= input_index < len(files):
            return files[input_index].path
        case MapTask(input=PartFile()):
            return part_origin(task.attempt.task)
        case MapTask(input=StoredFile(path)):
            return path
    return ""
