"""Say when what a task holds must go to disk.

Two measures, since each is blind to something. The estimate adds up what buffers know of their own contents, so that
it works everywhere and gives the same spills for the same input; anonymous memory as the kernel counts it catches
what an estimate misses, such as objects nested in values. Freed memory may stay with the process, so the second
counts only while the buffer itself holds a good part.

A spill needs room too: the sorted keys and packed values stand beside the buffer while it is written. Hence the shares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

HELD_SHARE = 0.30  # of the limit, by the estimate
RESIDENT_SHARE = 0.55  # of the limit, by the kernel's count
WORTHWHILE_SHARE = 0.04  # less than this in the buffer would free nothing
COLUMNAR_LIMIT_BYTES_MIN = 64 << 20
"""Below this limit pairs are sorted and merged as Python objects: what sorts arrays takes some 10 MB by itself."""

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = 4096 if sys.platform != "linux" else __import__("os").sysconf("SC_PAGE_SIZE")
_SAMPLE = 64
_MEASURED_FIRST = 2
_MEASURED_BYTES = 1 << 20
_NUMBERS = frozenset({int, float, bool, type(None)})
_TEXTS = frozenset({str, bytes})
_TEXT_BYTES = 49  # of a string beside its characters
_OBJECT_BYTES = 64  # a slot in a dict or list, and what a small value takes


def anonymous_bytes() -> int:
    """Memory of this process that no file backs; 0 where the system does not say."""
    try:
        _, resident, shared, *_ = _STATM.read_bytes().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


class MemoryWatch:
    """The limit of one attempt, on top of what the process took before it began."""

    def __init__(self, limit_bytes: int, idle_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self._idle_bytes = anonymous_bytes() if idle_bytes is None else idle_bytes

    def is_full(self, held_bytes: int) -> bool:
        """Whether a buffer that holds this much must be spilled now."""
        if held_bytes > self.limit_bytes * HELD_SHARE:
            return True
        if held_bytes < self.limit_bytes * WORTHWHILE_SHARE:
            return False
        return anonymous_bytes() - self._idle_bytes > self.limit_bytes * RESIDENT_SHARE


def measured(values: Iterable[Any], count_max: int) -> Iterator[tuple[list[Any], int]]:
    """The values in lists, each with what it takes, roughly: of small ones `count_max`, of large ones few or one.

    A few come first, since nobody knows how large they are before there are some.
    """
    remaining, count = iter(values), min(_MEASURED_FIRST, count_max)
    while taken := list(islice(remaining, count)):
        taken_bytes = held_bytes(taken)
        yield taken, taken_bytes
        count = max(1, min(count_max, _MEASURED_BYTES * len(taken) // max(1, taken_bytes)))


def held_bytes(values: Sequence[Any]) -> int:
    """What these objects take, roughly, with what is nested in them."""
    count = len(values)
    if count <= _SAMPLE:
        return sum(map(deep_bytes, values)) + count * 8
    types = set(map(type, values))
    if types <= _NUMBERS:
        return count * (_OBJECT_BYTES // 2)
    if types <= _TEXTS:
        return _texts_bytes(values)
    if types <= _NUMBERS | _TEXTS:
        texts = [value for value in values if value.__class__ in _TEXTS]
        return (count - len(texts)) * (_OBJECT_BYTES // 2) + _texts_bytes(texts)
    shallow = sum(map(sys.getsizeof, values))
    sample = values[:: count // _SAMPLE]
    deep = sum(map(deep_bytes, sample)) / max(1, sum(map(sys.getsizeof, sample)))
    return int(shallow * max(1.0, deep)) + count * 8


def _texts_bytes(texts: Sequence[Any]) -> int:
    """What strings and bytes take: their lengths, and what a sample says that a character takes. (To ask each for its
    size costs four times as much.)
    """
    sample = texts[:: max(1, len(texts) // _SAMPLE)]
    each = sum(map(sys.getsizeof, sample)) / sum(_TEXT_BYTES + len(text) for text in sample)
    return int(each * (sum(map(len, texts)) + _TEXT_BYTES * len(texts))) + len(texts) * 8


def newest_bytes(table: dict[Any, Any]) -> int:
    """What a dict takes, judged by the entries that came last: the rare keys, which are no shorter than the common."""
    sample = list(islice(reversed(table.items()), _SAMPLE))
    if not sample:
        return 0
    each = sum(deep_bytes(key) + deep_bytes(value) for key, value in sample) / len(sample)
    return int(len(table) * (each + _OBJECT_BYTES)) + sys.getsizeof(table)


def deep_bytes(value: Any, depth: int = 0) -> int:
    """What one object takes with what it contains; long containers are judged by a few of their elements."""
    size = sys.getsizeof(value, _OBJECT_BYTES)
    if depth > 4:
        return size
    inner: Iterable[Any]
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        inner = value
    else:
        return size
    sample = list(islice(inner, 8))
    return size + sum(deep_bytes(part, depth + 1) for part in sample) * len(value) // max(1, len(sample))
