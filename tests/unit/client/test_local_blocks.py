"""Replicas that are read here from a descriptor."""

from __future__ import annotations

import os
import random

import pytest

from minireduce.checksums import PACKET_BYTES, PIECE_BYTES_MAX, crc_of
from minireduce.client.local_blocks import LocalReplica
from minireduce.core.replica_messages import Replica
from minireduce.errors import Corruption

LENGTH = 3 * PIECE_BYTES_MAX + PACKET_BYTES + 17
DATA = random.Random(11).randbytes(LENGTH)
CRCS = b"".join(crc_of(DATA[at : at + PACKET_BYTES]) for at in range(0, LENGTH, PACKET_BYTES))


def opened(path, data: bytes = DATA) -> LocalReplica:
    path.write_bytes(data)
    return LocalReplica(Replica(1, 1, LENGTH), os.open(path, os.O_RDONLY), CRCS)


def test_every_range_comes_as_it_was_written(tmp_path):
    replica = opened(tmp_path / "data", DATA + b"of a longer replica of the same block")
    chance = random.Random(12)
    edges = [0, 1, PACKET_BYTES - 1, PACKET_BYTES, PIECE_BYTES_MAX, LENGTH - 18, LENGTH - 1, LENGTH]
    edges += [chance.randrange(LENGTH) for _ in range(8)]
    for begin in edges:
        for end in edges:
            if begin < end:
                assert b"".join(replica.pieces(begin, end - begin)) == DATA[begin:end]


def test_pieces_grow_from_one_packet(tmp_path):
    lengths = [len(piece) for piece in opened(tmp_path / "data").pieces(0, LENGTH)]
    assert lengths[:4] == [PACKET_BYTES, 2 * PACKET_BYTES, 4 * PACKET_BYTES, PIECE_BYTES_MAX]
    assert max(lengths) == PIECE_BYTES_MAX


@pytest.mark.parametrize("number", range(-(-LENGTH // PACKET_BYTES)))
def test_of_a_damaged_replica_comes_what_lies_before_the_damage_and_nothing_else(tmp_path, number):
    damaged = bytearray(DATA)
    damaged[number * PACKET_BYTES + 16] ^= 4
    replica = opened(tmp_path / "data", bytes(damaged))
    taken: list[bytes] = []
    with pytest.raises(Corruption, match=f"from byte {number * PACKET_BYTES} on"):
        taken.extend(replica.pieces(5, LENGTH - 5))  # what came before the error stays in the list
    assert b"".join(taken) == DATA[5 : number * PACKET_BYTES]


def test_a_replica_that_ends_early_is_damaged(tmp_path):
    with pytest.raises(Corruption, match="ends before"):
        list(opened(tmp_path / "data", DATA[:-1]).pieces(0, LENGTH))
