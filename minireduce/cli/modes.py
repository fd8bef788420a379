"""Modes of files as people type them: an octal number, or clauses such as `u+x,go-w` that change what there is.

As `chmod` understands them, without `s` and `t`: the block store knows who may read, write and enter, and nothing else.
"""

from __future__ import annotations

import re

from minireduce.errors import RequestError

_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxX]*)")
_BITS = {"r": 4, "w": 2, "x": 1}
_SHIFTS = {"u": 6, "g": 3, "o": 0}


def mode_after(typed: str, before: int, *, is_directory: bool) -> int:
    """The mode that `typed` makes of the mode `before`. Raises RequestError."""
    if re.fullmatch(r"[0-7]+", typed):
        return int(typed, 8)
    mode = before
    for clause in typed.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise RequestError(
                f"{typed} is no mode", hint="a mode is an octal number such as 640, or clauses such as u+x,go-w"
            )
        whom, how, letters = match.groups()
        if is_directory or mode & 0o111:
            letters = letters.replace("X", "x")
        bits = sum(bit for letter, bit in _BITS.items() if letter in letters)
        for who, shift in _SHIFTS.items():
            if who in whom or "a" in whom or not whom:
                mode = _changed(mode, how, bits << shift, 7 << shift)
    return mode


def _changed(mode: int, how: str, bits: int, all_bits: int) -> int:
    if how == "+":
        return mode | bits
    return mode & ~bits if how == "-" else mode & ~all_bits | bits
