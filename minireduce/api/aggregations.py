"""Declared aggregations: ways to reduce that combine by themselves, on the map side, while merging and in the reduce.

An aggregation is four functions over a state: `start`, `add` a value, `merge` two states of which the left one saw
the earlier input, `finish`. The same values in the same order give the same result however they were cut into states;
so sums of floats are kept exact (`exact_sums`) and rounded once in `finish`.

States are written to disk between tasks: they must be values that a pair could carry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

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


class _Extreme(Aggregation[T, Any, Any]):
    """What Min and Max share: of equal values the first stays, None is skipped, and one NaN makes the result NaN."""

    def start(self) -> T | None:
        return None

    def merge(self, left: T | None, right: T | None) -> T | None:
        return left if right is None else self.add(left, right)

    def finish(self, state: T | None) -> T | None:
        return state


class Min(_Extreme[T], Aggregation[T, "T | None", T]):
    """The least value; None is skipped, NaN wins, and of nothing it is None."""

    def add(self, state: T | None, value: T) -> T | None:
        if value is None or state is None:
            return state if value is None else value
        return value if value < state or (value != value and state == state) else state  # type: ignore[operator]  # noqa: PLR0124

    def add_all(self, state: T | None, values: Sequence[T]) -> T | None:
        if frozenset(map(type, values)) in _TOTALLY_ORDERED:
            return self.add(state, min(values))  # type: ignore[type-var]
        return cast("T | None", super().add_all(state, values))


class Max(_Extreme[T], Aggregation[T, "T | None", T]):
    """The greatest value; None is skipped, NaN wins, and of nothing it is None."""

    def add(self, state: T | None, value: T) -> T | None:
        if value is None or state is None:
            return state if value is None else value
        return value if value > state or (value != value and state == state) else state  # type: ignore[operator]  # noqa: PLR0124

    def add_all(self, state: T | None, values: Sequence[T]) -> T | None:
        if frozenset(map(type, values)) in _TOTALLY_ORDERED:
            return self.add(state, max(values))  # type: ignore[type-var]
        return cast("T | None", super().add_all(state, values))


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


def _none_first(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


class Distinct(Aggregation[T, "list[T]", "list[T]"]):
    """The values that differ, ascending, None first. Of equal values the first stays."""

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
        kept: list[T] = []
        for value in sorted(both, key=_none_first):
            if not kept or value != kept[-1]:
                kept.append(value)
        return kept


class TopK(Aggregation[T, "list[T]", "list[T]"]):
    """The `count` greatest values, descending; of equal ones the earlier first, None last."""

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
        return sorted([*state, *values], key=_none_first, reverse=True)[: self.count]


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
