"""Gather whole groups into batches for a `reduce_batch`: of one merge, or of several that walk side by side.

Each side holds some of the groups that its merge has given, and proposes the key of the last one that may go. What is
cut off all sides at the least key that was proposed is a batch: of each key the pairs of every side, and no key in two
batches. One input is the case of one side.

A group comes whole, as in a kernel over groups elsewhere, so it must fit: one that takes more than `GROUP_SHARE` of the
limit is not held, and comes as a batch of its own which cannot be read. A function of a key and its values streams.

Memory: of each side what is worth a batch, a part of the merge, and a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from minireduce.engine import columns, key_columns, keys, packed_columns
from minireduce.engine.columns import Column, Index
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import InvalidValue
from minireduce.engine.key_columns import Keys
from minireduce.engine.merge import LongGroup, Merged
from minireduce.engine.value_kinds import ValueKind
from minireduce.frozen import dataclass

BATCH_BYTES_MAX = 8 << 20  # of the runs: what a batch takes of each side
BATCH_SHARE = 1 / 64  # of the limit: the same where that is less, since user code makes arrays of its own
GROUP_SHARE = 1 / 8  # of the limit: the largest group

SortValues = Callable[[Any], Any] | bool
"""The option `sort_values`: a key function, True for the order of the values, False for that in which they came."""


@dataclass(slots=True)
class Piece:
    """Whole groups of one side, which take `size_bytes`, and `stored_bytes` of the runs. `too_large` says of the only
    one why it is left out, and `left_out` how many pairs it has.
    """

    keys: Keys
    column: Column
    size_bytes: float = 0.0
    stored_bytes: float = 0.0
    too_large: InvalidValue | None = None
    left_out: int = 0


class GroupBatch:
    """Groups that a `reduce_batch` may be called with at once: their pairs, of each side a piece."""

    def __init__(self, pieces: Sequence[Piece], sort_values: SortValues, types: Types) -> None:
        self._pieces, self._sort_values, self._types = pieces, sort_values, types
        self._starts = _starts_of_each([piece.keys for piece in pieces])
        self.count = len(self._starts[0]) - 1
        self.offset_of = None
        self.size_bytes = 0  # the merge has told of them

    def arguments(self, start: int, stop: int) -> tuple[Any, ...]:
        """A record batch for each side."""
        for piece in self._pieces:
            if piece.too_large is not None:
                raise piece.too_large
        return self._types.batches([self._pairs_of(index, start, stop) for index in range(len(self._pieces))])

    def count_skipped(self, context: TaskContext, index: int) -> None:
        """One of the groups is left out."""
        records = sum(int(starts[index + 1] - starts[index]) for starts in self._starts)
        records += sum(piece.left_out - 1 for piece in self._pieces if piece.left_out)
        context.count("REDUCE_INPUT_GROUPS", -1)
        context.count("REDUCE_INPUT_RECORDS", -records)
        context.count("REDUCE_SKIPPED_GROUPS")
        context.count("REDUCE_SKIPPED_RECORDS", records)

    def tell_largest(self, context: TaskContext) -> None:
        """Let the context know the largest group of each side."""
        for piece, starts in zip(self._pieces, self._starts, strict=True):
            lengths = np.diff(starts)
            index = int(lengths.argmax())
            records = int(lengths[index])
            if records and piece.too_large is None:
                share_bytes = piece.stored_bytes * records / len(piece.keys)
                context.largest.meet(_text_at(piece.keys, int(starts[index])), records, share_bytes)

    def record_of(self, index: int) -> Any:
        """The key of one of the groups."""
        for piece, starts in zip(self._pieces, self._starts, strict=True):
            if starts[index] < starts[index + 1]:
                return keys.decode_all([_text_at(piece.keys, int(starts[index]))])[0]
        raise IndexError(index)

    def _pairs_of(self, side: int, start: int, stop: int) -> tuple[Keys, Column]:
        piece, starts = self._pieces[side], self._starts[side]
        first, last = int(starts[start]), int(starts[stop])
        column = piece.column[first:last]
        if self._sort_values is not False and last > first:
            column = _sorted(column, starts[start : stop + 1] - first, self._sort_values)
        return piece.keys[first:last], column


class Types:
    """Makes record batches of pairs. A side without pairs has the types of keys of the others, and the type that its
    values had before, to which those that follow are held.
    """

    def __init__(self, sides: int) -> None:
        self._of_values = [ValueKind() for _ in range(sides)]

    def batches(self, pairs: Sequence[tuple[Keys, Column]]) -> tuple[Any, ...]:
        """The record batch of each side. Raises InvalidValue for what makes no arrays, and for values of another kind
        than others of their side.
        """
        import pyarrow as pa

        made = [packed_columns.arrays(*side) if len(side[0]) else None for side in pairs]
        of_keys = next(arrays[0].type for arrays in made if arrays is not None)
        found = []
        for arrays, (encoded, _), of_values in zip(made, pairs, self._of_values, strict=True):
            if arrays is not None:
                of_values.admit(arrays[1], partial(packed_columns.plain_key, encoded))
            key, value = arrays or (pa.nulls(0, of_keys), pa.nulls(0, of_values.type or pa.null()))
            found.append(pa.RecordBatch.from_arrays([key, value], names=["key", "value"]))
        return tuple(found)


def group_batches(
    merges: Sequence[Iterator[Merged]], *, sort_values: SortValues, memory_limit_bytes: int, context: TaskContext
) -> Iterator[GroupBatch]:
    """All groups of these merges by ascending key."""
    types = Types(len(merges))
    sides = [_Side(merging, memory_limit_bytes // len(merges)) for merging in merges]
    while True:
        context.progress()
        for side in sides:
            side.fill()
        holding = [side for side in sides if len(side.held.keys)]
        if not holding:
            return
        bound = min((side.proposed for side in holding if side.proposed is not None), default=None)
        is_alone = all(side.first >= bound for side in holding) if bound is not None else False
        is_readable = all(side.held.too_large is None or side.first != bound for side in holding)
        # a group that is too large comes alone: what is less than it goes first
        cut = [side.cut(bound, is_included=is_readable or is_alone) for side in sides]
        batch = GroupBatch(cut, sort_values, types)
        context.count("REDUCE_INPUT_GROUPS", batch.count)
        batch.tell_largest(context)
        yield batch


class _Side:
    """The groups of one merge that have not gone into a batch."""

    def __init__(self, merging: Iterator[Merged], limit_bytes: int) -> None:
        self._merging = merging
        self._batch_bytes = max(1, int(min(BATCH_BYTES_MAX, limit_bytes * BATCH_SHARE)))
        self._group_bytes_max = int(limit_bytes * GROUP_SHARE)
        self._waiting: Piece | None = None  # a group that is too large, until those before it are gone
        self._is_ended = False
        self.held = Piece(key_columns.of_texts([]), np.zeros(0, np.int64))

    @property
    def first(self) -> Any:
        """The least key that is held."""
        return key_columns.at(self.held.keys, 0)

    @property
    def proposed(self) -> Any:
        """The last key that may go now; None for all of them, even if nothing follows."""
        held = self.held
        if held.size_bytes > 2 * self._batch_bytes and held.too_large is None:
            return key_columns.at(held.keys, int(len(held.keys) * self._batch_bytes / held.size_bytes))
        if self._is_ended and self._waiting is None and held.too_large is None:
            return None
        return key_columns.at(held.keys, -1)

    def fill(self) -> None:
        """Hold what is worth a batch, if there is so much."""
        held = self.held
        if held.too_large is not None and len(held.keys):
            return
        if held.size_bytes < self._batch_bytes / 2:
            self._take()
        if not len(self.held.keys) and self._waiting is not None:
            self.held, self._waiting = self._waiting, None

    def cut(self, bound: Any, *, is_included: bool) -> Piece:
        """Take the pairs up to a key, with those of that key or without them; all for None."""
        held = self.held
        stop = len(held.keys)
        if bound is not None and stop:
            reached = key_columns.first_above if is_included else key_columns.first_at_least
            stop = reached(held.keys, bound, 0)
        share = stop / max(1, len(held.keys))
        size_bytes, stored_bytes = held.size_bytes * share, held.stored_bytes * share
        taken = Piece(held.keys[:stop], held.column[:stop], size_bytes, stored_bytes)
        if stop:
            taken.too_large, taken.left_out = held.too_large, held.left_out
            held.too_large, held.left_out = None, 0
        held.keys, held.column = held.keys[stop:], held.column[stop:]
        held.size_bytes -= size_bytes
        held.stored_bytes -= stored_bytes
        return taken

    def _take(self) -> None:
        """More of the merge, behind what is held, up to a group that is too large."""
        pieces = [self.held] if len(self.held.keys) else []
        size_bytes = self.held.size_bytes
        while size_bytes < self._batch_bytes and self._waiting is None and not self._is_ended:
            part = next(self._merging, None)
            if part is None:
                self._is_ended = True
            elif isinstance(part, LongGroup):
                whole = self._whole(part)
                if whole.too_large is not None:
                    self._waiting = whole
                    break
                pieces.append(whole)
                size_bytes += whole.size_bytes
            elif len(part.keys):
                pieces.append(Piece(_array_of(part.keys), part.column, part.size_bytes, part.stored_bytes))
                size_bytes += part.size_bytes
        if len(pieces) == 1:
            self.held = pieces[0]
        elif pieces:
            column = columns.concatenate([piece.column for piece in pieces])
            column = key_columns.of_bytes(column) if isinstance(column, list) else column
            stored_bytes = sum(piece.stored_bytes for piece in pieces)
            self.held = Piece(
                key_columns.concatenate([piece.keys for piece in pieces]), column, size_bytes, stored_bytes
            )

    def _whole(self, group: LongGroup) -> Piece:
        """All pairs of a group, unless it is too large."""
        pieces: list[Column] = []
        records = 0
        for piece in group.pieces:
            records += len(piece)
            if group.size_bytes <= self._group_bytes_max:
                pieces.append(piece)
            else:
                pieces.clear()
        key = group.key.encode("latin-1")
        if not pieces:
            plain = keys.decode_all([group.key])[0]
            error = InvalidValue(
                f"the {records} values of the key {plain!r:.80} take {int(group.size_bytes)} bytes, and a reduce_batch "
                f"gets at most {self._group_bytes_max} of one key, an eighth of the memory limit",
                hint="write reduce(key, values), which streams them, or give the step a larger memory_limit",
            )
            return Piece(
                key_columns.of_bytes([key]), np.zeros(1, np.int64), group.size_bytes, group.stored_bytes, error, records
            )
        repeated = key_columns.of_parts(np.full(records, len(key), np.int64), key * records)
        column = columns.concatenate(pieces)
        column = key_columns.of_bytes(column) if isinstance(column, list) else column
        return Piece(repeated, column, group.size_bytes, group.stored_bytes)


def _array_of(encoded: Keys) -> Any:
    return key_columns.of_texts(encoded) if isinstance(encoded, list) else encoded


def _text_at(encoded: Any, index: int) -> str:
    text: str = key_columns.at(encoded, index).decode("latin-1")
    return text


def _starts_of_each(sides: Sequence[Any]) -> list[Index]:
    """Where the pairs of each key of any side begin in every side, and after the last key where they end."""
    starts = [key_columns.group_starts(encoded) for encoded in sides]
    ends = [np.append(each, len(encoded)) for each, encoded in zip(starts, sides, strict=True)]
    if len(sides) == 1:
        return ends
    firsts = key_columns.concatenate(
        [
            key_columns.take(encoded, each) if len(encoded) else encoded
            for each, encoded in zip(starts, sides, strict=True)
        ]
    )
    order = key_columns.order(firsts)
    is_new = np.zeros(len(firsts), np.int64)
    is_new[key_columns.group_starts(key_columns.take(firsts, order))] = 1
    numbers = np.empty(len(firsts), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    found, at = [], 0
    for end in ends:
        lengths = np.zeros(int(is_new.sum()), np.int64)
        lengths[numbers[at : at + len(end) - 1]] = np.diff(end)
        found.append(np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))))
        at += len(end) - 1
    return found


def _sorted(column: Column, starts: Index, sort_values: SortValues) -> Column:
    """The values of each group in order; equal ones stay in input order."""
    if sort_values is True and isinstance(column, np.ndarray) and columns.form(column) == columns.INTEGERS:
        group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        return columns.take(column, np.lexsort((column, group)))
    values = columns.to_values(column)
    bounds = starts.tolist()
    key = None if isinstance(sort_values, bool) else sort_values
    made = columns.make([value for start, stop in pairwise(bounds) for value in sorted(values[start:stop], key=key)])
    return key_columns.of_bytes(made) if isinstance(made, list) else made
