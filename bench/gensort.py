"""Records of 100 bytes as the sort benchmark's `gensort` makes them, and the checks of its `valsort`.

A record is made of its number and of the random number at that place: a linear congruential generator modulo 2**128, so
any range of records can be made by itself. Binary records are a key of the random number's high ten bytes, 00 11, the
record's number in 32 hexadecimal digits, 88 99 AA BB, the low twelve hexadecimal digits of the random number four times
each, CC DD EE FF. Those of text (`ascii`) have ten printable characters as their key, two spaces, the number, two
spaces, the low thirteen digits four times each, a return and a newline, so programs that sort lines can sort them.

A file is right when its keys ascend bytewise and its count and its checksum, the sum of the CRC-32 of all records, are
those of the input. Where several files hold the output they count as one after the other, in order of their names.

    python bench/gensort.py make FILE RECORDS [--ascii] [--first N]
    python bench/gensort.py check FILE...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

RECORD_BYTES = 100
KEY_BYTES = 10
LANES = 1 << 14
"""Records that are made at once; the generator goes that many places on in one step."""

_FACTOR = 0x2360ED051FC65DA44385DF649FCCF645
_TERM = 0x4A696D47726179524950202020202001
_LIMB_BITS = 32
_MASK = np.uint64((1 << _LIMB_BITS) - 1)
_HEX = np.frombuffer(b"0123456789ABCDEF", np.uint8)
_PRINTABLE = np.uint64(95)


@dataclass(frozen=True)
class Checked:
    """What `valsort` tells of a file. `unordered` is the first record whose key is below the one before; None: none."""

    records: int
    checksum: int
    duplicates: int
    unordered: int | None


def make(path: Path, records: int, *, ascii: bool = False, first: int = 0) -> None:  # noqa: A002 - gensort's word
    """Write `records` records from number `first` on."""
    write = _ascii if ascii else _binary
    limbs = _lanes(first)
    factor, term = _skip(LANES)
    with path.open("wb") as out:
        for begin in range(first, first + records, LANES):
            count = min(LANES, first + records - begin)
            out.write(write(limbs[:, :count], begin).tobytes())
            limbs = _step(limbs, factor, term)


def check(paths: Iterable[Path]) -> Checked:
    """Order, count and checksum of all records of these files, one after the other."""
    records = checksum = duplicates = 0
    unordered: int | None = None
    before = b""
    for path in paths:
        data = path.read_bytes()
        if len(data) % RECORD_BYTES:
            raise ValueError(f"{path} is not a whole number of records long")
        view = memoryview(data)
        checksum += sum(map(crc32, (view[at : at + RECORD_BYTES] for at in range(0, len(data), RECORD_BYTES))))
        keys = [data[at : at + KEY_BYTES] for at in range(0, len(data), RECORD_BYTES)]
        for number, (last, key) in enumerate(zip([before, *keys], keys, strict=False)):
            if key <= last:
                duplicates += key == last
                if key < last and unordered is None:
                    unordered = records + number
        records += len(keys)
        before = keys[-1] if keys else before
    return Checked(records, checksum, duplicates, unordered)


def _skip(places: int) -> tuple[int, int]:
    """Factor and term that go so many places on."""
    factor, term = 1, 0
    power_factor, power_term = _FACTOR, _TERM
    while places:
        if places & 1:
            factor, term = factor * power_factor % 2**128, (power_factor * term + power_term) % 2**128
        power_factor, power_term = power_factor**2 % 2**128, (power_factor + 1) * power_term % 2**128
        places >>= 1
    return factor, term


def _lanes(first: int) -> np.ndarray:
    """The random numbers of records `first` to `first + LANES`, as four limbs each, the low one first."""
    _, number = _skip(first)  # the generator begins at zero
    numbers = []
    for _ in range(LANES):
        number = (number * _FACTOR + _TERM) % 2**128
        numbers.append(number)
    rows = [[number >> _LIMB_BITS * limb & 0xFFFFFFFF for number in numbers] for limb in range(4)]
    return np.array(rows, np.uint64)


def _step(limbs: np.ndarray, factor: int, term: int) -> np.ndarray:
    """`limbs * factor + term` modulo 2**128."""
    factors = [np.uint64(factor >> _LIMB_BITS * limb & 0xFFFFFFFF) for limb in range(4)]
    sums = [np.full(limbs.shape[1], term >> _LIMB_BITS * limb & 0xFFFFFFFF, np.uint64) for limb in range(4)]
    for left in range(4):
        for right in range(4 - left):
            product = limbs[left] * factors[right]
            sums[left + right] += product & _MASK
            if left + right < 3:
                sums[left + right + 1] += product >> np.uint64(_LIMB_BITS)
    for limb in range(3):
        sums[limb + 1] += sums[limb] >> np.uint64(_LIMB_BITS)
    return np.array([each & _MASK for each in sums])


def _high_low(limbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shift = np.uint64(_LIMB_BITS)
    return limbs[3] << shift | limbs[2], limbs[1] << shift | limbs[0]


def _numbers(out: np.ndarray, begin: int) -> None:
    """The 32 hexadecimal digits of each record's number."""
    out[:, :16] = _HEX[0]
    numbers = np.arange(begin, begin + len(out), dtype=np.uint64)
    for place in range(16):
        out[:, 16 + place] = _HEX[numbers >> np.uint64(60 - 4 * place) & np.uint64(15)]


def _filler(out: np.ndarray, low: np.ndarray, digits: int) -> None:
    for place in range(digits):
        digit = _HEX[low >> np.uint64(4 * (digits - 1 - place)) & np.uint64(15)]
        out[:, 4 * place : 4 * place + 4] = digit[:, None]


def _binary(limbs: np.ndarray, begin: int) -> np.ndarray:
    high, low = _high_low(limbs)
    out = np.empty((limbs.shape[1], RECORD_BYTES), np.uint8)
    out[:, :8] = high.astype(">u8").view(np.uint8).reshape(-1, 8)
    out[:, 8:10] = low.astype(">u8").view(np.uint8).reshape(-1, 8)[:, :2]
    out[:, 10:12] = (0x00, 0x11)
    _numbers(out[:, 12:44], begin)
    out[:, 44:48] = (0x88, 0x99, 0xAA, 0xBB)
    _filler(out[:, 48:96], low, 12)
    out[:, 96:] = (0xCC, 0xDD, 0xEE, 0xFF)
    return out


def _ascii(limbs: np.ndarray, begin: int) -> np.ndarray:
    high, low = _high_low(limbs)
    out = np.full((limbs.shape[1], RECORD_BYTES), ord(" "), np.uint8)
    for source, places in ((high, range(8)), (low, range(8, 10))):
        left = source.copy()
        for place in places:
            out[:, place] += (left % _PRINTABLE).astype(np.uint8)
            left //= _PRINTABLE
    _numbers(out[:, 12:44], begin)
    _filler(out[:, 46:98], low, 13)
    out[:, 98:] = (ord("\r"), ord("\n"))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make")
    making.add_argument("file", type=Path)
    making.add_argument("records", type=int)
    making.add_argument("--ascii", action="store_true")
    making.add_argument("--first", type=int, default=0)
    checking = verbs.add_parser("check")
    checking.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.verb == "make":
        make(options.file, options.records, ascii=options.ascii, first=options.first)
        return
    checked = check(options.files)
    print(f"Records: {checked.records}\nChecksum: {checked.checksum:x}\nDuplicate keys: {checked.duplicates}")
    if checked.unordered is not None:
        sys.exit(f"First unordered record is record {checked.unordered}")
    print("SUCCESS - all records are in order")


if __name__ == "__main__":
    main()
