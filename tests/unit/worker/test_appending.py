"""Replicas that become longer, on a disk that forgets what was not synced."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from minireduce.checksums import PACKET_BYTES
from minireduce.core.replica_messages import Replica
from minireduce.errors import Corruption, NotFound, Unavailable
from minireduce.testing.disk import SimDisk
from minireduce.wire.packets import Unsealer, seal
from minireduce.worker.block_store import BlockStore
from minireduce.worker.replica_files import DamagedReplica

ROOT = Path("/data/blocks")
FOLDER = ROOT / "07"
DATA = random.Random(3).randbytes(4 * PACKET_BYTES)
STEPS = [1, 100, PACKET_BYTES, PACKET_BYTES + 5, 2 * PACKET_BYTES, 3 * PACKET_BYTES - 1, 4 * PACKET_BYTES]


def open_store(disk: SimDisk) -> BlockStore:
    store = BlockStore(disk, (ROOT,))
    store.open()
    return store


def replica(generation: int, length: int) -> Replica:
    return Replica(7, generation, length)


def fill(writer, begin: int, length: int, data: bytes = DATA):
    unsealer = Unsealer(length - begin, "it")
    for piece in seal(data[begin:length]):
        writer.write(unsealer.feed(piece))
    return writer


def write(store: BlockStore, length: int) -> None:
    fill(store.create(replica(1, length)), 0, length).commit()


def begin_append(store: BlockStore, generation: int, length: int, base: Replica, data: bytes = DATA):
    begin = base.length // PACKET_BYTES * PACKET_BYTES
    return fill(store.append(replica(generation, length), base.generation, base.length), begin, length, data)


def read(store: BlockStore, generation: int) -> bytes:
    found = store.find(7, generation)
    unsealer = Unsealer(found.length, "it")
    pieces = store.read(7, generation)
    return b"".join(packet.data for piece in pieces for packet in unsealer.feed(piece))


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


def test_many_appends_give_what_one_write_would_and_each_costs_what_it_brings(disk):
    store = open_store(disk)
    write(store, STEPS[0])
    before = replica(1, STEPS[0])
    for generation, length in enumerate(STEPS[1:], start=2):
        copied = disk.calls["create"]
        begin_append(store, generation, length, before).commit()
        assert disk.calls["create"] - copied == 1  # of checksums only: the bytes go where the others are
        assert read(store, generation) == DATA[:length]
        assert read(store, before.generation) == DATA[: before.length]
        store.remove(7, before.generation)
        before = replica(generation, length)
    assert read(open_store(disk), before.generation) == DATA
    assert disk.names(FOLDER) == [f"7.{before.generation}.data", f"7.{before.generation}.sums"]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("is_committed", [False, True])
def test_a_crash_takes_neither_what_was_there_nor_what_was_appended_and_committed(seed, is_committed):
    disk = SimDisk(random.Random(seed))
    store = open_store(disk)
    write(store, 100)
    writer = begin_append(store, 2, PACKET_BYTES + 9, replica(1, 100))
    if is_committed:
        writer.commit()
    disk.crash()
    store = open_store(disk)
    assert read(store, 1) == DATA[:100]
    if is_committed:
        assert read(store, 2) == DATA[: PACKET_BYTES + 9]
    else:
        assert [name for name in disk.names(FOLDER) if name.startswith(".")] == []
        begin_append(store, 3, PACKET_BYTES, replica(1, 100)).commit()
        assert read(store, 3) == DATA[:PACKET_BYTES]


class NoSync(SimDisk):
    """Takes one sync after the other for done, though it is not."""

    left_out = -1

    def _is_left_out(self) -> bool:
        self.left_out -= 1
        return self.left_out == -1

    def sync(self, file):
        if not self._is_left_out():
            super().sync(file)

    def sync_directory(self, path):
        if not self._is_left_out():
            super().sync_directory(path)


@pytest.mark.parametrize("left_out", range(4))
def test_each_sync_of_an_append_is_needed(left_out):
    """With one of three left out some crash loses what was committed; with none of them none does."""
    lost = 0
    for seed in range(40):
        disk = NoSync(random.Random(seed))
        store = open_store(disk)
        write(store, 100)
        disk.left_out = left_out
        begin_append(store, 2, PACKET_BYTES + 9, replica(1, 100)).commit()
        disk.crash()
        try:
            lost += read(open_store(disk), 2) != DATA[: PACKET_BYTES + 9]
        except (NotFound, DamagedReplica):
            lost += 1
    assert (lost > 0) == (left_out < 3)


def test_two_writers_of_one_block_do_not_meet_in_one_file(disk):
    store = open_store(disk)
    write(store, 100)
    late = store.append(replica(2, 200), 1, 100)
    other = bytes(100) + bytes(500)
    unsealer = Unsealer(200, "it")
    late.write(unsealer.feed(b"".join(seal(DATA[:200]))))
    new = DATA[:100] + other[100:300]
    begin_append(store, 3, 300, replica(1, 100), new).commit()
    late.commit()
    assert read(store, 2) == DATA[:200]
    assert read(store, 3) == new
    assert read(store, 1) == DATA[:100]


def test_an_append_that_was_given_up_leaves_the_rest_as_it_was(disk):
    store = open_store(disk)
    write(store, 100)
    begin_append(store, 2, 300, replica(1, 100)).discard()
    new = DATA[:100] + bytes(150)
    begin_append(store, 3, 250, replica(1, 100), new).commit()
    assert read(store, 3) == new
    assert read(store, 1) == DATA[:100]
    assert [each.generation for each in open_store(disk).replicas()] == [1, 3]


def test_only_what_is_here_and_good_can_become_longer(disk):
    store = open_store(disk)
    write(store, 100)
    for base in ((2, 100), (1, 99)):
        with pytest.raises(NotFound):
            store.append(replica(3, 200), *base)
    with pytest.raises(Corruption, match="not those that its writer knows"):
        begin_append(store, 2, 200, replica(1, 100), b"?" + DATA[1:])
    assert read(store, 1) == DATA[:100]
    disk.flip_bit(FOLDER / "7.1.data", 5)
    with pytest.raises(DamagedReplica):
        begin_append(store, 2, 200, replica(1, 100))
    assert store.damaged()


@pytest.mark.parametrize("operation", ["link", "open_append", "write", "sync", "rename", "sync_directory"])
def test_a_disk_that_fails_loses_nothing_that_was_there(disk, operation):
    store = open_store(disk)
    write(store, 100)
    disk.fail_next(operation, errno.ENOSPC)
    writer = store.append(replica(2, 200), 1, 100)
    with pytest.raises(Unavailable):
        fill(writer, 0, 200).commit()
    writer.discard()
    assert read(store, 1) == DATA[:100]
    assert ROOT in store.directories.closed
    with pytest.raises(Unavailable):
        store.append(replica(3, 200), 1, 100)
