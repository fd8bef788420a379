"""Declared aggregations: ways to reduce that combine by themselves, on the map side, while merging and in the reduce.

An aggregation is four functions over a state: `start`, `add` a value, `merge` two states of which the left one saw
the earlier input, `finish`. The same values in the same order give the same result however they were cut into states;
so sums of floats are kept exact (`exact_sums`) and rounded once in `finish`.

States are written to disk between tasks: they must be values that a pair could carry.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Any, Generic, TypeVar

from minireduce.api import exact_sums
from minireduce.errors import RequestError

V_contra = TypeVar("V_contra", contravariant=True)
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
N = TypeVar("N", int, float)


class Aggregation(ABC, Generic[V_contra, S, R_co]):
    """Subclass this for one's own; the parameters are the types of a value, of the state and of the result."""

    @abstractmethod
    def start(self) -> S:
        """The state that saw nothing."""

    @abstractmethod
    def add(self, state: S, value: V_contra) -> S:
        """The state after one more value; `state` itself may be changed and given back."""

    @abstractmethod
    def merge(self, left: S, right: S) -> S:
        """The state after all that `left` saw and then all that `right` saw."""

    @abstractmethod
    def finish(self, state: S) -> R_co:
        """The result."""

    def add_all(self, state: S, values: Sequence[V_contra]) -> S:
        """The state after many values; an aggregation that can do this faster than one by one overrides it."""
        for value in values:
            state = self.add(state, value)
        return state

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Count(Aggregation[object, int, int]):
    """How many values, None too."""

    def start(self) -> int:
        return 0

    def add(self, state: int, value: object) -> int:  # noqa: ARG002  the value does not matter
        return state + 1

    def merge(self, left: int, right: int) -> int:
        return left + right

    def finish(self, state: int) -> int:
        return state

    def add_all(self, state: int, values: Sequence[object]) -> int:
        return state + len(values)


class Sum(Aggregation["N | None", exact_sums.State, N]):
    """The sum; of ints exact, of floats as `math.fsum`. None is skipped; of nothing it is 0."""

    def start(self) -> exact_sums.State:
        return 0

    def add(self, state: exact_sums.State, value: N | None) -> exact_sums.State:
        return exact_sums.add_all(state, (value,))

    def merge(self, left: exact_sums.State, right: exact_sums.State) -> exact_sums.State:
        return exact_sums.merge(left, right)

    def finish(self, state: exact_sums.State) -> N:
        return exact_sums.finish(state)  # type: ignore[return-value]  # int from ints, float from floats

    def add_all(self, state: exact_sums.State, values: Sequence[N | None]) -> exact_sums.State:
        return exact_sums.add_all(state, values)


class Mean(Aggregation["float | None", "tuple[int, exact_sums.State]", "float | None"]):
    """The exact mean, rounded once. None is skipped; of nothing it is None."""

    def start(self) -> tuple[int, exact_sums.State]:
        return (0, 0)

    def add(self, state: tuple[int, exact_sums.State], value: float | None) -> tuple[int, exact_sums.State]:
        return self.add_all(state, (value,))

    def merge(
        self, left: tuple[int, exact_sums.State], right: tuple[int, exact_sums.State]
    ) -> tuple[int, exact_sums.State]:
        return (left[0] + right[0], exact_sums.merge(left[1], right[1]))

    def finish(self, state: tuple[int, exact_sums.State]) -> float | None:
        return exact_sums.divide(state[1], state[0]) if state[0] else None

    def add_all(
        self, state: tuple[int, exact_sums.State], values: Sequence[float | None]
    ) -> tuple[int, exact_sums.State]:
        present = [value for value in values if value is not None]
        return (state[0] + len(present), exact_sums.add_all(state[1], present))


_TOTALLY_ORDERED = (frozenset({int}), frozenset({str}), frozenset({bytes}))
_WITHOUT_NAN = frozenset({int, bool, str, bytes})
_NUMBERS = _WITHOUT_NAN | {float}
_SEQUENCES = (list, tuple)
_FEW = 8  # values that are compared one by one faster than they are looked through


def _has_nan(values: Sequence[Any]) -> bool:
    """Whether one of them is no number; what else differs from itself counts as well."""
    return any(map(operator.ne, values, values))


