"""Folding columns gives what a loop over plain Python gives, however often keys meet and whoever owns their memory."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.api.aggregations import Aggregation, Count, Max, Min, Sum
from minireduce.engine import columns, gather_columns, key_columns, keys
from minireduce.engine.gather import Gathered
from minireduce.engine.gather_columns import FoldedColumns
from minireduce.engine.kinds import Kinds

AGGREGATIONS = {Sum: sum, Count: len, Min: min, Max: max}
KEYS: dict[str, Any] = {
    "digits": st.integers(0, 40).map(lambda number: f"k{number:07}"),
    "wide": st.integers(0, 40).map(lambda number: f"{number * 0x9E3779B97F4A7C15 % (1 << 128):032x}"),
    "words": st.text("aé", max_size=3),
    "ints": st.integers(-20, 20),
}


def partition(_: Any, encoded: Any) -> Any:
    return np.zeros(len(encoded), np.int64)


def results(of: Gathered) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for texts, values in chain.from_iterable(of.sections(1)):
        states = values if of.is_plain else columns.to_values(values)
        found += zip(keys.decode_all(key_columns.to_texts(texts)) if len(texts) else [], states, strict=True)
    return found


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
@pytest.mark.parametrize("keys_of", list(KEYS))
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_each_key_has_what_its_values_come_to(keys_of: str, kind: Any, data: st.DataObject) -> None:
    aggregation: Aggregation[Any, Any, Any] = data.draw(st.sampled_from(list(AGGREGATIONS)))()
    buffer = FoldedColumns(Kinds(), aggregation, 1)
    expected: dict[Any, list[int]] = {}
    for _ in range(data.draw(st.integers(0, 4))):
        pairs = data.draw(st.lists(st.tuples(KEYS[keys_of], st.integers(-9, 9)), max_size=12))
        plain = [key for key, _ in pairs]
        array = pa.array(plain, pa.int64()) if keys_of == "ints" else pa.array(plain, pa.string()).cast(kind)
        buffer.take_columns(array, pa.array([value for _, value in pairs], pa.int64()))
        if data.draw(st.booleans()):
            buffer.settle()
        for key, value in pairs:
            key = key.encode() if kind == pa.binary() and keys_of != "ints" else key  # noqa: PLW2901
            expected.setdefault(key, []).append(value)
    found = results(buffer.drain(partition))
    assert found == [(key, AGGREGATIONS[type(aggregation)](expected[key])) for key in sorted(expected)]


@pytest.mark.parametrize("aggregation", [Sum(), Count(), Max()])
def test_arrays_whose_memory_is_written_to_again_count_as_they_were(aggregation: Aggregation[Any, Any, Any]) -> None:
    key_bytes, numbers = np.zeros((100, 8), np.uint8), np.zeros(100, np.int64)
    key_array, number_array = key_columns.of_rows(key_bytes, pa.large_binary()), key_columns.of_integers(numbers)
    buffer = FoldedColumns(Kinds(), aggregation, 1)
    for batch in range(3):
        for row in range(100):
            key_bytes[row] = np.frombuffer(f"{batch * 100 + row:08}".encode(), np.uint8)
        numbers[:] = batch + 2
        buffer.take_columns(key_array, number_array)
    of_each = 1 if type(aggregation) is Count else None
    expected = [(f"{number:08}".encode(), of_each or number // 100 + 2) for number in range(300)]
    assert results(buffer.drain(partition)) == expected


def test_a_batch_is_brought_together_by_itself_only_where_that_saves_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[int] = []
    fold_batch = gather_columns._fold_batch
    monkeypatch.setattr(
        gather_columns, "_fold_batch", lambda *given: folded.append(len(given[1])) or fold_batch(*given)
    )
    often, rarely = [FoldedColumns(Kinds(), Sum(), 1) for _ in range(2)]
    for batch in range(3):
        ones = pa.array(range(8), pa.int64())
        often.take_columns(pa.array(["a", "b"] * 4), ones)
        rarely.take_columns(pa.array([f"{batch}{row}" for row in range(8)]), ones)
    assert folded == [8, 8, 8, 8]
    assert len(results(often.drain(partition))) == 2
    assert len(results(rarely.drain(partition))) == 24


@settings(deadline=None)
@given(st.lists(st.binary(min_size=9, max_size=9), min_size=1), st.sets(st.integers(0, 8)), st.booleans())
def test_packed_rows_sort_and_are_equal_as_rows_do(drawn: list[bytes], same: set[int], is_digits: bool) -> None:
    matrix = np.frombuffer(b"".join(drawn), np.uint8).reshape(-1, 9).copy()
    matrix[:, sorted(same)] = 7
    if is_digits:
        matrix = matrix % 10 + ord("0")
    found = key_columns.packed(matrix)
    if found is None:
        assert not same, "eight bytes at most differ, which are 64 bits"
        assert not is_digits
        return
    rows = [bytes(row) for row in matrix]
    assert (key_columns.counted_order(found) == sorted(range(len(rows)), key=rows.__getitem__)).all()
    assert [a == b for a, b in pairwise(rows)] == (found[1:] == found[:-1]).tolist()


BATCHES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "ints": (st.sampled_from([1, -1, (1 << 63) - 1, -(1 << 63)]), pa.int64()),
    "floats": (st.sampled_from([1e308, -1e308, math.inf, math.nan, 0.5, 5e-324]), pa.float64()),
    "floats and nulls": (st.sampled_from([None, 1e308, -1e308, -math.inf]), pa.float64()),
}


@settings(deadline=None)
@given(st.data())
def test_sums_beyond_a_float_come_to_the_same_wherever_batches_and_spills_are_cut(data: st.DataObject) -> None:
    summed, values = Sum[Any](), list[Any]()
    state = summed.start()
    for _ in range(data.draw(st.integers(1, 3), "spills")):
        buffer = FoldedColumns(Kinds(), summed, 1)
        for _ in range(data.draw(st.integers(1, 3), "batches")):
            value_of, kind = BATCHES[data.draw(st.sampled_from(list(BATCHES)))]
            batch = data.draw(st.lists(value_of, min_size=1, max_size=4))
            buffer.take_columns(pa.array(["k"] * len(batch)), pa.array(batch, kind))
            values += [value for value in batch if value is not None]
        for _, found in results(buffer.drain(partition)):
            state = summed.merge(state, found)
    specials = [value for value in values if isinstance(value, float) and not math.isfinite(value)]
    try:
        if any(isinstance(value, float) for value in values):
            expected = math.fsum(specials) if specials else float(sum(map(Fraction, values), Fraction(0)))
        else:
            expected = sum(values)
    except (OverflowError, ValueError) as error:
        with pytest.raises(type(error)):
            summed.finish(state)
    else:
        assert repr(summed.finish(state)) == repr(expected)
