"""Turn typed keys and packed values into Arrow arrays and back, by kernels, where that needs no Python object.

Keys that are all strings, all bytes or all None; values that are all strings, all bytes, or all rows: tuples or lists
of one length that hold only ints of 64 bits, or only floats. What is not of these is left to whoever asks, who makes
Python objects of it. The arrays are of the types that `pyarrow.array` would choose for the same objects, so which way
was taken shows only in the time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from minireduce.engine import columns, kernels, key_columns, keys, value_kinds
from minireduce.engine import values as packing
from minireduce.engine.columns import Column
from minireduce.engine.errors import InvalidValue
from minireduce.engine.key_columns import Keys
from minireduce.engine.value_kinds import KeyAt

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]

_ROW_HEAD, _ROW_LENGTH_MAX = 0x90, 15  # elements; what one byte before them tells
_TEXT_HEADS, _BYTES_HEADS = np.zeros(256, np.int64), np.zeros(256, np.int64)
"""How many bytes stand before the text of a packed string, before packed bytes, by their first one; 0 for all else."""
_TEXT_HEADS[0xA0:0xC0] = 1
_TEXT_HEADS[[0xD9, 0xDA, 0xDB]] = 2, 3, 5
_BYTES_HEADS[[0xC4, 0xC5, 0xC6]] = 2, 3, 5
_FLOAT_HEAD, _UNSIGNED_HEAD = 0xCB, 0xCF
_WIDE = {0xCC: ">u1", 0xCD: ">u2", 0xCE: ">u4", 0xCF: ">i8", 0xD0: ">i1", 0xD1: ">i2", 0xD2: ">i4", 0xD3: ">i8"}
"""Ints that stand after their head, by it; those from -32 to 127 are their head. 0xCF is unsigned, and more than an
int64 where it comes out negative.
"""
_WIDER = (
    (1, 0xCC, 0x80, 0xD0, -0x20),
    (2, 0xCD, 1 << 8, 0xD1, -(1 << 7)),
    (4, 0xCE, 1 << 16, 0xD2, -(1 << 15)),
    (8, 0xCF, 1 << 32, 0xD3, -(1 << 31)),
)
"""Bytes after a head; the head of ints from there up, and of ints below there."""


def arrays(encoded: Keys, column: Column) -> tuple[Any, Any]:
    """The arrays of keys and values, of which there is at least one pair. Raises InvalidValue for what makes none, and
    for values of different kinds.
    """
    key, value = key_array(encoded), value_array(column)
    if key is None:
        key = object_keys(keys.decode_all(key_columns.to_texts(encoded)))
    if value is None:
        value = object_values(columns.to_values(column), partial(plain_key, encoded))
    return key, value


def plain_key(encoded: Keys, place: int) -> Any:
    """One of these keys."""
    return keys.decode_all(key_columns.to_texts(encoded[place : place + 1]))[0]


def object_keys(plain: list[Any]) -> Any:
    """The array of keys as Python objects; of tuples a struct, whose rows a batch may give as keys again."""
    import pyarrow as pa

    first = next((key for key in plain if key is not None), None)
    if not isinstance(first, tuple) or not first:
        return object_array(plain)
    width = len(first)
    rows = [(None,) * width if key is None else key for key in plain]
    positions = [object_keys(list(position)) for position in zip(*rows, strict=True)]
    is_none = pa.array([key is None for key in plain], pa.bool_())
    return pa.StructArray.from_arrays(positions, [str(place) for place in range(width)], mask=is_none)


def object_values(plain: list[Any], key_at: KeyAt) -> Any:
    """The array of values as Python objects. Raises InvalidValue as `arrays`."""
    value_kinds.check(plain, key_at)
    return object_array(plain)


def object_array(plain: list[Any]) -> Any:
    """The array of keys or values as Python objects. Raises InvalidValue for what makes none."""
    import pyarrow as pa

    try:
        return pa.array(plain)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise InvalidValue(
            f"keys or values such as {plain[0]!r:.80} make no Arrow column: {error}",
            hint="give a map or a reduce of single records in place of that of batches",
        ) from error


def key_array(encoded: Keys) -> Any | None:
    """The array of these keys, or None."""
    import pyarrow as pa

    firsts = np.frombuffer(key_columns.blob(encoded), np.uint8)[_starts(encoded)]
    kind = chr(firsts[0])
    if (firsts != firsts[0]).any() or kind not in (keys.NONE, keys.STR, keys.BYTES):
        return None
    if kind == keys.NONE:
        return pa.nulls(len(encoded))
    return kernels.cast(keys.unmarked(encoded), pa.string() if kind == keys.STR else pa.binary())


def value_array(column: Column) -> Any | None:
    """The array of these values, or None. A packed column is given as an array, too."""
    import pyarrow as pa

    if isinstance(column, np.ndarray):
        return _numbers(column)
    data = np.frombuffer(key_columns.blob(column), np.uint8)
    starts, lengths = _starts(column), key_columns.lengths(column)
    firsts = data[starts]
    for table, kind in ((_TEXT_HEADS, pa.string()), (_BYTES_HEADS, pa.binary())):
        if (head_bytes := table[firsts]).all():
            texts = key_columns.of_parts(lengths - head_bytes, packing.without_heads(data, starts, head_bytes))
            try:
                made = kernels.cast(texts, kind)
                made.validate(full=True)
            except pa.ArrowInvalid:  # lone surrogates, which UTF-8 cannot hold
                return None
            return made
    return _rows(data, starts, starts + lengths)


def _starts(array: Any) -> Index:
    bounds = key_columns.offsets(array)
    starts: Index = bounds[:-1] - bounds[0]
    return starts


def _numbers(column: npt.NDArray[Any]) -> Any:
    import pyarrow as pa

    buffer = pa.py_buffer(np.ascontiguousarray(column))
    return pa.Array.from_buffers(pa.int64() if column.dtype == np.int64 else pa.float64(), column.size, [None, buffer])


def _rows(data: Bytes, starts: Index, ends: Index) -> Any | None:
    """A list array of rows of numbers."""
    import pyarrow as pa

    head_bytes = packing.tuple_heads(data, starts)
    if head_bytes is None:
        return None
    at = starts + head_bytes
    heads = data[at]
    length = int(heads[0]) - _ROW_HEAD
    if not 0 < length <= _ROW_LENGTH_MAX or (heads != heads[0]).any():
        return None
    at += 1
    padded = np.concatenate((data, np.zeros(8, np.uint8)))
    kind = np.float64 if padded[at[0]] == _FLOAT_HEAD else np.int64
    read = _floats if kind == np.float64 else _integers
    rows = np.empty((len(starts), length), kind)
    for place in range(length):
        if (at >= ends).any() or (sizes := read(padded, at, rows[:, place])) is None:
            return None
        at += sizes
    if (at != ends).any():
        return None
    offsets = np.arange(0, rows.size + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(
        pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)]), _numbers(rows)
    )


def _floats(data: Bytes, at: Index, out: npt.NDArray[Any]) -> Any | None:
    """Read the floats that begin there; how many bytes each has, or None if they are not all floats."""
    if (data[at] != _FLOAT_HEAD).any():
        return None
    out[:] = data[at[:, None] + np.arange(1, 9)].view(">f8")[:, 0]
    return 9


def _integers(data: Bytes, at: Index, out: npt.NDArray[Any]) -> Any | None:
    """Read the ints that begin there; how many bytes each has, or None if they are not all ints of 64 bits."""
    heads = data[at]
    out[:] = heads.astype(np.int8)  # right for those that are their head
    sizes = np.ones(len(at), np.int64)
    is_known = (heads < 0x80) | (heads >= 0xE0)
    for head, form in _WIDE.items():
        found = np.flatnonzero(heads == head)
        if len(found):
            kind = np.dtype(form)
            places = at[found][:, None] + np.arange(1, 1 + kind.itemsize)
            out[found] = data[places].view(kind)[:, 0]
            sizes[found] = 1 + kind.itemsize
            is_known[found] = head != _UNSIGNED_HEAD or out[found] >= 0
    return sizes if is_known.all() else None


def packed_rows(array: Any) -> Any | None:
    """The packed column of an array of lists of numbers, as `columns.make` has it of the same lists, or None."""
    import pyarrow as pa

    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    elements = array.flatten()
    is_float = pa.types.is_float64(elements.type)
    if array.null_count or elements.null_count or not (is_float or pa.types.is_int64(elements.type)):
        return None
    lengths = key_columns.numbers(kernels.call("list_value_length", array)).astype(np.int64)
    if not len(lengths) or lengths.max() > _ROW_LENGTH_MAX:
        return None
    numbers = key_columns.numbers(elements)
    packed, sizes = _packed_floats(numbers) if is_float else _packed_integers(numbers)
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[np.cumsum(lengths)]
    row_bytes = 1 + np.diff(ends, prepend=0)
    is_element = np.ones(int(row_bytes.sum()), np.bool_)
    heads_at = np.cumsum(row_bytes) - row_bytes
    is_element[heads_at] = False
    rows = np.empty(len(is_element), np.uint8)
    rows[heads_at], rows[is_element] = _ROW_HEAD + lengths, packed
    return key_columns.of_parts(row_bytes, rows)


def _packed_floats(numbers: npt.NDArray[Any]) -> tuple[Bytes, Index]:
    packed = np.empty((len(numbers), 9), np.uint8)
    packed[:, 0] = _FLOAT_HEAD
    packed[:, 1:] = numbers.astype(">f8").view(np.uint8).reshape(-1, 8)
    return packed.reshape(-1), np.full(len(numbers), 9, np.int64)


def _packed_integers(numbers: npt.NDArray[Any]) -> tuple[Bytes, Index]:
    """Each in the least bytes that it takes: what is written, and how many bytes of it each one is."""
    raw = numbers.astype(">i8").view(np.uint8).reshape(-1, 8)
    packed = np.zeros((len(numbers), 9), np.uint8)
    packed[:, 0] = raw[:, 7]
    sizes = np.ones(len(numbers), np.int64)
    for size, head_above, least, head_below, lowest in _WIDER:
        for is_wider, head in ((numbers >= least, head_above), (numbers < lowest, head_below)):
            found = np.flatnonzero(is_wider)
            if len(found):
                packed[found, 0] = head
                packed[found, 1 : 1 + size] = raw[found, 8 - size :]
                sizes[found] = 1 + size
    return packed[np.arange(9) < sizes[:, None]], sizes
