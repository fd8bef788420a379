"""Words and matches of whole columns are those of Python, row by row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce import columns

JOBS = Path(__file__).parents[3] / "jobs"
SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
LINES = st.lists(
    st.text(st.sampled_from(["a", "é", "😀", "\u200b", "\0", ".", "\\", "(", *SPACES]), max_size=8), max_size=6
)


@settings(max_examples=300, deadline=None)
@given(LINES, st.integers(0, 2), st.sampled_from([pa.string(), pa.large_string()]))
def test_words_are_those_of_str_split(lines: list[str], start: int, kind: pa.DataType) -> None:
    expected = [word for line in lines[start:] for word in line.split()]
    assert columns.words(pa.array(lines, kind)[start:]).to_pylist() == expected


@settings(deadline=None)
@given(LINES)
def test_ascii_words_are_those_of_bytes_split(lines: list[str]) -> None:
    raw = [line.encode() for line in lines]
    assert columns.ascii_words(pa.array(raw, pa.binary())).to_pylist() == [
        word for line in raw for word in line.split()
    ]
    assert columns.ascii_words(pa.array(lines, pa.string())).to_pylist() == [
        word.decode() for line in raw for word in line.split()
    ]


def test_every_white_space_of_unicode_splits() -> None:
    assert columns.words(pa.array([f"a{space}b" for space in SPACES])).to_pylist() == ["a", "b"] * len(SPACES)
    assert columns.words(pa.array(["a b", None, " c"])).to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("pattern", ["a", r"a\.", r"\\\(é", r"a\b", r"^é|\s$", ".", r"\w+"])
@given(LINES)
def test_matches_are_those_of_re(pattern: str, lines: list[str]) -> None:
    array = pa.array([*lines, None], pa.string())
    assert columns.matches(array, pattern).to_pylist() == [*(bool(re.search(pattern, line)) for line in lines), False]
    assert columns.contains(array, pattern).to_pylist() == [*(pattern in line for line in lines), False]
    assert columns.findall(array, pattern).to_pylist() == [each for line in lines for each in re.findall(pattern, line)]


@given(st.lists(st.text("abé", max_size=6), max_size=60), st.text("abé", max_size=3), st.integers(0, 3))
def test_contains_is_in_whether_few_or_many_rows_have_it(lines: list[str], sought: str, start: int) -> None:
    expected = [sought in line for line in lines][start:]
    assert columns.contains(pa.array(lines, pa.string())[start:], sought).to_pylist() == expected
    raw = pa.array([line.encode() for line in lines], pa.binary())[start:]
    assert columns.contains(raw, sought).to_pylist() == expected
    assert columns.contains(pa.array(lines, pa.large_string())[start:], sought).to_pylist() == expected


def test_contains_finds_few_rows_among_many_and_nothing_across_two() -> None:
    lines = ["", "xa", "bx", "", *["x"] * 60, "xab", "", "abab", "a", "b"]
    found = columns.contains(pa.array(lines, pa.string()), "ab")
    assert found.to_pylist() == ["ab" in line for line in lines]
    assert found.type == pa.bool_()


def test_findall_with_one_group_gives_the_group_and_with_two_is_refused() -> None:
    assert columns.findall(pa.array(["a1b2"]), r"[a-z](\d)").to_pylist() == ["1", "2"]
    with pytest.raises(ValueError, match="2 groups"):
        columns.findall(pa.array(["a1"]), r"(a)(1)")


@pytest.mark.parametrize("value", [1, 1.5, True, "x", b"x"], ids=repr)
def test_one_value_stands_for_all_rows(value: Any) -> None:
    assert columns.pairs(pa.array(["a", "b"]), value).to_pylist() == [
        {"key": key, "value": value} for key in ("a", "b")
    ]
    assert columns.pairs(pa.array([], pa.string()), value).num_rows == 0


@pytest.mark.parametrize("kind", [np.int64, np.int16, np.float64, np.float32])
def test_pairs_take_arrays_of_numpy_and_rows_give_their_matrix_back(kind: type) -> None:
    matrix = np.arange(12).reshape(4, 3).astype(kind)[:, ::2]
    batch = columns.pairs(matrix[:, 0], matrix)
    assert batch.to_pylist() == [
        {"key": row[0], "value": row} for row in matrix.astype(float if matrix.dtype.kind == "f" else int).tolist()
    ]
    assert columns.rows(batch["value"][1:]).tolist() == matrix[1:].tolist()
    assert columns.rows(pa.array(matrix.tolist())).tolist() == matrix.tolist()
    assert columns.pairs(None, matrix)["key"].to_pylist() == [None] * 4


@pytest.mark.parametrize("given", [[[1, 2], [3]], [[1], None], [[1], [None]]], ids=str)
def test_rows_of_different_lengths_are_no_matrix(given: list[object]) -> None:
    with pytest.raises(ValueError, match="one length"):
        columns.rows(pa.array(given, pa.list_(pa.int64())))


def test_a_column_of_nothing_has_no_numbers_and_no_rows_whatever_its_type() -> None:
    for kind in (pa.null(), pa.bool_(), pa.float64(), pa.int64()):
        assert columns.numbers(pa.array([], kind)).tolist() == []
    assert columns.numbers(pa.nulls(0)).dtype == np.float64
    fixed = columns.pairs(None, np.ones((3, 2)))["value"]
    for column, shape in (
        (pa.nulls(0), (0, 0)),
        (pa.array([], pa.list_(pa.float64())), (0, 0)),
        (fixed[:0], (0, 2)),
        (pa.array([[], []], pa.list_(pa.int64())), (2, 0)),
        (pa.array([[], []]), (2, 0)),
    ):
        assert columns.rows(column).shape == shape
    with pytest.raises(ValueError, match="2 of these numbers are null"):
        columns.numbers(pa.nulls(2))
    with pytest.raises(ValueError, match="one length"):
        columns.rows(pa.nulls(2))


def test_truth_values_are_numbers_too() -> None:
    values = [number % 3 == 0 for number in range(40)]
    found = columns.numbers(pa.array(values)[5:])
    assert (found.dtype, found.tolist()) == (np.bool_, values[5:])
    pairs = [[values[at], values[at + 1]] for at in range(30)]
    assert columns.rows(pa.array(pairs)[3:]).tolist() == pairs[3:]


PROGRAM = """
import runpy, sys
import numpy as np
from minireduce import columns

