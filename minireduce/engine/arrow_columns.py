"""Turn what a `map_batch` or a `reduce_batch` gave into keys and values as they stand at the shuffle.

Strings, bytes, numbers and lists of numbers without nulls go from array to array; every other type becomes Python
objects and takes the way of the record lane, so that both lanes refuse the same keys and write the same bytes. A row of
a struct is a tuple where it is a key, and a dict where it is a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from minireduce.engine import columns, kernels, key_columns, keys, packed_columns
from minireduce.engine.columns import Column
from minireduce.engine.errors import InvalidValue
from minireduce.engine.key_columns import Keys
from minireduce.engine.kinds import Kinds

_INT64_MAX = (1 << 63) - 1
_HINT = "give a pyarrow.RecordBatch with the columns key and value, such as columns.pairs(keys, values)"
_HEAD_BYTES_MAX = 5
_SHORT_HEAD, _LONG_STRING_MIN = 0xA0, 32  # of strings whose head is one byte, and the length from which it is more


def given_pairs(result: Any, role: str = "map_batch") -> Iterator[tuple[Any, Any]]:
    """The (key, value) arrays of what user code in this role gave. Raises InvalidValue for what is none."""
    import pyarrow as pa

    if isinstance(result, pa.RecordBatch):
        if sorted(result.schema.names) != ["key", "value"]:
            raise InvalidValue(f"{role} gave a batch with the columns {result.schema.names}", hint=_HINT)
        if result.num_rows:
            yield _normal(result.column("key")), _normal(result.column("value"))
    elif isinstance(result, pa.Table):
        for batch in result.to_batches():
            yield from given_pairs(batch, role)
    elif result is None or isinstance(result, str | bytes | dict) or not hasattr(type(result), "__iter__"):
        raise InvalidValue(f"{role} gave {result!r:.80}", hint=_HINT)
    else:
        for part in result:
            if not isinstance(part, pa.RecordBatch | pa.Table):
                raise InvalidValue(f"{role} gave {part!r:.80} among its batches", hint=_HINT)
            yield from given_pairs(part, role)


def _normal(array: Any) -> Any:
    """The same values in a type that stands for those like it: int64, strings or bytes one after the other, or bytes of
    one length.
    """
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        return _normal(array.dictionary_decode())
    if pa.types.is_string_view(kind):
        return kernels.cast(array, pa.large_string())
    if pa.types.is_binary_view(kind) or (pa.types.is_fixed_size_binary(kind) and not is_fixed(array)):
        return kernels.cast(array, pa.large_binary())
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return kernels.cast(array, pa.int64())
    return array


def is_text(array: Any) -> bool:
    """Whether these are strings or bytes, none of them null. Their offsets may have 32 bits or 64."""
    import pyarrow as pa

    kind = array.type
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return not array.null_count and (is_bytes or is_strings(array))


def is_strings(array: Any) -> bool:
    """Whether these are strings."""
    import pyarrow as pa

    return bool(pa.types.is_string(array.type) or pa.types.is_large_string(array.type))


def is_fixed(array: Any) -> bool:
    """Whether these are bytes of one length, which is not zero, and none of them null."""
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_binary(array.type)) and not array.null_count and array.type.byte_width > 0


def unfixed(array: Any) -> Any:
    """The same, as bytes that may differ in length; with offsets of 32 bits where these reach."""
    import pyarrow as pa

    if not is_fixed(array):
        return array
    return kernels.cast(array, pa.binary() if array.nbytes < 1 << 31 else pa.large_binary())


def widened(array: Any) -> Any:
    """The same, with offsets of 64 bits where they have 32."""
    import pyarrow as pa

    if pa.types.is_string(array.type):
        return kernels.cast(array, pa.large_string())
    return kernels.cast(array, pa.large_binary()) if pa.types.is_binary(array.type) else array


def is_integers(array: Any) -> bool:
    """Whether these are ints that fit 64 bits, none of them null."""
    import pyarrow as pa

    return not array.null_count and bool(pa.types.is_int64(array.type))


def plain_keys(array: Any) -> list[Any]:
    """The keys as Python objects."""
    import pyarrow as pa

    plain = plain_values(array)
    return list(map(_without_names, plain)) if pa.types.is_struct(array.type) else plain


def plain_values(array: Any) -> list[Any]:
    """The values as Python objects. (pyarrow makes two for each.)"""
    import pyarrow as pa

    if is_integers(array) or (pa.types.is_float64(array.type) and not array.null_count):
        numbers: list[Any] = key_columns.numbers(array).tolist()
        return numbers
    if not is_text(array):
        plain: list[Any] = array.to_pylist()
        return plain
    stored = kernels.cast(array, pa.large_binary())
    blob = bytes(key_columns.blob(stored))
    if not blob:
        return array.to_pylist()  # type: ignore[no-any-return]
    bounds = key_columns.offsets(stored)
    places = pairwise((bounds - bounds[0]).tolist())
    if not is_strings(array):
        return [blob[start:stop] for start, stop in places]
    if blob.isascii():
        text = blob.decode()
        return [text[start:stop] for start, stop in places]
    return [blob[start:stop].decode() for start, stop in places]


def _without_names(key: Any) -> Any:
    return tuple(map(_without_names, key.values())) if isinstance(key, dict) else key


def admit_first(array: Any, kinds: Kinds) -> None:
    """Hold all keys of a text or integer array to one kind, by the first of them. Raises InvalidKey."""
    if len(array):
        kinds.admit(array[0].as_py())


def encoded_keys(array: Any, kinds: Kinds) -> Keys:
    """The sortable keys. Raises InvalidKey, InvalidValue."""
    if is_fixed(array):
        admit_first(array, kinds)
        return _headed(array, keys.BYTES.encode("latin-1"))
    if is_text(array):
        admit_first(array, kinds)
        check_text(array)
        return keys.marked(array, keys.STR if is_strings(array) else keys.BYTES)
    admitted = [kinds.admit(key) for key in plain_keys(array)]
    return key_columns.of_texts(keys.sortable_all(admitted))


def encoded_bytes(array: Any, kinds: Kinds) -> list[bytes]:
    """The encoding of each key. Raises InvalidKey, InvalidValue."""
    encoded = encoded_keys(array, kinds)
    return [keys.encode(key) for key in keys.decode_all(encoded)] if isinstance(encoded, list) else encoded.to_pylist()


def value_column(array: Any) -> Column:
    """The values as a column. Raises InvalidValue."""
    import pyarrow as pa

    if is_integers(array):
        return np.array(key_columns.numbers(array))
    if pa.types.is_float64(array.type) and not array.null_count:
        return np.array(key_columns.numbers(array))
    if is_fixed(array):
        return _headed(array, _head_of(array.type.byte_width, is_string=False))
    if is_text(array):
        check_text(array)
        return _packed_text(array)
    if (rows := packed_columns.packed_rows(array)) is not None:
        return rows
    made = columns.make(plain_values(array))
    return key_columns.of_bytes(made) if isinstance(made, list) else made


@cache
def _head_of(length: int, *, is_string: bool) -> bytes:
    heads, sizes = _heads(np.array([length], np.int64), is_string=is_string)
    return heads[0, : sizes[0]].tobytes()


def _headed(array: Any, head: bytes) -> Any:
    """Bytes of one length, each after the same head: copied once, as a spill must not change with what a map reuses."""
    width = array.type.byte_width
    stored = np.frombuffer(array.buffers()[1], np.uint8, len(array) * width, array.offset * width)
    return key_columns.headed(stored.reshape(-1, width), head)


def check_text(array: Any) -> None:
    """Raise InvalidValue for strings that are no UTF-8, and for offsets that lead nowhere."""
    import pyarrow as pa

    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InvalidValue(f"a batch has a column that is damaged: {error}") from None


def _packed_text(array: Any) -> Any:
    """Strings or bytes as msgpack has them: each after a head of one to five bytes that tells its length."""
    import pyarrow as pa

    stored = kernels.cast(array, pa.large_binary())
    if (matrix := key_columns.rows(stored)) is not None:
        return key_columns.headed(matrix, _head_of(matrix.shape[1], is_string=is_strings(array)))
    lengths = key_columns.lengths(stored)
    if is_strings(array) and len(lengths) and lengths.max() < _LONG_STRING_MIN:
        return _packed_short(stored, lengths)
    heads, sizes = _heads(lengths, is_string=is_strings(array))
    is_used = np.arange(_HEAD_BYTES_MAX) < sizes[:, None]
    return kernels.call(
        "binary_join_element_wise", key_columns.of_parts(sizes, heads[is_used]), stored, key_columns.of_bytes([b""])[0]
    )


def _packed_short(stored: Any, lengths: npt.NDArray[np.int64]) -> Any:
    """Strings that have heads of one byte, in a third of the time."""
    bounds = key_columns.offsets(stored)
    content = np.frombuffer(key_columns.blob(stored), np.uint8)
    heads_at = bounds[:-1] - bounds[0] + np.arange(len(lengths))
    packed = np.empty(len(content) + len(lengths), np.uint8)
    is_content = np.ones(len(packed), np.bool_)
    is_content[heads_at] = False
    packed[is_content] = content
    packed[heads_at] = _SHORT_HEAD | lengths.astype(np.uint8)
    return key_columns.of_parts(lengths + 1, packed)


def _heads(lengths: npt.NDArray[np.int64], *, is_string: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of each head, and how many of them count."""
    heads = np.zeros((len(lengths), _HEAD_BYTES_MAX), np.uint8)
    sizes = np.full(len(lengths), 2, np.int64)
    codes = (0xD9, 0xDA, 0xDB) if is_string else (0xC4, 0xC5, 0xC6)
    heads[:, 0], heads[:, 1] = codes[0], lengths & 0xFF
    for code, size, least in ((codes[1], 3, 1 << 8), (codes[2], 5, 1 << 16)):
        longer = np.flatnonzero(lengths >= least)
        sizes[longer] = size
        heads[longer, 0] = code
        for place in range(1, size):
            heads[longer, place] = (lengths[longer] >> (8 * (size - 1 - place))) & 0xFF
    if is_string:
        short = np.flatnonzero(lengths < _LONG_STRING_MIN)
        sizes[short], heads[short, 0] = 1, _SHORT_HEAD | lengths[short]
    return heads, sizes
