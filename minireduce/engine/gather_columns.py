"""Hold the columns that a `map_batch` gave until there are too many, and give them up sorted by partition and key.

`PairColumns` keeps encoded keys and values. `FoldedColumns` is for declared aggregations: one state for each key of
what came so far. It folds with kernels where they give what the Python loop gives, to the bit: keys that are strings,
bytes or ints, counts of anything, and int64 sums and extremes that are shown not to overflow. The first batch of
another sort sends what is held, and all that follows until the next spill, the way of the record lane.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np

from minireduce.api.aggregations import Aggregation, Count, Max, Min, Sum
from minireduce.engine import arrow_columns, columns, kernels, key_columns, keys
from minireduce.engine.arrow_columns import is_integers, is_strings, is_text, widened
from minireduce.engine.columns import Integers
from minireduce.engine.gather import Buffer, Folding, FoldingBuffer, Gathered, Partition, arranged
from minireduce.engine.growing import GrowingColumn
from minireduce.engine.key_columns import Keys
from minireduce.engine.kinds import Kinds

INT64_MAX = (1 << 63) - 1
ONE = np.ones(1, np.int64)
_PAIR_COPIES = 1.4  # of what is held: a spill takes offsets besides, and puts a piece after the other in order
_PAIR_ORDER_BYTES = 24  # and for each pair its place, its partition, and its place among the others
_FOLDED_COPIES = 6.0  # the same, offsets of twice the width, and the hash of the keys that brings states together
PARTS_WAITING = 256
"""Arrays of a few rows that are held at the latest before they become one: each takes about 1.3 KB by itself."""

_KEYS_ROOM_BYTES, _VALUES_ROOM_BYTES = 16 << 20, 60 << 20
"""What is taken at once for keys and for values that come: address space, of which the system gives what is written to.
More than the second would be given back and taken anew for each task (`attempt.environment`)."""

_SMALL_PART_BYTES = 16 << 10  # arrays that are larger on average stay as they came
NARROW_BYTES_MAX = 1 << 30
"""Keys that are brought together with offsets of 32 bits, which reach twice as far."""

RARELY_EQUAL_SHARE = 0.75
"""Of rows, when keys are so many that bringing a batch together by itself saves less than it takes."""

_LOOKED_AT_EVERY = 8  # of the batches that are held as they came, one is brought together all the same
ROWS_WAITING = 2_000_000  # partial states that are brought together at the latest, or as many as there are keys
_KERNELS: dict[type, tuple[np.ufunc, int]] = {
    Sum: (np.add, 0),
    Count: (np.add, 0),
    Min: (np.minimum, INT64_MAX),
    Max: (np.maximum, -INT64_MAX - 1),
}


class ColumnBuffer(Buffer, Protocol):
    """A buffer that takes columns; no pairs."""

    def take_columns(self, key: Any, value: Any) -> int:
        """Take in a batch; how many pairs it has. Raises InvalidKey, InvalidValue."""


def column_buffer(
    kinds: Kinds,
    aggregation: Aggregation[Any, Any, Any] | None,
    columnar_min: int | None,
    folding: Folding = nullcontext,
) -> ColumnBuffer:
    """The buffer for a step with this aggregation, or none."""
    return PairColumns(kinds) if aggregation is None else FoldedColumns(kinds, aggregation, columnar_min, folding)


class PairColumns:
    """Pairs as they came."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._begin()

    def _begin(self) -> None:
        self._keys, self._values = GrowingColumn(_KEYS_ROOM_BYTES), GrowingColumn(_VALUES_ROOM_BYTES)
        self._held_bytes = self._pairs = 0

    def take_columns(self, key: Any, value: Any) -> int:
        """Take in a batch; how many pairs it has. Raises InvalidKey, InvalidValue."""
        encoded, column = arrow_columns.encoded_keys(key, self._kinds), arrow_columns.value_column(value)
        self._keys.add(encoded)
        self._values.add(column)
        self._held_bytes += columns.size_bytes(column) + key_columns.size_bytes(encoded)
        self._pairs += len(column)
        return len(column)

    def held_bytes(self) -> int:
        """What is held, and a part of what sorting it takes besides."""
        return int(_PAIR_COPIES * self._held_bytes) + _PAIR_ORDER_BYTES * self._pairs

    def settle(self) -> int:
        """The same: nothing is known better."""
        return self.held_bytes()

    def drain(self, partition: Partition) -> Gathered:
        """All that was held; the buffer is empty afterwards."""
        if not self._pairs:
            return Gathered([], [], np.zeros(0, np.int64), is_plain=True)
        encoded, column = self._keys.taken(), self._values.taken()
        self._begin()
        return arranged(encoded, column, partition(lambda: decoded(encoded), encoded))


