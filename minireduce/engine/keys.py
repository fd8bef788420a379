"""One canonical byte encoding of keys, whose order is the order of keys: sorting, grouping and the partition hash
share it.

`docs/formats.md` has the layout and test vectors. In short: one byte names the kind, None has the smallest; ints
carry their length and big-endian magnitude, floats their bits with the sign folded, strings UTF-8 (whose byte order
is that of code points), times their microseconds, and inside a tuple strings end with a zero byte.

Encoded keys live in memory as `str` with one character a byte (latin-1), since CPython compares two such strings with
one memcmp while it sorts, but `bytes` with a call each. On disk and to the hash they are the bytes.

Equal keys have one form: -0.0 is 0.0, an aware datetime is its instant and comes back in UTC, subclasses and numpy
scalars are their plain kind. NaN, NaT and lone surrogates are refused. That all keys of a step are of one kind is
kept by `kinds`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from minireduce.engine import kernels, key_columns, key_hashes
from minireduce.engine.errors import InvalidKey
from minireduce.engine.key_columns import Keys

NONE, BOOL, INT, FLOAT, STR, BYTES, DATE, NAIVE, AWARE, TUPLE = (chr(tag) for tag in range(1, 11))
_MARKS: dict[type, bytes] = {str: STR.encode(), bytes: BYTES.encode()}
TUPLE_LENGTH_MAX = 255

_ORIGIN = datetime(1, 1, 1)  # noqa: DTZ001  naive on purpose
_ORIGIN_UTC = datetime(1, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FLOAT = struct.Struct(">d")
_LONG = 120  # ints of this many bytes and more carry their length in eight bytes
_SIGN = 1 << 63
_ALL = (1 << 64) - 1


def encode(key: Any) -> bytes:
    """The canonical bytes of a plain key, as `kinds.plain` gives it. Raises InvalidKey."""
    return sortable(key).encode("latin-1")


def decode(encoded: bytes) -> Any:
    """The key of these bytes."""
    return _decode_one(encoded.decode("latin-1"))


def sortable(key: Any) -> str:
    """The canonical bytes of a plain key, one character a byte. Raises InvalidKey."""
    return _ENCODERS[type(key)](key)


def sortable_all(keys: Sequence[Any]) -> list[str]:
    """`sortable` of each key."""
    if set(map(type, keys)) == {str}:
        return [STR + key if key.isascii() else _str(key) for key in keys]
    return [_ENCODERS[type(key)](key) for key in keys]


def array_of(keys: Sequence[Any]) -> Any:
    """`sortable_all` as an array (`key_columns`) where a kernel can do it, which is for str alone or bytes alone; else
    None.

    The byte that names the kind stands before each key, so the keys are joined by it, and found again where it is. To
    look at every key as an object once more, wherever in memory it lies, takes several times as long.
    """
    types = set(map(type, keys))
    if types not in ({str}, {bytes}):
        return None
    joined = marked_bytes(keys)
    if joined is not None:
        return array_of_marked(joined, len(keys))
    if types == {bytes}:
        return marked(key_columns.of_bytes(keys), BYTES)
    try:
        return marked(key_columns.of_bytes(list(map(str.encode, keys))), STR)
    except UnicodeEncodeError:
        return None  # the slow way tells which one


def marked_bytes(keys: Sequence[Any]) -> bytes | None:
    """Keys that are all str, or all bytes, joined by the byte that names their kind; None where that stands in one of
    them, or one cannot be stored.
    """
    mark = _MARKS[type(keys[0])]
    try:
        joined: bytes = mark + mark.join(keys) if type(keys[0]) is bytes else (STR + STR.join(keys)).encode()
    except UnicodeEncodeError:
        return None
    return joined if joined.count(mark) == len(keys) else None


def array_of_marked(joined: bytes, count: int) -> Any:
    """The array of what `marked_bytes` gave for so many keys."""
    return key_columns.of_marked(joined, joined[:1], count)


def unjoined(joined: bytes) -> list[Any]:
    """The keys that `marked_bytes` has joined."""
    _, *found = joined.split(joined[:1])
    return found if joined[:1] == _MARKS[bytes] else [key.decode() for key in found]


def marked(stored: Any, kind: str) -> Any:
    """The encoding of an array of strings or bytes: each after the byte that names its kind."""
    import pyarrow as pa

    wide = kernels.cast(stored, pa.large_binary())
    if (matrix := key_columns.rows(wide)) is not None:
        return key_columns.headed(matrix, kind.encode("latin-1"))
    head, nothing = key_columns.of_bytes([kind.encode("latin-1"), b""])
    return kernels.call("binary_join_element_wise", head, wide, nothing)


def unmarked(encoded: Any) -> Any:
    """The array of strings or bytes that `marked` gave this encoding."""
    if (matrix := key_columns.rows(encoded)) is not None and matrix.shape[1] > 1:
        return key_columns.of_rows(matrix[:, 1:])
    data = np.frombuffer(key_columns.blob(encoded), np.uint8)
    bounds = key_columns.offsets(encoded)
    is_kept = np.ones(len(data), np.bool_)
    is_kept[bounds[:-1] - bounds[0]] = False
    return key_columns.of_parts(key_columns.lengths(encoded) - 1, data[is_kept])


def decode_all(encoded: Sequence[str]) -> list[Any]:
    """The key of each sortable string."""
    if {text[0] for text in encoded} == {STR}:
        return [text[1:] if text.isascii() else text[1:].encode("latin-1").decode() for text in encoded]
    return [_decode_one(text) for text in encoded]


def partition_of(encoded: bytes, partitions: int) -> int:
    """The partition that `Hash()` gives to a key: XXH3-64 (seed 0) of its bytes, modulo the number of partitions."""
    return xxhash.xxh3_64_intdigest(encoded) % partitions


def fingerprint(key: Any) -> int:
    """A number from 0 to 2^63 - 1 that tells a plain key from others."""
    return xxhash.xxh3_64_intdigest(encode(key)) >> 1


def partition_all(encoded: Keys, partitions: int) -> npt.NDArray[np.uint32]:
    """`partition_of` each sortable key."""
    if partitions == 1:
        return np.zeros(len(encoded), np.uint32)
    if isinstance(encoded, list):
        digest = xxhash.xxh3_64_intdigest
        hashes = np.array([digest(text.encode("latin-1")) for text in encoded], np.uint64)
    else:
        hashes = key_hashes.hashes(encoded)
    return (hashes % np.uint64(partitions)).astype(np.uint32)


def _str(key: str) -> str:
    try:
        return STR + key.encode().decode("latin-1")
    except UnicodeEncodeError:
        raise InvalidKey(
            f"the key {key!r:.80} has a lone surrogate, which UTF-8 cannot hold",
            hint="decode it with errors='replace', or use bytes as key",
        ) from None


def _int(key: int) -> str:
    if key >= 0:
        length = (key.bit_length() + 7) // 8
        head = chr(0x80 + length) if length < _LONG else chr(0x80 + _LONG) + length.to_bytes(8, "big").decode("latin-1")
        return INT + head + key.to_bytes(length, "big").decode("latin-1")
    length = ((-key).bit_length() + 7) // 8
    head = (
        chr(0x7F - length)
        if length < _LONG
        else chr(0x7F - _LONG) + (_ALL - length).to_bytes(8, "big").decode("latin-1")
    )
    return INT + head + ((1 << 8 * length) - 1 + key).to_bytes(length, "big").decode("latin-1")


def _float(key: float) -> str:
    bits = int.from_bytes(_FLOAT.pack(key), "big")
    folded = _ALL - bits if bits & _SIGN else bits | _SIGN
    return FLOAT + folded.to_bytes(8, "big").decode("latin-1")


def _datetime(key: datetime) -> str:
    if key.tzinfo is None:
        return NAIVE + ((key - _ORIGIN) // _MICROSECOND).to_bytes(8, "big").decode("latin-1")
    return AWARE + ((key - _ORIGIN_UTC) // _MICROSECOND).to_bytes(8, "big").decode("latin-1")


def _tuple(key: tuple[Any, ...]) -> str:
    parts = [TUPLE, chr(len(key))]
    for part in key:
        text = _ENCODERS[type(part)](part)
        if text[0] == STR or text[0] == BYTES:
            # a zero inside is followed by 0xFF, the zero at the end by a kind, which is less
            text = text.replace("\0", "\0\xff") + "\0"
        parts.append(text)
    return "".join(parts)


_ENCODERS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: NONE,
    bool: lambda key: BOOL + ("\1" if key else "\0"),
    int: _int,
    float: _float,
    str: lambda key: STR + key if key.isascii() else _str(key),
    bytes: lambda key: BYTES + key.decode("latin-1"),
    date: lambda key: DATE + key.toordinal().to_bytes(4, "big").decode("latin-1"),
    datetime: _datetime,
    tuple: _tuple,
}


def _decode_one(text: str) -> Any:
    match text[0]:
        case "\x05":
            return text[1:] if text.isascii() else text[1:].encode("latin-1").decode()
        case "\x06":
            return text[1:].encode("latin-1")
        case _:
            return _decode_at(text, 0)[0]


def _number(text: str, start: int, end: int) -> int:
    return int.from_bytes(text[start:end].encode("latin-1"), "big")


def _decode_at(text: str, at: int) -> tuple[Any, int]:
    """The key that begins at `at`, where strings end with a zero, and where it ends."""
    kind = text[at]
    at += 1
    match kind:
        case "\x01":
            return None, at
        case "\x02":
            return text[at] == "\1", at + 1
        case "\x03":
            return _decode_int(text, at)
        case "\x04":
            folded = _number(text, at, at + 8)
            bits = folded ^ _SIGN if folded & _SIGN else _ALL - folded
            return _FLOAT.unpack(bits.to_bytes(8, "big"))[0], at + 8
        case "\x05" | "\x06":
            end = text.index("\0", at)
            while text[end + 1 : end + 2] == "\xff":
                end = text.index("\0", end + 2)
            raw = text[at:end].replace("\0\xff", "\0").encode("latin-1")
            return (raw.decode() if kind == STR else raw), end + 1
        case "\x07":
            return date.fromordinal(_number(text, at, at + 4)), at + 4
        case "\x08":
            return _ORIGIN + _number(text, at, at + 8) * _MICROSECOND, at + 8
        case "\x09":
            return _ORIGIN_UTC + _number(text, at, at + 8) * _MICROSECOND, at + 8
        case _:
            parts = []
            count = ord(text[at])
            at += 1
            for _ in range(count):
                part, at = _decode_at(text, at)
                parts.append(part)
            return tuple(parts), at


def _decode_int(text: str, at: int) -> tuple[int, int]:
    head = ord(text[at])
    at += 1
    is_negative = head < 0x80
    length = 0x7F - head if is_negative else head - 0x80
    if length == _LONG:
        length = _number(text, at, at + 8)
        length = _ALL - length if is_negative else length
        at += 8
    magnitude = _number(text, at, at + length)
    return (magnitude - (1 << 8 * length) + 1 if is_negative else magnitude), at + length
