"""Bring sorted runs together, in (split, spill) order and never in order of arrival.

A merge by windows: of all runs that go on, the one whose frame ends with the least key bounds what is surely
complete. Everything below that bound is put together and sorted at once, which costs C time only (timsort finds the
runs and gallops), where a heap would cost Python time for each pair. The bound itself may go on in later frames of
several runs, so its values are streamed, run after run; that is also how a key with more values than memory is
merged.

Memory: one frame of each run, and a sorted copy; where runs are few and come as arrays, several frames of each, since a
window costs calls however little stands in it. `merge_in_passes` first brings neighbouring runs together on disk where
there are too many of them: neighbours, so that order stays, and no more of them than it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import field
from pathlib import Path
from typing import Any

from minireduce.disk import Disk
from minireduce.engine import columns, key_columns
from minireduce.engine.columns import Column
from minireduce.engine.context import TaskContext
from minireduce.engine.frames import FRAME_BYTES, SectionReader, SectionWriter, Source
from minireduce.engine.index import source_name
from minireduce.engine.key_columns import Keys
from minireduce.engine.kinds import Kinds
from minireduce.engine.memory import COLUMNAR_LIMIT_BYTES_MIN
from minireduce.frozen import dataclass

RUN_MEMORY_BYTES = 12 * FRAME_BYTES  # a frame as Python objects, and its share of the sorted copy
COLUMNAR_RUN_MEMORY_BYTES = 4 * FRAME_BYTES  # the same as arrays
FAN_IN_MIN = 4
FAN_IN_MAX = 256  # open files
LARGE_RUN_BYTES_MIN = 1 << 20  # from which on it matters how large a run's frames are
FRAMES_AT_ONCE_MAX = 4  # of a run: more stay no longer in the cache
COLUMNAR_BYTES_MIN = 1 << 20
"""Of runs that are worth bringing together as arrays; for fewer, loading what does it would take longer."""


@dataclass(frozen=True, slots=True)
class RunSlice:
    """A run: one partition's bytes within a map output or spill, or what runs were merged into. `file` is a path, or a
    descriptor that stays open here.
    """

    file: Path | int
    offset: int
    length: int
    order: int  # index of the map task, or of the spill; values of a key are reduced in this order


@dataclass(slots=True)
class Window:
    """Pairs in order; the values of each of these keys are complete. They take `size_bytes`, and `stored_bytes` of the
    runs hold them.
    """

    keys: Keys
    column: Column
    size_bytes: float = 0.0
    stored_bytes: float = 0.0


@dataclass(slots=True)
class LongGroup:
    """One key with all its values, piece by piece; the merge goes on when `pieces` is at its end. The pieces so far
    take `size_bytes`, and `stored_bytes` of the runs hold them.
    """

    key: str
    pieces: Iterator[Column] = field(default_factory=lambda: iter(()))
    size_bytes: float = 0.0
    stored_bytes: float = 0.0


Merged = Window | LongGroup


class _Head:
    """Where the merge stands in one run."""

    __slots__ = ("column", "keys", "pair_bytes", "pair_stored_bytes", "position", "reader")

    def __init__(self, reader: SectionReader) -> None:
        self.reader = reader
        self.keys: Keys = []
        self.column: Column = []
        self.position = 0
        self.pair_bytes = self.pair_stored_bytes = 0.0

    def load(self) -> bool:
        """Take the next frames in, behind what is left of those before; False at the end of the run.

        Fewer than could be held at once where they are larger than frames mostly are: each holds a pair at least.
        """
        frames: list[tuple[Keys, Column]] = []
        left = len(self.keys) - self.position
        size_bytes, stored_bytes = left * self.pair_bytes, left * self.pair_stored_bytes
        room_bytes = self.reader.frames_at_once * FRAME_BYTES
        while room_bytes > 0 and (frame := self.reader.read()) is not None:
            frames.append(frame)
            size_bytes += self.reader.frame_bytes
            stored_bytes += self.reader.stored_bytes
            room_bytes -= max(FRAME_BYTES, int(self.reader.frame_bytes))
        if not frames:
            return False
        if left:
            frames.insert(0, (self.keys[self.position :], self.column[self.position :]))
        self.keys = key_columns.concatenate([keys for keys, _ in frames])
        self.column = columns.concatenate([column for _, column in frames])
        self.position = 0
        self.pair_bytes = size_bytes / max(len(self.keys), 1)
        self.pair_stored_bytes = stored_bytes / max(len(self.keys), 1)
        return True

    def refill(self) -> None:
        """Load once half of what was loaded is done with, where keys come as arrays.

        Else the run that ends next would bound a window for each frame of any run, however little stood below it.
        """
        if self.reader.is_columnar and self.position * 2 > len(self.keys) and self.reader.has_more:
            self.load()

    def take(self, end: int) -> Window:
        """The pairs up to `end`, which are now done with."""
        start, self.position = self.position, end
        count = end - start
        return Window(
            self.keys[start:end], self.column[start:end], count * self.pair_bytes, count * self.pair_stored_bytes
        )


def merged(readers: Sequence[SectionReader]) -> Iterator[Merged]:
    """All pairs of these runs by ascending key; those of one key in the order of runs, within a run as written."""
    heads = [head for head in map(_Head, readers) if head.load()]
    while heads:
        for head in heads:
            head.refill()
        bound = min((key_columns.at(head.keys, -1) for head in heads if head.reader.has_more), default=None)
        if bound is None:
            yield _window([head.take(len(head.keys)) for head in heads])
            for head in heads:
                head.load()  # checks that the run ends as it should
            return
        ready = [head.take(key_columns.first_at_least(head.keys, bound, head.position)) for head in heads]
        if any(len(part.keys) for part in ready):
            yield _window(ready)
        group = LongGroup(bound if isinstance(bound, str) else bound.decode("latin-1"))
        group.pieces = pieces = _pieces(heads, bound, group)
        yield group
        for _ in pieces:
            pass  # whoever took the group may have left values


def _pieces(heads: list[_Head], key: Any, group: LongGroup) -> Iterator[Column]:
    """The values of the group; removes the runs that end with it."""
    for head in list(heads):
        while True:
            taken = head.take(key_columns.first_above(head.keys, key, head.position))
            if len(taken.keys):
                group.size_bytes += taken.size_bytes
                group.stored_bytes += taken.stored_bytes
                yield taken.column
            if head.position < len(head.keys):
                break
            if not head.load():
                heads.remove(head)
                break


def _window(taken: list[Window]) -> Window:
    taken = [part for part in taken if len(part.keys)]
    if len(taken) == 1:
        return taken[0]
    keys = key_columns.concatenate([part.keys for part in taken])
    column = columns.concatenate([part.column for part in taken])
    order = key_columns.order_of_runs(keys)
    return Window(
        key_columns.take(keys, order),
        columns.take(column, order),
        sum(part.size_bytes for part in taken),
        sum(part.stored_bytes for part in taken),
    )


Fold = Callable[[Iterator[Merged]], Iterator[tuple[Keys, Column]]]
"""What of a merge is written: its pairs as they are, combined, or one state for each key."""


def flat(merging: Iterator[Merged]) -> Iterator[tuple[Keys, Column]]:
    """The pairs of a merge, as they come."""
    for part in merging:
        if isinstance(part, Window):
            yield part.keys, part.column
        else:
            for piece in part.pieces:
                yield [part.key] * len(piece), piece


def fan_in(memory_limit_bytes: int, *, is_columnar: bool = False, frame_bytes: int = FRAME_BYTES) -> int:
    """How many runs may be merged at once, where frames are so large."""
    each = (COLUMNAR_RUN_MEMORY_BYTES if is_columnar else RUN_MEMORY_BYTES) * frame_bytes // FRAME_BYTES
    return min(FAN_IN_MAX, max(FAN_IN_MIN, memory_limit_bytes // 2 // each))


def large_frame_bytes(runs: Sequence[RunSlice], disk: Disk) -> int:
    """What a frame takes where it holds one large value rather than many small ones, by the first frame of each large
    run; else what frames take. Raises Corruption.
    """
    largest = 0
    if sum(1 for run in runs if run.length) > FAN_IN_MIN:
        for run in runs:
            if run.length > LARGE_RUN_BYTES_MIN:
                with ExitStack() as stack:
                    reader = SectionReader(_source(run, disk, stack), run.offset, run.length)
                    reader.skip()
                largest = max(largest, reader.frame_bytes)
    return largest if largest > 2 * FRAME_BYTES else FRAME_BYTES


def is_worth_columns(runs: Sequence[RunSlice], memory_limit_bytes: int) -> bool:
    """Whether these are so many bytes that arrays pay, and there is room for what works on them."""
    is_possible = memory_limit_bytes >= COLUMNAR_LIMIT_BYTES_MIN
    return is_possible and sum(run.length for run in runs) >= COLUMNAR_BYTES_MIN


def open_runs(
    runs: Sequence[RunSlice],
    kinds: Kinds,
    disk: Disk,
    stack: ExitStack,
    *,
    memory_limit_bytes: int,
    is_columnar: bool = False,
) -> list[SectionReader]:
    """Readers of the runs that hold anything. Raises InvalidKey if their keys are of different kinds."""
    readers = []
    spare = fan_in(memory_limit_bytes, is_columnar=is_columnar) // max(1, sum(1 for run in runs if run.length))
    # Half of the room to spare is for windows: what they hold is put together, sorted and written beside the frames.
    frames_at_once = max(1, min(FRAMES_AT_ONCE_MAX, spare // 2)) if is_columnar else 1
    for run in runs:
        if run.length:
            source = _source(run, disk, stack)
            reader = SectionReader(
                source, run.offset, run.length, is_columnar=is_columnar, frames_at_once=frames_at_once
            )
            readers.append(reader)
            if reader.kinds is not None:
                kinds.meet(reader.kinds)
    return readers


def _source(run: RunSlice, disk: Disk, stack: ExitStack) -> Source:
    file = run.file if isinstance(run.file, int) else stack.enter_context(disk.open(run.file))
    return Source(file, source_name(run.file, run.offset))


@dataclass(frozen=True, slots=True)
class MergedRun:
    """What a group of the first pass came to, brought together ahead of time, and how many pairs were written."""

    path: Path
    length: int
    pairs: int


Ahead = Mapping[tuple[int, ...], MergedRun]
"""What is here of the first pass: each by the orders of the runs in it, of which none is empty."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How runs come to be few enough: `at_once` are brought together at a time, until `runs_max` are left."""

    at_once: int
    runs_max: int

    @classmethod
    def within(
        cls, memory_limit_bytes: int, *, is_columnar: bool, is_last_columnar: bool, frame_bytes: int = FRAME_BYTES
    ) -> Passes:
        """What memory allows on the way, and in the merge that follows."""
        return cls(
            fan_in(memory_limit_bytes, is_columnar=is_columnar, frame_bytes=frame_bytes),
            fan_in(memory_limit_bytes, is_columnar=is_last_columnar, frame_bytes=frame_bytes),
        )

    def groups(self, runs: int) -> list[int]:
        """How many neighbours the next pass brings together each time, the first ones first: no more than it takes."""
        groups = []
        excess = runs - self.runs_max
        while excess > 0 and runs > 1:
            group = min(self.at_once, excess + 1, runs)
            groups.append(group)
            excess, runs = excess - group + 1, runs - group
        return groups

    def is_certain(self, groups_before: int, runs: int) -> bool:
        """Whether so many neighbours behind other groups are one of the first pass, of at least so many runs."""
        return runs >= self.runs_max + (groups_before + 1) * (self.at_once - 1)

    def share_read_before(self, runs: Sequence[RunSlice]) -> float:
        """The bytes that passes read, as a share of what the last merge reads."""
        lengths = [run.length for run in runs if run.length]
        total, read = sum(lengths), 0
        while groups := self.groups(len(lengths)):
            together, start = [], 0
            for group in groups:
                together.append(sum(lengths[start : start + group]))
                start += group
            read += sum(together)
            lengths = [*together, *lengths[start:]]
        return read / max(1, total)


