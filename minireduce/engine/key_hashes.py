"""XXH3-64 (seed 0) of many short keys at once, by numpy: the partition hash of a column.

A call of the library for each key costs several times what the hash itself does, since each key must first be a Python
object. Here all keys of one class of lengths go together through the few multiplications that XXH3 has for it (the
specification of XXH3, sections for inputs of up to 128 bytes); longer keys are rare and are left to the library.

Invariant: the same numbers as `xxhash.xxh3_64_intdigest`, for every length. They decide where a key goes, and so must
never change. numpy's arithmetic over uint64 wraps, as that of XXH3 does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from minireduce.engine import key_columns

Words = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]

_KEYS_AT_ONCE = 1 << 14  # so that what lies between the steps stays in the cache
_SHORT_BYTES_MAX = 128
_SECRET = np.frombuffer(  # the first 128 bytes of the one that XXH3 has for inputs without a secret of their own
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
        "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
        "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    ),
    "<u8",
).astype(np.uint64)
_PRIME_1, _PRIME_2, _PRIME_3 = (
    np.uint64(prime) for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
)
_MIX_LONG, _MIX_SHORT = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
_LOW = np.uint64(0xFFFFFFFF)


def hashes(keys: Any) -> Words:
    """The hash of each key of an array (`key_columns`)."""
    found = np.empty(len(keys), np.uint64)
    if not len(keys):
        return found
    bounds = key_columns.offsets(keys)
    starts, lengths = bounds[:-1] - bounds[0], np.diff(bounds)
    data = np.frombuffer(b"".join((key_columns.blob(keys), bytes(8))), np.uint8)  # a key is read eight bytes at a time
    for begin in range(0, len(keys), _KEYS_AT_ONCE):
        part = slice(begin, begin + _KEYS_AT_ONCE)
        found[part] = _hashes(data, starts[part], lengths[part])
    return found


def _hashes(data: npt.NDArray[np.uint8], starts: Index, lengths: Index) -> Words:
    found = np.empty(len(starts), np.uint64)
    shortest, longest = lengths.min(), lengths.max()
    for least, most, kernel in _KERNELS:
        if least <= shortest and longest <= most:
            return kernel(data, starts, lengths)
        places = np.flatnonzero((lengths >= least) & (lengths <= most))
        if len(places):
            found[places] = kernel(data, starts[places], lengths[places])
    for place in np.flatnonzero((lengths == 0) | (lengths > _SHORT_BYTES_MAX)).tolist():
        begin = int(starts[place])
        found[place] = xxhash.xxh3_64_intdigest(data[begin : begin + int(lengths[place])].tobytes())
    return found


def _upto_3(data: npt.NDArray[np.uint8], starts: Index, lengths: Index) -> Words:
    first, middle, last = (
        data[place].astype(np.uint64) for place in (starts, starts + (lengths >> 1), starts + lengths - 1)
    )
    combined = (first << np.uint64(16)) | (middle << np.uint64(24)) | last | (lengths.astype(np.uint64) << np.uint64(8))
    mixed: Words = combined ^ (_SECRET[0] & _LOW) ^ (_SECRET[0] >> np.uint64(32))
    mixed = (mixed ^ (mixed >> np.uint64(33))) * _PRIME_2
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _PRIME_3
    return mixed ^ (mixed >> np.uint64(32))


def _upto_8(data: npt.NDArray[np.uint8], starts: Index, lengths: Index) -> Words:
    words = _eight_bytes(data)
    whole = (words[starts + lengths - 4] & _LOW) + (words[starts] << np.uint64(32))
    mixed: Words = whole ^ _SECRET[1] ^ _SECRET[2]
    mixed = (mixed ^ _rotated(mixed, 49) ^ _rotated(mixed, 24)) * _MIX_SHORT
    mixed = (mixed ^ ((mixed >> np.uint64(35)) + lengths.astype(np.uint64))) * _MIX_SHORT
    return mixed ^ (mixed >> np.uint64(28))


def _upto_16(data: npt.NDArray[np.uint8], starts: Index, lengths: Index) -> Words:
    words = _eight_bytes(data)
    low = words[starts] ^ _SECRET[3] ^ _SECRET[4]
    high = words[starts + lengths - 8] ^ _SECRET[5] ^ _SECRET[6]
    return _ended(lengths.astype(np.uint64) + low.byteswap() + high + _folded(low, high))


def _upto_128(data: npt.NDArray[np.uint8], starts: Index, lengths: Index) -> Words:
    """From both ends towards the middle, sixteen bytes at a time; all of these need the same number of steps."""
    words = _eight_bytes(data)
    total = lengths.astype(np.uint64) * _PRIME_1
    for step in range((int(lengths[0]) + 31) // 32):
        for place, secret in ((starts + 16 * step, 4 * step), (starts + lengths - 16 * (step + 1), 4 * step + 2)):
            total += _folded(words[place] ^ _SECRET[secret], words[place + 8] ^ _SECRET[secret + 1])
    return _ended(total)


Kernel = Callable[[npt.NDArray[np.uint8], Index, Index], Words]
_KERNELS: tuple[tuple[int, int, Kernel], ...] = (
    (1, 3, _upto_3),
    (4, 8, _upto_8),
    (9, 16, _upto_16),
    (17, 32, _upto_128),
    (33, 64, _upto_128),
    (65, 96, _upto_128),
    (97, _SHORT_BYTES_MAX, _upto_128),
)


def _eight_bytes(data: npt.NDArray[np.uint8]) -> Words:
    """At each place, the eight bytes from there on as one little-endian number."""
    words: Words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    return words


def _rotated(numbers: Words, bits: int) -> Words:
    return (numbers << np.uint64(bits)) | (numbers >> np.uint64(64 - bits))


def _folded(left: Words, right: Words) -> Words:
    """The upper half of the product of 128 bits, and the lower, brought together."""
    left_low, left_high = left & _LOW, left >> np.uint64(32)
    right_low, right_high = right & _LOW, right >> np.uint64(32)
    crossed = left_high * right_low
    middle = ((left_low * right_low) >> np.uint64(32)) + (crossed & _LOW) + left_low * right_high
    upper = (crossed >> np.uint64(32)) + (middle >> np.uint64(32)) + left_high * right_high
    both: Words = (left * right) ^ upper
    return both


def _ended(total: Words) -> Words:
    mixed: Words = (total ^ (total >> np.uint64(37))) * _MIX_LONG
    return mixed ^ (mixed >> np.uint64(32))
