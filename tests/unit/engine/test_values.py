"""Values come back equal and of the same type."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.engine import columns, values
from minireduce.engine.errors import InvalidValue
from minireduce.errors import Refused


class Named:
    """A class that pickle finds by name."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.value == self.value

    def __hash__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"Named({self.value})"


PLAIN = [
    None,
    True,
    0,
    -1,
    1 << 63,
    -(1 << 63) - 1,
    1 << 500,
    0.5,
    -0.0,
    math.inf,
    "text",
    "\ud800 lone",
    b"bytes",
    [],
    [1, [2.0, "x"]],
    {"a": {1: (2, [3])}},
    {(1, 2): None, 1.5: b""},
    (1, ("a", (None,))),
    {1, 2},
    frozenset({"a", ("b", 1)}),
    date(2020, 2, 29),
    datetime(2020, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001
    1 + 2j,
    Decimal("1.50"),
    Decimal("-0"),
]
PICKLED = [
    bytearray(b"x"),
    [bytearray(b"x")],
    {"a": (bytearray(b"x"),)},
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    timedelta(1),
    Fraction(1, 3),
    Named(3),
    [(Named(3),)],
    np.float64(1.5),
    range(3),
    int,
]
NAMES = ["a frozenset" if isinstance(value, frozenset) else repr(value) for value in PLAIN + PICKLED]
"""The same in every process, which pytest-xdist asks for; the order of a set is not."""


@pytest.mark.parametrize("value", PLAIN + PICKLED, ids=NAMES)
def test_a_value_comes_back_equal_and_of_its_type(value: Any) -> None:
    back = values.unpack(values.pack(value))
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert columns.to_values(columns.make([value, value])) == [value, value]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, max_size=3)
    return some | some.map(tuple) | st.dictionaries(st.text(max_size=2), inner, max_size=2)


VALUES = st.recursive(st.sampled_from(PLAIN + PICKLED), nested, max_leaves=6)


@settings(deadline=None)
@given(st.lists(VALUES, max_size=40) | st.lists(st.lists(VALUES, max_size=3).map(tuple), max_size=40))
def test_values_are_packed_together_as_they_are_alone(together: list[Any]) -> None:
    packed = values.pack_all(together)
    assert packed == list(map(values.pack, together))
    assert repr(columns.to_values(packed)) == repr(list(map(values.unpack, packed)))


@pytest.mark.parametrize("length", [0, 1, 3, 7, 15, 16, 200, 255, 256, 65_535, 65_536, 70_000])
def test_tuples_of_any_size_come_back_from_a_column(length: int) -> None:
    tuples = [("x" * length,), (1, ["y"] * length)] * 20
    packed = values.pack_all(tuples)
    assert packed == list(map(values.pack, tuples))
    assert columns.to_values(packed) == tuples
    mixed = [*tuples, [1]]
    assert columns.to_values(values.pack_all(mixed)) == mixed


@pytest.mark.parametrize("value", PLAIN, ids=NAMES[: len(PLAIN)])
def test_plain_values_need_no_pickle(value: Any) -> None:
    assert values.unpack(values.pack(value), allow_pickle=False) == value


@pytest.mark.parametrize("value", [Named(1), [Named(1)], (1, Named(1)), {"a": (Named(1),)}], ids=repr)
def test_a_pickle_is_refused_where_it_is_not_allowed(value: Any) -> None:
    packed = values.pack(value)
    with pytest.raises(Refused, match="pickle"):
        values.unpack(packed, allow_pickle=False)
    with pytest.raises(Refused, match="pickle"):
        list(values.unpack_all(packed, allow_pickle=False))


def test_nan_stays_nan() -> None:
    assert math.isnan(values.unpack(values.pack(math.nan)))
    assert math.isnan(columns.to_values(columns.make([math.nan]))[0])


def test_the_fold_of_a_datetime_stays() -> None:
    assert values.unpack(values.pack(datetime(2020, 1, 1, fold=1))).fold == 1  # noqa: DTZ001


def test_a_list_that_holds_itself_comes_back_so() -> None:
    value: list[Any] = []
    value.append(value)
    back = values.unpack(values.pack(value))
    assert back[0] is back


@pytest.mark.parametrize("beside", [bytearray(b"x"), [bytearray(b"x")], {"a": bytearray(b"x")}, Named(1)], ids=repr)
def test_the_bytes_do_not_tell_which_parts_are_the_same_object(beside: Any) -> None:
    once, again = Decimal("1.5"), Decimal("1.5")
    assert once is not again
    assert values.pack([beside, once, once]) == values.pack([beside, once, again])
    assert values.pack({"a": beside, "b": (once, once)}) == values.pack({"a": beside, "b": (once, again)})


def test_extension_types_of_msgpack_are_values_like_others() -> None:
    value = msgpack.ExtType(1, b"\x90")
    assert values.unpack(values.pack([value])) == [value]
    assert type(values.unpack(values.pack(value))) is msgpack.ExtType


@pytest.mark.parametrize(
    "value", [threading.Lock(), memoryview(b"x"), (x for x in "ab")], ids=["lock", "memoryview", "gen"]
)
def test_what_cannot_be_stored_is_an_error_that_names_the_type(value: Any) -> None:
    with pytest.raises(InvalidValue, match=type(value).__name__):
        values.pack(value)


def test_bools_are_no_ints_in_a_column() -> None:
    assert columns.to_values(columns.make([True, 1])) == [True, 1]
    assert [type(value) for value in columns.to_values(columns.make([1, True]))] == [int, bool]
    assert [type(value) for value in columns.to_values(columns.make([1, 1.0]))] == [int, float]


@pytest.mark.parametrize("numbers", [[1, 2], [1.5, -0.0], [1 << 62, -1], [1 << 63, 1], ["a", 1], []])
def test_the_form_of_a_column_depends_on_its_values_alone(numbers: list[Any]) -> None:
    packed = values.pack_all(numbers)
    made, settled = columns.make(numbers), columns.settled(packed) if packed else columns.make([])
    assert columns.form(made) == columns.form(settled)
    assert repr(columns.to_values(made)) == repr(columns.to_values(settled)) == repr(numbers)
    assert columns.weights(made).tolist() == columns.weights(packed).tolist()


def test_sets_have_the_same_bytes_in_every_process() -> None:
    code = "from minireduce.engine import values; print(values.pack({'a', 'b', 'c', 'd'}).hex())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
    assert seen != {"\n"}
