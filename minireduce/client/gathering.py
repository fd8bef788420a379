"""Gather small files that several threads store at the same time, so that they share a block, its syncs and its names.

Who comes while few write, writes at once, alone. Who comes meanwhile waits, and one of those who wait writes for all of
them: a thread by itself is as fast as ever, and many cost little more than one (the group commit of databases). When
what is written together is refused, because of one file or for any other reason, each is stored by its own thread: what
one asks for never fails because of another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from minireduce.core.storage.views import FileStatus
from minireduce.errors import MinireduceError

WRITERS_MAX = 2
"""So many write at a time: while the files of one are synced those of the next are sent."""

SmallFile = tuple[str, bytes]


@dataclass(eq=False)
class _Waiting:
    """A file, and what becomes of it. `is_writer`: its thread is to write for all who wait."""

    file: SmallFile
    told: threading.Event = field(default_factory=threading.Event)
    is_writer: bool = False
    is_stored: bool = False


class Gatherer:
    """The small files of one kind: replication, block size, whether they replace others.

    `together` stores several, all or none; `alone` stores one and `show` shows one that is stored. `fits` says how many
    of those that wait go together.
    """

    def __init__(
        self,
        together: Callable[[Sequence[SmallFile]], None],
        alone: Callable[[SmallFile], FileStatus],
        show: Callable[[SmallFile], FileStatus],
        fits: Callable[[Sequence[SmallFile]], int],
    ) -> None:
        self._together = together
        self._alone = alone
        self._show = show
        self._fits = fits
        self._lock = threading.Lock()
        self._writers = 0
        self._waiting: list[_Waiting] = []

    def store(self, file: SmallFile) -> FileStatus:
        """Store a file; it is durable when this returns. Raises what storing it alone raises."""
        own = _Waiting(file)
        with self._lock:
            if self._writers < WRITERS_MAX:
                self._writers += 1
                own.is_writer = True
            else:
                self._waiting.append(own)
        try:
            if not own.is_writer:
                own.told.wait()
            if own.is_writer:
                return self._write(own)
        except BaseException:
            self._leave(own)
            raise
        return self._show(file) if own.is_stored else self._alone(file)

    def _write(self, own: _Waiting) -> FileStatus:
        """Write what waits now, with our own."""
        with self._lock:
            count = self._fits([own.file, *(each.file for each in self._waiting)]) - 1
            others, self._waiting = self._waiting[:count], self._waiting[count:]
        try:
            if others:
                self._together([own.file, *(each.file for each in others)])
                own.is_stored = True
        except MinireduceError:
            pass  # of whose file, each will see
        finally:
            for each in others:
                each.is_stored = own.is_stored
                each.told.set()
        status = self._show(own.file) if own.is_stored else self._alone(own.file)
        self._leave(own)
        return status

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
