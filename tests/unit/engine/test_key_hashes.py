"""The hash of a column is that of the library, key by key, for every length."""

from __future__ import annotations

from random import Random

import xxhash

from minireduce.engine import key_columns, key_hashes


def test_keys_of_every_length_have_the_hash_of_the_library() -> None:
    random = Random(5)
    keys = [random.randbytes(length) for length in range(300) for _ in range(5)]
    random.shuffle(keys)

    found = key_hashes.hashes(key_columns.of_bytes(keys)).tolist()

    assert found == [xxhash.xxh3_64_intdigest(key) for key in keys]


def test_keys_of_a_slice_are_hashed_from_where_it_begins() -> None:
    keys = [b"%d" % number**3 for number in range(500)]

    found = key_hashes.hashes(key_columns.of_bytes(keys)[37:411]).tolist()

    assert found == [xxhash.xxh3_64_intdigest(key) for key in keys[37:411]]


def test_more_keys_than_are_taken_at_once_keep_their_places() -> None:
    keys = [b"%x" % (number * 0x9E3779B1) for number in range(40_000)]

    found = key_hashes.hashes(key_columns.of_bytes(keys)).tolist()

    assert found == [xxhash.xxh3_64_intdigest(key) for key in keys]


def test_no_keys_have_no_hashes() -> None:
    assert key_hashes.hashes(key_columns.of_bytes([])).tolist() == []
