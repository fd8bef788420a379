"""Keep the keys of a step to one kind: what a key is, and that the next one is the same.

A kind is the name of a scalar, a tuple of kinds, or None while only None was seen there. Mixing would make order and
grouping a matter of luck (`1 == 1.0 == True` in Python), so it is an error that names both kinds.

`Kinds.admit` is the slow, careful way in; the map calls it for each key that is not exactly of the type it saw last,
and skips it for `str`, `bytes` and `int`, which have one form each. What was seen first travels with every run, so
that two tasks that disagree are found when their runs meet.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import msgpack

from minireduce.engine.errors import InvalidKey
from minireduce.engine.keys import TUPLE_LENGTH_MAX

Kind = str | tuple["Kind | None", ...]

FAST_TYPES = frozenset({str, bytes, int, bool, date})
_PLAIN: dict[type, str] = {str: "str", bytes: "bytes", int: "int", bool: "bool", date: "date"}


class _Never:
    """The type of no key."""


class Kinds:
    """The kind of the keys seen so far, and where it was first seen (`example`)."""

    def __init__(self, place: Callable[[], str] = str) -> None:
        self.kind: Kind | None = None
        self.example = ""
        self.fast_type: type = _Never  # keys of exactly this type need no `admit`
        self._place = place

    def admit(self, key: Any) -> Any:
        """The plain form of `key`. Raises InvalidKey for one that cannot be a key, or is of another kind."""
        key, kind = plain(key)
        if kind != self.kind and kind is not None:
            before = self.kind
            try:
                self.kind = unify(before, kind)
            except InvalidKey as error:
                raise _with_example(error, self.example) from None
            if self.kind != before:
                self.example = f"{key!r:.80} {self._place()}".strip()
        if kind is not None and type(key) in FAST_TYPES:
            self.fast_type = type(key)
        return key

    def meet(self, encoded: bytes) -> None:
        """Take in what another task saw. Raises InvalidKey if it disagrees."""
        kind, example = msgpack.unpackb(encoded, use_list=False)
        try:
            self.kind = unify(self.kind, kind)
        except InvalidKey as error:
            raise _with_example(error, self.example, example) from None
        self.example = self.example or example

    def encoded(self) -> bytes:
        """What `meet` takes in."""
        packed: bytes = msgpack.packb((self.kind, self.example), unicode_errors="replace")
        return packed


def plain(key: Any) -> tuple[Any, Kind | None]:
    """The plain form of a key and its kind. Raises InvalidKey."""
    name = _PLAIN.get(type(key))
    if name is not None:
        return key, name
    if key is None:
        return None, None
    if isinstance(key, float):
        if key != key:  # noqa: PLR0124  true of NaN alone
            raise InvalidKey("NaN cannot be a key, since it equals nothing", hint="leave such records out, or use None")
        return float(key) + 0.0, "float"  # -0.0 + 0.0 is 0.0
    if isinstance(key, tuple):
        if len(key) > TUPLE_LENGTH_MAX:
            raise InvalidKey(
                f"a key of {len(key)} positions is too long", hint=f"at most {TUPLE_LENGTH_MAX} are allowed"
            )
        parts = [plain(part) for part in key]
        return tuple(part for part, _ in parts), tuple(kind for _, kind in parts)
    if isinstance(key, datetime):
        return _plain_datetime(key)
    if isinstance(key, int):
        return int(key), "int"
    if isinstance(key, str):
        return str.__str__(key), "str"
    if isinstance(key, bytes):
        return bytes.__bytes__(key), "bytes"
    if isinstance(key, date):
        return date(key.year, key.month, key.day), "date"
    if type(key).__module__ == "numpy" and hasattr(key, "item") and type(key.item()) is not type(key):
        if type(key).__name__.endswith("datetime64") and not isinstance(key.item(), date):
            raise InvalidKey(f"the key {key!r:.80} is finer than microseconds", hint="cast it to datetime64[us]")
        return plain(key.item())
    raise InvalidKey(
        f"{type(key).__name__} cannot be a key: {key!r:.80}",
        hint="keys are str, bytes, int, float, bool, date, datetime, None, or tuples of these",
    )


def _plain_datetime(key: datetime) -> tuple[datetime, Kind]:
    if key != key:  # noqa: PLR0124  true of pandas.NaT alone
        raise InvalidKey("NaT cannot be a key, since it equals nothing", hint="leave such records out, or use None")
    if getattr(key, "nanosecond", 0):
        raise InvalidKey(f"the key {key!r:.80} is finer than microseconds", hint="round it to microseconds")
    exact = datetime.combine(date(key.year, key.month, key.day), key.timetz())
    if exact.utcoffset() is None:
        return exact.replace(tzinfo=None, fold=0), "naive datetime"
    try:
        return exact.astimezone(UTC), "aware datetime"
    except OverflowError:
        raise InvalidKey(f"the instant of {key!r} is outside the years 1 to 9999") from None


def unify(left: Kind | None, right: Kind | None, position: str = "the key") -> Kind | None:
    """The kind that covers both. Raises InvalidKey that names both."""
    if left is None or right is None or left == right:
        return right if left is None else left
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return tuple(unify(one, other, f"position {i} of {position}") for i, (one, other) in pairs)
    raise InvalidKey(
        f"{position} is {describe(left)} in one record and {describe(right)} in another",
        hint="each position of a key has one kind per step; convert one of them",
    )


def describe(kind: Kind | None) -> str:
    """The kind in words."""
    if kind is None:
        return "None"
    return kind if isinstance(kind, str) else f"tuple of {len(kind)}"


def _with_example(error: InvalidKey, *examples: str) -> InvalidKey:
    seen = " and ".join(example for example in examples if example)
    return InvalidKey(f"{error.message}; seen: {seen}" if seen else error.message, hint=error.hint)
