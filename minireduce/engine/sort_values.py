"""Give the values of each key in order, also where they are more than memory holds.

A group that fits is sorted where it is. Of a larger one, sorted runs go to disk, and are merged when the group is
reduced. As soon as there are as many runs as may be merged at once they become one run of the next level, so that
each value is written once a level and the number of open runs stays small. Runs keep the order in which their values
came, so equal values stay in input order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from minireduce.disk import Disk
from minireduce.engine import columns
from minireduce.engine.context import TaskContext
from minireduce.engine.frames import SectionReader, SectionWriter, Source, iterate
from minireduce.engine.groups import Group
from minireduce.engine.memory import measured
from minireduce.engine.merge import fan_in

SortKey = Callable[[Any], Any]

_RUN_SHARE = 0.2  # of the limit, for values that are not yet on disk
_MERGE_SHARE = 0.5  # of the limit, for the runs that are merged at once
_MEASURED_TOGETHER = 256  # values
_WRITTEN_TOGETHER = 512  # values


class Sorting:
    """Puts the values of one key after the other in order; equal ones stay in input order.

    `directory` must exist, and `memory_limit_bytes` is for this alone.
    """

    def __init__(
        self, sort_key: SortKey | None, *, memory_limit_bytes: int, directory: Path, disk: Disk, context: TaskContext
    ) -> None:
        self._sort_key, self._directory, self._disk, self._context = sort_key, directory, disk, context
        self._run_bytes_max = int(memory_limit_bytes * _RUN_SHARE)
        self._fan_in = fan_in(int(memory_limit_bytes * _MERGE_SHARE))

    def groups(self, unsorted: Iterator[Group]) -> Iterator[Group]:
        """The same groups, each sorted when it is asked for."""
        for text, key, values in unsorted:
            batch, is_last = self._batch(values)
            if is_last:
                yield text, key, iter(batch)
                continue
            with ExitStack() as stack:
                yield text, key, self._beyond_memory(batch, values, stack)

    def values(self, unsorted: Iterator[Any], stack: ExitStack) -> Iterator[Any]:
        """The values of one key in order, until `stack` ends."""
        batch, is_last = self._batch(unsorted)
        return iter(batch) if is_last else self._beyond_memory(batch, unsorted, stack)

    def _beyond_memory(self, batch: list[Any], values: Iterator[Any], stack: ExitStack) -> Iterator[Any]:
        runs = _Runs(self._sort_key, self._fan_in, self._directory, self._disk, self._context)
        stack.callback(runs.remove)
        runs.add(batch)
        is_last = False
        while not is_last:
            batch.clear()
            batch, is_last = self._batch(values)
            runs.add(batch)
        batch.clear()
        return runs.merged(runs.in_order(), stack)

    def _batch(self, values: Iterator[Any]) -> tuple[list[Any], bool]:
        """As many values as may be held, sorted, and whether they are all that were left."""
        batch: list[Any] = []
        held = 0
        is_last = True
        for more, more_bytes in measured(values, _MEASURED_TOGETHER):
            batch += more
            held += more_bytes
            if held > self._run_bytes_max:
                is_last = False
                break
        batch.sort(key=self._sort_key)
        return batch, is_last


class _Runs:
    """The sorted runs of one group; those of a level came before those of the level below."""

    def __init__(
        self,
        sort_key: SortKey | None,
        fan_in: int,
        directory: Path,
        disk: Disk,
        context: TaskContext,
    ) -> None:
        self._sort_key, self._fan_in = sort_key, fan_in
        self._directory, self._disk, self._context = directory, disk, context
        self._levels: list[list[Path]] = []
        self._made = 0

    def add(self, values: Iterable[Any], level: int = 0) -> None:
        """One more sorted run, later than all others."""
        if level == len(self._levels):
            self._levels.append([])
        runs = self._levels[level]
        runs.append(self._write(values))
        if len(runs) == self._fan_in:
            with ExitStack() as stack:
                self.add(self.merged(runs, stack), level + 1)
            for path in runs:
                self._disk.remove(path)
            runs.clear()

    def in_order(self) -> list[Path]:
        """All runs, the earliest first."""
        return [path for runs in reversed(self._levels) for path in runs]

    def merged(self, runs: list[Path], stack: ExitStack) -> Iterator[Any]:
        """The values of these runs, sorted; their files are closed with `stack`."""
        return heapq.merge(*[self._read(path, stack) for path in runs], key=self._sort_key)

    def remove(self) -> None:
        """Remove what is left on disk."""
        for path in self.in_order():
            self._disk.remove(path)

    def _write(self, values: Iterable[Any]) -> Path:
        path = self._directory / f"values-{self._made:06d}.data"
        self._made += 1
        with self._disk.create(path) as file:
            writer = SectionWriter(file, self._context.compression)
            for batch, _ in measured(values, _WRITTEN_TOGETHER):
                self._context.progress()
                writer.add([""] * len(batch), columns.make(batch))
            writer.end()
        return path

    def _read(self, path: Path, stack: ExitStack) -> Iterator[Any]:
        source = Source(stack.enter_context(self._disk.open(path)), str(path))
        frames = iterate(SectionReader(source, 0, self._disk.size_bytes(path)))
        return chain.from_iterable(columns.to_values(column) for _, column in frames)
