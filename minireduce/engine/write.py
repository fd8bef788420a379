r"""Pairs as lines of text: `key<TAB>value<NEWLINE>`, an export that other programs read.

A None key or value is left out with its tab. Strings stand as they are, with a tab, newline or carriage return inside
written `\t \n \r`; bytes are base64, dates ISO, all else JSON. What JSON cannot say (NaN, infinities, objects) is
refused; a result without a text output keeps its types instead.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from json.encoder import encode_basestring
from types import NoneType
from typing import Any

import numpy as np

from minireduce.engine import arrow_columns, kernels, key_columns, keys, packed_columns
from minireduce.engine.columns import Column
from minireduce.engine.errors import InvalidValue
from minireduce.engine.key_columns import Keys

_SPECIAL = re.compile("[\t\n\r]")
_ALWAYS_TEXT = frozenset({bool, int, bytes, date, datetime, NoneType})
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def text_lines(keys: Sequence[Any], values: Sequence[Any]) -> bytes:
    """The lines of these pairs in UTF-8. Raises InvalidValue."""
    if not keys:
        return b""
    with _any_int_length():
        key_texts, value_texts = _texts(keys), _texts(values)
    if None in key_texts or None in value_texts:
        present = ([text for text in pair if text is not None] for pair in zip(key_texts, value_texts, strict=True))
        joined = "\n".join(map("\t".join, present))
    else:
        joined = "\n".join(map("\t".join, zip(key_texts, value_texts, strict=True)))  # type: ignore[arg-type]
    try:
        return joined.encode() + b"\n"
    except UnicodeEncodeError as error:
        around = joined[max(error.start - 20, 0) : error.end + 20]
        raise InvalidValue(
            f"{around!r} has a lone surrogate, which text in UTF-8 cannot hold", hint="decode it with errors='replace'"
        ) from None


def is_surely_text(value: Any) -> bool:
    """Whether a key or value is of the many that `text_lines` takes for certain; others it must be asked for."""
    kind = type(value)
    return kind in _ALWAYS_TEXT or (kind is str and value.isascii())


def can_be_lines(key: Any, value: Any) -> bool:
    """Whether arrays may become lines without a Python object for each: keys are strings, values strings or ints."""
    is_text = arrow_columns.is_text(value) and arrow_columns.is_strings(value)
    return (
        arrow_columns.is_text(key) and arrow_columns.is_strings(key) and (is_text or arrow_columns.is_integers(value))
    )


def array_lines(key: Any, value: Any) -> memoryview | None:
    """The lines of arrays that can be lines; None where something in them must be written otherwise. Raises
    InvalidValue.
    """
    import pyarrow as pa

    texts = [kernels.cast(array, pa.large_string()) for array in (key, value)]
    for array, text in zip((key, value), texts, strict=True):
        if not arrow_columns.is_integers(array):
            arrow_columns.check_text(text)
            content = bytes(key_columns.blob(text))
            if any(special in content for special in b"\t\n\r"):
                return None
    tab, newline, nothing = key_columns.of_bytes([b"\t", b"\n", b""])
    stored = [kernels.cast(text, pa.large_binary()) for text in texts]
    lines = kernels.call("binary_join_element_wise", stored[0], tab, stored[1], newline, nothing)
    return memoryview(key_columns.blob(lines)).cast("B")


def encoded_lines(encoded: Keys, column: Column) -> memoryview | None:
    """The lines of pairs as they stand in runs, where keys are strings in an array and values ints or strings; None
    elsewhere.
    """
    if isinstance(encoded, list | np.ndarray) or isinstance(column, list):
        return None
    blob = bytearray(key_columns.blob(encoded))
    bounds = key_columns.offsets(encoded)
    bounds = bounds - bounds[0]
    stored = np.frombuffer(blob, np.uint8)
    if (stored[bounds[:-1]] != ord(keys.STR)).any() or any(special in blob for special in b"\t\n\r"):
        return None
    import pyarrow as pa

    values = packed_columns.value_array(column)
    if values is None or not (pa.types.is_int64(values.type) or pa.types.is_string(values.type)):
        return None
    texts = kernels.cast(values, pa.large_string())
    content = bytes(key_columns.blob(texts))
    if values.type != pa.int64() and any(special in content for special in b"\t\n\r"):
        return None
    # The byte that names the kind of a key becomes the newline of the line before; the first line has none before it.
    stored[bounds[:-1]] = ord("\n")
    bounds[0] = 1
    begun = pa.Array.from_buffers(pa.large_binary(), len(encoded), [None, pa.py_buffer(bounds), pa.py_buffer(blob)])
    ends = key_columns.offsets(texts)
    ends = ends - ends[0]
    ends[-1] += 1
    content += b"\n"
    ended = pa.Array.from_buffers(pa.large_binary(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(content)])
    lines = kernels.call("binary_join_element_wise", begun, ended, key_columns.of_bytes([b"\t"])[0])
    return memoryview(key_columns.blob(lines)).cast("B")


def fixed_records(plain: Sequence[Any], values: Sequence[Any], width: int) -> bytes:
    """Key and value of each pair, one after the other. Raises InvalidValue unless they are bytes of this width."""
    for key, value in zip(plain, values, strict=True):
        if not isinstance(key, bytes) or not isinstance(value, bytes) or len(key) + len(value) != width:
            raise InvalidValue(
                f"the key {key!r:.80} and the value {value!r:.80} make no record of {width} bytes",
                hint=f"output=FixedWidth({width}) takes bytes as key and value, {width} in all",
            )
    return b"".join(chain.from_iterable(zip(plain, values, strict=True)))


def encoded_records(encoded: Keys, column: Column, width: int) -> memoryview | None:
    """`fixed_records` of pairs as they stand in runs, where all keys, and all values, are bytes of one length; else
    None.
    """
    if isinstance(encoded, list) or isinstance(column, list | np.ndarray):
        return None
    of_keys, of_values = key_columns.rows(encoded), key_columns.rows(column)
    if of_keys is None or of_values is None or of_keys.shape[1] + of_values.shape[1] != width + 3:
        return None
    length = of_values.shape[1] - 2  # after a head of two bytes: the kind, and the length
    if length > 0xFF or (of_keys[:, 0] != ord(keys.BYTES)).any() or (of_values[:, :2] != (0xC4, length)).any():
        return None
    return np.concatenate((of_keys[:, 1:], of_values[:, 2:]), axis=1).reshape(-1).data


def _texts(values: Sequence[Any]) -> Sequence[str | None]:
    """Each value as text; None stays."""
    types = set(map(type, values))
    if types == {str}:
        return [value.translate(_ESCAPES) for value in values] if _SPECIAL.search("".join(values)) else values
    if types == {int}:
        return list(map(str, values))
    if types == {list}:
        inner = set(map(type, chain.from_iterable(values)))
        if inner == {str}:
            return [f"[{', '.join(map(encode_basestring, value))}]" for value in values]
        if inner == {int}:
            return list(map(str, values))
    return [None if value is None else text_of(value) for value in values]


def text_of(value: Any) -> str:
    """One value, not None, as it stands between tab and newline. Raises InvalidValue."""
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    plain = _plain(value)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, float):
        if not math.isfinite(plain):
            raise InvalidValue(f"{plain!r} has no text form", hint="yield None or a string for it")
        return repr(float(plain))
    try:
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, default=_plain)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValue(
            f"{value!r:.80} has no text form: {error}",
            hint="yield strings or numbers, or leave out the text output",
        ) from None


def _plain(value: Any) -> Any:
    """What JSON can take in place of `value`."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if type(value).__module__ == "numpy":
        return value.tolist()
    if isinstance(value, str | int | float | list | tuple | dict):
        return value
    raise InvalidValue(
        f"a value of type {type(value).__name__} has no text form: {value!r:.80}",
        hint="yield strings or numbers, or leave out the text output",
    )


@contextmanager
def _any_int_length() -> Iterator[None]:
    """Let ints of any length become text; the limit of 4300 digits guards parsers, and we write."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)