class PartialStates:
    """States of some batches, side by side until there are many: then each key has one. For those with a kernel.

    A batch is brought together by itself as it comes, while its keys are in the caches. After one of which nearly every
    row had a key of its own the next few are held as they came, since all must be brought together later as well.
    """

    def __init__(self, aggregation: Aggregation[Any, Any, Any]) -> None:
        self._aggregation = aggregation
        self._keys: list[Any] = []
        self._states: list[Integers] = []
        self._rows = self._rows_folded = self._held_bytes = 0
        self._small = _SmallParts()
        self._are_rarely_equal = False
        self._is_held_as_it_came = False  # some batch, so that it may have a key twice

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def latest_keys(self) -> Any:
        """Those of the latest batch."""
        return self._keys[-1]

    def add(self, key: Any, numbers: Integers, *, is_lent: bool = False) -> None:
        """Take in a batch: its keys, and what each row stands for; one number where all rows stand for the same.
        `is_lent`: whether the memory of both is another's, who may write to it or wait for its end.
        """
        if self._are_rarely_equal and len(self._keys) % _LOOKED_AT_EVERY:
            distinct, states = (_copied(key), numbers.copy()) if is_lent else (key, numbers)
            if len(states) != len(distinct):
                states = np.full(len(distinct), states[0])
            self._is_held_as_it_came = True
        else:
            distinct, states = _fold_batch(self._aggregation, key, numbers)
            self._are_rarely_equal = len(distinct) > RARELY_EQUAL_SHARE * len(key)
        self._keys.append(distinct)
        self._states.append(states)
        self._rows += len(distinct)
        self._held_bytes += distinct.nbytes + states.nbytes
        if (first := self._small.joinable_from(len(self._keys), distinct.nbytes + states.nbytes)) is not None:
            self._fold_from(first)
        if self._rows - self._rows_folded > max(ROWS_WAITING, self._rows_folded):
            self.fold()

    def held_bytes(self) -> int:
        """What is held, and what bringing it together takes besides."""
        return int(_FOLDED_COPIES * self._held_bytes)

    def fold(self) -> None:
        """Bring them together."""
        if len(self._keys) < 2 and not self._is_held_as_it_came:
            return
        self._fold_from(0)
        self._is_held_as_it_came = False
        self._rows_folded = self._rows
        self._small = _SmallParts(1)

    def drain(self) -> tuple[Any, Integers]:
        """All keys, each once, and their states, of which there must be some; nothing is held afterwards."""
        self.fold()
        (distinct,), (states,) = self._keys, self._states
        self._keys, self._states, self._small = [], [], _SmallParts()
        self._rows = self._rows_folded = self._held_bytes = 0
        return distinct, states

    def _fold_from(self, first: int) -> None:
        """Bring those of this part and the following together."""
        parts, states = self._keys[first:], self._states[first:]
        rows = sum(map(len, parts))
        distinct, brought = _grouped(
            self._aggregation, _joined(parts), np.concatenate(states), are_rarely_equal=self._are_rarely_equal
        )
        self._keys[first:], self._states[first:] = [distinct], [brought]
        self._rows += len(distinct) - rows
        self._are_rarely_equal &= len(distinct) > RARELY_EQUAL_SHARE * rows
        self._held_bytes = sum(each.nbytes for each in (*self._keys, *self._states))


class FoldedColumns:
    """One state for each key."""

    def __init__(
        self,
        kinds: Kinds,
        aggregation: Aggregation[Any, Any, Any],
        columnar_min: int | None,
        folding: Folding = nullcontext,
    ) -> None:
        self._kinds, self._aggregation = kinds, aggregation
        self._plain = FoldingBuffer(kinds, aggregation, columnar_min, folding)
        self._is_plain = False
        self._partial = PartialStates(aggregation)
        self._magnitude = 0  # no sum of any of the ints that are held is larger

    def take_columns(self, key: Any, value: Any) -> int:
        """Take in a batch; how many pairs it has. Raises InvalidKey, InvalidValue."""
        key = arrow_columns.unfixed(key)
        if not self._is_plain and not self._is_foldable(key, value):
            self._go_plain()
        if self._is_plain:
            return self._plain.take(
                iter(zip(arrow_columns.plain_keys(key), arrow_columns.plain_values(value), strict=True))
            )
        arrow_columns.admit_first(key, self._kinds)
        numbers = ONE if type(self._aggregation) is Count else key_columns.numbers(value)
        self._partial.add(key, numbers, is_lent=True)
        return len(key)

    def held_bytes(self) -> int:
        """What is held, and what bringing it together takes besides."""
        return self._plain.held_bytes() if self._is_plain else self._partial.held_bytes()

    def settle(self) -> int:
        """As `held_bytes`, once partial states are brought together."""
        if self._is_plain:
            return self._plain.settle()
        self._partial.fold()
        return self.held_bytes()

    def drain(self, partition: Partition) -> Gathered:
        """All that was held; the buffer is empty afterwards."""
        if self._is_plain:
            self._is_plain = False
            return self._plain.drain(partition)
        if not self._partial:
            return Gathered([], [], np.zeros(0, np.int64), is_plain=True)
        distinct, states = self._partial.drain()
        self._magnitude = 0
        encoded = arrow_columns.encoded_keys(distinct, self._kinds)
        return arranged(encoded, states, partition(lambda: decoded(encoded), encoded))

    def _is_foldable(self, key: Any, value: Any) -> bool:
        kind = type(self._aggregation)
        if kind not in _KERNELS or not (is_text(key) or is_integers(key)):
            return False
        if self._partial and _kind_of(self._partial.latest_keys) is not _kind_of(key):
            return False
        if kind is Count:
            return True
        if not is_integers(value):
            return False
        if kind is Sum:
            self._magnitude += magnitude(key_columns.numbers(value), len(value))
        return self._magnitude <= INT64_MAX

    def _go_plain(self) -> None:
        """Hand what is held to the record lane."""
        if self._partial:
            distinct, states = self._partial.drain()
            self._plain.add_states(arrow_columns.plain_keys(distinct), states.tolist())
        self._magnitude = 0
        self._is_plain = True


