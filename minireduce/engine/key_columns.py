"""Sortable keys of many pairs side by side: as Python strings where user code sees each of them, as an Arrow array of
the same bytes where only kernels do.

pyarrow's own conversions from and to lists and numpy are not used here: the first of them imports pandas, where that is
installed, and so takes 36 MB of a task. What is done by its memory and kernels alone does not.

Both forms hold the encoding of `keys` and sort alike. A list is made of one-byte characters (see `keys`); an array is
`large_binary` without nulls. What stands here takes either form and gives the same answer for both; which one a task
uses is decided where its pairs are read or gathered, and never shows in what it writes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import ne
from typing import Any

import numpy as np
import numpy.typing as npt

from minireduce.engine import kernels

Index = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint64] | npt.NDArray[np.uint32]
Keys = list[str] | Any
"""A list of sortable strings, or a `pyarrow.LargeBinaryArray` of the same bytes."""

_NUMBER_BYTES = 8
_OF_LENGTH = np.array([(1 << 64) - (1 << 8 * (8 - length)) for length in range(9)], np.uint64)
"""What is left of eight bytes, the first of them the highest, of which so many are a key's."""
_KEYS_BY_DIGITS_MIN = 4096  # fewer are put in order as fast by the kernel alone
_NARROW_BYTES_MAX = 1 + 2 * _NUMBER_BYTES  # the kind, and what two numbers hold
_DIGIT_BITS = 16  # of a number by which rows are put in order at once, by counting
_SHORT_BITS_MAX, PACKED_BITS_MAX = 2 * _DIGIT_BITS, 4 * _DIGIT_BITS
_ROWS_SAMPLED = 64


def of_texts(texts: Sequence[str]) -> Any:
    """The array of sortable strings."""
    return of_parts(np.fromiter(map(len, texts), np.int64, len(texts)), "".join(texts).encode("latin-1"))


def of_bytes(keys: Sequence[bytes]) -> Any:
    """The array of these bytes."""
    return of_parts(np.fromiter(map(len, keys), np.int64, len(keys)), b"".join(keys))


def of_marked(data: bytes, mark: bytes, count: int) -> Any:
    """The array of `count` keys, each of which begins at a byte `mark`; None where that byte stands in keys as well."""
    import pyarrow as pa

    begins = np.flatnonzero(np.frombuffer(data, np.uint8) == mark[0])
    if len(begins) != count:
        return None
    bounds = np.append(begins, len(data)).astype(np.int64, copy=False)
    return pa.Array.from_buffers(pa.large_binary(), count, [None, pa.py_buffer(bounds), pa.py_buffer(data)])


def narrowed(keys: Any) -> Any:
    """The same array with offsets of 32 bits, by which grouping takes half as long, where they reach."""
    import pyarrow as pa

    bounds = offsets(keys)
    if not len(keys) or bounds[-1] >= 1 << 31:
        return keys
    return pa.Array.from_buffers(
        pa.binary(), len(keys), [None, pa.py_buffer(bounds.astype(np.int32)), keys.buffers()[2]]
    )


def of_parts(lengths: npt.NDArray[Any], blob: Any) -> Any:
    """The array of keys of these lengths, whose bytes stand one after the other in `blob`, a buffer."""
    import pyarrow as pa

    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(blob)])


def to_texts(keys: Keys) -> list[str]:
    """The keys as sortable strings."""
    if isinstance(keys, list):
        return keys
    if not len(keys):
        return []
    text, bounds = bytes(blob(keys)).decode("latin-1"), offsets(keys)
    places = (bounds - bounds[0]).tolist()
    return [text[start:stop] for start, stop in pairwise(places)]


def offsets(keys: Any) -> Index:
    """Where each key of an array begins in its data buffer, and where the last one ends."""
    return np.frombuffer(keys.buffers()[1], np.int64, len(keys) + 1, keys.offset * 8)


def lengths(keys: Keys) -> Index:
    """How many bytes each key has."""
    if isinstance(keys, list):
        return np.fromiter(map(len, keys), np.int64, len(keys))
    return np.diff(offsets(keys)) if len(keys) else np.zeros(0, np.int64)


