"""Declared aggregations give the same however their values are cut."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minireduce import Agg, Aggregation, Collect, Count, Distinct, First, Max, Mean, Min, Sum, TopK
from minireduce.errors import RequestError

INF, NAN = math.inf, math.nan


def result(aggregation: Aggregation[Any, Any, Any], *cut: list[Any]) -> Any:
    state = aggregation.start()
    for values in cut:
        one = aggregation.start()
        for value in values:
            one = aggregation.add(one, value)
        state = aggregation.merge(state, aggregation.add_all(aggregation.start(), values))
        assert repr(one) == repr(aggregation.add_all(aggregation.start(), values))
    return aggregation.finish(state)


@pytest.mark.parametrize(
    ("aggregation", "values", "expected"),
    [
        (Sum(), [], 0),
        (Sum(), [None], 0),
        (Sum(), [1, None, True], 2),
        (Sum(), [1, 0.5], 1.5),
        (Sum(), [1 << 80, -(1 << 80), 1], 1),
        (Sum(), [1 << 80, 0.5, -(1 << 80)], 0.5),
        (Sum(), [0.1] * 10, 1.0),
        (Sum(), [1e308, 1e308, -1e308], 1e308),
        (Sum(), [-0.0], 0.0),
        (Sum(), [INF, 1.0], INF),
        (Sum(), [NAN, 1.0], NAN),
        (Sum(), [INF, NAN], NAN),
        (Count(), [None, 1, "a"], 3),
        (Count(), [], 0),
        (Mean(), [], None),
        (Mean(), [None, 1, 2], 1.5),
        (Mean(), [1e308, 1e308], 1e308),
        (Mean(), [INF, 1.0], INF),
        (Mean(), [(1 << 60) + 1, (1 << 60) + 1], float((1 << 60) + 1)),
        (Min(), [3, None, 1, 2], 1),
        (Min(), [], None),
        (Min(), [2.0, NAN, 1.0], NAN),
        (Min(), [1, 1.0, True], 1),
        (Min(), [0.0, -0.0], 0.0),
        (Max(), ["a", "c", "b"], "c"),
        (Max(), [NAN, 1.0], NAN),
        (Max(), [1.0, 1], 1.0),
        (Collect(), [3, None, 1], [3, None, 1]),
        (First(), [3, 1], 3),
        (First(), [None, 1], None),
        (First(), [], None),
        (Distinct(), [3, 1, None, 3, 1.0], [None, 1, 3]),
        (Distinct(), ["é", "b", "b", "", "😀", "b"], ["", "b", "é", "😀"]),
        (Distinct(), [2, 10, 1 << 70, 2, -1], [-1, 2, 10, 1 << 70]),
        (Distinct(), [1, True, 0.0, -0.0, False], [0.0, 1]),
        (Distinct(), [], []),
        (TopK(2), [1, None, 3, 2], [3, 2]),
        (TopK(3), [None, 1], [1, None]),
        (Agg(n=Count(), top=Max(), mean=Mean()), [1, 3], {"n": 2, "top": 3, "mean": 2.0}),
    ],
    ids=repr,
)
def test_the_answer_does_not_depend_on_the_cut(aggregation: Any, values: list[Any], expected: Any) -> None:
    for at in range(len(values) + 1):
        assert repr(result(aggregation, values[:at], values[at:])) == repr(expected)
    assert repr(result(aggregation, *[[value] for value in values])) == repr(expected)


def test_a_sum_that_no_float_can_hold_raises_as_fsum_does() -> None:
    state = Sum().add_all(0, [1e308, 1e308])
    with pytest.raises(OverflowError):
        Sum().finish(state)
    assert Sum().finish(Sum().add_all(state, [-1e308])) == 1e308
    with pytest.raises(ValueError, match="inf"):
        Sum().finish(Sum().add_all(0, [INF, -INF]))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.integers(0, 9))
def test_a_mean_is_exact_and_rounded_once(values: list[float], at: int) -> None:
    if values:
        assert result(Mean(), values[:at], values[at:]) == float(sum(map(Fraction, values)) / len(values))


@given(st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9))), st.randoms())
def test_the_state_of_a_sum_depends_on_the_numbers_alone(values: list[Any], random: Any) -> None:
    if not any(type(value) is float for value in values):
        values = [*values, 0.5]
    whole = Sum().add_all(0, values)
    random.shuffle(values)
    state: Any = 0
    for value in values:
        state = Sum().merge(Sum().add(0, value), state)
    assert state == whole


@pytest.mark.parametrize("value", ["a", b"a", [1], 1j])
def test_a_sum_refuses_what_is_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        Sum().add(0, value)


@pytest.mark.parametrize("make", [lambda: TopK(0), lambda: TopK("3"), Agg, lambda: Agg(n=Count)])
def test_aggregations_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(RequestError):
        make()


def rank(value: Any) -> Any:
    """The order of TopK and Distinct, spelled out: None, then what is ordered, then NaN; so too within tuples."""
    if isinstance(value, tuple):
        return (1, tuple(map(rank, value)))
    return (0, 0) if value is None else (2, 0) if value != value else (1, value)  # noqa: PLR0124


NUMBERS = st.sampled_from([None, 1, 1.0, True, 0.0, -0.0, 2.5, 1 << 70, INF, -INF, NAN, float("nan"), -NAN])
ROWS = st.tuples(NUMBERS, st.sampled_from(["a", "b"]))
NESTED = st.tuples(NUMBERS, st.tuples(NUMBERS))
CUTS = st.lists(st.integers(0, 12), max_size=4)


def pieces(values: list[Any], cuts: list[int]) -> list[list[Any]]:
    bounds = [0, *sorted(cuts), len(values)]
    return [values[start:stop] for start, stop in pairwise(bounds)]


@pytest.mark.parametrize("rows", [False, True], ids=["numbers", "tuples"])
@given(st.data(), CUTS)
def test_what_has_an_order_has_one_with_nan_and_none_too_wherever_it_is_cut(
    rows: bool, data: st.DataObject, cuts: list[int]
) -> None:
    kinds = [ROWS, NESTED] if rows else [NUMBERS]
    values = data.draw(st.one_of([st.lists(kind, max_size=12) for kind in kinds]))
    cut = pieces(values, cuts)
    ascending = sorted(values, key=rank)
    distinct = [value for at, value in enumerate(ascending) if not at or rank(value) != rank(ascending[at - 1])]
    assert repr(result(Distinct(), *cut)) == repr(distinct)
    assert repr(result(TopK(3), *cut)) == repr(sorted(values, key=rank, reverse=True)[:3])
    present = [value for value in values if value is not None]
    is_nan = any(value != value for value in present)  # noqa: PLR0124
    for aggregation, best in ((Min(), min), (Max(), max)):
        expected = NAN if is_nan else best(present, key=rank, default=None)
        assert repr(result(aggregation, *cut)) == repr(expected)


def test_one_nan_is_the_greatest_and_stands_once() -> None:
    assert repr(result(TopK(1), [5.0, NAN, 7.0])) == repr(result(TopK(1), [5.0, NAN], [7.0])) == "[nan]"
    assert repr(result(Distinct(), [2.0, NAN, 1.0, 2.0, NAN])) == "[1.0, 2.0, nan]"
    assert result(Max(), [(5.0, "a"), (NAN, "b"), (7.0, "c")])[1] == "b"


HUGE = 10**400
SUMMED = st.sampled_from([None, 1e308, -1e308, INF, -INF, NAN, 0.5, 5e-324, HUGE, -HUGE, 1 << 1023, -(1 << 1024), 3])


def told(call: Callable[[], Any]) -> str:
    """What it gives, or the class of what it raises."""
    try:
        return repr(call())
    except (OverflowError, ValueError) as error:
        return type(error).__name__


@given(st.lists(SUMMED, max_size=10), CUTS)
def test_what_goes_beyond_a_float_comes_to_the_same_wherever_it_is_cut(values: list[Any], cuts: list[int]) -> None:
    present = [value for value in values if value is not None]
    specials = [value for value in present if isinstance(value, float) and not math.isfinite(value)]

    def exact(divisor: int) -> Any:
        if specials:
            return math.fsum(specials)
        return float(sum(map(Fraction, present), Fraction(0)) / divisor)

    are_ints = all(isinstance(value, int) for value in present)
    cut = pieces(values, cuts)
    assert told(lambda: result(Sum(), *cut)) == told(lambda: sum(present) if are_ints else exact(1))
    assert told(lambda: result(Mean(), *cut)) == told(lambda: exact(len(present)) if present else None)
