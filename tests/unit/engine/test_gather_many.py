"""Sums and counts of many keys in columns are those of a loop over plain Python, whatever the keys and values are."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce.api.aggregations import Aggregation, Count, Sum
from minireduce.engine import columns, gather_many, key_columns, keys
from minireduce.engine.emit import Pair
from minireduce.engine.errors import InvalidKey
from minireduce.engine.gather import FoldingBuffer, Gathered
from minireduce.engine.kinds import Kinds

LARGE = st.sampled_from([1 << 62, -(1 << 63), (1 << 63) - 1, 1 << 70, -(1 << 70)])
NUMBERS = st.integers(-5, 5) | LARGE | st.floats(-1e9, 1e9, allow_subnormal=False)
WORDS = st.text("ab\5\6é", max_size=2)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let more than two keys be many, and three pairs enough to bring together."""
    monkeypatch.setattr(gather_many, "KEYS_IN_DICT_MAX", 2)
    monkeypatch.setattr(gather_many, "PAIRS_COLLECTED", 3)


def partition(_: Any, encoded: Any) -> Any:
    return np.zeros(len(encoded), np.int64)


def gathered(
    pairs: list[Pair], aggregation: Aggregation[Any, Any, Any], settled: int = 0, at_once: int = 2
) -> Gathered:
    """What a buffer gives that took so many of these at a time, and was settled after so many takes."""
    buffer = gather_many.folding_buffer(Kinds(), aggregation, 1)
    given_pairs: Iterator[Pair] = iter(pairs)
    takes = 0
    while buffer.take(islice(given_pairs, at_once)):
        takes += 1
        if takes == settled:
            buffer.settle()
    return buffer.drain(partition)


def results(of: Gathered, aggregation: Aggregation[Any, Any, Any]) -> list[tuple[Any, Any]]:
    found = []
    for texts, values in chain.from_iterable(of.sections(1)):
        states = values if of.is_plain else columns.to_values(values)
        plain = keys.decode_all(key_columns.to_texts(texts)) if len(texts) else []
        found += [(key, aggregation.finish(state)) for key, state in zip(plain, states, strict=True)]
    return found


def total(values: list[Any]) -> int | float:
    if all(type(value) is int for value in values):
        return sum(values)
    return float(sum(map(Fraction, values)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(st.tuples(WORDS | st.none(), NUMBERS), max_size=30), st.integers(0, 8), st.integers(1, 6))
def test_sums_are_exact_whichever_way_pairs_went(
    pairs: list[tuple[str | None, Any]], settled: int, at_once: int
) -> None:
    expected: dict[str | None, list[Any]] = {}
    for key, value in pairs:
        expected.setdefault(key, []).append(value)
    found = results(gathered(pairs, Sum(), settled, at_once), Sum())
    assert repr(sorted(found, key=repr)) == repr(sorted(((k, total(v)) for k, v in expected.items()), key=repr))
    words = [key for key, _ in found if key is not None]
    assert words == sorted(words)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(max_size=2), NUMBERS | st.text()), max_size=30))
def test_counts_count_pairs_whatever_their_values_are(pairs: list[tuple[bytes, Any]]) -> None:
    expected: dict[bytes, int] = {}
    for key, _ in pairs:
        expected[key] = expected.get(key, 0) + 1
    assert results(gathered(pairs, Count()), Count()) == sorted(expected.items())


def test_from_many_keys_on_the_dict_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = FoldingBuffer.take
    monkeypatch.setattr(FoldingBuffer, "take", lambda *given: taken.append(take(*given)) or taken[-1])
    found = gathered([(f"{number:02}", 1) for number in range(20)] * 2, Sum())
    assert results(found, Sum()) == [(f"{number:02}", 2) for number in range(20)]
    assert sum(taken) == 4, "two takes of two pairs, after which there are more than two keys"


def test_what_is_collected_counts_with_the_bytes_of_its_keys() -> None:
    buffer = gather_many.folding_buffer(Kinds(), Sum(), 1)
    buffer.take(iter([("a", 1), ("b", 1), ("c", 1)]))
    before = buffer.held_bytes()
    buffer.take(iter([("d" * 100_000, 1), ("e" * 100_000, 1)]))
    assert buffer.held_bytes() - before > 200_000


def test_sums_that_may_go_beyond_64_bits_are_taken_apart_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather_many, "PAIRS_COLLECTED", 1000)
    large = (1 << 63) - 1
    pairs = [(key, value) for key in ("a", "b", "c", "é") for value in (1, large, large)]
    found = results(gathered(pairs, Sum(), at_once=4), Sum())
    assert found == [(key, 1 + 2 * large) for key in ("a", "b", "c", "é")]


def test_a_key_that_cannot_be_stored_is_told_when_all_is_given_up() -> None:
    with pytest.raises(InvalidKey, match="lone surrogate"):
        gathered([(key, 1) for key in ("a", "b", "c", "d", "\ud800", "e")], Sum())


def test_what_is_no_number_is_refused_while_its_record_is_known() -> None:
    buffer = gather_many.folding_buffer(Kinds(), Sum(), 1)
    buffer.take(iter([("a", 1), ("b", 1), ("c", 1)]))
    with pytest.raises(TypeError):
        buffer.take(iter([("d", 1), ("e", "two")]))
