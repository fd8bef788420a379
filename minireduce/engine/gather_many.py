"""Hold the states of sums and counts in a dict while keys are few, and as columns when they are many.

Each pair asks the dict for its key. Once the dict is larger than the caches of the processor, that waits for memory
several times. So from `KEYS_IN_DICT_MAX` keys on, pairs are collected, their keys as bytes, and every `PAIRS_COLLECTED`
of them go to `gather_columns.PartialStates`, which brings them together by kernels that go through memory in order.
What no kernel takes (floats, ints beyond 64 bits, keys that cannot be stored) still goes to the dict, and both are
brought together when the buffer is drained.
Which way a pair went never shows: sums and counts do not depend on order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from minireduce.api.aggregations import Aggregation, Count, Sum
from minireduce.engine import key_columns, keys
from minireduce.engine.arrow_columns import widened
from minireduce.engine.columns import Integers
from minireduce.engine.emit import Pair, as_pair
from minireduce.engine.gather import Folding, FoldingBuffer, Gathered, Partition, TakingBuffer, arranged
from minireduce.engine.gather_columns import INT64_MAX, PartialStates, decoded, magnitude
from minireduce.engine.kinds import Kinds

KEYS_IN_DICT_MAX = 1 << 16
PAIRS_COLLECTED = 1 << 18
_KEY_COPIES = 3  # of the bytes of a collected key, once it is folded: in a piece, joined, and among those found
_PAIR_BYTES = 72  # and for each pair the place of its key in two widths, and its state
_NOTHING = object()


def folding_buffer(
    kinds: Kinds, aggregation: Aggregation[Any, Any, Any], columnar_min: int | None, folding: Folding = nullcontext
) -> FoldingBuffer | ManyKeysBuffer:
    """The buffer for pairs of this aggregation. `columnar_min`: from how many pairs on arrays are worth it, if ever."""
    if columnar_min is None or type(aggregation) not in (Sum, Count):
        return FoldingBuffer(kinds, aggregation, columnar_min, folding)
    return ManyKeysBuffer(kinds, aggregation, columnar_min)


class ManyKeysBuffer(TakingBuffer):
    """One state for each key of a `Sum` or `Count`."""

    taken_bytes = 0  # numbers, and of the keys `held_bytes` tells

    def __init__(self, kinds: Kinds, aggregation: Aggregation[Any, Any, Any], columnar_min: int) -> None:
        self._kinds, self._aggregation = kinds, aggregation
        self._dict = FoldingBuffer(kinds, aggregation, columnar_min)
        self._partial = PartialStates(aggregation)
        self._is_collecting = False
        self._collected = Collected()
        self._magnitude = 0  # no sum of any of the ints in columns is larger

    def take(self, pairs: Iterator[Pair]) -> int:
        if self._is_collecting:
            return self._collect(pairs)
        taken = self._dict.take(pairs)
        self._is_collecting = self._dict.keys_held > KEYS_IN_DICT_MAX and self._kinds.fast_type in (str, bytes)
        return taken

    def held_bytes(self) -> int:
        held_bytes = self._dict.held_bytes() + self._partial.held_bytes()
        return held_bytes + _KEY_COPIES * self._collected.key_bytes + _PAIR_BYTES * self._collected.count

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
        is_columnar = are_ints and (
            not others or self._add(keys.array_of(list(others)), _numbers(list(others.values())))
        )
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
        is_count = type(self._aggregation) is Count
        plain_keys: list[Any] = []
        states: list[int] = []
        add_key, add_state = plain_keys.append, states.append
        same: Any = 1 if is_count else _NOTHING  # the state of all keys so far, while they have one
        is_mixed = False
        others = 0
        for pair in pairs:
            if pair.__class__ is not tuple:
                pair = as_pair(pair)  # noqa: PLW2901
            try:
                key, value = pair
            except ValueError:
                as_pair(pair)
                raise
            if key.__class__ is not fast_type and (key := admit(key)).__class__ is not fast_type:
                others += self._dict.take(iter((pair,)))
                continue
            if value is not same and not is_count:
                if value.__class__ is not int:
                    others += self._dict.take(iter((pair,)))
                    continue
                if not is_mixed:
                    if plain_keys:
                        is_mixed = True
                        states += [same] * len(plain_keys)
                        same = _NOTHING
                    else:
                        same = value
                if is_mixed:
                    add_state(value)
            add_key(key)
        if plain_keys:
            self._keep(plain_keys, states or [same])
        return len(plain_keys) + others

    def _keep(self, plain_keys: list[Any], states: list[int]) -> None:
        """Collect these pairs, all of one state if there is one only; as bytes, so that strings go while the caches
        of the processor still have them.
        """
        numbers, data = _numbers(states), keys.marked_bytes(plain_keys)
        if numbers is None or data is None:
            self._take_apart(plain_keys, states)
            return
        self._collected.add(data, len(plain_keys), numbers)
        if self._collected.count >= PAIRS_COLLECTED:
            self._fold_collected()

    def _take_apart(self, plain_keys: list[Any], states: list[int]) -> None:
        """Take in pairs that could not be collected: as columns by themselves, else one by one into the dict."""
        if not self._add(keys.array_of(plain_keys), _numbers(states)):
            self._dict.take(zip(plain_keys, states * (len(plain_keys) // len(states)), strict=True))

    def _fold_collected(self) -> None:
        collected, self._collected = self._collected, Collected()
        if not collected.count:
            return
        data, numbers = collected.joined()
        if not self._add(keys.array_of_marked(data, collected.count), numbers):
            self._take_apart(keys.unjoined(data), numbers.tolist())

    def _add(self, encoded: Any, numbers: Integers | None) -> bool:
        """Take these into the columns; whether they can be: their sum with what is held must be sure to fit 64 bits."""
        if encoded is None or numbers is None:
            return False
        if self._magnitude + (added := magnitude(numbers, len(encoded))) > INT64_MAX:
            return False
        self._magnitude += added
        self._partial.add(key_columns.narrowed(encoded), numbers)
        return True


class Collected:
    """Keys in one stretch of bytes for each take, and their states, of which there is one where all are alike."""

    def __init__(self) -> None:
        self.count = self.key_bytes = 0
        self._keys: list[bytes] = []
        self._numbers: list[tuple[Integers, int]] = []

    def add(self, data: bytes, count: int, numbers: Integers) -> None:
        """Take in so many keys."""
        self._keys.append(data)
        self._numbers.append((numbers, count))
        self.count += count
        self.key_bytes += len(data)

    def joined(self) -> tuple[bytes, Integers]:
        """All keys, and their states or the one."""
        first, _ = self._numbers[0]
        if all(len(each) == 1 and each[0] == first[0] for each, _ in self._numbers):
            return b"".join(self._keys), first
        spread = [each if len(each) == count else np.repeat(each, count) for each, count in self._numbers]
        return b"".join(self._keys), np.concatenate(spread)


def _numbers(states: list[int]) -> Integers | None:
    """These ints, if they have 64 bits; one for all that are alike."""
    try:
        return np.array(states[:1] if states.count(states[0]) == len(states) else states, np.int64)
    except OverflowError:
        return None