def _key_of(values: Sequence[Any]) -> Any:
    """What to sort these by: nothing where `<` alone puts them in order, which is three times as fast."""
    types = set(map(type, values))
    if types <= _WITHOUT_NAN:
        return None
    if types <= _NUMBERS:
        return _rank if _has_nan(values) else None
    are_sequences = [issubclass(kind, _SEQUENCES) for kind in types]
    if not any(are_sequences):
        return _rank if _has_nan(values) else _none_first if type(None) in types else None
    if not all(are_sequences):
        nested = [value for value in values if isinstance(value, _SEQUENCES)]
        others = [value for value in values if not isinstance(value, _SEQUENCES)]
        return None if _key_of(nested) is _key_of(others) is None else _rank
    return None if _key_of(list(chain.from_iterable(values))) is None else _rank


def _none_first(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


def _rank(value: Any) -> Any:
    """What stands for a value in one order of all: None before the others, NaN after them and equal to itself, within
    lists and tuples too.

    NaN is neither less than a number nor greater, so without this where it stood among the values would show.
    """
    if isinstance(value, _SEQUENCES):
        within = map(_rank, value)
        return (True, False, list(within) if isinstance(value, list) else tuple(within))
    if value is None:
        return (False, False, 0)
    return (True, True, 0) if value != value else (True, False, value)  # noqa: PLR0124


class _Extreme(Aggregation[T, Any, Any]):
    """What Min and Max share: of equal values the first stays, None is skipped, and one NaN makes the result NaN."""

    def start(self) -> T | None:
        return None

    def merge(self, left: T | None, right: T | None) -> T | None:
        return left if right is None else self.add(left, right)

    def finish(self, state: T | None) -> T | None:
        return state

    def add_all(self, state: T | None, values: Sequence[T]) -> T | None:
        is_looked_through = len(values) > _FEW or (values and isinstance(values[0], _SEQUENCES))
        if is_looked_through and (key := _key_of(values)) is not _rank:
            present = values if key is None else [value for value in values if value is not None]
            values = (self._of(present),) if present else ()
        for value in values:
            state = self.add(state, value)
        return state

    @abstractmethod
    def _of(self, values: Sequence[T]) -> T:
        """The first of those that no other goes before."""


class Min(_Extreme[T], Aggregation[T, "T | None", T]):
    """The least value; None is skipped, NaN wins, and of nothing it is None. Within tuples None comes before all else
    and NaN after it.
    """

    def add(self, state: T | None, value: T) -> T | None:
        if value is None or state is None:
            return state if value is None else value
        if isinstance(value, _SEQUENCES):
            return value if _rank(value) < _rank(state) else state
        return value if value < state or (value != value and state == state) else state  # type: ignore[operator]  # noqa: PLR0124

    def _of(self, values: Sequence[T]) -> T:
        return min(values)  # type: ignore[type-var]


class Max(_Extreme[T], Aggregation[T, "T | None", T]):
    """The greatest value; None is skipped, NaN wins, and of nothing it is None. Within tuples None comes before all
    else and NaN after it.
    """

    def add(self, state: T | None, value: T) -> T | None:
        if value is None or state is None:
            return state if value is None else value
        if isinstance(value, _SEQUENCES):
            return value if _rank(value) > _rank(state) else state
        return value if value > state or (value != value and state == state) else state  # type: ignore[operator]  # noqa: PLR0124

    def _of(self, values: Sequence[T]) -> T:
        return max(values)  # type: ignore[type-var]


class Collect(Aggregation[T, "list[T]", "list[T]"]):
    """All values in a list, in input order. The list of one key must fit into memory."""

    def start(self) -> list[T]:
        return []

    def add(self, state: list[T], value: T) -> list[T]:
        state.append(value)
        return state

    def merge(self, left: list[T], right: list[T]) -> list[T]:
        left.extend(right)
        return left

    def finish(self, state: list[T]) -> list[T]:
        return state

    def add_all(self, state: list[T], values: Sequence[T]) -> list[T]:
        state.extend(values)
        return state


class First(Aggregation[T, "list[T]", "T | None"]):
    """The first value in input order."""

    def start(self) -> list[T]:
        return []

    def add(self, state: list[T], value: T) -> list[T]:
        return state or [value]

    def merge(self, left: list[T], right: list[T]) -> list[T]:
        return left or right

    def finish(self, state: list[T]) -> T | None:
        return state[0] if state else None

    def add_all(self, state: list[T], values: Sequence[T]) -> list[T]:
        return state or list(values[:1])


class Distinct(Aggregation[T, "list[T]", "list[T]"]):
    """The values that differ, ascending, None first and one NaN last. Of equal values the first stays."""

    def start(self) -> list[T]:
        return []

    def add(self, state: list[T], value: T) -> list[T]:
        return self.add_all(state, (value,))

    def merge(self, left: list[T], right: list[T]) -> list[T]:
        return self.add_all(left, right)

    def finish(self, state: list[T]) -> list[T]:
        return state

    def add_all(self, state: list[T], values: Sequence[T]) -> list[T]:
        both = [*state, *values]
        if len(both) < 2:
            return both
        if frozenset(map(type, both)) in _TOTALLY_ORDERED:  # where values that are equal are the same
            return sorted(set(both))  # type: ignore[type-var]
        key = _key_of(both)
        if key is _rank:
            return [next(same) for _, same in groupby(sorted(both, key=_rank), _rank)]
        kept: list[T] = []
        for value in sorted(both, key=key):
            if not kept or value != kept[-1]:
                kept.append(value)
        return kept


class TopK(Aggregation[T, "list[T]", "list[T]"]):
    """The `count` greatest values, descending; of equal ones the earlier first, NaN before all and None after all."""

    def __init__(self, count: int) -> None:
        if not isinstance(count, int) or count < 1:
            raise RequestError(f"TopK({count!r}) needs a whole number above 0")
        self.count = count

    def __repr__(self) -> str:
        return f"TopK({self.count})"

    def start(self) -> list[T]:
        return []

    def add(self, state: list[T], value: T) -> list[T]:
        return self.add_all(state, (value,))

    def merge(self, left: list[T], right: list[T]) -> list[T]:
        return self.add_all(left, right)

    def finish(self, state: list[T]) -> list[T]:
        return state

    def add_all(self, state: list[T], values: Sequence[T]) -> list[T]:
        both = [*state, *values]
        return sorted(both, key=_key_of(both), reverse=True)[: self.count]


class Agg(Aggregation[T, "list[Any]", "dict[str, Any]"]):
    """Several aggregations of the same values at once: `Agg(n=Count(), mean=Mean())` gives a dict."""

    def __init__(self, **named: Aggregation[T, Any, Any]) -> None:
        for name, aggregation in named.items():
            if not isinstance(aggregation, Aggregation):
                raise RequestError(f"Agg({name}={aggregation!r}) is no aggregation", hint=f"write {name}=Count()")
        if not named:
            raise RequestError("Agg() needs at least one aggregation", hint="such as Agg(n=Count(), mean=Mean())")
        self.named = named

    def __repr__(self) -> str:
        return f"Agg({', '.join(f'{name}={aggregation!r}' for name, aggregation in self.named.items())})"

    def start(self) -> list[Any]:
        return [aggregation.start() for aggregation in self.named.values()]

    def add(self, state: list[Any], value: T) -> list[Any]:
        return self._each(lambda aggregation, part: aggregation.add(part, value), state)

    def merge(self, left: list[Any], right: list[Any]) -> list[Any]:
        pairs = zip(self.named.values(), left, right, strict=True)
        return [aggregation.merge(first, second) for aggregation, first, second in pairs]

    def finish(self, state: list[Any]) -> dict[str, Any]:
        return dict(zip(self.named, self._each(lambda aggregation, part: aggregation.finish(part), state), strict=True))

    def add_all(self, state: list[Any], values: Sequence[T]) -> list[Any]:
        return self._each(lambda aggregation, part: aggregation.add_all(part, values), state)

    def _each(self, function: Any, state: Iterable[Any]) -> list[Any]:
        return [function(aggregation, part) for aggregation, part in zip(self.named.values(), state, strict=True)]
