"""The tasks that this process was given at once: which is next, and what the worker is told of them.

Ends are told together, at most `TELL_INTERVAL_S` after the first of them. A task that takes long holds up those behind
it, which another slot could run: after `LATE_S` they are given back, by the thread that looks beside the task. It and
the task meet here only, under a lock, so a task is either begun or given back, and never both.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from minireduce.attempt.conversation import (
    Ends,
    Finished,
    InputUnusable,
    Raised,
    RunBatch,
    RunTask,
    fold,
    tasks_of,
)
from minireduce.attempt.framing import TaskSocket
from minireduce.attempt.work import Answer

TELL_INTERVAL_S = 0.02
LATE_S = 0.1


class Batch:
    """One batch, from its message until `tell` is called at the end."""

    def __init__(self, message: RunBatch, worker: TaskSocket) -> None:
        self.place = -1
        self._tasks = deque(tasks_of(message))
        self._worker = worker
        self._lock = threading.Lock()
        self._answers: list[Finished | Raised | InputUnusable] = []
        self._began_s = self._told_s = time.perf_counter()

    def next(self) -> RunTask | None:
        """The task to run now; None when there is none left."""
        with self._lock:
            if not self._tasks:
                return None
            self.place += 1
            return self._tasks.popleft()

    def ended(self, answer: Answer) -> None:
        """The task in work has ended. After one that did not finish nothing more is run in this process."""
        assert isinstance(answer, Finished | Raised | InputUnusable), "a batch has maps only"
        now = time.perf_counter()
        with self._lock:
            self._began_s = now
            self._answers.append(answer)
            if not isinstance(answer, Finished):
                self._tasks.clear()
            elif answer.is_spent:
                self._give_back()
            elif self._tasks and now - self._told_s >= TELL_INTERVAL_S:
                self._tell(0)

    def give_back_if_late(self) -> None:
        """From the other thread: give back what waits, if the task in work takes long."""
        with self._lock:
            if self._tasks and time.perf_counter() - self._began_s >= LATE_S:
                self._give_back()

    def _give_back(self) -> None:
        waiting = len(self._tasks)
        self._tasks.clear()
        self._tell(waiting)

    def tell(self) -> None:
        """Tell the rest."""
        with self._lock:
            if self._answers:
                self._tell(0)

    def _tell(self, given_back: int) -> None:
        self._worker.send(Ends(fold(self._answers), given_back))
        self._answers.clear()
        self._told_s = time.perf_counter()