def blob(keys: Keys) -> Any:
    """The bytes of all keys, one after the other: bytes, or a view of them."""
    if isinstance(keys, list):
        return "".join(keys).encode("latin-1")
    data = keys.buffers()[2] if len(keys) else None
    if data is None:
        return b""
    bounds = offsets(keys)
    return memoryview(data)[int(bounds[0]) : int(bounds[-1])]


def size_bytes(keys: Keys) -> int:
    """What the keys of an array take in memory."""
    return 8 * (len(keys) + 1) + len(blob(keys))


def concatenate(parts: Sequence[Keys]) -> Keys:
    """One after the other; a list only if all are."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, list) for part in parts):
        return [key for part in parts for key in part]
    import pyarrow as pa

    return pa.concat_arrays([of_texts(part) if isinstance(part, list) else part for part in parts])


def take(keys: Keys, index: Index) -> Keys:
    """The keys at these places."""
    return taking(keys)(index)


def taking(keys: Keys) -> Callable[[Index], Keys]:
    """What takes keys from there; that they are of one length is found out once."""
    if isinstance(keys, list):
        return lambda index: [keys[i] for i in index.tolist()]
    matrix = rows(keys)
    if matrix is None:
        return lambda index: kernels.call("take", keys, of_integers(index))
    return lambda index: of_rows(taken_rows(matrix, index))


def taken_rows(matrix: npt.NDArray[np.uint8], index: Index) -> npt.NDArray[np.uint8]:
    """The rows at these places, each moved as a whole."""
    width = matrix.shape[1]
    stored = matrix.view(f"V{width}").reshape(-1)
    return np.take(stored, np.asarray(index, np.int64)).view(np.uint8).reshape(-1, width)


def rows(keys: Any) -> npt.NDArray[np.uint8] | None:
    """The bytes of each key of an array, a row each, in the same memory; None where lengths differ or are zero."""
    bounds = offsets(keys) if len(keys) else np.zeros(2, np.int64)
    width = int(bounds[1] - bounds[0])
    if not width or bounds[-1] - bounds[0] != width * len(keys) or (bounds[1:] - bounds[:-1] != width).any():
        return None
    return np.frombuffer(blob(keys), np.uint8).reshape(-1, width)


def of_rows(matrix: npt.NDArray[np.uint8], kind: Any = None) -> Any:
    """The array of keys of one length, a row each; of another type than theirs, if strings are wanted."""
    import pyarrow as pa

    rows, width = matrix.shape
    kind = pa.large_binary() if kind is None else kind
    is_wide = pa.types.is_large_binary(kind) or pa.types.is_large_string(kind)
    bounds = (np.arange(rows + 1) * width).astype(np.int64 if is_wide else np.int32, copy=False)
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(np.ascontiguousarray(matrix))]
    return pa.Array.from_buffers(kind, rows, buffers)


def headed(matrix: npt.NDArray[np.uint8], head: bytes) -> Any:
    """The array of rows, each after the same bytes: in memory of its own, whatever the rows are a view of."""
    rows, width = matrix.shape
    found = np.empty((rows, len(head) + width), np.uint8)
    found[:, : len(head)] = np.frombuffer(head, np.uint8)
    found[:, len(head) :] = matrix
    return of_rows(found)


def first_at_least(keys: Keys, key: Any, start: int) -> int:
    """Where the keys from `start` on, which ascend, reach `key`."""
    return bisect_left(keys, key, start) if isinstance(keys, list) else bisect_left(_Bytes(keys), key, start)


def first_above(keys: Keys, key: Any, start: int) -> int:
    """Where the keys from `start` on, which ascend, pass `key`."""
    return bisect_right(keys, key, start) if isinstance(keys, list) else bisect_right(_Bytes(keys), key, start)


def at(keys: Keys, index: int) -> Any:
    """One key in a form that compares with others of such columns: str of a list, bytes of an array."""
    return keys[index] if isinstance(keys, list) else keys[index].as_py()


class _Bytes:
    """What bisect needs of an array."""

    def __init__(self, keys: Any) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> bytes:
        key: bytes = self._keys[index].as_py()
        return key


def group_starts(keys: Keys) -> Index:
    """Where each run of equal keys begins."""
    if not len(keys):
        return np.zeros(0, np.int64)
    if isinstance(keys, list):
        follows = iter(keys)
        next(follows)
        differs = np.fromiter(map(ne, follows, keys), np.bool_, len(keys) - 1)
    else:
        differs = booleans(kernels.call("not_equal", keys[1:], keys[:-1]))
    return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(differs) + 1))


def order(keys: Keys) -> Index:
    """The places of the keys in ascending order; equal ones stay in the order in which they are."""
    if isinstance(keys, list):
        return _listed_order(keys)
    if (matrix := _narrow_rows(keys)) is None:
        return _text_order(keys)
    found = packed(matrix, _SHORT_BITS_MAX)
    return _narrow_order(matrix, _digits_order) if found is None else counted_order(found)


def order_of_runs(keys: Keys) -> Index:
    """The same, for keys that ascend in a few runs one after the other."""
    if isinstance(keys, list):
        return _listed_order(keys)
    if (matrix := _narrow_rows(keys)) is not None:
        return _narrow_order(matrix, _runs_order)
    return _kernel_order(keys)


def _listed_order(keys: list[str]) -> Index:
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _kernel_order(keys: Any) -> Index:
    return numbers(kernels.sort_indices(keys)).astype(np.int64)


def _text_order(keys: Any) -> Index:
    """The order of keys of one kind by the eight bytes after it; those that are equal in these are left to the kernel,
    which finds them nearly in order and one after the other in memory, and so takes a fraction of the time.
    """
    sizes = lengths(keys)
    if len(keys) < _KEYS_BY_DIGITS_MIN or not sizes.all():
        return _kernel_order(keys)
    data = np.frombuffer(b"".join((blob(keys), bytes(_NUMBER_BYTES))), np.uint8)
    starts = offsets(keys)[:-1] - offsets(keys)[0]
    kinds = data[starts]
    if (kinds != kinds[0]).any():
        return _kernel_order(keys)
    eights = np.ndarray((len(data) - _NUMBER_BYTES + 1,), ">u8", data, strides=(1,))
    found = eights[starts + 1].astype(np.uint64) & _OF_LENGTH[np.minimum(sizes - 1, _NUMBER_BYTES)]
    index = counted_order(found)
    tied = _tied(found[index])
    if len(tied):
        places = index[tied]
        index[tied] = places[_kernel_order(take(keys, places))]
    return index


def _tied(ordered: Numbers) -> Index:
    """The places of the numbers that have an equal neighbour."""
    is_same = ordered[1:] == ordered[:-1]
    return np.flatnonzero(np.append(is_same, False) | np.insert(is_same, 0, False))


def _narrow_rows(keys: Any) -> npt.NDArray[np.uint8] | None:
    """The bytes of short keys of one length and one kind, a row each; None of others."""
    matrix = rows(keys)
    is_narrow = matrix is not None and matrix.shape[1] <= _NARROW_BYTES_MAX and (matrix[:, 0] == matrix[0, 0]).all()
    return matrix if is_narrow else None


def _narrow_order(matrix: npt.NDArray[np.uint8], numbers_order: Callable[[Numbers], tuple[Index, Numbers]]) -> Index:
    """The order of short keys of one length and one kind, as of two numbers of eight bytes: the first and the last.

    What the order by the first of them leaves open, and the second, count only for keys that are equal in what it
    looked at. What the second has in common with the first is equal then.
    """
    width = matrix.shape[1]
    if width <= _NUMBER_BYTES:
        matrix = np.pad(matrix, ((0, 0), (0, 1 + _NUMBER_BYTES - width)))
        width = 1 + _NUMBER_BYTES
    first = _numbers_at(matrix, 1)
    index, looked_at = numbers_order(first)
    tied = _tied(looked_at)
    if len(tied):
        last = _numbers_at(matrix, width - _NUMBER_BYTES)
        places = index[tied]
        index[tied] = places[np.lexsort((last[places], first[places]))]
    return index


def _digits_order(found: Numbers) -> tuple[Index, Numbers]:
    """The order of numbers by the 32 bits from the first one on in which they differ, and those bits in that order.

    Places are put in order by 16 bits at a time, the lower ones first, which numpy does by counting. It takes a third
    of the time of sorting numbers of 64 bits, and the same on every processor: numpy's own way through wide registers
    is five times as fast on one as on another.
    """
    differing = int(np.bitwise_or.reduce(found ^ found[0]))
    digits = (found >> np.uint64(max(0, differing.bit_length() - 32))).astype(np.uint32)
    index = counted_order(digits)
    return index, digits[index]


def packed(matrix: npt.NDArray[np.uint8], bits_max: int = PACKED_BITS_MAX) -> Numbers | None:
    """A number for each row, which sort and are equal as the rows do: of each byte, the bits from the first one on in
    which any two rows differ, none of most. None where these are too many. Digits have four bits each, so that a number
    of 64 bits holds sixteen of them.
    """
    if sum(_differing_bits(matrix[:_ROWS_SAMPLED])) > bits_max or sum(widths := _differing_bits(matrix)) > bits_max:
        return None
    found: npt.NDArray[Any] = np.zeros(len(matrix), np.uint32 if sum(widths) <= _SHORT_BITS_MAX else np.uint64)
    for place, bits in enumerate(widths):
        if bits:
            found <<= found.dtype.type(bits)
            found |= matrix[:, place] & np.uint8((1 << bits) - 1)
    return found


def _differing_bits(matrix: npt.NDArray[np.uint8]) -> list[int]:
    """Of the bytes at each place of the rows, how many bits there are from the first one on in which any two differ."""
    columns = (matrix[:, place] for place in range(matrix.shape[1]))
    return [int(np.bitwise_or.reduce(column ^ column[0])).bit_length() for column in columns]


def counted_order(found: Numbers) -> Index:
    """The order of numbers, equal ones as they are: by 16 bits at a time, the lower ones first, as far as any have."""
    if (found[1:] >= found[:-1]).all():
        return np.arange(len(found))
    kind = found.dtype.type
    index = np.argsort(found.astype(np.uint16), kind="stable")
    for shift in range(_DIGIT_BITS, int(found.max()).bit_length(), _DIGIT_BITS):
        digits = (found >> kind(shift)).astype(np.uint16)
        index = index[np.argsort(digits[index], kind="stable")]
    return index


def _runs_order(found: Numbers) -> tuple[Index, Numbers]:
    """The order of numbers, which a stable sort finds by merging runs, and the numbers in that order."""
    index = np.argsort(found, kind="stable")
    return index, found[index]


def _numbers_at(matrix: npt.NDArray[np.uint8], place: int) -> Numbers:
    """The eight bytes of each row from this place on, as a number that sorts as they do."""
    rows, width = matrix.shape
    return np.ndarray((rows,), ">u8", matrix.data, offset=place, strides=(width,)).astype(np.uint64)


def of_integers(numbers: Index) -> Any:
    """An Arrow array of int64 over the same memory."""
    import pyarrow as pa

    buffer = pa.py_buffer(np.ascontiguousarray(numbers, np.int64))
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, buffer])


def numbers(array: Any) -> npt.NDArray[Any]:
    """The numbers of an Arrow array without nulls, in the same memory."""
    kind = np.dtype(str(array.type).replace("double", "float64").replace("halffloat", "float16"))
    if not len(array):
        return np.zeros(0, kind)
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * kind.itemsize)


def booleans(array: Any) -> npt.NDArray[np.bool_]:
    """The truth values of an Arrow array without nulls."""
    if not len(array):
        return np.zeros(0, np.bool_)
    bits = np.frombuffer(array.buffers()[1], np.uint8)
    unpacked = np.unpackbits(bits, count=array.offset + len(array), bitorder="little")
    return unpacked[array.offset :].astype(np.bool_)
