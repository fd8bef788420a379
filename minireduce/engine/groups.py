"""Walk over the groups of a merge, calling user code with each key and an iterator over its values.

Most groups lie whole in a window, whose values are decoded at once. A long group is decoded piece by piece while user
code asks for values. With `sort_values` its values are sorted in runs on disk, for a group may be larger than memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from typing import Any

from minireduce.disk import Disk
from minireduce.engine import columns, keys
from minireduce.engine.columns import Column
from minireduce.engine.context import TaskContext
from minireduce.engine.frames import SectionReader, SectionWriter, Source, group_starts, iterate
from minireduce.engine.memory import held_bytes
from minireduce.engine.merge import LongGroup, Merged, Window

Group = tuple[str, Any, Iterator[Any]]  # sortable key, key, values
SortKey = Callable[[Any], Any]


def groups(merging: Iterator[Merged], context: TaskContext) -> Iterator[Group]:
    """Each key in ascending order with its values; the context knows the key in work."""
    for part in merging:
        context.progress()
        if isinstance(part, Window):
            yield from window_groups(part.keys, columns.to_values(part.column), context)
        else:
            yield from _long_group(part, context)


def window_groups(texts: list[str], values: list[Any], context: TaskContext) -> Iterator[Group]:
    """The groups of sorted pairs."""
    if not texts:
        return
    starts = group_starts(texts).tolist()
    firsts = texts if len(starts) == len(texts) else [texts[i] for i in starts]
    walk = context.walk(keys.decode_all(firsts))
    for text, key, start, stop in zip(firsts, walk, starts, [*starts[1:], len(texts)], strict=True):
        yield text, key, iter(values[start:stop])


def _long_group(part: LongGroup, context: TaskContext) -> Iterator[Group]:
    for key in context.walk(keys.decode_all([part.key])):
        yield part.key, key, chain.from_iterable(_decoded(part.pieces, context))


def _decoded(pieces: Iterator[Column], context: TaskContext) -> Iterator[list[Any]]:
    for piece in pieces:
        context.progress()
        yield columns.to_values(piece)


def sorted_groups(
    ungrouped: Iterator[Group], sort_key: SortKey | None, *, held_bytes_max: int, directory: Path, disk: Disk
) -> Iterator[Group]:
    """The same groups with their values in order; equal ones stay in input order."""
    for number, (text, key, values) in enumerate(ungrouped):
        with ExitStack() as stack:
            runs: list[Iterator[Any]] = []
            for run in count():
                batch, is_last = _batch(values, held_bytes_max)
                batch.sort(key=sort_key)
                if is_last:
                    runs.append(iter(batch))
                    break
                path = directory / f"values-{number:08d}-{run:04d}.data"
                stack.callback(disk.remove, path)
                runs.append(_on_disk(batch, path, disk, stack))
            yield text, key, (runs[0] if len(runs) == 1 else heapq.merge(*runs, key=sort_key))


def _batch(values: Iterator[Any], held_bytes_max: int) -> tuple[list[Any], bool]:
    """As many values as may be held, and whether they are all."""
    batch: list[Any] = []
    measured = held = 0
    for value in values:
        batch.append(value)
        if len(batch) - measured >= 256:
            held += held_bytes(batch[measured:])
            measured = len(batch)
            if held > held_bytes_max:
                return batch, False
    return batch, True


def _on_disk(batch: list[Any], path: Path, disk: Disk, stack: ExitStack) -> Iterator[Any]:
    with disk.create(path) as file:
        writer = SectionWriter(file)
        writer.add([""] * len(batch), columns.make(batch))
        writer.end()
    batch.clear()
    source = Source(stack.enter_context(disk.open(path)), str(path))
    frames = iterate(SectionReader(source, 0, writer.bytes_written))
    return chain.from_iterable(columns.to_values(column) for _, column in frames)
