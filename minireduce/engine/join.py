"""Bring the values of each key together that several inputs gave for it, those of each input apart.

A map task reads one input, and runs are known by their map task. So the runs of each input are merged by themselves,
and the merges walk side by side, key by key, as in any sort-merge join: no value carries a mark, and values come as
they were yielded, in the order of their input.

Memory: each merge gets its share of the limit. Of a key, the values of the last input stream by; those of the others
may be looped over again, and lie on disk where they are more than their share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

from minireduce.disk import Disk
from minireduce.engine import columns, keys
from minireduce.engine.context import TaskContext
from minireduce.engine.frames import SectionReader, SectionWriter, Source, iterate
from minireduce.engine.groups import Group
from minireduce.engine.memory import measured
from minireduce.engine.sort_values import Sorting

_KEPT_SHARE = 0.2  # of the limit, for the values of one key that are not on disk yet
_TAKEN_TOGETHER = 256  # values


class Values(Collection[Any]):
    """The values of a key in one input, which may be looped over again."""

    __slots__ = ("_values",)

    def __init__(self, values: Sequence[Any] = ()) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, islice(self, 5)))
        return f"<{len(self)} values: {shown}{', …' if len(self) > 5 else ''}>"


class SpilledValues(Values):
    """More of them than memory holds, read from a file each time."""

    __slots__ = ("_count", "_disk", "_path")

    def __init__(self, path: Path, count: int, disk: Disk) -> None:
        self._path, self._count, self._disk = path, count, disk

    def __iter__(self) -> Iterator[Any]:
        with self._disk.open(self._path) as file:
            reader = SectionReader(Source(file, str(self._path)), 0, self._disk.size_bytes(self._path))
            for _, column in iterate(reader):
                yield from columns.to_values(column)

    def __len__(self) -> int:
        return self._count


class Joined:
    """The values of one key: `each` is what a join is called with after the key."""

    __slots__ = ("each",)

    def __init__(self, each: tuple[Any, ...]) -> None:
        self.each = each

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.each)


JoinedGroup = tuple[str, Any, Joined]  # sortable key, key, values


def calling_with_each(function: Callable[..., Iterable[Any]]) -> Callable[[Any, Any], Iterable[Any]]:
    """`function(key, users, orders)`, to be called as a reduce is."""
    return lambda key, joined: function(key, *joined.each)


def joined(sides: Sequence[Iterator[Group]], context: TaskContext) -> Iterator[JoinedGroup]:
    """Each key of any side in ascending order, with the values of each side as they come; the context knows the key in
    work.
    """
    heads: list[Group | None] = [next(side, None) for side in sides]
    while texts := [head[0] for head in heads if head is not None]:
        least = min(texts)
        values = [iter(()) if head is None or head[0] != least else head[2] for head in heads]
        for key in context.walk(keys.decode_all([least])):
            yield least, key, Joined(tuple(values))
        for index, head in enumerate(heads):
            if head is not None and head[0] == least:
                heads[index] = next(sides[index], None)


def readied(unready: Iterator[JoinedGroup], sorting: Sequence[Sorting], keep: Keep) -> Iterator[JoinedGroup]:
    """The same, all values but the last side's to be looped over again, and in order if there is what sorts each side.

    All that is done while the key is in work, and for no key that is passed over: what comparing its values raises is
    that key's fault.
    """
    for text, key, group in unready:
        with ExitStack() as stack:
            values = group.each
            if sorting:
                values = tuple(map(Sorting.values, sorting, values, repeat(stack)))
            group.each = (*[keep(side, stack) for side in values[:-1]], values[-1])
            yield text, key, group


class Keep:
    """Keeps the values of a key that may be looped over again: `limit_bytes` of them in memory, else on disk."""

    def __init__(self, directory: Path, memory_limit_bytes: int, sides: int, disk: Disk, context: TaskContext) -> None:
        self._directory, self._disk, self._context = directory, disk, context
        self._limit_bytes = int(memory_limit_bytes * _KEPT_SHARE) // sides
        self._made = 0

    def __call__(self, values: Iterator[Any], stack: ExitStack) -> Values:
        """The values, until `stack` ends."""
        held: list[Any] = []
        bytes_held = 0
        for more, more_bytes in measured(values, _TAKEN_TOGETHER):
            held += more
            bytes_held += more_bytes
            if bytes_held > self._limit_bytes:
                return self._spilled(held, values, stack)
        return Values(held)

    def _spilled(self, held: list[Any], values: Iterator[Any], stack: ExitStack) -> Values:
        self._disk.make_directories(self._directory)
        path = self._directory / f"kept-{self._made:06d}.data"
        self._made += 1
        stack.callback(self._disk.remove, path)
        count = 0
        with self._disk.create(path) as file:
            writer = SectionWriter(file, self._context.compression)
            for together, _ in measured(chain(held, values), _TAKEN_TOGETHER):
                writer.add([""] * len(together), columns.make(together))
                count += len(together)
                self._context.progress()
            writer.end()
        self._context.count("SPILLED_RECORDS", count)
        return SpilledValues(path, count, self._disk)
