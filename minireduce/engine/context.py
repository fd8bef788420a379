"""What one attempt knows about itself while it runs: where it reads, what it counted, whether it is still wanted.

Readers hand records out in blocks, and a block is walked by a C iterator that the context holds as well: how many
records are left in it tells which record is being worked on. So the place of an error costs nothing until there is
one. An end of the process leaves no time to ask: `marks`, memory that outlives it, is told before user code sees them
which records are in work. A block whose records are expected to be done with in no time is marked as a whole, since to
mark each would cost as much as many a map; blocks of slow records, and the first of all, are marked record by record.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minireduce.engine.errors import Cancelled, InvalidValue
from minireduce.frozen import dataclass

if TYPE_CHECKING:
    from minireduce.engine.frame_compression import FrameCompression

GROUP = "minireduce"

FORGOTTEN_CHILD_STATUS = 70
"""With what a forked child ends that came back from user code; EX_SOFTWARE of sysexits.h."""

NO_RECORD = -1
"""The mark while no record is in work."""

MARKED_TOGETHER_S = 0.02
"""Records that are expected to take less than this together share a mark."""

_end_process = os._exit  # a task process wraps it later, for calls of user code


@dataclass(slots=True)
class LargestGroup:
    """The group with the most bytes among those that a reduce has met; `key` is its sortable form.

    `partition_bytes` are all that it will meet.
    """

    partition_bytes: int = 0
    key: str = ""
    records: int = 0
    size_bytes: float = 0.0

    @property
    def share(self) -> float:
        """Its share of the partition."""
        return self.size_bytes / self.partition_bytes if self.partition_bytes else 0.0

    def meet(self, key: str, records: int, size_bytes: float) -> None:
        """A group, or one that goes on, is so large so far."""
        if size_bytes > self.size_bytes:
            self.key, self.records, self.size_bytes = key, records, size_bytes


class _Unmarked(AbstractContextManager[None]):
    """No record is marked for the time of the block."""

    __slots__ = ("_mark", "_marks")

    def __init__(self, marks: memoryview) -> None:
        self._marks = marks

    def __enter__(self) -> None:
        self._mark, self._marks[0] = self._marks[0], NO_RECORD

    def __exit__(self, *_: object) -> None:
        self._marks[0] = self._mark


_NOTHING = nullcontext()


class Aside:
    """Where a task's pairs for named outputs go. This one, for runs whose output nobody wants, keeps none of them;
    `named_outputs` has the one that does.
    """

    index = 0  # the number of the task

    def give(self, name: str, key: Any, value: Any) -> None:
        """One more pair. Raises InvalidKey and InvalidValue."""

    def refusing(self, role: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Take nothing for the time of the block, in which this part of the user's code runs."""
        return _NOTHING

    def once_more(self) -> AbstractContextManager[None]:
        """User code is run within over what it has seen: what it gives was kept the first time."""
        return _NOTHING

    def tail(self, *, has_pairs: bool, is_own: bool = True) -> Iterator[bytes] | None:  # noqa: ARG002
        """What is to follow the pairs: outputs, to which nothing can be given any more, and a table; nothing where
        there is nothing at all. Without `is_own` the outputs follow elsewhere, and only the table here.
        """
        return None


