"""Values of many pairs side by side, in the cheapest form that keeps them exact.

A column is an int64 array when all values are `int` and fit, a float64 array when all are `float`, and else the
packed bytes of each value (`values`). The form depends on the values alone, never on how they came together, so that
the same pairs give the same bytes. Packed values move through sort, spill and merge without being decoded; they stand
in a list, or beside keys that stand in one (`key_columns`) in an Arrow array.

Elsewhere: the functions that users call on the columns of a batch (`api/columns.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minireduce.engine import key_columns
from minireduce.engine import values as packing

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Column = Integers | Floats | list[bytes] | Any
"""Numbers, or packed values: a list of bytes or a `pyarrow.LargeBinaryArray`."""

Index = npt.NDArray[np.int64]

INTEGERS, FLOATS, PACKED = 1, 2, 3

_NUMBER_BYTES = 9  # of a packed float, and of the longest packed int
_INTEGER_HEADS = frozenset({*range(0x80), *range(0xCC, 0xD4), *range(0xE0, 0x100)})  # msgpack's first bytes
_FLOAT_HEAD = 0xCB


def make(values: Sequence[Any]) -> Column:
    """The column of these values. Raises InvalidValue for one that cannot be stored."""
    types = set(map(type, values))
    if types == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            return packing.pack_all(values)
    if types == {float}:
        return np.array(values, np.float64)
    return packing.pack_all(values)


def form(column: Column) -> int:
    """INTEGERS, FLOATS or PACKED."""
    if not isinstance(column, np.ndarray):
        return PACKED
    return INTEGERS if column.dtype == np.int64 else FLOATS


def to_values(column: Column, *, allow_pickle: bool = True) -> list[Any]:
    """The values, of the types they had."""
    if not isinstance(column, np.ndarray):
        return packing.unpack_each(packed_blob(column), packed_lengths(column), allow_pickle=allow_pickle)
    values: list[Any] = column.tolist()
    return values


def packed_blob(column: list[bytes] | Any) -> Any:
    """Packed values, one after the other: bytes, or a view of them."""
    return b"".join(column) if isinstance(column, list) else key_columns.blob(column)


def concatenate(columns: Sequence[Column]) -> Column:
    """One column after the other; packed if they differ in form."""
    if len(columns) == 1:
        return columns[0]
    forms = set(map(form, columns))
    if forms in ({INTEGERS}, {FLOATS}):
        joined: Column = np.concatenate(columns)
        return joined
    packed = [packing.pack_all(column.tolist()) if isinstance(column, np.ndarray) else column for column in columns]
    if all(isinstance(column, list) for column in packed):
        return [value for column in packed for value in column]
    import pyarrow as pa

    arrays = [key_columns.of_bytes(column) if isinstance(column, list) else column for column in packed]
    return pa.concat_arrays(arrays)


def take(column: Column, index: Index) -> Column:
    """The values at these places."""
    return taking(column)(index)


def taking(column: Column) -> Callable[[Index], Column]:
    """What takes values from there, many times."""
    if isinstance(column, list):
        return lambda index: [column[i] for i in index.tolist()]
    return column.__getitem__ if isinstance(column, np.ndarray) else key_columns.taking(column)


def size_bytes(column: Column) -> int:
    """What the values take in memory, as an array."""
    return (
        column.nbytes if isinstance(column, np.ndarray) else 8 * (len(column) + 1) + int(packed_lengths(column).sum())
    )


def weights(column: Column) -> Index:
    """Roughly the bytes that each value takes on disk, whatever the form of the column that it happens to be in."""
    if not isinstance(column, np.ndarray):
        return np.maximum(packed_lengths(column), _NUMBER_BYTES)
    return np.full(len(column), _NUMBER_BYTES, np.int64)


def packed_lengths(column: list[bytes] | Any) -> Index:
    """How many bytes each packed value has."""
    if isinstance(column, list):
        return np.fromiter(map(len, column), np.int64, len(column))
    return key_columns.lengths(column)


def settled(column: Column) -> Column:
    """The column in the form that `make` would have given to its values."""
    if isinstance(column, np.ndarray):
        return column
    heads = {packed[0] for packed in column} if isinstance(column, list) else _heads(column)
    if heads <= _INTEGER_HEADS or heads == {_FLOAT_HEAD}:
        return make(to_values(column))
    return column


def _heads(column: Any) -> set[int]:
    starts = key_columns.offsets(column)[:-1] - key_columns.offsets(column)[0]
    heads = np.frombuffer(packed_blob(column), np.uint8)[starts]
    return set(np.flatnonzero(np.bincount(heads, minlength=256)).tolist())  # `unique` would import masked arrays
