"""Sizes as people write them: `"512MB"`, `"1.5GiB"`, or a number of bytes."""

from __future__ import annotations

import re

from minireduce.errors import RequestError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?)B?\s*", re.IGNORECASE)


def parse_size_bytes(size: str | int) -> int:
    """The number of bytes; at least 1. Raises RequestError."""
    if isinstance(size, int) and not isinstance(size, bool):
        amount = size
    else:
        match = _PATTERN.fullmatch(size) if isinstance(size, str) else None
        if match is None or match[2].upper() not in _UNITS:
            raise RequestError(f"{size!r} is no size", hint='write it as "512MB" or "1.5GiB", or as a number of bytes')
        amount = int(float(match[1]) * _UNITS[match[2].upper()])
    if amount < 1:
        raise RequestError(f"{size!r} is no size: it must be at least one byte")
    return amount
