"""One page of shared memory in which a task process says how far it is, so that its worker can look without asking.

The page outlives the process: after a crash it still names the place of the last record. Numbers are 64-bit words that
one side writes and the other reads, so none is ever half written; the status text may be, for one glance, which people
do not mind. The page is a memfd, made by the worker for each task process and sent to it through the zygote.

    words 0..15: place in the batch, beats, records, offset, input index, bytes read, bytes in all, length of the
    status, mark, records under the mark, proof, length of the record, length of the largest key, its records, the
    millionths of the partition that it has, looks; from byte 128: the status; from byte 1024: the record; from byte
    3072: the largest key

`beats` grows with every sign of life that is not a record: a block read, a spill, a merge. The mark is the position of
the record in work, or of the first of several that may be, written before user code sees them; all else follows ten
times a second, proof and text of a record once it has been in work for that long, and `looks` grows each time. Where
an attempt failed before, all of it is written for each record. Offsets and marks are -1 where there is none; the last
mark of a process that could not tell its worker how its task ended is `CUT_OFF`.
"""

from __future__ import annotations

import mmap
import os

from minireduce.core.task_data import LargestKey
from minireduce.frozen import dataclass

PAGE_BYTES = 4096
STATUS_AT = 128
STATUS_BYTES_MAX = 512
RECORD_AT = 1024
RECORD_BYTES_MAX = 2048
KEY_AT = 3072
KEY_BYTES_MAX = 1024
MILLION = 1_000_000
CUT_OFF = -2

_WORDS = 16
_PLACE, _BEATS, _RECORDS, _OFFSET, _INPUT, _BYTES_READ, _BYTES_TOTAL, _STATUS_LENGTH, *_REST = range(_WORDS)
_MARK, _MARKED, _PROOF, _RECORD_LENGTH, _KEY_LENGTH, _KEY_RECORDS, _KEY_MILLIONTHS, _LOOKS = _REST
_CLEARED = memoryview(bytes(8 * (_WORDS - _RECORDS))).cast("q")


@dataclass(frozen=True, slots=True)
class Progress:
    """What a page said at one moment. `input_index` counts the files of the task's input.

    `mark` is the position of the record in work, which is the first of `marked` that may be. `offset`, `proof` and
    `record` are those of the last of `records`, and -1, 0 and "" where that one is not among the marked.
    """

    beats: int
    records: int
    offset: int
    input_index: int
    bytes_read: int
    bytes_total: int
    status: str
    mark: int = -1
    marked: int = 1
    looks: int = 0
    proof: int = 0
    record: str = ""
    largest_key: LargestKey | None = None

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
        self._words[_RECORDS:_WORDS] = _CLEARED
        self._words[_OFFSET] = self._words[_MARK] = -1
        self._words[_BYTES_TOTAL] = bytes_total
        self._words[_BEATS] += 1

    def at_place(self, place: int) -> None:
        """The task at this place of its batch begins."""
        self._words[_PLACE] = place

    @property
    def place(self) -> int:
        """The place in its batch of the task in work, or of the last one that was."""
        place: int = self._words[_PLACE]
        return place

    def beat(self) -> None:
        """A sign of life between records."""
        self._words[_BEATS] += 1

    def at_input(self, index: int) -> None:
        """The task reads its input of this index from now on."""
        self._words[_INPUT] = index

    @property
    def marks(self) -> memoryview:
        """The mark, for the task to write: the position of a record, and how many from there on it stands for."""
        return self._words[_MARK : _MARKED + 1]

    def cut_off(self) -> None:
        """The process cannot speak to its worker any more, and is about to end for that and for no record."""
        self._words[_MARK] = CUT_OFF

    def looked(self) -> None:
        """All but the mark is as it was a moment ago."""
        self._words[_LOOKS] += 1

    def at_record(self, records: int, offset: int) -> None:
        """So many records were handed to user code, the last of which begins at `offset`."""
        if self._words[_RECORDS] != records:
            self._words[_PROOF] = self._words[_RECORD_LENGTH] = 0
        self._words[_RECORDS] = records
        self._words[_OFFSET] = offset

    def show_record(self, proof: int, record: str) -> None:
        """What that record is."""
        data = record.encode(errors="replace")[:RECORD_BYTES_MAX]
        self._map[RECORD_AT : RECORD_AT + len(data)] = data
        self._words[_PROOF] = proof
        self._words[_RECORD_LENGTH] = len(data)

    def show_largest_key(self, key: str) -> None:
        """The key with the most bytes so far."""
        data = key.encode(errors="replace")[:KEY_BYTES_MAX]
        self._map[KEY_AT : KEY_AT + len(data)] = data
        self._words[_KEY_LENGTH] = len(data)

    def has_largest_key(self, records: int, share: float) -> None:
        """How much of the partition is that key's."""
        self._words[_KEY_RECORDS] = records
        self._words[_KEY_MILLIONTHS] = int(share * MILLION)

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
        words = self._words
        mark, marked = words[_MARK], max(1, words[_MARKED])
        is_noted = mark < words[_RECORDS] <= mark + marked
        return Progress(
            words[_BEATS],
            max(words[_RECORDS], mark + 1),
            words[_OFFSET] if is_noted or mark < 0 else -1,
            words[_INPUT],
            words[_BYTES_READ],
            words[_BYTES_TOTAL],
            self._text(STATUS_AT, _STATUS_LENGTH, STATUS_BYTES_MAX),
            mark,
            marked,
            words[_LOOKS],
            words[_PROOF] if is_noted else 0,
            self._text(RECORD_AT, _RECORD_LENGTH, RECORD_BYTES_MAX) if is_noted else "",
            self._largest_key(),
        )

    def _largest_key(self) -> LargestKey | None:
        if not self._words[_KEY_LENGTH]:
            return None
        key = self._text(KEY_AT, _KEY_LENGTH, KEY_BYTES_MAX)
        return LargestKey(key, self._words[_KEY_RECORDS], self._words[_KEY_MILLIONTHS] / MILLION)

    def _text(self, at: int, length_word: int, bytes_max: int) -> str:
        length = min(max(self._words[length_word], 0), bytes_max)
        return self._map[at : at + length].decode(errors="ignore")

    def close(self) -> None:
        """Unmap the page."""
        self._words.release()
        self._map.close()


def make_page() -> tuple[ProgressPage, int]:
    """A new page, and the descriptor to send to the task process (closed by the caller)."""
    descriptor = os.memfd_create("minireduce-progress", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, PAGE_BYTES)
    return ProgressPage(descriptor), descriptor