batch = columns.pairs(np.arange(3), np.ones((3, 2)))
columns.rows(batch["value"])
columns.join(batch, batch, how="full")
ranks = runpy.run_path(sys.argv[1])
pages = columns.pairs(columns.array(np.arange(3)).cast("string"), columns.array(np.arange(3)).cast("string"))
pages = ranks["begin"](pages)
ranks["rank"](ranks["keep"](pages), ranks["hand_on"](pages))
assert "pandas" not in sys.modules
"""


def test_what_jobs_are_made_of_does_without_pandas() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, str(JOBS / "pagerank_columns.py")], check=True)


KEYS: st.SearchStrategy[list[Any]] = st.one_of(
    st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "aé"])), max_size=9),
    st.lists(st.one_of(st.none(), st.integers(0, 2)), max_size=9),
    st.lists(
        st.one_of(
            st.none(), st.fixed_dictionaries({"0": st.sampled_from([None, "a"]), "1": st.sampled_from([None, 1, 2])})
        ),
        max_size=9,
    ),
)


@settings(max_examples=200, deadline=None)
@given(KEYS, st.integers(0, 2))
def test_groups_begin_where_a_key_differs_from_the_one_before(keys: list[Any], start: int) -> None:
    column, keys = pa.array(keys)[start:], keys[start:]
    expected = [index for index, key in enumerate(keys) if index == 0 or key != keys[index - 1]]
    starts = columns.group_starts(column)
    assert starts.tolist() == expected
    assert columns.take(column, starts).to_pylist() == [keys[index] for index in expected]


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.int8()])
def test_numbers_are_those_of_the_column(kind: pa.DataType) -> None:
    column = pa.array([1, 2, 3, 4], kind)
    assert columns.numbers(column[1:3]).tolist() == [2, 3]
    assert columns.numbers(column[:0]).tolist() == []
    with pytest.raises(ValueError, match="1 of these numbers are null"):
        columns.numbers(pa.array([1, None], kind))


SIDES = st.lists(st.tuples(st.one_of(st.none(), st.sampled_from(["", "a", "aé", "b"])), st.integers(0, 9)), max_size=9)


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, st.sampled_from(["inner", "left", "right", "full"]))
def test_a_join_gives_what_loops_over_both_sides_give(left: list[Any], right: list[Any], how: str) -> None:
    def order(pair: tuple[Any, int]) -> tuple[bool, str]:
        return pair[0] is not None, pair[0] or ""

    left, right = sorted(left, key=order), sorted(right, key=order)
    expected = []
    for key in sorted({key for key, _ in left + right}, key=lambda key: order((key, 0))):
        of_left, of_right = ([value for each, value in side if each == key] for side in (left, right))
        of_left = [None] if how in {"right", "full"} and not of_left else of_left
        of_right = [None] if how in {"left", "full"} and not of_right else of_right
        expected += [(key, first, second) for second in of_right for first in of_left]
    batches = [
        columns.pairs(
            pa.array([key for key, _ in side], pa.string()), pa.array([value for _, value in side], pa.int64())
        )
        for side in (left, right)
    ]
    found = columns.join(*batches, how=how)
    assert list(zip(*(found[name].to_pylist() for name in ("key", "left", "right")), strict=True)) == expected


def test_a_join_of_a_side_without_types_is_one_of_nothing() -> None:
    some, none = columns.pairs(pa.array(["a", "b"]), 1), columns.pairs(None, pa.nulls(0))
    assert columns.join(some, none).num_rows == columns.join(none, some).num_rows == 0
    assert columns.join(some, none, how="left")["right"].to_pylist() == [None, None]
    assert columns.join(none, some, how="right")["left"].to_pylist() == [None, None]
    with pytest.raises(ValueError, match="must be inner, left, right or full"):
        columns.join(some, some, how="outer")


@pytest.mark.parametrize("value", ["é ", "", b"\xff", 3, -2.5])
def test_a_scalar_is_that_of_pyarrow(value: Any) -> None:
    assert columns.scalar(value) == pa.scalar(value)


def test_fields_are_those_of_split() -> None:
    lines = ["a b", "é ", " x y", "k 1  2"]
    first, second = columns.fields(pa.array(lines), " ", 2)
    assert list(zip(first.to_pylist(), second.to_pylist(), strict=True)) == [
        tuple(line.split(" ", 1)) for line in lines
    ]
    with pytest.raises(pa.ArrowInvalid):
        columns.fields(pa.array(["a b", "c"]), " ", 2)
