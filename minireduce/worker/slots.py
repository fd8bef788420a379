"""Run attempts in task processes, watch over them, and say how each ended.

A process that finished a task is kept for the next one of its job, which spares the fork and the loading of the
program. After anything but success it is killed, with its whole process group. How many attempts run at once is not
decided here.

While attempts run, they are looked at every `look_interval_s`: their memory against the limit (`task_memory`), the time
since they last finished a record, and how far they are, for the master.

The verdict on an attempt is its first fault: an overrun limit is a failure, and so is a process that left by itself or
by a signal. SIGKILL that we did not send is a loss: it mostly comes from outside, from the system's memory killer or a
person, and nothing tells it from one that user code sent to itself, which must not make a record bad for somebody
else's deed. What is lost over and over at one record is said so (`losses_max` ends it).

Many short maps go to a process at once (`run_batch`). While each of them runs, all of this holds for it; those behind
it have not begun, and nothing that happens is their fault.

Invariants: `run` gives exactly one outcome for each attempt, whatever happens to the process, the zygote or this
object; when it has, no process of the attempt writes any more. `run_batch` gives one outcome, or the attempt back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minireduce.attempt.conversation import (
    STDERR_NAME,
    Ends,
    Finished,
    FromTask,
    InputUnusable,
    LoadProgram,
    MapTask,
    PartFile,
    Probing,
    Raised,
    RangeBytes,
    RangeRefused,
    ReadRange,
    RunBatch,
    RunTask,
    StoredFile,
    StoredRanges,
    batch_of,
    memory_told,
    unfold,
)
from minireduce.core.messages import SkippedRecord, TaskError
from minireduce.core.spec import LocalFiles, Program
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptOutcome,
    AttemptsEnded,
    AttemptsGivenBack,
    Failed,
    Killed,
    Lost,
    ProgressMade,
    Succeeded,
)
from minireduce.core.work.printed import TextPrinted
from minireduce.errors import MinireduceError, Unavailable
from minireduce.ids import AttemptId, JobId
from minireduce.worker import control_groups
from minireduce.worker.control_groups import ControlGroups
from minireduce.worker.task_memory import TaskMemory
from minireduce.worker.task_processes import TaskProcess, Zygote

LOOK_INTERVAL_S = 0.2
PROGRESS_INTERVAL_S = 0.5
EXIT_GRACE_S = 1.0
WARM_PER_SLOT = 2
PRINTED_BYTES_MAX = 1 << 20
CRASH_LINES_MAX = 40
KILLS_FROM_OUTSIDE = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep

ReadRangeOf = Callable[[AttemptId, ReadRange], Awaitable[bytes]]
"""Gets bytes of a stored file for a running attempt; raises MinireduceError when it cannot."""


@dataclass(slots=True)
class _Run:
    """A process at work on one task, or on the `count` tasks of a batch, of which `told` have ended.

    `verdict` is what the task at `blamed` comes to once the process has ended.
    """

    tasks: tuple[RunTask, ...]
    task_timeout_s: float
    count: int = 1
    told: int = 0
    blamed: int | None = None
    process: TaskProcess | None = None
    verdict: AttemptOutcome | None = None
    alive_at: float = 0.0
    alive_mark: tuple[int, int] = (-1, -1)
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

    def end(self, verdict: AttemptOutcome) -> None:
        """Kill the process; the first reason counts, for the task in work."""
        if self.verdict is None:
            self.blamed = self.place
            self.verdict = verdict
            if self.process is not None:
                self.process.kill()


class Slots:
    """The task processes of one worker."""

    def __init__(
        self,
        *,
        slots: int,
        on_progress: Callable[[ProgressMade], None],
        on_printed: Callable[[TextPrinted], None] = lambda _: None,
        read_range: ReadRangeOf | None = None,
        task_user: str = "",
        groups: ControlGroups | None = None,
        look_interval_s: float = LOOK_INTERVAL_S,
        printed_bytes_max: int = PRINTED_BYTES_MAX,
    ) -> None:
        self._warm_max = WARM_PER_SLOT * slots
        self._on_progress = on_progress
        self._on_printed = on_printed
        self._read_range = read_range
        self._task_user = task_user
        self._groups = groups
        self._look_interval_s = look_interval_s
        self._printed_bytes_max = printed_bytes_max
        self._runs: dict[AttemptId, _Run] = {}
        self._warm: list[tuple[JobId, TaskProcess]] = []
        self._memory = TaskMemory()
        self._zygote: Zygote | None = None
        self._starting = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Start the zygote, which gets ready while the worker goes on."""
        await self._living_zygote()
        self._looking = asyncio.create_task(self._look())

    async def run(self, program: Program, task: RunTask, *, task_timeout_s: float) -> AttemptOutcome:
        """Run an attempt to its end, in a warm process of its job or in a new one."""
        run = self._runs[task.attempt] = _Run((task,), task_timeout_s)
        try:
            return await self._run(run, program)
        except MinireduceError as error:  # no process to be had, or a program too long to hand over
            if run.process is not None:
                run.process.discard()
            if isinstance(error, Unavailable):
                return run.verdict or Lost(error.message)
            return run.verdict or Failed(TaskError("raised", type(error).__name__, str(error)))
        except BaseException:  # cancelled: the caller no longer waits, and the process must not go on
            if run.process is not None:
                run.process.discard()
            raise
        finally:
            del self._runs[task.attempt]

    async def run_batch(
        self, program: Program, tasks: tuple[RunTask, ...], *, task_timeout_s: float
    ) -> AsyncGenerator[AttemptsEnded | AttemptsGivenBack, None]:
        """Run short maps of one step one after the other in one process, telling of each that it ended or was given
        back. When the process dies, only the task in work has failed.
        """
        run = _Run(tasks, task_timeout_s, count=len(tasks))
        self._runs.update((task.attempt, run) for task in tasks)
        outcome: AttemptOutcome | None = None
        try:
            async for ended in self._run_batch(run, program):
                yield ended
        except MinireduceError as error:
            run.blamed = run.place
            if run.process is not None:
                run.process.discard()
            outcome = run.verdict or Lost(error.message)
        except BaseException:
            if run.process is not None:
                run.process.discard()
            raise
        finally:
            for task in tasks:
                del self._runs[task.attempt]
        if outcome is not None:
            for told in _told_of_the_rest(run, outcome):
                yield told

    def stop(self, attempt: AttemptId) -> None:
        """Kill an attempt: its `run` gives `Killed`, unless it had ended. Nothing happens when it does not run here, or
        to one behind others of its batch: what is short ends sooner.
        """
        run = self._runs.get(attempt)
        if run is not None and run.task.attempt == attempt:
            run.end(Killed())

    def drop_job(self, job: JobId) -> None:
        """Kill what runs of a job, and its warm processes."""
        for attempt, run in self._runs.items():
            if attempt.task.job == job:
                run.end(Killed())
        for owner, process in self._warm:
            if owner == job:
                process.discard()
        self._warm = [(owner, process) for owner, process in self._warm if owner != job]

    async def close(self) -> None:
        """Kill every attempt and every process, and end the zygote. `run` gives `Killed` for what was running."""
        self._is_closed = True
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        for run in self._runs.values():
            run.end(Killed())
        self._cool()
        if self._zygote is not None:
            await self._zygote.close()
            self._zygote = None

    @property
    def zygote_pid(self) -> int | None:
        """The zygote's process, for tests and `doctor`."""
        return None if self._zygote is None else self._zygote.pid

    # ── one attempt ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, run: _Run, program: Program) -> AttemptOutcome:
        process = await self._begin(run, program, run.task)
        answer = await self._answer(run, process)
        if isinstance(answer, Finished):
            progress = process.page.read()
            await process.printing.end(Path(run.task.directory), is_of_failure=False)
            self._keep_warm(process, run, is_spent=answer.is_spent)
            return Succeeded(answer.output, answer.counters, progress.bytes_total, progress.largest_key, answer.busy_s)
        return await self._end(run, process, answer)

    async def _begin(self, run: _Run, program: Program, message: RunTask | RunBatch) -> TaskProcess:
        """Set a process to work, a warm one of the job or a new one."""
        first = run.tasks[0]
        process = self._take_warm(first.attempt.task.job)
        if process is None:
            run.process = process = await (await self._living_zygote()).fork()
            process.send(LoadProgram(program))
        run.process = process
        run.alive_at = run.reported_at = asyncio.get_running_loop().time()
        process.page.clear(0)
        process.page.at_place(0)
        if process.group is not None:
            process.group.limit(control_groups.limit_bytes(first.memory_limit_bytes, process.idle_bytes))
        if run.verdict is None:
            process.send(message)
        else:
            process.kill()
        process.printing.begin(first.attempt, self._printed_bytes_max, run.alive_at)
        return process

    async def _run_batch(self, run: _Run, program: Program) -> AsyncGenerator[AttemptsEnded | AttemptsGivenBack, None]:
        process = await self._begin(run, program, batch_of(run.tasks))
        fault: FromTask | None = None
        is_spent = False
        while run.told < run.count and fault is None:
            message = await process.receive()
            answers = tuple(unfold(message.answers)) if isinstance(message, Ends) else ()
            if not isinstance(message, Ends) or len(answers) + message.given_back > run.count - run.told:
                break
            finished = [(answer, busy_s) for answer, busy_s in answers if isinstance(answer, Finished)]
            is_spent = any(answer.is_spent for answer, _ in finished)
            first = run.told
            run.told += len(finished)
            fault = next((answer for answer in message.answers if not isinstance(answer, Finished)), None)
            has_printed = await self._printed_by(run, process, first)
            if finished:
                ended = zip(run.tasks[first : run.told], finished, strict=True)
                ends = tuple([AttemptEnded(task.attempt, _success(*success)) for task, success in ended])
                yield AttemptsEnded(ends, has_printed)
            if message.given_back:
                run.count -= message.given_back
                back = run.tasks[run.count : run.count + message.given_back]
                yield AttemptsGivenBack(tuple(task.attempt for task in back))
        if run.told == run.count:
            self._keep_warm(process, run, is_spent=is_spent)
            return
        run.blamed = run.told if fault is not None else run.place  # now: the page goes with the process
        outcome = await self._end(run, process, fault)
        for told in _told_of_the_rest(run, outcome):
            yield told

    async def _printed_by(self, run: _Run, process: TaskProcess, first: int) -> bool:
        """Whether anything was printed since the last time; it is kept with the first of the tasks since."""
        if not process.printing.has_text or first == run.told:
            return False
        await process.printing.end(Path(run.tasks[first].directory), is_of_failure=False)
        following = run.tasks[min(run.told, len(run.tasks) - 1)]
        now = asyncio.get_running_loop().time()
        process.printing.begin(following.attempt, self._printed_bytes_max, now)
        return True

    async def _answer(self, run: _Run, process: TaskProcess) -> FromTask | None:
        """What the process says of its task, its questions answered on the way; None when it ended without a word."""
        while True:
            message = await process.receive()
            if isinstance(message, Probing):
                run.probing = message
                continue
            if not isinstance(message, ReadRange):
                return message
            try:
                if self._read_range is None:
                    raise Unavailable("this worker reads no stored files")
                process.send(RangeBytes(await self._read_range(run.task.attempt, message)))
            except MinireduceError as error:
                process.send(RangeRefused(str(error)))

    async def _end(self, run: _Run, process: TaskProcess, answer: FromTask | None) -> AttemptOutcome:
        """The outcome of an attempt that did not succeed, once its process is gone."""
        if answer is None and run.verdict is None:
            # The end of its socket mostly means that it ended; how, the zygote says at once.
            await asyncio.wait({process.exited}, timeout=EXIT_GRACE_S)
            if not process.exited.done():
                run.end(Failed(self._error(run, "crashed", "", "the process cut its connection to the worker")))
        process.kill()
        status = await process.exited
        is_unwanted = isinstance(run.verdict, Killed)
        await process.printing.end(Path(run.task.directory), is_of_failure=not is_unwanted)
        match answer:
            case Raised(error, suspects):
                outcome: AttemptOutcome = Failed(error, suspects)
            case InputUnusable(reason):
                outcome = Lost(reason)
            case _:
                outcome = run.verdict or self._verdict_on(run, status)
        process.close()
        return self._blaming(run.probing, outcome)

    @staticmethod
    def _blaming(probing: Probing | None, outcome: AttemptOutcome) -> AttemptOutcome:
        """What became of a probe, with its record."""
        if probing is None or not isinstance(outcome, Failed):
            return outcome
        record = SkippedRecord(outcome.error, probing.data, probing.is_text, probing.bytes_total)
        return Failed(outcome.error, probed=record)

    def _verdict_on(self, run: _Run, status: int | None) -> AttemptOutcome:
        """What the exit status of a process that nobody here killed means for its attempt."""
        if status is None:
            return Lost("the zygote ended, and all task processes with it")
        if status == -signal.SIGKILL and (used_bytes := _used_when_killed(run)) is not None:
            return Failed(self._error(run, "memory", "", _out_of_memory(run, used_bytes)))
        if status == -signal.SIGKILL or -status in KILLS_FROM_OUTSIDE:
            return Lost(_told_of_kill(run, signal.Signals(-status)))
        if status == -signal.SIGBUS:
            return Lost("a file that its process had mapped cannot be read any more (SIGBUS)")
        if status < 0:
            name = _name_of(-status)
            told = _last_words(run)
            return Failed(self._error(run, "crashed", name, f"the process was ended by the signal {name}", told))
        return Failed(self._error(run, "exited", "", f"user code ended the process with status {status}"))

    def _error(self, run: _Run, kind: str, type_name: str, message: str, told: str = "") -> TaskError:
        """An error about a process that cannot speak for itself, at the place that its progress page last named."""
        assert run.process is not None
        at = run.process.page.read()
        path = _path_of(run.task, at.input_index)
        place = f" (at record {at.mark + 1})" if at.mark >= 0 else ""
        return TaskError(
            kind,
            type_name,
            message + place,
            traceback=told,
            path=path,
            offset=at.offset,
            record=at.record,
            position=at.mark,
            proof=at.proof,
        )

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _living_zygote(self) -> Zygote:
        async with self._starting:
            if self._is_closed:
                raise Unavailable("this worker is ending")
            if self._zygote is None:
                zygote = Zygote(
                    user=self._task_user,
                    groups=self._groups,
                    when_gone=self._zygote_gone,
                    on_printed=self._on_printed,
                )
                await zygote.start()
                self._zygote = zygote
            return self._zygote

    def _zygote_gone(self, zygote: Zygote) -> None:
        """Another is started when the next process is needed, so one that cannot live does not spin."""
        if zygote is self._zygote:
            self._zygote = None
        self._cool()

    def _take_warm(self, job: JobId) -> TaskProcess | None:
        for place in range(len(self._warm) - 1, -1, -1):  # the one used last: its memory is still in the caches
            owner, process = self._warm[place]
            if owner == job:
                del self._warm[place]
                if not process.exited.done():
                    return process
                process.close()
        return None

    def _keep_warm(self, process: TaskProcess, run: _Run, *, is_spent: bool) -> None:
        """Keep a process for its job, unless it is being killed, left children or holds on to memory of the task."""
        held_bytes = process.anonymous_bytes() - process.idle_bytes
        if is_spent or self._is_closed or run.verdict is not None or held_bytes > run.task.memory_limit_bytes // 4:
            process.discard()
            return
        self._warm.append((run.tasks[0].attempt.task.job, process))
        while len(self._warm) > self._warm_max:
            self._warm.pop(0)[1].discard()

    def _cool(self) -> None:
        for _, process in self._warm:
            process.discard()
        self._warm.clear()

    # ── watching ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._look_interval_s)
            for run in {id(run): run for run in self._runs.values()}.values():
                if run.process is not None and run.verdict is None and not run.process.exited.done():
                    self._look_at(run, run.process, loop.time())

    def _look_at(self, run: _Run, process: TaskProcess, now: float) -> None:
        progress = process.page.read()
        if run.alive_mark != (progress.records, progress.beats):
            run.alive_mark = (progress.records, progress.beats)
            run.alive_at = now
        overrun = self._memory.find_overrun(process, run.task.memory_limit_bytes, now)
        process.printing.hand_on(now)
        if overrun is not None:
            message = _out_of_memory(run, overrun.used_bytes, overrun.children)
            run.end(Failed(self._error(run, "memory", "", message)))
        elif now - run.alive_at > run.task_timeout_s:
            message = f"no record was finished for {run.task_timeout_s:g} s"
            run.end(Failed(self._error(run, "timeout", "", message)))
        elif now - run.reported_at >= PROGRESS_INTERVAL_S:
            run.reported_at = now
            made = ProgressMade(
                run.task.attempt,
                progress.fraction,
                progress.records,
                progress.status,
                progress.bytes_total,
                progress.largest_key,
            )
            if made != run.reported:
                run.reported = made
                self._on_progress(made)


