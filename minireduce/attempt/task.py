"""The life of a task process: load its job's program once, then run one task after the other until the worker hangs up.

The process was forked by the zygote and serves one job. What user code prints goes to two pipes, which the worker
reads; both are flushed before the worker hears of the end of a task, so that it knows whose text it was. The random
generators are seeded by the task's place in its job, and the hash seed is fixed, so that another attempt of the same
task takes the same turns.

It is a subreaper, as the zygote is: what user code leaves running in the background stays below this process, whatever
session it began, and ends when this one does. A process that has such children after a task is not used again, so they
end with their task.

`os._exit` is wrapped, so that the record at hand is known when user code leaves by that door.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import sys
import time
from dataclasses import replace
from typing import Any, NoReturn, TextIO

from minireduce.api.job import Job
from minireduce.attempt import linux
from minireduce.attempt.batch import Batch
from minireduce.attempt.conversation import (
    Finished,
    LoadProgram,
    Raised,
    Ready,
    RunBatch,
    RunTask,
    ToTask,
    kept_bytes_max,
    memory_told,
)
from minireduce.attempt.framing import TaskSocket
from minireduce.attempt.load import load_job
from minireduce.attempt.progress import ProgressPage
from minireduce.attempt.watch import Watch
from minireduce.attempt.work import Answer, TaskRun, answer_to
from minireduce.core.spec import ShippedFile
from minireduce.engine.disk_rates import DiskRates
from minireduce.engine.seeding import PROGRAM, seed, seed_text

DATA_ALLOWANCE_BYTES = 1 << 30
"""Private memory that a task may map beyond twice its limit: what allocators and thread stacks reserve and never
touch."""

_exit_at_once = os._exit


def run_task_process(connection: socket.socket, page_descriptor: int, printing: Printing) -> None:
    """Serve the worker at the other end of `connection` until it closes it."""
    page = ProgressPage(page_descriptor)
    os.close(page_descriptor)
    TaskProcess(TaskSocket(connection, ToTask), page, printing).serve()


class TaskProcess:
    """One process, one job, one task at a time."""

    def __init__(self, worker: TaskSocket, page: ProgressPage, printing: Printing) -> None:
        self._worker = worker
        self._printing = printing
        self._watch = Watch(page)
        self._job: Job[Any, Any] | None = None
        self._program: LoadProgram | None = None
        self._idle_bytes = linux.own_anonymous_bytes()
        self._disk_rates = DiskRates()

    def serve(self) -> None:
        os._exit = self._exit
        self._watch.start()
        try:
            self._obey()
        except OSError:  # user code closed the socket, at a record that nobody knows any more
            self._watch.page.cut_off()
            raise

    def _obey(self) -> None:
        self._worker.send(Ready(self._idle_bytes))
        while (message := self._worker.receive()) is not None:
            match message:
                case LoadProgram():
                    self._program = message
                case RunTask():
                    self._watch.page.at_place(0)
                    answer = self._perform(message)
                    self._give_back_memory(message.memory_limit_bytes)
                    self._worker.send(answer)
                case RunBatch():
                    self._run_batch(Batch(message, self._worker), message.first.memory_limit_bytes)

    def _run_batch(self, batch: Batch, memory_limit_bytes: int) -> None:
        self._watch.between_looks = batch.give_back_if_late
        while (task := batch.next()) is not None:
            self._watch.page.at_place(batch.place)
            batch.ended(self._perform(task, is_limited=batch.place > 0))
        self._watch.between_looks = None
        self._give_back_memory(memory_limit_bytes)
        batch.tell()

    def _give_back_memory(self, limit_bytes: int) -> None:
        """Be fit for another task: what allocators keep of freed memory might be more than a process may hold on to."""
        most_bytes = self._idle_bytes + kept_bytes_max(limit_bytes)
        if linux.most_resident_bytes() > most_bytes and linux.own_anonymous_bytes() > most_bytes:
            linux.give_back_freed_memory()

    def _perform(self, task: RunTask, *, is_limited: bool = False) -> Answer:
        """Run one task. `is_limited`: the limit set for the first of its batch still holds, and all have the same."""
        began_s = time.perf_counter()
        try:
            if not is_limited:
                linux.limit_data_bytes(2 * task.memory_limit_bytes + DATA_ALLOWANCE_BYTES)
            self._printing.restore()
            job = self._loaded()
            place = task.attempt.task
            seed(seed_text(place.step, place.kind, place.index))
            run = TaskRun(
                job,
                task,
                files=self._files,
                worker=self._worker,
                watch=self._watch,
                idle_bytes=self._idle_bytes,
                disk_rates=self._disk_rates,
            )
            return _marked(run.run(began_s), task.memory_limit_bytes)
        except (Exception, SystemExit) as error:
            return answer_to(error)
        finally:
            self._printing.flush()

    def _loaded(self) -> Job[Any, Any]:
        """The job, loaded at its first task so that what it prints is kept with that."""
        if self._job is None:
            assert self._program is not None, "the worker sends the program before the first task"
            seed(PROGRAM)
            self._job = load_job(self._program.program)
        return self._job

    @property
    def _files(self) -> tuple[ShippedFile, ...]:
        return () if self._program is None else self._program.program.files

    def _exit(self, status: int) -> NoReturn:
        self._watch.note_last()
        self._printing.flush()
        _exit_at_once(status)


def _marked(answer: Answer, memory_limit_bytes: int) -> Answer:
    """The answer with what only this process knows: whether it left children, and how much memory it had."""
    match answer:
        case Finished() if linux.has_children():
            return replace(answer, is_spent=True)
        case Raised(error) if error.kind == "memory":
            told = memory_told(linux.most_resident_bytes(), memory_limit_bytes)
            return replace(answer, error=replace(error, message=f"{error.message}; {told}"))
    return answer


class Printing:
    """This process's standard streams: two pipes to the worker, written line by line, so that a crash loses at most
    the line that was begun.
    """

    def __init__(self, stdout: int, stderr: int) -> None:
        self._pipes = (stdout, stderr)
        nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        self.restore()
        sys.stdout, sys.stderr = _line_writer(1), _line_writer(2)
        linux.buffer_lines_of_c()
        faulthandler.enable(2, all_threads=False)  # a crash then leaves the user's line in `stderr`

    def restore(self) -> None:
        """Point descriptors 1 and 2 at the pipes, wherever an earlier task has left them."""
        for descriptor, pipe in enumerate(self._pipes, start=1):
            os.dup2(pipe, descriptor)

    def flush(self) -> None:
        """Have everything that was printed in the pipes."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # user code may have closed it, or put anything in its place
                stream.flush()
        linux.flush_streams_of_c()


def _line_writer(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
