"""Blocks on the wire."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.checksums import PACKET_BYTES, crc_of, first_damaged, widen
from minireduce.errors import Corruption
from minireduce.wire.packets import Unsealer, seal, sealed_length

SIZES = [1, 2, PACKET_BYTES - 1, PACKET_BYTES, PACKET_BYTES + 1, 3 * PACKET_BYTES, 3 * PACKET_BYTES + 7]


def data_of(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def test_checksums_are_crc32c():
    assert crc_of(b"123456789").hex() == "e3069283"


@pytest.mark.parametrize("length", [0, *SIZES])
@pytest.mark.parametrize("step", [1 << 10, 65540, 1 << 22])
def test_what_was_sealed_comes_back_however_it_is_cut(length, step):
    data = data_of(length)
    sealed = b"".join(seal(data))
    assert len(sealed) == sealed_length(length)
    unsealer = Unsealer(length, "it")
    packets = [packet for at in range(0, len(sealed), step) for packet in unsealer.feed(sealed[at : at + step])]
    assert unsealer.is_complete
    assert b"".join(packet.data for packet in packets) == data


@settings(max_examples=50)
@given(st.sampled_from(SIZES), st.integers(0, 2**32), st.integers(0, 7))
def test_any_flipped_bit_is_found(length, place, bit):
    sealed = bytearray(b"".join(seal(data_of(length))))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises(Corruption):
        Unsealer(length, "it").feed(bytes(sealed))


@pytest.mark.parametrize("length", SIZES)
def test_a_short_end_is_not_complete_and_a_long_one_is_refused(length):
    sealed = b"".join(seal(data_of(length)))
    unsealer = Unsealer(length, "it")
    unsealer.feed(sealed[:-1])
    assert not unsealer.is_complete
    with pytest.raises(Corruption, match="longer"):
        Unsealer(length, "it").feed(sealed + b"x")


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_range_widens_to_the_packets_that_cover_it(offset, length, block_length):
    offset = min(offset, block_length)
    length = min(length, block_length - offset)
    begin, end = widen(offset, length, block_length)
    assert begin % PACKET_BYTES == 0
    assert begin <= offset
    assert end <= block_length
    assert end >= offset + length or not length
    assert end == block_length or end % PACKET_BYTES == 0


@pytest.mark.parametrize("length", [0, *SIZES])
def test_the_first_damaged_of_many_packets_is_named(length):
    data = data_of(length, 5)
    crcs = [int.from_bytes(crc_of(data[at : at + PACKET_BYTES])) for at in range(0, length, PACKET_BYTES)]
    assert first_damaged(data, crcs) is None
    for number in range(len(crcs)):
        for at in (number * PACKET_BYTES, min(length, (number + 1) * PACKET_BYTES) - 1):
            damaged = bytearray(data)
            damaged[at] ^= 1
            damaged[-1] ^= 128
            assert first_damaged(bytes(damaged), crcs) == number
        assert first_damaged(data, [crc ^ (at >= number) for at, crc in enumerate(crcs)]) == number