def merge_in_passes(
    runs: Sequence[RunSlice],
    fold: Fold,
    *,
    directory: Path,
    memory_limit_bytes: int,
    kinds: Kinds,
    disk: Disk,
    passes: Passes | None = None,
    context: TaskContext,
    has_read: Callable[[int], None] = lambda _: None,
    is_columnar: bool = False,
    ahead: Ahead | None = None,
) -> tuple[list[RunSlice], int]:
    """Few enough runs to merge at once, in the same order, and how many pairs were written on the way.

    `has_read` is told of the bytes that were brought together. A group of the first pass that stands in `ahead` is
    taken from there.
    """
    runs = [run for run in sorted(runs, key=lambda run: run.order) if run.length]
    if passes is None:
        passes = Passes.within(
            memory_limit_bytes,
            is_columnar=is_columnar,
            is_last_columnar=is_columnar,
            frame_bytes=large_frame_bytes(runs, disk),
        )
    spilled, number = 0, 0
    made: set[Path] = set()
    while groups := passes.groups(len(runs)):
        fewer = []
        disk.make_directories(directory)
        start = 0
        for group in groups:
            together = runs[start : start + group]
            whole = ahead.get(tuple(run.order for run in together)) if ahead and not number else None
            if whole is None:
                whole = merge_into(
                    directory / f"merge-{number:02d}-{start:06d}.data",
                    together,
                    fold,
                    memory_limit_bytes=memory_limit_bytes,
                    kinds=kinds,
                    disk=disk,
                    is_columnar=is_columnar,
                    context=context,
                )
            for run in together:
                if isinstance(run.file, Path) and run.file in made:
                    disk.remove(run.file)
            made.add(whole.path)
            fewer.append(RunSlice(whole.path, 0, whole.length, together[0].order))
            spilled += whole.pairs
            has_read(sum(run.length for run in together))
            start += group
        runs = [*fewer, *runs[start:]]
        number += 1
    return runs, spilled


def merge_into(
    path: Path,
    runs: Sequence[RunSlice],
    fold: Fold,
    *,
    memory_limit_bytes: int,
    kinds: Kinds,
    disk: Disk,
    is_columnar: bool,
    context: TaskContext,
) -> MergedRun:
    """Bring neighbouring runs together in a new file, compressed as the attempt's `context` says. What goes through is
    a sign of life: the passes of one reduce may take hours. Raises as `context.progress` and `fold`.
    """
    with ExitStack() as stack:
        readers = open_runs(runs, kinds, disk, stack, memory_limit_bytes=memory_limit_bytes, is_columnar=is_columnar)
        writer = SectionWriter(stack.enter_context(disk.create(path)), context.compression)
        writer.write_kinds(kinds.encoded())
        for keys, column in fold(merged(readers)):
            context.progress()
            writer.add(keys, column)
        writer.end()
    return MergedRun(path, writer.bytes_written, writer.pairs_written)
