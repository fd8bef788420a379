"""Keep the progress page up to date from a thread beside the task, so that records need not be counted one by one.

The engine walks over blocks of records in C and can tell at any time which one is in work; this thread asks ten times a
second. It lives as long as the process, since starting and joining one for each task takes longer than a small task
does. Between tasks it has nothing to look at.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from minireduce.attempt.progress import ProgressPage
from minireduce.engine import keys
from minireduce.engine.context import LargestGroup, TaskContext
from minireduce.engine.faults import shown

LOOK_INTERVAL_S = 0.1
LARGEST_KEY_SHARE_MIN = 0.1
"""A key with less of its partition's bytes is not told."""


class Watch:
    """The thread, and the context of the task that it looks at."""

    def __init__(self, page: ProgressPage) -> None:
        self.page = page
        self._lock = threading.Lock()  # so that nothing is written for a task that is over
        self._context: TaskContext | None = None
        self._largest = ""  # the key that the page shows
        self._looked_at = 0  # the count of records at the last look
        self.between_looks: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to look, until the process ends."""
        threading.Thread(target=self._look, name="minireduce-watch", daemon=True).start()

    def over(self, context: TaskContext, bytes_total: int) -> AbstractContextManager[None]:
        """Watch one task, which has this much to read, for the time of a block."""
        return _Watched(self, context, bytes_total)

    def begin(self, context: TaskContext, bytes_total: int) -> None:
        """Watch a task from now on."""
        self.page.clear(bytes_total)
        self._largest = ""
        self._looked_at = 0
        with self._lock:
            self._context = context

    def end(self, *, has_failed: bool) -> None:
        """The task is over; where it was is noted a last time unless it raised."""
        with self._lock:
            try:
                if not has_failed:
                    self.note()  # the worker reads it when it hears that the task is done
            finally:
                self._context = None

    def note(self) -> None:
        """Write down where the task is. Does nothing between tasks."""
        context = self._context
        if context is None:
            return
        offset = context.offset
        self.page.at_record(context.records_read, -1 if offset is None else offset)
        self.page.has_read(context.bytes_read)
        if context.status:
            self.page.say(context.status)
        self._note_largest(context.largest)

    def note_last(self) -> None:
        """Write down the record in work: user code is about to end the process."""
        self.note()
        if self._context is not None:
            self._context.mark_last()

    def _note_largest(self, largest: LargestGroup) -> None:
        if largest.share >= LARGEST_KEY_SHARE_MIN:
            if largest.key != self._largest:
                self._largest = largest.key
                self.page.show_largest_key(shown(keys.decode_all([largest.key])[0]))
            self.page.has_largest_key(largest.records, largest.share)

    def look(self) -> None:
        """Note where the task is, and show a record that was in work at the last look too: it may never end, and an
        attempt beside another one is no later attempt, of which each record is shown before.
        """
        self.note()
        self.page.looked()
        context = self._context
        if context is None:
            return
        records = context.records_read
        if records and records == self._looked_at:
            proof, record = context.proof, shown(context.record)
            if context.records_read == records:
                self.page.show_record(proof, record)
        self._looked_at = records

    def note_record(self) -> None:
        """Write down the record in work, so that it can be told even if it ends the process."""
        with self._lock:
            self.note()
            if self._context is not None:
                self.page.show_record(self._context.proof, shown(self._context.record))

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_INTERVAL_S)
            # The task may be between two blocks, where its place makes no sense: the next look tells.
            with self._lock, contextlib.suppress(Exception):
                self.look()
            act = self.between_looks
            if act is not None:
                with contextlib.suppress(OSError):  # the worker is gone, and this process soon
                    act()


class _Watched(AbstractContextManager[None]):
    """One task while it is watched; a class and no generator, since each small task pays for it."""

    __slots__ = ("_bytes_total", "_context", "_watch")

    def __init__(self, watch: Watch, context: TaskContext, bytes_total: int) -> None:
        self._watch, self._context, self._bytes_total = watch, context, bytes_total

    def __enter__(self) -> None:
        self._watch.begin(self._context, self._bytes_total)

    def __exit__(self, kind: object, *_: object) -> None:
        self._watch.end(has_failed=kind is not None)
