"""Run attempts in task processes, watch over them, and say how each ended.

A process that finished a task is kept for the next one of its job, which spares the fork and the loading of the
program. While nothing runs, one spare process stands ready for the first task of the next job, whichever that is. After
anything but success a process is killed, with its whole process group. How many attempts run at once is not decided
here.

While attempts run, they are looked at every `look_interval_s`: their memory against the limit (`task_memory`), the time
since they last finished a record, and how far they are, for the master.

Many short maps go to a process at once (`run_batch`). While each of them runs, all of this holds for it; those behind
it have not begun, and nothing that happens is their fault.

Elsewhere: what the end of a process means for its attempts (verdicts.py).

Invariants: `run` gives exactly one outcome for each attempt, whatever happens to the process, the zygote or this
object; when it has, no process of the attempt writes any more. `run_batch` gives one outcome, or the attempt back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from minireduce.attempt.conversation import (
    Ends,
    Finished,
    FromTask,
    InputUnusable,
    LoadProgram,
    Probing,
    Raised,
    RangeBytes,
    RangeRefused,
    ReadRange,
    RunBatch,
    RunTask,
    batch_of,
    kept_bytes_max,
    unfold,
)
from minireduce.core.spec import Program
from minireduce.core.task_data import TaskError
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
from minireduce.core.work.merging import GroupMerged, MergeOutcome, NotMerged
from minireduce.core.work.printed import TextPrinted
from minireduce.errors import MinireduceError, Unavailable
from minireduce.ids import AttemptId, JobId
from minireduce.worker import control_groups
from minireduce.worker.control_groups import ControlGroups
from minireduce.worker.input_reader import OpenBlock
from minireduce.worker.task_memory import TaskMemory
from minireduce.worker.task_processes import TaskProcess, Zygote
from minireduce.worker.verdicts import Run, blaming, cut_off, error_at_work, out_of_memory, told_of_the_rest, verdict_on
from minireduce.worker.zygote_process import ZygoteProcess

LOOK_INTERVAL_S = 0.2
PROGRESS_INTERVAL_S = 0.5
EXIT_GRACE_S = 1.0
WARM_PER_SLOT = 2
SPARES = 2
"""Processes without a job that stand ready while nothing runs. A job that comes as another ends finds one of them,
where a single one would just be forked. The first job of a worker finds one, and waits for the fork of no other.
"""
PRINTED_BYTES_MAX = 1 << 20

ReadRangeOf = Callable[[AttemptId, ReadRange], Awaitable[bytes | OpenBlock]]
"""Gets bytes of a stored file for a running attempt, or opens their block; raises MinireduceError when it cannot."""


class Slots:
    """The task processes of one worker. `spares` stand ready while nothing runs."""

    def __init__(
        self,
        *,
        slots: int,
        zygote: ZygoteProcess | None = None,
        on_progress: Callable[[ProgressMade], None],
        on_printed: Callable[[TextPrinted], None] = lambda _: None,
        read_range: ReadRangeOf | None = None,
        task_user: str = "",
        groups: ControlGroups | None = None,
        look_interval_s: float = LOOK_INTERVAL_S,
        printed_bytes_max: int = PRINTED_BYTES_MAX,
        spares: int = SPARES,
    ) -> None:
        self._spares_wanted = spares
        self._warm_max = WARM_PER_SLOT * slots
        self._on_progress = on_progress
        self._on_printed = on_printed
        self._read_range = read_range
        self._task_user = task_user
        self._groups = groups
        self._look_interval_s = look_interval_s
        self._printed_bytes_max = printed_bytes_max
        self._runs: dict[AttemptId, Run] = {}
        self._warm: list[tuple[JobId, TaskProcess]] = []
        self._spares: deque[asyncio.Task[TaskProcess]] = deque()
        self._memory = TaskMemory()
        self._begun = zygote
        self._zygote: Zygote | None = None
        self._starting = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Start the zygote, which gets ready while the worker goes on."""
        self._fork_spare(await self._living_zygote())
        self._looking = asyncio.create_task(self._look())

    async def run(self, program: Program, task: RunTask, *, task_timeout_s: float) -> AttemptOutcome:
        """Run an attempt to its end, in a warm process of its job or in a new one."""
        outcome = await self._run_alone(Run((task,), task_timeout_s), program)
        assert not isinstance(outcome, GroupMerged | NotMerged)
        return outcome

    async def merge(self, program: Program, task: RunTask, *, task_timeout_s: float) -> MergeOutcome:
        """Merge for an attempt that waits, in the same way. What it fails by is nobody's fault yet."""
        outcome = await self._run_alone(Run((task,), task_timeout_s, is_ahead=True), program)
        return outcome if isinstance(outcome, GroupMerged | NotMerged | Killed) else NotMerged()

    async def _run_alone(self, run: Run, program: Program) -> AttemptOutcome | GroupMerged | NotMerged:
        task = run.task
        self._runs[task.attempt] = run
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
            self._ended((task,))

    async def run_batch(
        self, program: Program, tasks: tuple[RunTask, ...], *, task_timeout_s: float
    ) -> AsyncGenerator[AttemptsEnded | AttemptsGivenBack, None]:
        """Run short maps of one step one after the other in one process, telling of each that it ended or was given
        back. When the process dies, only the task in work has failed.
        """
        run = Run(tasks, task_timeout_s, count=len(tasks))
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
            self._ended(tasks)
        if outcome is not None:
            for told in told_of_the_rest(run, outcome):
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
        """The zygote's process, for tests."""
        return None if self._zygote is None else self._zygote.pid

    # ── one attempt ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, run: Run, program: Program) -> AttemptOutcome | GroupMerged | NotMerged:
        process = await self._begin(run, program, run.task)
        answer = await self._answer(run, process)
        if isinstance(answer, GroupMerged | NotMerged):
            await process.printing.end(Path(run.task.directory), is_of_failure=False)
            self._keep_warm(process, run, is_spent=False)
            return answer
        if isinstance(answer, Finished):
            progress = process.page.read()
            await process.printing.end(Path(run.task.directory), is_of_failure=False)
            self._keep_warm(process, run, is_spent=answer.is_spent)
            return Succeeded(answer.output, answer.counters, progress.bytes_total, progress.largest_key, answer.busy_s)
        return await self._end(run, process, answer)

    async def _begin(self, run: Run, program: Program, message: RunTask | RunBatch) -> TaskProcess:
        """Set a process to work, a warm one of the job or a new one."""
        first = run.tasks[0]
        process = self._take_warm(first.attempt.task.job)
        if process is None:
            run.process = process = await self._new_process()
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

    async def _run_batch(self, run: Run, program: Program) -> AsyncGenerator[AttemptsEnded | AttemptsGivenBack, None]:
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
        for told in told_of_the_rest(run, outcome):
            yield told

    async def _printed_by(self, run: Run, process: TaskProcess, first: int) -> bool:
        """Whether anything was printed since the last time; it is kept with the first of the tasks since."""
        if not process.printing.has_text or first == run.told:
            return False
        await process.printing.end(Path(run.tasks[first].directory), is_of_failure=False)
        following = run.tasks[min(run.told, len(run.tasks) - 1)]
        now = asyncio.get_running_loop().time()
        process.printing.begin(following.attempt, self._printed_bytes_max, now)
        return True

    async def _answer(self, run: Run, process: TaskProcess) -> FromTask | None:
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
                await self._give_range(self._read_range, run.task.attempt, process, message)
            except MinireduceError as error:
                process.send(RangeRefused(str(error)))

    async def _give_range(
        self, read_range: ReadRangeOf, attempt: AttemptId, process: TaskProcess, asked: ReadRange
    ) -> None:
        found = await read_range(attempt, asked)
        if isinstance(found, OpenBlock):
            with found.file:
                if process.hand_over(found.here, found.file.fileno()):
                    return
            found = await read_range(attempt, replace(asked, in_place=False))
        assert isinstance(found, bytes)
        process.send(RangeBytes(found))

    async def _end(self, run: Run, process: TaskProcess, answer: FromTask | None) -> AttemptOutcome:
        """The outcome of an attempt that did not succeed, once its process is gone."""
        if answer is None and run.verdict is None:
            # The end of its socket mostly means that it ended; how, the zygote says at once.
            await asyncio.wait({process.exited}, timeout=EXIT_GRACE_S)
            if not process.exited.done():
                run.end(Failed(cut_off()))
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
                outcome = run.verdict or verdict_on(run, status)
        process.close()
        return blaming(run.probing, outcome)

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _living_zygote(self) -> Zygote:
        async with self._starting:
            if self._is_closed:
                raise Unavailable("this worker is ending")
            if self._zygote is None:
                begun, self._begun = self._begun or ZygoteProcess.begin(), None
                zygote = Zygote(
                    begun,
                    user=self._task_user,
                    groups=self._groups,
                    when_gone=self._zygote_gone,
                    on_printed=self._on_printed,
                )
                zygote.start()
                self._zygote = zygote
            return self._zygote

    def _zygote_gone(self, zygote: Zygote) -> None:
        """Another is started when the next process is needed, so one that cannot live does not spin."""
        if zygote is self._zygote:
            self._zygote = None
        self._cool()

    async def _new_process(self) -> TaskProcess:
        """One that has no job yet: the spare one, or another. Raises Unavailable when there is none to be had."""
        if self._spares:
            spare = self._spares.popleft()
            with contextlib.suppress(Unavailable):  # it ended, or there was no room for it then
                process = await spare
                if not process.exited.done():
                    return process
                process.close()
        return await (await self._living_zygote()).fork()

    def _fork_spare(self, zygote: Zygote) -> None:
        spare = asyncio.create_task(zygote.fork())
        spare.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever takes it hears of it
        self._spares.append(spare)

    def _ended(self, tasks: tuple[RunTask, ...]) -> None:
        for task in tasks:
            del self._runs[task.attempt]
        if not self._runs and self._zygote is not None and not self._is_closed:
            while len(self._spares) < self._spares_wanted:
                self._fork_spare(self._zygote)

    def _take_warm(self, job: JobId) -> TaskProcess | None:
        for place in range(len(self._warm) - 1, -1, -1):  # the one used last: its memory is still in the caches
            owner, process = self._warm[place]
            if owner == job:
                del self._warm[place]
                if not process.exited.done():
                    return process
                process.close()
        return None

    def _keep_warm(self, process: TaskProcess, run: Run, *, is_spent: bool) -> None:
        """Keep a process for its job, unless it is being killed, left children or holds on to memory of the task."""
        most_bytes = process.idle_bytes + kept_bytes_max(run.task.memory_limit_bytes)
        if is_spent or self._is_closed or run.verdict is not None or process.anonymous_bytes() > most_bytes:
            process.discard()
            return
        self._warm.append((run.tasks[0].attempt.task.job, process))
        while len(self._warm) > self._warm_max:
            self._warm.pop(0)[1].discard()

    def _cool(self) -> None:
        """End all processes that have no task."""
        for _, process in self._warm:
            process.discard()
        self._warm.clear()
        for spare in self._spares:
            if not spare.cancel() and not spare.cancelled() and spare.exception() is None:
                spare.result().discard()
        self._spares.clear()

    # ── watching ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._look_interval_s)
            for run in {id(run): run for run in self._runs.values()}.values():
                if run.process is not None and run.verdict is None and not run.process.exited.done():
                    self._look_at(run, run.process, loop.time())

    def _look_at(self, run: Run, process: TaskProcess, now: float) -> None:
        progress = process.page.read()
        if run.alive_mark != (progress.records, progress.beats):
            run.alive_mark = (progress.records, progress.beats)
            run.alive_at, run.alive_looks = now, progress.looks
        overrun = self._memory.find_overrun(process, run.task.memory_limit_bytes, now)
        process.printing.hand_on(now)
        if overrun is not None:
            message = out_of_memory(run, overrun.used_bytes, overrun.children)
            run.end(Failed(error_at_work(run, "memory", "", message)))
        elif now - run.alive_at > run.task_timeout_s:
            message = f"no record was finished for {run.task_timeout_s:g} s"
            run.end(Failed(error_at_work(run, "timeout", "", message)))
        elif now - run.reported_at >= PROGRESS_INTERVAL_S and not run.is_ahead:
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
