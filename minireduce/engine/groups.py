"""Walk over the groups of a merge: each key with an iterator over its values, as a reduce or combine is called.

Most groups lie whole in a window, whose values are decoded at once. A long group is decoded piece by piece while user
code asks for values.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from minireduce.engine import columns, key_columns, keys
from minireduce.engine.columns import Column
from minireduce.engine.context import TaskContext
from minireduce.engine.merge import LongGroup, Merged, Window

Group = tuple[str, Any, Iterator[Any]]  # sortable key, key, values


def groups(merging: Iterator[Merged], context: TaskContext) -> Iterator[Group]:
    """Each key in ascending order with its values; the context knows the key in work."""
    for part in merging:
        context.progress()
        if isinstance(part, Window):
            yield from window_groups(part.keys, columns.to_values(part.column), context, size_bytes=part.stored_bytes)
        else:
            yield from _long_group(part, context)


def unwalked_groups(merging: Iterator[Merged], context: TaskContext) -> Iterator[Group]:
    """Each key in ascending order with its values, for who walks over the keys himself; the key itself is left out."""
    for part in merging:
        context.progress()
        if isinstance(part, LongGroup):
            yield part.key, None, chain.from_iterable(_decoded(part.pieces, context))
            continue
        texts, values = part.keys, columns.to_values(part.column)
        starts = key_columns.group_starts(texts).tolist() if texts else []
        for start, stop in zip(starts, [*starts[1:], len(texts)], strict=False):
            yield texts[start], None, iter(values[start:stop])


def window_groups(
    texts: list[str], values: list[Any], context: TaskContext, *, size_bytes: float = 0.0
) -> Iterator[Group]:
    """The groups of sorted pairs, for which so many bytes were read."""
    if not texts:
        return
    bounds = key_columns.group_starts(texts)
    if size_bytes:
        lengths = np.diff(bounds, append=len(texts))
        longest = int(lengths.argmax())
        records = int(lengths[longest])
        context.largest.meet(texts[int(bounds[longest])], records, size_bytes * records / len(texts))
    starts = bounds.tolist()
    firsts = texts if len(starts) == len(texts) else [texts[i] for i in starts]
    walk = context.walk(keys.decode_all(firsts), size_bytes=int(size_bytes))
    for text, key, start, stop in zip(firsts, walk, starts, [*starts[1:], len(texts)], strict=True):
        yield text, key, iter(values[start:stop])


def _long_group(part: LongGroup, context: TaskContext) -> Iterator[Group]:
    for key in context.walk(keys.decode_all([part.key])):
        yield part.key, key, chain.from_iterable(_decoded(part.pieces, context))


def _decoded(pieces: Iterator[Column], context: TaskContext) -> Iterator[list[Any]]:
    for piece in pieces:
        context.progress()
        yield columns.to_values(piece)
