"""Hold the values of a column to one kind, so that what a batch holds never depends on where it was cut.

An Arrow column has one type, and values take it from each other: beside 2.5 an int becomes a float, beside b"" a string
becomes bytes, a dict gets the fields of its neighbours, a Decimal their digits. So a value would show which others came
in its batch, which depends on sizes and memory. Values of different kinds are refused instead, by their keys: those in
one batch by `check`, and those of a batch beside the batches before it by `ValueKind`.

None agrees with everything, and a list without elements with every list. Tuples count as lists, since they become
lists. Keys have kinds of their own, to which they are held where they are made (`kinds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from minireduce.engine.errors import InvalidValue

KeyAt = Callable[[int], Any]
"""The key of the value at a place."""

_SCALARS = frozenset({str, bytes, int, float, bool, date})  # whose columns hold them as they are
_WORDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((bool, np.bool_), "bool"),
    ((int, np.integer), "int"),
    ((float, np.floating), "float"),
    (str, "str"),
    ((bytes, bytearray, memoryview), "bytes"),
    (datetime, "datetime"),
    (date, "date"),
    (Decimal, "Decimal"),
    (dict, "dict"),
    ((list, tuple, np.ndarray), "list"),
    ((set, frozenset), "set"),
)
_HOLDERS = frozenset({"list", "set"})
_HINT = "give all keys values of one kind, such as float(n); or write a map or a reduce of single records"


def check(values: Sequence[Any], key_at: KeyAt) -> None:
    """Raise InvalidValue unless each of these has the type in a column of them all that it has in one of its own."""
    if _are_alike(values):
        return
    alike, stop = 0, len(values)  # the first so many are alike, and those up to there are not
    while stop - alike > 1:
        middle = (alike + stop) // 2
        alike, stop = (middle, stop) if _are_alike(values[:middle]) else (alike, middle)
    second = stop - 1
    first = next(place for place in range(stop) if not _are_alike((values[place], values[second])))
    raise _differing((values[first], key_at(first)), (values[second], key_at(second)))


class ValueKind:
    """The kind of the values of all batches so far."""

    def __init__(self) -> None:
        self.type: Any = None  # of Arrow; None before the first batch
        self._example: tuple[Any, Any] = (None, None)

    def admit(self, array: Any, key_at: KeyAt) -> None:
        """Take in the values of a batch. Raises InvalidValue if they are of another kind than those before."""
        met = array.type if self.type is None else _met(self.type, array.type)
        if met is not None and met == self.type:
            return
        example = self._example
        if array.null_count < len(array):
            place = next(place for place in range(len(array)) if array[place].is_valid)
            example = (array[place].as_py(), key_at(place))
        if met is None:
            raise _differing(self._example, example)
        self.type, self._example = met, example


def _are_alike(values: Sequence[Any]) -> bool:
    types = set(map(type, values))
    has_none = type(None) in types
    types.discard(type(None))
    if len(types) < 2 and types <= _SCALARS:
        return True
    words = set(map(_word, types))
    if len(words) > 1:
        return False
    (word,) = words
    present = [value for value in values if value is not None] if has_none else values
    if word in _HOLDERS:
        return _are_alike(list(chain.from_iterable(present)))
    if word == "dict":
        if len(set(map(tuple, present))) > 1:  # also in another order, which a column has from the first of them
            return False
        return all(_are_alike(list(map(itemgetter(name), present))) for name in present[0])
    if word == "datetime":
        zones = {value.tzinfo for value in present}
        return len(zones) == 1 or len(set(map(str, zones))) == 1
    return word != "Decimal" or len({value.as_tuple().exponent for value in present}) == 1


def _word(kind: type) -> str:
    return next((word for kinds, word in _WORDS if issubclass(kind, kinds)), kind.__name__)


def _spelled(value: Any) -> str:
    """What kind of value it is, as far as that matters in a column."""
    word = _word(type(value))
    if word == "dict":
        return f"dict of {', '.join(f'{name}: {_spelled(part)}' for name, part in value.items())}"
    if word in _HOLDERS:
        return f"{word} of {' and '.join(sorted(set(map(_spelled, value)))) or 'nothing'}"
    if word == "datetime":
        return "naive datetime" if value.tzinfo is None else f"datetime in {value.tzinfo}"
    if word == "Decimal":
        return f"Decimal to {-value.as_tuple().exponent} digits" if value.is_finite() else "Decimal without digits"
    return word


def _differing(one: tuple[Any, Any], other: tuple[Any, Any]) -> InvalidValue:
    told = [f"{value!r:.80} of the key {key!r:.80} is {_spelled(value):.80}" for value, key in (one, other)]
    return InvalidValue(
        "values of different kinds do not go into columns, where one would change the other: " + ", and ".join(told),
        hint=_HINT,
    )


def _met(one: Any, other: Any) -> Any:
    """The type of which both are, or None."""
    import pyarrow as pa

    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        element = _met(one.value_type, other.value_type)
        return None if element is None else pa.list_(element)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        names = [one.field(place).name for place in range(one.num_fields)]
        if names != [other.field(place).name for place in range(other.num_fields)]:
            return None
        fields = [_met(one.field(name).type, other.field(name).type) for name in names]
        return None if None in fields else pa.struct(list(zip(names, fields, strict=True)))
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        return one if one.scale == other.scale else None
    are_numbers = any(test(one) and test(other) for test in (pa.types.is_integer, pa.types.is_floating))
    return one if are_numbers else None