class TaskContext:
    """One attempt's counters, place and signals. `cancelled` may be set from another thread."""

    def __init__(
        self,
        *,
        path: str = "",
        attempt_id: str = "",
        work_dir: Path | str | None = None,
        fill: Callable[[Path], None] | None = None,
        on_progress: Callable[[TaskContext], None] | None = None,
        idle_bytes: int | None = None,
        marks: memoryview | None = None,
        on_each: Callable[[], None] | None = None,
        largest: LargestGroup | None = None,
        compression: FrameCompression | None = None,
    ) -> None:
        self.path = path  # what user code and errors call the input, wherever the task runs
        self.file = ""  # where it lies here, if that is somewhere else
        self.attempt_id = attempt_id
        self._work_dir = work_dir
        self._fill = fill  # puts what goes along with the job into the working directory
        self._filling = threading.Lock()  # threads of user code may ask at the same time
        self._pid = os.getpid()
        self.on_progress = on_progress
        self.idle_bytes = idle_bytes  # anonymous memory of the process before it touched any input, when known
        self.compression = compression  # of what goes to disk and does not stay
        self.on_each = on_each  # called for each record before user code sees it
        self.is_of_input = True  # whether what is walked over is the input of the task
        self.aside: Aside | None = None  # only in a step that has to do with any
        self.counters: dict[tuple[str, str], int] = {}
        self.status = ""
        self.label = "record"  # what errors call the things that are walked over
        self.cancelled = False
        self.largest = largest or LargestGroup()
        self.input_weight = 1.0  # of a byte of input, where it is read several times
        self._bytes_before = 0.0
        self._block_bytes = 0
        self._together = 1  # what user code was last handed at once, where `mark` said so
        self._marks = marks  # the position of the first record in work, and how many it stands for
        self._walked_at_s: float | None = None
        self._records_before = 0
        self._records: Sequence[Any] = ()
        self._remaining: Iterator[Any] = iter(())
        self._offset_of: Callable[[int], int] | None = None

    @property
    def work_dir(self) -> Path | None:
        """A directory of this attempt's own, made when it is first asked for, with the job's files in it."""
        if self._work_dir is None:
            return None
        work_dir = Path(self._work_dir)
        with self._filling:
            if not work_dir.is_dir():
                work_dir.mkdir(mode=0o700, parents=True)
                if self._fill is not None:
                    self._fill(work_dir)
        return work_dir

    def work_in(self, directory: Path, fill: Callable[[Path], None]) -> None:
        """Have user code find this as its working directory."""
        self._work_dir, self._fill = directory, fill

    def count(self, name: str, amount: int = 1, *, group: str = GROUP) -> None:
        """Add to a counter; minireduce's own stand in the group `minireduce`."""
        place = (group, name)
        self.counters[place] = self.counters.get(place, 0) + amount

    def emit(self, name: str, key: Any, value: Any) -> None:
        """Give a pair to a named output. Raises InvalidKey and InvalidValue."""
        if self.aside is None:
            raise InvalidValue(f"there is no output {name!r:.80}", hint=f"declare it: outputs={{{name!r:.80}: Text()}}")
        if os.getpid() != self._pid:
            raise InvalidValue(
                f"a pair for the output {name!r} from a process that was forked, whose memory goes with it",
                hint="hand it to the task's own process, and give it there",
            )
        self.aside.give(name, key, value)

    def once_more(self) -> AbstractContextManager[None]:
        """User code is run within over what it has seen."""
        return _NOTHING if self.aside is None else self.aside.once_more()

    def refusing(self, role: str) -> AbstractContextManager[None]:
        """Nothing can be given aside within: this part of the user's code runs who knows how often."""
        return _NOTHING if self.aside is None else self.aside.refusing(role)

    def walk(
        self, records: Sequence[Any], offset_of: Callable[[int], int] | None = None, *, size_bytes: int = 0
    ) -> Iterator[Any]:
        """Iterate over a block of records. `size_bytes` were read for it; `offset_of(i)` is the i-th one's place."""
        self.has_read(self._block_bytes)
        self._block_bytes = size_bytes
        records_before = len(self._records)
        self._records_before += records_before
        self._records = records
        self._offset_of = offset_of
        self._remaining = iter(records)
        self._together = 1
        if self.on_each is not None:
            return self._told(self.on_each)
        if self._marks is None:
            return self._remaining
        if records and self._expected_s(len(records), records_before) < MARKED_TOGETHER_S:
            self._marks[1] = len(records)
            self._marks[0] = self._records_before
            return self._remaining
        return self._marked(self._marks)

    def _expected_s(self, records: int, records_before: int) -> float:
        """How long the records of a new block will take if they are as slow as those of the last one."""
        now_s, since_s = time.monotonic(), self._walked_at_s
        self._walked_at_s = now_s
        return inf if since_s is None or not records_before else (now_s - since_s) / records_before * records

    def _marked(self, marks: memoryview) -> Iterator[Any]:
        position = self._records_before
        marks[1] = 1
        for record in self._remaining:
            marks[0] = position
            position += 1
            yield record

    def _told(self, on_each: Callable[[], None]) -> Iterator[Any]:
        for record in self._remaining:
            self.mark()
            on_each()
            yield record

    def mark(self, records: int = 1) -> None:
        """Say by the mark which record is in work, or the first of so many that are, where the iterator of `walk` does
        not.
        """
        self._together = records
        if self._marks is not None:
            self._marks[1] = records
            self._marks[0] = self.records_read - 1

    def mark_last(self) -> None:
        """Say which record was handed out last, or of those that were handed out together the first, if one is in work:
        the process is about to end.
        """
        if self._marks is not None and self._marks[0] != NO_RECORD:
            self.mark(self._together)

    def between_records(self) -> AbstractContextManager[None]:
        """For work that is not about the record that was handed out last, so that it is not blamed on that one."""
        return _NOTHING if self._marks is None else _Unmarked(self._marks)

    def forsake_records(self) -> None:
        """Leave no more records to whoever iterates over this block; the record in work stays what it is."""
        self._remaining = iter(list(self._remaining))  # which empties the iterator that was handed out

    def end_if_forked(self) -> None:
        """End this process if it is a child that user code forked: files and answers are its parent's."""
        if os.getpid() != self._pid:
            _end_process(FORGOTTEN_CHILD_STATUS)

    def progress(self) -> None:
        """Called between blocks: report, and stop if the attempt is no longer wanted."""
        if self.cancelled:
            raise Cancelled(f"attempt {self.attempt_id or 'in this process'} was cancelled")
        self.end_if_forked()
        if self.on_progress is not None:
            self.on_progress(self)

    def has_read(self, size_bytes: float) -> None:
        """So much more of the input is done with, beside the blocks that are walked over."""
        self._bytes_before += size_bytes * self.input_weight

    @property
    def bytes_read(self) -> int:
        """How much of the input is done with: of the block in work as much as its finished records say. So an attempt
        that has its input in memory but needs long for each record is not taken to be near its end.
        """
        finished = max(self._position() - 1, 0) / max(len(self._records), 1)
        return int(self._bytes_before + self._block_bytes * finished * self.input_weight)

    @property
    def records_read(self) -> int:
        """How many records were handed to user code so far; the last one may still be in work."""
        return self._records_before + self._position()

    @property
    def record(self) -> Any:
        """The record in work; None before the first."""
        position = self._position()
        return self._records[position - 1] if position else None

    @property
    def offset(self) -> int | None:
        """Where the record in work begins in its file; None where there is no such place."""
        position = self._position()
        if self._offset_of is None or not position:
            return None
        return self._offset_of(position - 1)

    @property
    def position(self) -> int | None:
        """How many records of the task's input lie before the one in work; None where none is."""
        return self.records_read - 1 if self.is_of_input and self.records_read else None

    @property
    def proof(self) -> int:
        """Tells the record in work from another one that might have its position: its offset, or a fingerprint."""
        offset = self.offset
        if offset is not None:
            return offset
        if self.label != "key":
            return 0
        from minireduce.engine import keys  # which imports numpy: a client that only loads a job does without

        return keys.fingerprint(self.record)

    def _position(self) -> int:
        remaining: int = self._remaining.__length_hint__()  # type: ignore[attr-defined]
        return len(self._records) - remaining
