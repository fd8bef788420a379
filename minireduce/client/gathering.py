"""Gather small files that several threads store at the same time, so that they share a block, its syncs and its names.

Who comes while nobody writes, writes at once, alone. Who comes meanwhile waits, and one of those who wait writes for
all of them: a thread by itself is as fast as ever, and many cost little more than one (the group commit of databases).
After files of several were written together they are expected back: the next writer opens a block first, waits for them
a moment, and takes along whoever came until then.

When what is written together is refused, because of one file or for any other reason, each is stored by its own thread:
what one asks for never fails because of another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from minireduce.core.storage.views import FileStatus
from minireduce.errors import MinireduceError

WRITERS_MAX = 1
"""So many write at a time. Two would share the files between them, and nearly all of the cost is a block's."""

EXPECTED_S_MAX = 0.002
"""So long those who were written together are waited for: a round trip to the master, which their block costs once."""

SmallFile = tuple[str, bytes]
Group = Sequence[SmallFile]
"""Files that one thread stores with one answer: all of them or none."""


@dataclass(eq=False)
class _Waiting:
    """A group, and what becomes of it. `is_writer`: its thread is to write for all who wait."""

    files: Group
    told: threading.Event = field(default_factory=threading.Event)
    is_writer: bool = False
    is_stored: bool = False
    statuses: Sequence[FileStatus] = ()


class Gatherer:
    """The small files of one kind: replication, block size, whether they replace others.

    `together` stores the files of several groups, all or none, asks for those of the second group once it is ready to
    write, and shows them if it can; `alone` stores a group and `show` shows one that is stored. `fits` says how many of
    the groups that wait go together.
    """

    def __init__(
        self,
        together: Callable[[Iterable[SmallFile]], Sequence[FileStatus]],
        alone: Callable[[Group], Sequence[FileStatus]],
        show: Callable[[Group], Sequence[FileStatus]],
        fits: Callable[[Sequence[Group]], int],
    ) -> None:
        self._together = together
        self._alone = alone
        self._show = show
        self._fits = fits
        self._lock = threading.Lock()
        self._has_come = threading.Condition(self._lock)
        self._writers = 0
        self._waiting: list[_Waiting] = []
        self._written_last = 1  # groups together
        self._expected = 1  # groups that the writer waits for, its own included

    def store(self, files: Group) -> Sequence[FileStatus]:
        """Store a group; it is durable when this returns. Raises what storing it alone raises."""
        own = _Waiting(files)
        with self._lock:
            if self._writers < WRITERS_MAX:
                self._writers += 1
                own.is_writer = True
            else:
                self._waiting.append(own)
                if len(self._waiting) + 1 >= self._expected:
                    self._has_come.notify()
        try:
            if not own.is_writer:
                own.told.wait()
            if own.is_writer:
                self._write(own)
            return self._ended(own)
        finally:
            self._leave(own)

    def _write(self, own: _Waiting) -> None:
        """Write our own, with those that wait once we are ready to, if anybody is expected; else nothing happens."""
        if not self._expects_others():
            return
        written = [own]
        try:
            statuses = self._together(self._coming(written))
            for each in written:
                each.is_stored = True
                each.statuses, statuses = statuses[: len(each.files)], statuses[len(each.files) :]
            self._leave(own)
        except MinireduceError:
            pass  # of whose file, each will see
        finally:
            for each in written[1:]:
                each.told.set()

    def _expects_others(self) -> bool:
        with self._lock:
            self._expected, self._written_last = self._written_last, 1
            return bool(self._waiting) or self._expected > 1

    def _coming(self, written: list[_Waiting]) -> Iterator[SmallFile]:
        """The group in `written`, and then those that wait when more is asked for, which join it there."""
        yield from written[0].files
        with self._lock:
            self._has_come.wait_for(lambda: len(self._waiting) + 1 >= self._expected, EXPECTED_S_MAX)
            count = self._fits([written[0].files, *(each.files for each in self._waiting)]) - 1
            written += self._waiting[:count]
            self._waiting = self._waiting[count:]
            self._written_last = len(written)
        for each in written[1:]:
            yield from each.files

    def _ended(self, own: _Waiting) -> Sequence[FileStatus]:
        if not own.is_stored:
            return self._alone(own.files)
        return own.statuses or self._show(own.files)

    def _leave(self, own: _Waiting) -> None:
        """Our thread does no more here: whoever waits longest writes next."""
        with self._lock:
            if own in self._waiting:
                self._waiting.remove(own)
            if not own.is_writer:
                return
            own.is_writer = False
            if self._waiting:
                following = self._waiting.pop(0)
                following.is_writer = True
                following.told.set()
            else:
                self._writers -= 1
