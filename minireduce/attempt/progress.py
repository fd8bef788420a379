"""One page of shared memory in which a task process says how far it is, so that its worker can look without asking.

The page outlives the process: after a crash it still names the place of the last record. Numbers are 64-bit words that
one side writes and the other reads, so none is ever half written; the status text may be, for one glance, which people
do not mind. The page is a memfd, made by the worker for each task process and sent to it through the zygote.

    words 0..6: beats, records, offset, input index, bytes read, bytes in all, length of the status; from byte 64: the
    status

`beats` grows with every sign of life that is not a record: a block read, a spill, a merge. Offsets are -1 where there
is none.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

PAGE_BYTES = 4096
STATUS_AT = 64
STATUS_BYTES_MAX = 512

_BEATS, _RECORDS, _OFFSET, _INPUT, _BYTES_READ, _BYTES_TOTAL, _STATUS_LENGTH = range(7)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a page said at one moment. `input_index` counts the files of the task's input."""

    beats: int
    records: int
    offset: int
    input_index: int
    bytes_read: int
    bytes_total: int
    status: str

    @property
    def fraction(self) -> float:
        """How much of the input was read, in 0..1."""
        return min(1.0, self.bytes_read / self.bytes_total) if self.bytes_total > 0 else 0.0


class ProgressPage:
    """The page as either side maps it. `clear` at the start of each task, by the task."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, PAGE_BYTES)
        self._words = memoryview(self._map).cast("q")

    def clear(self, bytes_total: int) -> None:
        """Begin a task that has this much to read."""
        for word, value in ((_RECORDS, 0), (_OFFSET, -1), (_INPUT, 0), (_BYTES_READ, 0), (_STATUS_LENGTH, 0)):
            self._words[word] = value
        self._words[_BYTES_TOTAL] = bytes_total
        self._words[_BEATS] += 1

    def beat(self) -> None:
        """A sign of life between records."""
        self._words[_BEATS] += 1

    def at_input(self, index: int) -> None:
        """The task reads its input of this index from now on."""
        self._words[_INPUT] = index

    def at_record(self, records: int, offset: int) -> None:
        """So many records were handed to user code, the last of which begins at `offset`."""
        self._words[_RECORDS] = records
        self._words[_OFFSET] = offset

    def has_read(self, bytes_read: int) -> None:
        """So many bytes of the input were read."""
        self._words[_BYTES_READ] = bytes_read

    def say(self, status: str) -> None:
        """The user's own words about the task."""
        data = status.encode(errors="replace")[:STATUS_BYTES_MAX]
        self._map[STATUS_AT : STATUS_AT + len(data)] = data
        self._words[_STATUS_LENGTH] = len(data)

    def read(self) -> Progress:
        """What the page says now."""
        length = min(max(self._words[_STATUS_LENGTH], 0), STATUS_BYTES_MAX)
        status = self._map[STATUS_AT : STATUS_AT + length].decode(errors="ignore")
        words = self._words
        return Progress(
            words[_BEATS],
            words[_RECORDS],
            words[_OFFSET],
            words[_INPUT],
            words[_BYTES_READ],
            words[_BYTES_TOTAL],
            status,
        )

    def close(self) -> None:
        """Unmap the page."""
        self._words.release()
        self._map.close()


def make_page() -> tuple[ProgressPage, int]:
    """A new page, and the descriptor to send to the task process (closed by the caller)."""
    descriptor = os.memfd_create("minireduce-progress", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, PAGE_BYTES)
    return ProgressPage(descriptor), descriptor
