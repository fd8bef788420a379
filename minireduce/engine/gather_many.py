"""Hold the states of sums and counts in a dict while keys are few, and as columns when they are many.

Each pair asks the dict for its key. Once the dict is larger than the caches of the processor, that waits for memory
several times. So from `KEYS_IN_DICT_MAX` keys on, pairs are collected, and every `PAIRS_COLLECTED` of them brought
together by a kernel, which goes through memory in order. What no kernel takes (floats, ints beyond 64 bits, keys that
cannot be stored) still goes to the dict, and both are brought together when the buffer is drained. Which way a pair
went never shows: sums and counts do not depend on order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minireduce.api.aggregations import Aggregation, Count, Sum
from minireduce.engine import key_columns, keys
from minireduce.engine.arrow_columns import widened
from minireduce.engine.columns import Integers
from minireduce.engine.emit import Pair, as_pair
from minireduce.engine.gather import FoldingBuffer, Gathered, Partition, TakingBuffer, arranged
from minireduce.engine.gather_columns import INT64_MAX, PartialStates, decoded, magnitude
from minireduce.engine.kinds import Kinds

KEYS_IN_DICT_MAX = 1 << 16
PAIRS_COLLECTED = 1 << 17
_PAIR_BYTES = 120  # of a collected one: a string of its own and two places in lists


def folding_buffer(
    kinds: Kinds, aggregation: Aggregation[Any, Any, Any], columnar_min: int | None
) -> FoldingBuffer | ManyKeysBuffer:
    """The buffer for pairs of this aggregation. `columnar_min`: from how many pairs on arrays are worth it, if ever."""
    if columnar_min is None or type(aggregation) not in (Sum, Count):
        return FoldingBuffer(kinds, aggregation, columnar_min)
    return ManyKeysBuffer(kinds, aggregation, columnar_min)


class ManyKeysBuffer(TakingBuffer):
    """One state for each key of a `Sum` or `Count`."""

    def __init__(self, kinds: Kinds, aggregation: Aggregation[Any, Any, Any], columnar_min: int) -> None:
        self._kinds, self._aggregation = kinds, aggregation
        self._dict = FoldingBuffer(kinds, aggregation, columnar_min)
        self._partial = PartialStates(aggregation)
        self._is_collecting = False
        self._keys: list[Any] = []
        self._values: list[int] = []
        self._magnitude = 0  # no sum of any of the ints in columns is larger

    def take(self, pairs: Iterator[Pair]) -> int:
        if self._is_collecting:
            return self._collect(pairs)
        taken = self._dict.take(pairs)
        self._is_collecting = self._dict.keys_held > KEYS_IN_DICT_MAX and self._kinds.fast_type in (str, bytes)
        return taken

    def held_bytes(self) -> int:
        return self._dict.held_bytes() + self._partial.held_bytes() + _PAIR_BYTES * len(self._keys)

    def settle(self) -> int:
        self._fold_collected()
        self._partial.fold()
        return self._dict.settle() + self._partial.held_bytes()

    def drain(self, partition: Partition) -> Gathered:
        self._fold_collected()
        self._is_collecting = False
        if not self._partial:
            return self._dict.drain(partition)
        others = self._dict.take_out()
        are_ints = set(map(type, others.values())) <= {int}
        is_columnar = are_ints and (not others or self._add(list(others), list(others.values())))
        self._magnitude = 0
        distinct, states = self._partial.drain()
        encoded = widened(distinct)
        if is_columnar:
            return arranged(encoded, states, partition(lambda: decoded(encoded), encoded))
        merge = self._aggregation.merge
        for key, state in zip(decoded(encoded), states.tolist(), strict=True):
            others[key] = merge(others[key], state) if key in others else state
        self._dict.add_states(list(others), list(others.values()))
        return self._dict.drain(partition)

    def _collect(self, pairs: Iterator[Pair]) -> int:
        admit, fast_type = self._kinds.admit, self._kinds.fast_type
        add_key, add_value = self._keys.append, self._values.append
        is_count = type(self._aggregation) is Count
        before, others = len(self._keys), 0
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
            if is_count:
                value = 1
            elif value.__class__ is not int:
                others += self._dict.take(iter((pair,)))
                continue
            add_key(key)
            add_value(value)
        taken = len(self._keys) - before + others
        if len(self._keys) >= PAIRS_COLLECTED:
            self._fold_collected()
        return taken

    def _fold_collected(self) -> None:
        if not self._keys:
            return
        plain_keys, values = self._keys, self._values
        self._keys, self._values = [], []
        if not self._add(plain_keys, values):
            self._dict.take(iter(zip(plain_keys, values, strict=True)))

    def _add(self, plain_keys: list[Any], states: list[int]) -> bool:
        """Take these into the columns; whether they can be: their sum with what is held must be sure to fit 64 bits."""
        numbers = _numbers(states)
        if numbers is None or self._magnitude + (added := magnitude(numbers, len(states))) > INT64_MAX:
            return False
        encoded = keys.array_of(plain_keys)
        if encoded is None:
            return False
        self._magnitude += added
        self._partial.add(key_columns.narrowed(encoded), numbers)
        return True


def _numbers(states: list[int]) -> Integers | None:
    """These ints, if they have 64 bits; one for all that are alike."""
    try:
        return np.array(states[:1] if states.count(states[0]) == len(states) else states, np.int64)
    except OverflowError:
        return None
