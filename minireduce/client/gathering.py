"""Gather small files that several threads store at the same time, so that they share a block, its syncs and its names.

Who comes while nobody writes, writes at once, alone. Who comes meanwhile waits, and one of those who wait writes for
all of them: a thread by itself is as fast as ever, and many cost little more than one (the group commit of databases).
After files of several were written together they are expected back: the next writer opens a block first, and takes
along whoever came until then.

When what is written together is refused, because of one file or for any other reason, each is stored by its own thread:
what one asks for never fails because of another.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from minireduce.core.storage.views import FileStatus
from minireduce.errors import MinireduceError

WRITERS_MAX = 1
"""So many write at a time. Two would share the files between them, and nearly all of the cost is a block's."""

SmallFile = tuple[str, bytes]


@dataclass(eq=False)
class _Waiting:
    """A file, and what becomes of it. `is_writer`: its thread is to write for all who wait."""

    file: SmallFile
    told: threading.Event = field(default_factory=threading.Event)
    is_writer: bool = False
    is_stored: bool = False
    status: FileStatus | None = None


class Gatherer:
    """The small files of one kind: replication, block size, whether they replace others.

    `together` stores several, all or none, and asks for the second once it is ready to write; `alone` stores one and
    `show` shows some that are stored. `fits` says how many of those that wait go together.
    """

    def __init__(
        self,
        together: Callable[[Iterable[SmallFile]], None],
        alone: Callable[[SmallFile], FileStatus],
        show: Callable[[Sequence[SmallFile]], Sequence[FileStatus]],
        fits: Callable[[Sequence[SmallFile]], int],
    ) -> None:
        self._together = together
        self._alone = alone
        self._show = show
        self._fits = fits
        self._lock = threading.Lock()
        self._writers = 0
        self._waiting: list[_Waiting] = []
        self._written_last = 1  # files together

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
        return self._status(own)

    def _write(self, own: _Waiting) -> FileStatus:
        """Write our own, with those that wait once we are ready to."""
        written = [own]
        try:
            if self._expects_others():
                self._together(self._coming(written))
                for each in written:
                    each.is_stored = True
                self._leave(own)  # the next may begin while we ask what has been stored
                with contextlib.suppress(MinireduceError):  # of whose file, each will see
                    for each, status in zip(written, self._show([each.file for each in written]), strict=True):
                        each.status = status
        except MinireduceError:
            pass  # of whose file, each will see
        finally:
            for each in written[1:]:
                each.told.set()
        status = self._status(own)
        self._leave(own)
        return status

    def _expects_others(self) -> bool:
        with self._lock:
            expected = bool(self._waiting) or self._written_last > 1
            self._written_last = 1
            return expected

    def _coming(self, written: list[_Waiting]) -> Iterator[SmallFile]:
        """The file in `written`, and then those that wait when the second is asked for, which join it there."""
        yield written[0].file
        with self._lock:
            count = self._fits([written[0].file, *(each.file for each in self._waiting)]) - 1
            written += self._waiting[:count]
            self._waiting = self._waiting[count:]
            self._written_last = len(written)
        yield from [each.file for each in written[1:]]

    def _status(self, own: _Waiting) -> FileStatus:
        if own.status is not None:
            return own.status
        return self._show([own.file])[0] if own.is_stored else self._alone(own.file)

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
