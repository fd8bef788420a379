"""The thread that makes commits durable, as many at once as have gathered while the last ones were written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from minireduce.core.cluster import Persist

COMMITS_PER_TRANSACTION_MAX = 256

Write = Callable[[list[Persist]], None]


class Writer:
    """Calls `write` with groups of commits in order, then `on_durable` with their number, both in its own thread.

    After a failure it writes nothing more: `on_failure` is called once with the error, and what was not written yet
    never becomes durable.
    """

    def __init__(
        self, write: Write, on_durable: Callable[[int], None], on_failure: Callable[[Exception], None]
    ) -> None:
        self._write = write
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._waiting: queue.SimpleQueue[Persist | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="metadata writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, commit: Persist) -> None:
        """Have a commit written after those before it."""
        self._waiting.put(commit)

    def stop(self) -> None:
        """Write what is waiting, then end; returns when the thread has."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                self._write(group)
                self._on_durable(len(group))
        except Exception as error:
            self._on_failure(error)

    def _next_group(self) -> list[Persist] | None:
        """What is waiting, at least one commit; None when there is nothing more to come."""
        group: list[Persist] = []
        while len(group) < COMMITS_PER_TRANSACTION_MAX:
            try:
                commit = self._waiting.get(block=not group)
            except queue.Empty:
                break
            if commit is None:
                self._waiting.put(None)  # for the next call, which ends the thread
                return group or None
            group.append(commit)
        return group
