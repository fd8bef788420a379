"""Requests for many outputs, how answers are cut, and compressed answers, wherever the network cuts them."""

from __future__ import annotations

import os
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes.worker import map_attempt, reduce_attempt

from minireduce.errors import Corruption, RequestError
from minireduce.wire import compression
from minireduce.wire.compression import Decompressor, compress
from minireduce.wire.many_outputs import (
    ERROR_BYTES_MAX,
    HEAD_BYTES,
    OUTPUTS_MAX,
    Head,
    Sections,
    Wanted,
    decode_wanted,
    encode_head,
    encode_wanted,
)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


def read(pieces: list[bytes]) -> list[tuple[int, int, bytes]]:
    """Status, promised length and bytes of each section."""
    found: list[tuple[int, int, bytes]] = []
    sections = Sections()
    for piece in pieces:
        for part in sections.feed(piece):
            if isinstance(part, Head):
                found.append((part.status, part.length, b""))
            else:
                status, length, data = found[-1]
                found[-1] = status, length, data + bytes(part)
    return found


CUTS = st.lists(st.integers(0, 1 << 20), max_size=20)


@given(st.lists(st.tuples(st.sampled_from([200, 404, 410]), st.binary(max_size=60)), max_size=8), CUTS)
def test_sections_are_found_wherever_an_answer_is_cut(written: list[tuple[int, bytes]], cuts: list[int]):
    answer = b"".join(encode_head(status, len(data)) + data for status, data in written)
    assert read(pieces_of(answer, cuts)) == [(status, len(data), data) for status, data in written]


@given(st.integers(0, 8 * HEAD_BYTES - 1))
def test_each_flipped_bit_of_a_head_is_found(bit: int):
    head = bytearray(encode_head(200, 12345))
    head[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corruption):
        read([bytes(head)])


def test_an_error_that_goes_on_for_ever_is_not_listened_to():
    assert read([encode_head(404, ERROR_BYTES_MAX)]) == [(404, ERROR_BYTES_MAX, b"")]
    with pytest.raises(Corruption):
        read([encode_head(404, ERROR_BYTES_MAX + 1)])


def test_what_is_wanted_comes_back_as_it_was_asked_for():
    wanted = [Wanted(map_attempt(3), 7, 0), Wanted(reduce_attempt(0, 2), -1, 1 << 40)]
    assert decode_wanted(encode_wanted(wanted)) == wanted
    assert decode_wanted(encode_wanted([wanted[0]] * OUTPUTS_MAX)) == [wanted[0]] * OUTPUTS_MAX


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x01", *map(msgpack.packb, ([3], [[1, 2, 3]], {"a": 1}, [["x", 0, 0]], [[]], "abc"))],
)
def test_what_names_no_outputs_is_refused(body: bytes):
    with pytest.raises(RequestError):
        decode_wanted(body)


# ── compressed ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.binary(min_size=1, max_size=50) | st.just(b"again and again " * 50), max_size=6), CUTS)
def test_slices_come_back_wherever_a_compressed_answer_is_cut(slices: list[bytes], cuts: list[int]):
    answer = b"".join(map(compress, slices))
    decompressor = Decompressor()
    assert [each for piece in pieces_of(answer, cuts) for each in decompressor.feed(piece)] == slices


def test_what_repeats_becomes_shorter_and_chance_hardly_longer():
    assert len(compress(b"again and again " * 1000)) < 200
    assert len(compress(os.urandom(1000))) <= 1008


def test_a_damaged_slice_is_told_apart_from_a_good_one():
    good = compress(b"again and again " * 1000)
    for damaged in (
        good[:4] + b"\xff\xff\xff\x7f" + good[8:],  # a slice larger than any
        b"\0\0\0\0" + good[4:],
        good[:8] + b"\0\0\0\0" + good[12:],  # no zstd
        good[:4] + (15_999).to_bytes(4, "little") + good[8:],
    ):
        with pytest.raises(Corruption):
            list(Decompressor().feed(damaged))


def test_a_slice_is_never_larger_than_a_reader_takes():
    from minireduce.worker.output_sending import SLICE_BYTES, SMALL_BYTES

    assert SLICE_BYTES + SMALL_BYTES + HEAD_BYTES <= compression.SLICE_BYTES_MAX
