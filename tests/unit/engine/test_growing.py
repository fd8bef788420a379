"""Columns that grow: the same as all of them joined, whatever forms they have and however little room there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minireduce.engine import columns, key_columns
from minireduce.engine.growing import GrowingColumn
from minireduce.engine.memory import anonymous_bytes

COLUMNS = st.one_of(
    st.lists(st.integers(-9, 9), min_size=1, max_size=5).map(columns.make),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=5).map(columns.make),
    st.lists(st.binary(max_size=9), min_size=1, max_size=5).map(
        lambda given: key_columns.of_bytes(columns.make(given))
    ),
)


@given(st.lists(COLUMNS, min_size=1, max_size=9), st.sampled_from([1, 16, 1 << 20]))
def test_the_whole_is_what_joining_the_columns_gives(parts: list[Any], room_bytes: int) -> None:
    growing = GrowingColumn(room_bytes)
    for part in parts:
        growing.add(part)
    whole, joined = growing.taken(), columns.concatenate(parts)
    assert columns.form(whole) == columns.form(joined)
    assert columns.to_values(whole) == columns.to_values(joined)


@pytest.mark.parametrize("keys", [[b""], [b"", b""], [b"a", b""]])
def test_keys_without_bytes_count(keys: list[bytes]) -> None:
    growing = GrowingColumn(4)
    for key in keys:
        growing.add(key_columns.of_bytes([key]))
    assert growing.taken().to_pylist() == keys


def test_what_was_added_may_change_afterwards() -> None:
    numbers = np.arange(5)
    growing = GrowingColumn(1 << 10)
    growing.add(numbers)
    numbers[:] = 0
    assert np.asarray(growing.taken()).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.skipif(not anonymous_bytes(), reason="needs the kernel's count of memory")
def test_no_more_memory_is_used_than_the_columns_take() -> None:
    part = key_columns.of_bytes([b"x" * 1000] * 1000)
    before = anonymous_bytes()
    growing = GrowingColumn(60 << 20)
    for _ in range(30):
        growing.add(part)
    whole = growing.taken()
    assert len(whole) == 30_000
    assert anonymous_bytes() - before < 40 << 20