def _success(answer: Finished, busy_s: float) -> Succeeded:
    return Succeeded(answer.output, answer.counters, busy_s=busy_s)


def _told_of_the_rest(run: _Run, outcome: AttemptOutcome) -> Iterator[AttemptsEnded | AttemptsGivenBack]:
    """The process of a batch is gone: the task that is blamed has come to `outcome`, and the others are given back."""
    left = range(run.told, run.count)
    blamed = run.place
    back = tuple(run.tasks[place].attempt for place in left if place != blamed)
    if back:
        yield AttemptsGivenBack(back)
    if blamed in left:  # it may have ended before the kill that was meant for it
        yield AttemptsEnded((AttemptEnded(run.tasks[blamed].attempt, outcome),))


def _told_of_kill(run: _Run, number: signal.Signals) -> str:
    """What is seen of a kill that may be anybody's: at which record it struck."""
    assert run.process is not None
    at = run.process.page.read()
    path = _path_of(run.task, at.input_index)
    place = f" at record {at.mark + 1}" + (f" of {path}" if path else "") if at.mark >= 0 else ""
    by = "somebody, by the system for want of memory" if number is signal.SIGKILL else "somebody"
    return f"its process was killed ({number.name}){place}, by {by} or by user code itself"


def _used_when_killed(run: _Run) -> int | None:
    """How much the task used when the kernel ended it for that; None when it did not."""
    process = run.process
    used_bytes = process.group.killed_at_bytes() if process is not None and process.group is not None else None
    return None if used_bytes is None or process is None else max(0, used_bytes - process.idle_bytes)


def _out_of_memory(run: _Run, used_bytes: int, children: int = 0) -> str:
    told = memory_told(used_bytes, run.task.memory_limit_bytes, children)
    return f"the task ran out of memory: {told}"


def _name_of(number: int) -> str:
    """What a signal is called; some have only a number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(run: _Run) -> str:
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
        case MapTask(input=PartFile(path) | StoredFile(path=path)):
            return path
    return ""
