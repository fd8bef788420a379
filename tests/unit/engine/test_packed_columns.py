"""Typed keys and packed values become the arrays that `pyarrow.array` makes of their objects, and lists come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.engine import columns, key_columns, keys, packed_columns, values
from minireduce.engine.arrow_columns import plain_values, value_column

EDGES = [0, 1, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, (1 << 63) - 1]
INTEGERS = st.sampled_from([*EDGES, *(-each for each in EDGES), -32, -33, -129, -(1 << 63)]) | st.integers(
    -(1 << 63), (1 << 63) - 1
)
FLOATS = st.floats(width=64, allow_nan=False)
TEXTS = st.sampled_from(["", "a" * 31, "é" * 16, "x" * 255, "y" * 256, "z" * 65_536, "\ud800"])
ODD = st.sampled_from([None, True, 1 << 64, (), (1, 2.0), (1, "a"), (1,) * 16, {"a": 1}, [[1]], {1}])


def rows_of(element: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def of_length(length: int) -> st.SearchStrategy[Any]:
        row = st.lists(element, min_size=length, max_size=length)
        return st.lists(row | row.map(tuple), min_size=1, max_size=30)

    return st.integers(1, 15).flatmap(of_length)


def packed(plain: list[Any]) -> Any:
    return key_columns.of_bytes(values.pack_all(plain))


@settings(deadline=None)
@given(
    rows_of(INTEGERS)
    | rows_of(FLOATS)
    | st.lists(TEXTS, min_size=1, max_size=6)
    | st.lists(TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")), min_size=1, max_size=6)
    | st.lists(ODD | st.lists(INTEGERS, max_size=3) | TEXTS, min_size=1, max_size=6)
)
def test_an_array_of_packed_values_is_that_of_their_objects(plain: list[Any]) -> None:
    made = packed_columns.value_array(packed(plain))
    if made is not None:
        expected = pa.array(plain)
        assert made.type == expected.type
        assert made.equals(expected)


@pytest.mark.parametrize(
    "plain",
    [[(1, -5)] * 3, [[0.5, 2.0], (1.0, -0.0)], ["a", "é"], [b"a", b""], [(1 << 40,), [-200]]],
    ids=str,
)
def test_strings_bytes_and_rows_of_numbers_need_no_objects(plain: list[Any]) -> None:
    later = packed(["before", *plain])[1:]  # as where a frame is cut
    expected = [list(each) if type(each) is tuple else each for each in plain]
    assert packed_columns.value_array(later).to_pylist() == expected


@pytest.mark.parametrize(
    "plain", [["a", "é", ""], [b"\0", b"x"], [None, None], [1, 2], [("a", 1)], ["a", None]], ids=str
)
def test_an_array_of_keys_is_that_of_their_objects(plain: list[Any]) -> None:
    made = packed_columns.key_array(key_columns.of_texts(keys.sortable_all(plain)))
    is_plain = type(plain[0]) in (str, bytes, type(None)) and len(set(map(type, plain))) == 1
    assert (made is not None) == is_plain
    assert made is None or made.equals(pa.array(plain))


@settings(deadline=None)
@given(
    st.lists(st.lists(INTEGERS, max_size=16), min_size=1, max_size=20)
    | st.lists(st.lists(FLOATS, max_size=16), min_size=1, max_size=20),
    st.integers(0, 3),
)
def test_lists_of_numbers_are_packed_at_once_as_one_by_one(plain: list[Any], start: int) -> None:
    kind = pa.list_(pa.float64() if any(isinstance(each, float) for row in plain for each in row) else pa.int64())
    for array in (pa.array(plain, kind), pa.array(plain, pa.large_list(kind.value_type))):
        column = value_column(array[start:])
        assert bytes(columns.packed_blob(column)) == b"".join(values.pack_all(plain[start:]))


def test_rows_of_a_matrix_are_packed_as_lists() -> None:
    numbers = np.arange(-300, 300, 7).reshape(-1, 2)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), 2)
    assert bytes(columns.packed_blob(value_column(fixed[3:]))) == b"".join(values.pack_all(numbers[3:].tolist()))


@pytest.mark.parametrize(
    "plain",
    [
        ["a", "", "b"],
        ["é", "a", "😀"],
        [b"\xff", b""],
        [1, -1],
        [0.5, -0.0],
        [None, "a"],
        [True, False],
        ["", ""],
        [[1], []],
    ],
    ids=str,
)
def test_objects_of_an_array_are_those_that_pyarrow_makes(plain: list[Any]) -> None:
    made = pa.array([*plain, *plain])
    wide = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(made.type, made.type)
    assert plain_values(made[1:]) == [*plain, *plain][1:]
    assert plain_values(made.cast(wide)[1:]) == [*plain, *plain][1:]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 65_536])
def test_strings_of_one_length_are_stored_as_each_alone(length: int, kind: pa.DataType) -> None:
    is_text = kind in (pa.string(), pa.large_string())
    plain: list[Any] = [letter * length if is_text else letter.encode() * length for letter in "abc"]
    later = pa.array([plain[0], *plain], kind)[1:]  # as where a batch is cut
    assert value_column(later).equals(packed(plain))
    encoded = keys.marked(later, keys.STR if is_text else keys.BYTES)
    assert encoded.equals(key_columns.of_texts(keys.sortable_all(plain)))
    assert keys.unmarked(encoded).equals(later.cast(pa.large_binary()))
