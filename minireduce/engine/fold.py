"""Bring the states of declared aggregations together, group by group; ints and floats by numpy where that is exact.

A kernel is used only where it gives what the Python loop gives, to the bit: int64 sums whose bound shows that they
cannot overflow, and extremes of ints. Everything else goes through `merge`, in the order of the runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minireduce.api.aggregations import Aggregation, Collect, Count, Distinct, Max, Min, Sum, TopK
from minireduce.engine import columns, key_columns
from minireduce.engine.columns import Column, Index
from minireduce.engine.key_columns import Keys
from minireduce.engine.merge import Merged, Window

_INT64_MAX = (1 << 63) - 1
_FINISHED_AS_THEY_ARE = (Collect, Distinct, TopK)  # their result is their state, a list


def folded(aggregation: Aggregation[Any, Any, Any], merging: Iterator[Merged]) -> Iterator[tuple[Keys, Column]]:
    """One state for each key of a merge."""
    for part in merging:
        if isinstance(part, Window):
            yield fold_window(aggregation, part.keys, part.column)
        else:
            states = [state for piece in part.pieces for state in _state_of_piece(aggregation, piece)]
            yield [part.key], _states_of_groups(aggregation, columns.make(states), np.zeros(1, np.int64))


def fold_window(aggregation: Aggregation[Any, Any, Any], keys: Keys, column: Column) -> tuple[Keys, Column]:
    """One state for each key, from pairs that are sorted by key."""
    starts = key_columns.group_starts(keys)
    if len(starts) == len(keys):
        return keys, column
    return key_columns.take(keys, starts), _states_of_groups(aggregation, column, starts)


def finished(aggregation: Aggregation[Any, Any, Any], column: Column) -> Column:
    """The results of these states."""
    kind = type(aggregation)
    form = columns.form(column)
    if kind in (Sum, Count, Min, Max) and form in (columns.INTEGERS, columns.FLOATS):
        return column
    if kind in _FINISHED_AS_THEY_ARE:
        return column
    return columns.make([aggregation.finish(state) for state in columns.to_values(column)])


def _state_of_piece(aggregation: Aggregation[Any, Any, Any], piece: Column) -> list[Any]:
    """The one state of a piece of a group, in a list."""
    return columns.to_values(_states_of_groups(aggregation, piece, np.zeros(1, np.int64)))


def _states_of_groups(aggregation: Aggregation[Any, Any, Any], column: Column, starts: Index) -> Column:
    """One state for each group, of which each begins at one of `starts`."""
    if isinstance(column, np.ndarray) and columns.form(column) == columns.INTEGERS:
        kind = type(aggregation)
        if kind in (Sum, Count):
            longest = int(np.diff(starts, append=len(column)).max())
            largest = max(int(column.max()), -int(column.min()))
            if largest * longest <= _INT64_MAX:
                return np.add.reduceat(column, starts)
        elif kind in (Min, Max):
            return (np.minimum if kind is Min else np.maximum).reduceat(column, starts)
    counts = np.diff(starts, append=len(column))
    is_alone = counts == 1
    if columns.form(column) == columns.PACKED and 0 < (alone := int(is_alone.sum())) < len(starts):
        # states that meet no other stay packed
        brought = _states_of_groups(aggregation, *_of_several(column, counts))
        together = columns.concatenate([columns.take(column, starts[is_alone]), brought])
        places = np.empty(len(starts), np.int64)
        places[is_alone], places[~is_alone] = np.arange(alone), np.arange(alone, len(starts))
        return columns.take(together, places)
    states = columns.to_values(column)
    ends = [*starts.tolist()[1:], len(states)]
    return columns.make([_merged(aggregation, states[a:b]) for a, b in zip(starts.tolist(), ends, strict=True)])


def _of_several(column: Column, counts: Index) -> tuple[Column, Index]:
    """The states of the keys that have several, and where those of each key begin among them."""
    several = counts[counts > 1]
    return columns.take(column, np.flatnonzero(np.repeat(counts > 1, counts))), np.cumsum(several) - several


def _merged(aggregation: Aggregation[Any, Any, Any], states: list[Any]) -> Any:
    state = states[0]
    for other in states[1:]:
        state = aggregation.merge(state, other)
    return state
