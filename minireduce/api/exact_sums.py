"""Sums that are exact until they are rounded once, so that how values were cut into states never shows.

The state of ints is an int. With a float among them it is the exact sum as few floats that do not overlap (after
Shewchuk, as in `math.fsum`): a float, or a tuple of them, largest first, always the same for the same exact sum. Sums
beyond the range of a float are carried as `(None, n)`, n in units of 2**-1074. Infinities and NaN swallow all that is
finite, whatever it came to, and are carried as the tuple of those that occurred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

State = int | float | tuple[Any, ...]

_UNIT_BITS = 1074  # the smallest float is 2**-1074
_FLOAT_BITS = 1023  # an int of so many is less than the largest float, also once it is rounded


def add_all(state: State, values: Sequence[Any]) -> State:
    """`state` and these numbers; None is skipped. Raises TypeError for what is no int or float."""
    kinds = set(map(type, values))
    if kinds == {int}:
        total = sum(values)
        return state + total if type(state) is int else _merge_floats(state, total)
    if kinds != {float}:
        values = [_plain(value) for value in values if value is not None]
        whole = sum(value for value in values if type(value) is int)
        values = [value for value in values if type(value) is float]
        state = merge(state, whole)
        if not values:
            return state
    return merge(state, _reduced(values))


def merge(left: State, right: State) -> State:
    """The exact sum of both."""
    if type(left) is int and type(right) is int:
        return left + right
    return _merge_floats(left, right)


def finish(state: State) -> float:
    """The sum; rounded to the nearest float unless all were ints. Raises what `math.fsum` raises."""
    if not isinstance(state, tuple):
        return state
    return float(_fraction(state)) if state[0] is None else math.fsum(state)


def divide(state: State, count: int) -> float:
    """The sum divided by `count`, rounded once. Raises as `finish`."""
    if isinstance(state, tuple | float):
        total = finish(state) if not _is_wide(state) else 0.0
        if not math.isfinite(total):
            return total
    return float(_fraction(state) / count)


def _is_wide(state: State) -> bool:
    """Whether it may be beyond the range of a float."""
    if isinstance(state, tuple):
        return state[0] is None
    return isinstance(state, int) and state.bit_length() > _FLOAT_BITS


def _plain(value: Any) -> int | float:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if type(value).__module__ == "numpy" and hasattr(value, "item") and isinstance(value.item(), int | float):
        return _plain(value.item())
    raise TypeError(f"sums are of int and float, not of {type(value).__name__}: {value!r:.80}")


def _merge_floats(left: State, right: State) -> State:
    if _is_wide(left) or _is_wide(right):
        specials = [p for state in (left, right) if not _is_wide(state) for p in _floats(state) if not math.isfinite(p)]
        return _reduced(specials) if specials else _narrowed(_fraction(left) + _fraction(right))
    return _reduced([*_floats(left), *_floats(right)])


def _floats(state: State) -> tuple[float, ...]:
    """Floats whose exact sum is the state; a large int needs several."""
    if isinstance(state, tuple):
        return state
    if isinstance(state, float):
        return (state,)
    parts = []
    while True:
        part = float(state)
        parts.append(part)
        state -= int(part)
        if not state:
            return tuple(parts)


def _reduced(values: Sequence[float]) -> State:
    """The one form of the exact sum of floats."""
    try:
        total = math.fsum(values)
    except OverflowError:  # of what came before an infinity, too
        if all(map(math.isfinite, values)):
            return _narrowed(sum(map(Fraction, values), Fraction(0)))
        total = math.nan
    except ValueError:
        total = math.nan
    if not math.isfinite(total):
        names = sorted({repr(value) for value in values if not math.isfinite(value)})
        return float(names[0]) if len(names) == 1 else tuple(map(float, names))
    parts = [total + 0.0]
    rest = [*values, -total]
    while (part := math.fsum(rest)) != 0.0:
        parts.append(part)
        rest.append(-part)
    return parts[0] if len(parts) == 1 else tuple(parts)


def _fraction(state: State) -> Fraction:
    if not isinstance(state, tuple):
        return Fraction(state)
    if state[0] is None:
        return Fraction(state[1], 1 << _UNIT_BITS)
    return sum(map(Fraction, state), Fraction(0))


def _narrowed(total: Fraction) -> State:
    """The usual form if the sum is in range, else the wide one."""
    parts: list[float] = []
    rest = total
    try:
        while not parts or rest:
            parts.append(float(rest))
            rest -= Fraction(parts[-1])
    except OverflowError:
        return (None, int(total * (1 << _UNIT_BITS)))
    return parts[0] if len(parts) == 1 else tuple(parts)
