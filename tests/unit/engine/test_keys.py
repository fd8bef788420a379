"""The canonical encoding of keys, and the one kind that keys of a step have."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.engine import keys
from minireduce.engine.errors import InvalidKey
from minireduce.engine.kinds import Kinds, plain

FORMATS = Path(__file__).parents[3] / "docs" / "formats.md"
ROW = re.compile(r"^\| `(.+)` \| `([0-9a-f]+)` \| (\d+) \|$", re.MULTILINE)


def documented_key(text: str) -> Any:
    if text.startswith("datetime."):
        return eval(text, {"datetime": __import__("datetime")})
    return ast.literal_eval(text)


def test_vectors_of_the_documentation_hold() -> None:
    rows = ROW.findall(FORMATS.read_text(encoding="utf-8"))
    assert len(rows) > 25
    for text, encoded, partition in rows:
        key = documented_key(text)
        assert keys.encode(key).hex() == encoded, text
        assert keys.decode(bytes.fromhex(encoded)) == key
        assert keys.partition_of(bytes.fromhex(encoded), 1000) == int(partition)


ONE_KIND: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(st.characters(exclude_categories=["Cs"])),
    "bytes": st.binary(),
    "int": st.one_of(st.integers(), st.integers(-(1 << 1100), 1 << 1100)),
    "float": st.floats(allow_nan=False).map(lambda value: value + 0.0),
    "bool": st.booleans(),
    "date": st.dates(),
    "naive": st.datetimes(),
    "aware": st.datetimes(timezones=st.just(UTC)),
    "str and int": st.tuples(st.text("a\0\xff", max_size=3), st.integers()),
    "bytes in bytes": st.tuples(st.binary(max_size=3), st.tuples(st.binary(max_size=3), st.booleans())),
}


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("kind", ONE_KIND)
def test_bytes_order_as_keys_do_and_come_back(kind: str, data: st.DataObject) -> None:
    one, other = data.draw(ONE_KIND[kind]), data.draw(ONE_KIND[kind])
    assert (keys.encode(one) < keys.encode(other)) == (one < other)
    assert (keys.encode(one) == keys.encode(other)) == (one == other)
    for key in (one, other):
        back = keys.decode(keys.encode(key))
        assert back == key
        assert type(back) is type(key)
        assert keys.decode_all(keys.sortable_all([key, None])) == [key, None]


def test_none_comes_before_everything_at_every_position() -> None:
    for key in (False, -(1 << 2000), float("-inf"), "", b"", date.min, "\0"):
        assert keys.encode(None) < keys.encode(key)
        assert keys.encode((None, "z")) < keys.encode((key, "a"))


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: str


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("given_key", "expected"),
    [
        (Color.RED, "red"),
        (Level.LOW, 1),
        (Point(1, "a"), (1, "a")),
        (np.int64(5), 5),
        (np.uint8(5), 5),
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.str_("x"), "x"),
        (np.bytes_(b"x"), b"x"),
        (np.bool_(True), True),
        (np.datetime64("2020-01-02"), date(2020, 1, 2)),
        (np.datetime64("2020-01-02T03", "us"), datetime(2020, 1, 2, 3)),  # noqa: DTZ001
        (pd.Timestamp("2020-01-02T03"), datetime(2020, 1, 2, 3)),  # noqa: DTZ001
        (datetime(2020, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), datetime(2020, 1, 2, 1, tzinfo=UTC)),
        (-0.0, 0.0),
        ((-0.0, np.int8(1)), (0.0, 1)),
    ],
)
def test_subclasses_and_scalars_of_numpy_count_as_their_plain_kind(given_key: Any, expected: Any) -> None:
    key, _ = plain(given_key)
    assert repr(key) == repr(expected)
    assert type(key) is type(expected)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (float("nan"), "NaN"),
        ((1, float("nan")), "NaN"),
        (np.float64("nan"), "NaN"),
        (pd.NaT, "NaT"),
        (pd.Timestamp(1), "finer than microseconds"),
        (np.datetime64(1, "ns"), "finer than microseconds"),
        ([1], "list cannot be a key"),
        ({"a": 1}, "dict cannot be a key"),
        (1j, "complex cannot be a key"),
        ((1,) * 256, "256 positions"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "outside the years"),
    ],
)
def test_what_cannot_be_a_key_is_refused(key: Any, message: str) -> None:
    with pytest.raises(InvalidKey, match=message):
        plain(key)


@pytest.mark.parametrize(
    "encode", [keys.sortable, lambda key: keys.sortable_all([key]), lambda key: keys.encode((key,))]
)
def test_lone_surrogates_are_refused(encode: Callable[[str], object]) -> None:
    with pytest.raises(InvalidKey, match="lone surrogate"):
        encode("a\ud800")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (1, 1.0, "the key is int in one record and float in another"),
        (1, True, "the key is int in one record and bool"),
        ("a", b"a", "the key is str in one record and bytes"),
        ((1, "a"), (1, 2), "position 1 of the key is str in one record and int"),
        ((1, (2,)), (1, (b"",)), "position 0 of position 1 of the key is int in one record and bytes"),
        ((1, 2), (1, 2, 3), "the key is tuple of 2 in one record and tuple of 3"),
        (date(2020, 1, 1), datetime(2020, 1, 1), "date in one record and naive datetime"),  # noqa: DTZ001
        (datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), "naive datetime.*aware datetime"),  # noqa: DTZ001
    ],
)
def test_a_mix_of_kinds_names_both_and_shows_the_first_record(first: Any, second: Any, message: str) -> None:
    kinds = Kinds(lambda: "from record 'one'")
    kinds.admit(None)
    kinds.admit(first)
    with pytest.raises(InvalidKey, match=message) as caught:
        kinds.admit(second)
    assert "from record 'one'" in str(caught.value)


def test_two_tasks_that_saw_different_kinds_disagree_when_they_meet() -> None:
    one, other, neither = Kinds(lambda: "from a.txt"), Kinds(lambda: "from b.txt"), Kinds()
    one.admit((1, None))
    other.admit((1, "x"))
    neither.admit(None)
    reducer = Kinds()
    for kinds in (neither, one, other):
        reducer.meet(kinds.encoded())
    third = Kinds(lambda: "from c.txt")
    third.admit((1, b"x"))
    with pytest.raises(InvalidKey, match=r"position 1 of the key is str.*bytes.*a\.txt.*c\.txt"):
        reducer.meet(third.encoded())


def test_partitions_of_many_keys_are_those_of_each() -> None:
    texts = keys.sortable_all(["a", "é", "", None, "word"])
    assert keys.partition_all(texts, 7).tolist() == [keys.partition_of(text.encode("latin-1"), 7) for text in texts]