def magnitude(numbers: Integers, count: int) -> int:
    """What no sum of so many of these exceeds."""
    return max(int(numbers.max()), -int(numbers.min())) * count if count else 0


class _SmallParts:
    """The latest of the arrays that a buffer holds, while they are small; those before them are not joined again."""

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._bytes = 0

    def joinable_from(self, count: int, added_bytes: int) -> int | None:
        """The first of those to make one of, now that there are `count`; None for none."""
        self._bytes += added_bytes
        if count - self._first < PARTS_WAITING:
            return None
        first, size_bytes = self._first, self._bytes
        is_small = size_bytes < _SMALL_PART_BYTES * PARTS_WAITING
        self._first, self._bytes = first + 1 if is_small else count, 0
        return first if is_small else None


def _fold_batch(aggregation: Aggregation[Any, Any, Any], key: Any, numbers: Integers) -> tuple[Any, Integers]:
    """The keys of one batch, each once, and their states."""
    if (
        type(aggregation) in (Sum, Count) and len(numbers) and numbers.min() == numbers.max()
    ):  # every row counts the same
        counted = kernels.call("value_counts", key)
        return counted.field(0), key_columns.numbers(counted.field(1)) * numbers[0]
    return _grouped(aggregation, key, numbers)


def _grouped(
    aggregation: Aggregation[Any, Any, Any], key: Any, numbers: Integers, *, are_rarely_equal: bool = False
) -> tuple[Any, Integers]:
    """Each key once, and what its numbers come to. (A hash of keys to places, then numpy: `group_by` of Arrow takes
    as long where offsets have 32 bits, and five times as long where they have 64.)
    """
    if are_rarely_equal and (grouped := _grouped_by_order(aggregation, key, numbers)) is not None:
        return grouped
    placed = kernels.call("dictionary_encode", key)
    kernel, start = _KERNELS[type(aggregation)]
    states = np.full(len(placed.dictionary), start, np.int64)
    kernel.at(states, key_columns.numbers(placed.indices), numbers)
    return placed.dictionary, states


def _grouped_by_order(
    aggregation: Aggregation[Any, Any, Any], key: Any, numbers: Integers
) -> tuple[Any, Integers] | None:
    """The same in the order of keys, for strings of one length that numbers can stand for; None of others. A hash of
    many keys waits for memory at each row, which counting does not.
    """
    if not is_text(key) or (matrix := key_columns.rows(widened(key))) is None:
        return None
    if (found := key_columns.packed(matrix)) is None:
        return None
    order = key_columns.counted_order(found)
    ordered = found[order]
    starts = np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
    kernel, _ = _KERNELS[type(aggregation)]
    distinct = key_columns.of_rows(key_columns.taken_rows(matrix, order[starts]), key.type)
    return distinct, kernel.reduceat(numbers[order], starts)


def _copied(array: Any) -> Any:
    """The same in memory of its own."""
    import pyarrow as pa

    return pa.concat_arrays([array, array[:0]])


def _joined(parts: list[Any]) -> Any:
    """One array of these. Offsets of 32 bits, which cost half as much to group, are kept while they reach."""
    import pyarrow as pa

    if sum(part.nbytes for part in parts) > NARROW_BYTES_MAX or len({part.type for part in parts}) > 1:
        parts = list(map(widened, parts))
    return pa.concat_arrays(parts)


def _kind_of(array: Any) -> type:
    return int if is_integers(array) else str if is_strings(array) else bytes


def decoded(encoded: Keys) -> list[Any]:
    """The plain keys."""
    return keys.decode_all(key_columns.to_texts(encoded))
