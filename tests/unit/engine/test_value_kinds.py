"""What a batch holds of a value is what it holds of it alone; values for which it would not be are refused by name."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.engine import value_kinds
from minireduce.engine.errors import InvalidValue
from minireduce.engine.value_kinds import ValueKind

EAST = timezone(timedelta(hours=2))
PLAIN = st.sampled_from(
    [
        *(None, 1, -5, 2.5, 3.0, float("inf"), True, False, "1", "", b"1", date(2026, 11, 28)),
        *(datetime(2026, 11, 28, tzinfo=zone) for zone in (None, UTC, EAST)),
        *(Decimal(1), Decimal("1.5"), Decimal("2.50")),
    ]
)
SAME = st.sampled_from([st.sampled_from([None, 1, 2]), st.sampled_from([None, 2.5, 3.0]), st.sampled_from(["a", ""])])
OF_ONE_KIND = SAME.flatmap(
    lambda plain: st.sampled_from(
        [
            st.lists(plain, max_size=5),
            st.lists(st.lists(plain, max_size=2), max_size=5),
            st.lists(st.fixed_dictionaries({"y": plain, "x": st.lists(plain, max_size=2)}), max_size=5),
        ]
    )
).flatmap(lambda lists: lists)
HELD = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2)
    ),
    max_leaves=4,
)
VALUES = st.lists(HELD, max_size=4) | st.lists(PLAIN, max_size=4) | OF_ONE_KIND


def array(values: list[Any]) -> Any | None:
    """What Arrow makes of these, if anything."""
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, OverflowError):
        return None


def is_refused(batches: list[list[Any]]) -> bool:
    kind = ValueKind()
    try:
        for batch in batches:
            if batch:
                value_kinds.check(batch, str)
                kind.admit(pa.array(batch), str)
    except InvalidValue:
        return True
    return False


@settings(max_examples=500, deadline=None)
@given(VALUES)
def test_values_are_refused_where_they_would_change_each_other_and_only_there(values: list[Any]) -> None:
    alone = [array([value]) for value in values]
    if any(each is None for each in alone):  # two kinds in one value
        assert is_refused([values])
        return
    together = array(values)
    expected = [repr(each.to_pylist()[0]) for each in alone if each is not None]
    is_changed = together is None or [repr(value) for value in together.to_pylist()] != expected
    is_changed = is_changed or any(is_refused([[value]]) for value in values)
    assert is_refused([values]) == is_changed


@settings(max_examples=500, deadline=None)
@given(VALUES, st.lists(st.integers(0, 4), max_size=3))
def test_whether_they_are_refused_does_not_depend_on_the_cut(values: list[Any], cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(values)]
    assert is_refused([values[start:stop] for start, stop in pairwise(bounds)]) == is_refused([values])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1, None, 2, 2.5], "1 of the key 'a' is int, and 2.5 of the key 'd' is float"),
        ([True, 1], "True of the key 'a' is bool, and 1 of the key 'b' is int"),
        (["x", b"x"], "'x' of the key 'a' is str, and b'x' of the key 'b' is bytes"),
        (
            [{"x": 1}, {"y": 2}],
            "{'x': 1} of the key 'a' is dict of x: int, and {'y': 2} of the key 'b' is dict of y: int",
        ),
        ([[], [1], (2.5,)], "[1] of the key 'b' is list of int, and (2.5,) of the key 'c' is list of float"),
        ([Decimal("1.5"), Decimal("1.50")], "is Decimal to 1 digits, and Decimal('1.50') of the key 'b'"),
        ([np.float64(1.5), 1], "of the key 'a' is float, and 1 of the key 'b' is int"),
    ],
    ids=str,
)
def test_the_error_names_both_values_and_their_keys(values: list[Any], told: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(told)):
        value_kinds.check(values, "abcd".__getitem__)


def test_a_later_batch_is_held_to_the_kind_of_those_before() -> None:
    kind = ValueKind()
    for values in ([None], [[None]], [None, []], [[1]], [[2, None]]):
        kind.admit(pa.array(values), partial("{}{}".format, values))
    with pytest.raises(
        InvalidValue, match=re.escape("[1] of the key '[[1]]0' is list of int, and [2.5] of the key 'b'")
    ):
        kind.admit(pa.array([None, [2.5]]), "ab".__getitem__)
