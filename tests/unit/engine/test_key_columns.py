"""Keys as strings and as an array: the same order, the same groups, the same lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.engine import columns, key_columns, keys
from minireduce.engine.write import encoded_lines, text_lines

PARTS = st.sampled_from([b"", b"\0", b"a", b"\xff", b"abcdefgh", b"\0" * 9])
KEYS = st.lists(st.lists(PARTS, max_size=4).map(b"".join), max_size=40)


@settings(deadline=None)
@given(KEYS, st.integers(0, 3))
def test_an_array_sorts_groups_and_bisects_as_the_strings_do(raw: list[bytes], cut: int) -> None:
    array = key_columns.of_bytes(raw)[cut:]
    texts = [key.decode("latin-1") for key in raw[cut:]]
    order = key_columns.order(texts)
    assert key_columns.order(array).tolist() == order.tolist() == sorted(range(len(texts)), key=texts.__getitem__)
    in_order, texts_in_order = key_columns.take(array, order), key_columns.take(texts, order)
    assert key_columns.to_texts(in_order) == texts_in_order
    assert key_columns.group_starts(in_order).tolist() == key_columns.group_starts(texts_in_order).tolist()
    assert key_columns.lengths(array).tolist() == key_columns.lengths(texts).tolist()
    assert bytes(key_columns.blob(array)) == key_columns.blob(texts)
    assert keys.partition_all(array, 7).tolist() == keys.partition_all(texts, 7).tolist()
    assert key_columns.to_texts(key_columns.concatenate([array, texts])) == texts + texts
    for bound in set(raw):
        for find in (key_columns.first_at_least, key_columns.first_above):
            assert find(in_order, bound, 0) == find(texts_in_order, bound.decode("latin-1"), 0)


@settings(deadline=None)
@given(st.integers(0, 18), st.data())
def test_keys_of_one_length_are_sorted_as_numbers(width: int, data: st.DataObject) -> None:
    raw = data.draw(
        st.lists(
            st.binary(min_size=width, max_size=width).map(
                lambda key: key[:9] + b"a" * len(key[9:]) if len(key) % 2 else key
            ),
            max_size=30,
        )
    )
    array = key_columns.of_bytes([b"\x05" + key for key in raw])
    assert key_columns.order(array).tolist() == sorted(range(len(raw)), key=raw.__getitem__)
    assert key_columns.order_of_runs(array).tolist() == sorted(range(len(raw)), key=raw.__getitem__)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 10, 16])
@pytest.mark.parametrize("letters", [1, 2, 256])
@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_many_keys_of_one_length_keep_their_order_where_they_are_equal(rows: int, letters: int, width: int) -> None:
    matrix = np.random.default_rng(rows * width).integers(0, letters, (rows, width), np.uint8)
    raw = [b"\x05" + row.tobytes() for row in matrix]
    array = key_columns.of_bytes([b"left out", *raw])[1:]
    order = key_columns.order(array)
    assert order.tolist() == key_columns.order_of_runs(array).tolist() == sorted(range(rows), key=raw.__getitem__)
    assert key_columns.take(array, order).to_pylist() == sorted(raw)


@pytest.mark.parametrize("same", [b"", b"\0\0\0\0", b"abcdef"])
@pytest.mark.parametrize("runs", [1, 3])
def test_keys_that_begin_alike_and_ascend_in_runs_are_put_in_order(runs: int, same: bytes) -> None:
    """Ties of 32 bits that differ further on, among keys that differ early or late."""
    matrix = np.random.default_rng(runs).integers(0, 3, (runs * 500, 10 - len(same)), np.uint8) * 85
    raw = [b"\x05" + same + row.tobytes() for row in matrix]
    raw = [key for run in range(runs) for key in sorted(raw[run * 500 : (run + 1) * 500])]
    array = key_columns.of_bytes(raw)
    expected = sorted(range(len(raw)), key=raw.__getitem__)
    assert key_columns.order_of_runs(array).tolist() == key_columns.order(array).tolist() == expected


@pytest.mark.parametrize("kinds", [b"S", b"SB"])
@pytest.mark.parametrize("pieces", [[b""], [b"", b"a", b"\0"], [b"abcdefgh", b"b", b"\xff" * 3, b"\0" * 9]])
def test_many_texts_are_put_in_order_by_all_of_their_bytes(pieces: list[bytes], kinds: bytes) -> None:
    chosen = np.random.default_rng(len(pieces)).integers(0, len(pieces), (5000, 4))
    raw = [
        bytes([kinds[place % len(kinds)]]) + b"".join(pieces[piece] for piece in row)
        for place, row in enumerate(chosen.tolist())
    ]
    array = key_columns.of_bytes([b"left out", *raw])[1:]
    expected = sorted(range(len(raw)), key=raw.__getitem__)
    assert key_columns.order(array).tolist() == key_columns.order_of_runs(array).tolist() == expected


def test_many_keys_of_which_one_is_empty_are_put_in_order() -> None:
    raw = [b"key %d" % (number * 7919 % 5000) for number in range(5000)] + [b""]
    assert key_columns.order(key_columns.of_bytes(raw)).tolist() == sorted(range(len(raw)), key=raw.__getitem__)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\5\6a"), max_size=3), max_size=8))
def test_strings_and_bytes_are_encoded_at_once_as_one_by_one(words: list[str]) -> None:
    for plain in (words, [word.encode() for word in words]):
        array = keys.array_of(plain)
        if plain:
            assert key_columns.to_texts(array) == keys.sortable_all(plain)
            assert keys.unmarked(array).to_pylist() == [word.encode() for word in words]
        else:
            assert array is None


def test_what_no_kernel_encodes_is_left_to_the_slow_way() -> None:
    assert keys.array_of(["a", None]) is None
    assert keys.array_of([1, 2]) is None
    assert keys.array_of(["a", "\ud800"]) is None


@pytest.mark.parametrize("words", [["a", "b c", "", "ö€😀"], ["", "a"], ["a\tb", "c"], ["a", "b\n"], ["x\r"]])
def test_lines_of_an_array_are_those_of_its_pairs(words: list[str]) -> None:
    numbers = [(-3) ** index for index in range(len(words))]
    array = keys.array_of(["left out", *words])[1:]
    before = array.to_pylist()
    lines = encoded_lines(array, columns.make(numbers))
    assert array.to_pylist() == before
    is_plain = not any(set(word) & set("\t\n\r") for word in words)
    assert lines == (text_lines(words, numbers) if is_plain else None)
    texts = key_columns.of_bytes(columns.make(words))
    assert encoded_lines(keys.array_of(words), texts) == (text_lines(words, words) if is_plain else None)
    plain = [f"w{index}" for index in range(len(words))]
    assert encoded_lines(keys.array_of(plain), texts) == (text_lines(plain, words) if is_plain else None)


def test_a_packed_column_is_the_same_in_a_list_and_in_an_array() -> None:
    listed = columns.make(["a", "b" * 300, None, 1])
    array = key_columns.of_bytes(listed)
    assert columns.to_values(array) == columns.to_values(listed) == ["a", "b" * 300, None, 1]
    assert columns.weights(array).tolist() == columns.weights(listed).tolist()
    assert columns.to_values(columns.take(array, [3, 0])) == [1, "a"]
    assert columns.to_values(columns.concatenate([array[1:2], np.array([7])])) == ["b" * 300, 7]
    assert columns.form(columns.settled(array[3:])) == columns.INTEGERS
    assert columns.form(columns.settled(array[2:])) == columns.PACKED
