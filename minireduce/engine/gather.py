"""Hold the pairs of a map in memory until there are too many, and give them up sorted by partition and key.

Many keys that are all strings, or all bytes, are encoded and sorted as an array, since that takes a fraction of the
time; the order is the same.

Two buffers. `PairBuffer` keeps pairs as they come. `FoldingBuffer` is for declared aggregations: a dict of states, so
that what is held grows with the keys and not with the pairs. Both take pairs from an iterator in one tight loop
(`take`), and estimate what they hold; when to spill is decided by the caller.

In these loops `kinds.admit` is called only for keys whose type is not exactly that of the keys before.

Each loop takes pairs apart itself, here and in `gather_many`: behind one generator of checked pairs, summing 2.4
million words takes 0.83 s in place of 0.79, and that is most of what a map by records does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from minireduce.api import exact_sums
from minireduce.api.aggregations import Aggregation, Count, Sum
from minireduce.engine import columns, key_columns, keys
from minireduce.engine.columns import Column, Index
from minireduce.engine.emit import Pair, as_pair
from minireduce.engine.key_columns import Keys
from minireduce.engine.kinds import Kinds
from minireduce.engine.memory import deep_bytes, held_bytes, newest_bytes
from minireduce.frozen import dataclass

COLUMNAR_PAIRS_MIN = 20_000
"""Pairs that are worth sorting as arrays, where memory allows that; for fewer, loading what does it takes longer."""

FOLD_PAIRS = 50_000  # values that wait for their states at the most
FOLD_BYTES = 4 << 20  # the same, in bytes
_PIECE_BYTES = 2 << 20  # of pairs that are put in order at once: the cache still holds them when they are written

Partition = Callable[[Callable[[], list[Any]], Keys], Index]
"""The partition of each key; given what makes the plain keys, and their encoding."""

Folding = Callable[[], AbstractContextManager[None]]
"""Says whose fault it is when an aggregation raises."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Pairs sorted by partition, then key, then the order in which they came.

    `order` tells where each of them stands in `keys` and `values`, None that they stand in order. They are brought into
    it piece by piece as they are written: memory that was not used before costs more than the copy that is made in it.
    """

    keys: Keys
    values: list[Any] | Column
    partitions: Index
    order: Index | None = None
    is_plain: bool = False  # whether values are as they were given, and not a column yet

    def sections(self, partitions: int) -> Iterator[Iterator[tuple[Keys, list[Any] | Column]]]:
        """The pairs of each partition in turn, piece by piece."""
        bounds = np.searchsorted(self.partitions, np.arange(partitions + 1)).tolist()
        if self.order is None:
            return (iter([(self.keys[start:stop], self.values[start:stop])]) for start, stop in pairwise(bounds))
        return self._ordered_sections(self.order, bounds)

    def _ordered_sections(self, order: Index, bounds: list[int]) -> Iterator[Iterator[tuple[Keys, Column]]]:
        take_keys, take_values = key_columns.taking(self.keys), columns.taking(self.values)
        size_bytes = key_columns.size_bytes(self.keys) + columns.size_bytes(self.values)
        at_once = max(1, len(order) * _PIECE_BYTES // size_bytes) if len(order) else 1
        for start, stop in pairwise(bounds):
            pieces = (order[at : min(at + at_once, stop)] for at in range(start, stop, at_once))
            yield ((take_keys(piece), take_values(piece)) for piece in pieces)


class Buffer(Protocol):
    """What a map needs of any buffer to know when to spill it."""

    def held_bytes(self) -> int:
        """What is held, roughly."""

    def settle(self) -> int:
        """As `held_bytes`, more slowly and less roughly."""

    def drain(self, partition: Partition) -> Gathered:
        """All that was held; the buffer is empty afterwards."""


class TakingBuffer(Buffer, Protocol):
    """A buffer that takes pairs."""

    @property
    def taken_bytes(self) -> int:
        """What the pairs of the last `take` took, roughly, whatever became of them since; 0 where that is little."""

    def take(self, pairs: Iterator[Pair]) -> int:
        """Take in all of `pairs`; how many there were."""


class PairBuffer:
    """Pairs as they came."""

    def __init__(self, kinds: Kinds, columnar_min: int | None = None) -> None:
        self._kinds, self._columnar_min = kinds, columnar_min
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._held_bytes = 0
        self.taken_bytes = 0

    def take(self, pairs: Iterator[Pair]) -> int:
        admit, fast_type = self._kinds.admit, self._kinds.fast_type
        add_key, add_value = self._keys.append, self._values.append
        before = len(self._keys)
        for pair in pairs:
            if pair.__class__ is not tuple:
                pair = as_pair(pair)  # noqa: PLW2901
            try:
                key, value = pair
            except ValueError:
                as_pair(pair)
                raise
            if key.__class__ is not fast_type:
                key = admit(key)
                fast_type = self._kinds.fast_type
            add_key(key)
            add_value(value)
        self.taken_bytes = held_bytes(self._keys[before:]) + held_bytes(self._values[before:])
        self._held_bytes += self.taken_bytes
        return len(self._keys) - before

    def held_bytes(self) -> int:
        return self._held_bytes

    def settle(self) -> int:
        return self._held_bytes

    def drain(self, partition: Partition) -> Gathered:
        gathered = _sorted(self._keys, self._values, partition, self._columnar_min)
        self._keys, self._values, self._held_bytes = [], [], 0
        return gathered


class FoldingBuffer:
    """One state for each key. Values that have no fast way wait in lists, and are folded many at a time.

    `folding` is entered around what calls the aggregation over them. Their records are long gone then.
    """

    def __init__(
        self,
        kinds: Kinds,
        aggregation: Aggregation[Any, Any, Any],
        columnar_min: int | None = None,
        folding: Folding = nullcontext,
    ) -> None:
        self._kinds, self._columnar_min = kinds, columnar_min
        self._aggregation, self._folding = aggregation, folding
        self._states: dict[Any, Any] = {}  # of the fast ways
        self._folded: dict[Any, Any] = {}  # of all values that waited
        self._waiting: defaultdict[Any, list[Any]] = defaultdict(list)
        self._waiting_pairs = 0
        self._waiting_bytes = 0
        self._grown_bytes = 0  # by values that states may have kept, such as those of Collect
        self.taken_bytes = 0
        self._take = {Sum: self._take_sum, Count: self._take_count}.get(type(aggregation), self._take_any)

    def take(self, pairs: Iterator[Pair]) -> int:
        return self._take(pairs)

    def held_bytes(self) -> int:
        return newest_bytes(self._states) + newest_bytes(self._folded) + self._waiting_bytes + self._grown_bytes

    def settle(self) -> int:
        self._fold()
        if self._grown_bytes:  # few states grow with their values; find out what this one's do
            self._grown_bytes = sum(map(deep_bytes, self._folded.values()))
        return self.held_bytes()

    def drain(self, partition: Partition) -> Gathered:
        states = self.take_out()
        return _sorted(list(states), list(states.values()), partition, self._columnar_min, is_distinct=True)

    def take_out(self) -> dict[Any, Any]:
        """The states of all keys, in no order; nothing is held afterwards."""
        self._fold()
        states, self._states = self._states, {}
        for key, state in self._folded.items():
            states[key] = self._aggregation.merge(states[key], state) if key in states else state
        self._folded, self._grown_bytes = {}, 0
        return states

    @property
    def keys_held(self) -> int:
        """How many keys have a state that came the fast way."""
        return len(self._states)

    def add_states(self, plain_keys: list[Any], states: list[Any]) -> None:
        """States of values that came before all that are yet to come, under keys that are not held here."""
        self._folded.update(zip(plain_keys, states, strict=True))

    def _take_sum(self, pairs: Iterator[Pair]) -> int:
        admit, fast_type = self._kinds.admit, self._kinds.fast_type
        states, get, waiting = self._states, self._states.get, self._waiting
        count = slow = 0
        for pair in pairs:
            if pair.__class__ is not tuple:
                pair = as_pair(pair)  # noqa: PLW2901
            try:
                key, value = pair
            except ValueError:
                as_pair(pair)
                raise
            if key.__class__ is not fast_type:
                key = admit(key)
                fast_type = self._kinds.fast_type
            if value.__class__ is not int:
                if value.__class__ is not float:
                    exact_sums.add_all(0, (value,))  # refuses what cannot be summed while its record is known
                waiting[key].append(value)
                slow += 1
                continue
            states[key] = get(key, 0) + value
            count += 1
        self._wait(slow, slow * 64)
        return count + slow

    def _take_count(self, pairs: Iterator[Pair]) -> int:
        admit, fast_type = self._kinds.admit, self._kinds.fast_type
        states, get = self._states, self._states.get
        count = 0
        for pair in pairs:
            if pair.__class__ is not tuple:
                pair = as_pair(pair)  # noqa: PLW2901
            try:
                key, _ = pair
            except ValueError:
                as_pair(pair)
                raise
            if key.__class__ is not fast_type:
                key = admit(key)
                fast_type = self._kinds.fast_type
            states[key] = get(key, 0) + 1
            count += 1
        return count

    def _take_any(self, pairs: Iterator[Pair]) -> int:
        admit, fast_type = self._kinds.admit, self._kinds.fast_type
        waiting = self._waiting
        values = []
        for pair in pairs:
            if pair.__class__ is not tuple:
                pair = as_pair(pair)  # noqa: PLW2901
            try:
                key, value = pair
            except ValueError:
                as_pair(pair)
                raise
            if key.__class__ is not fast_type:
                key = admit(key)
                fast_type = self._kinds.fast_type
            waiting[key].append(value)
            values.append(value)
        self.taken_bytes = held_bytes(values)
        self._wait(len(values), self.taken_bytes)
        return len(values)

    def _wait(self, pairs: int, pair_bytes: int) -> None:
        self._waiting_pairs += pairs
        self._waiting_bytes += pair_bytes
        if self._waiting_pairs > FOLD_PAIRS or self._waiting_bytes > FOLD_BYTES:
            self._fold()

    def _fold(self) -> None:
        aggregation, states = self._aggregation, self._folded
        with self._folding():
            for key, values in self._waiting.items():
                state = states[key] if key in states else aggregation.start()
                states[key] = aggregation.add_all(state, values)
        if type(aggregation) is not Sum:
            self._grown_bytes += self._waiting_bytes
        self._waiting.clear()
        self._waiting_pairs = self._waiting_bytes = 0


def arranged(encoded: Keys, column: Column, parts: Index) -> Gathered:
    """The pairs sorted by partition, then key, then the order in which they are."""
    order = key_columns.order(encoded)
    parts = parts[order]
    if (parts[1:] < parts[:-1]).any():  # never where each partition has a range of keys
        by_partition = np.argsort(parts.astype(np.uint16) if parts.max() < 1 << 16 else parts, kind="stable")
        order, parts = order[by_partition], parts[by_partition]
    return Gathered(encoded, column, parts, order)


def _sorted(
    plain_keys: list[Any],
    values: list[Any],
    partition: Partition,
    columnar_min: int | None,
    *,
    is_distinct: bool = False,
) -> Gathered:
    """The pairs in order; as arrays if there are so many of them and their keys allow it."""
    if (
        columnar_min is not None
        and len(plain_keys) >= columnar_min
        and (encoded := keys.array_of(plain_keys)) is not None
    ):
        return arranged(encoded, columns.make(values), partition(lambda: plain_keys, encoded))
    distinct = plain_keys if is_distinct else list(dict.fromkeys(plain_keys))
    texts = keys.sortable_all(distinct)
    parts = partition(lambda: distinct, texts)
    by_key = np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)
    order = by_key[np.argsort(parts[by_key], kind="stable")]
    texts, parts = _at(texts, order.tolist()), parts[order]
    if len(distinct) < len(plain_keys):  # strings are compared once for each key, and numbers for each pair
        ranks = dict(zip(_at(distinct, order.tolist()), range(len(distinct)), strict=True))
        rank_of_each = np.fromiter(map(ranks.__getitem__, plain_keys), np.int64, len(plain_keys))
        order = np.argsort(rank_of_each.astype(np.uint16) if len(distinct) <= 1 << 16 else rank_of_each, kind="stable")
        in_order = rank_of_each[order]
        texts, parts = _at(texts, in_order.tolist()), parts[in_order]
    return Gathered(texts, _at(values, order.tolist()), parts, is_plain=True)


def _at(items: Sequence[Any], places: list[int]) -> list[Any]:
    return [items[i] for i in places]
