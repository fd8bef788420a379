"""Replicas on a disk that forgets what was not synced."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from minireduce.checksums import PACKET_BYTES
from minireduce.core.replica_messages import Replica
from minireduce.disk import RealDisk
from minireduce.errors import MinireduceError, NotFound, Unavailable
from minireduce.testing.disk import SimDisk
from minireduce.wire.packets import Unsealer, seal
from minireduce.worker.block_store import BlockStore, DamagedReplica
from minireduce.worker.data_directories import NO_ROOM_BYTES

ROOT = Path("/data/blocks")
LENGTHS = [1, PACKET_BYTES, PACKET_BYTES + 1, 40 * PACKET_BYTES + 5]


def data_of(replica: Replica) -> bytes:
    return random.Random(replica.block_id * 1000 + replica.generation).randbytes(replica.length)


def open_store(disk: SimDisk, *roots: Path) -> BlockStore:
    store = BlockStore(disk, roots or (ROOT,))
    store.open()
    return store


def write(store: BlockStore, replica: Replica, *, is_committed: bool = True) -> None:
    writer = store.create(replica)
    unsealer = Unsealer(replica.length, "it")
    for piece in seal(data_of(replica)):
        writer.write(unsealer.feed(piece))
    if is_committed:
        writer.commit()


def read(store: BlockStore, replica: Replica, offset: int = 0, length: int | None = None) -> bytes:
    length = replica.length - offset if length is None else length
    begin = offset // PACKET_BYTES * PACKET_BYTES
    end = min(replica.length, -(-(offset + length) // PACKET_BYTES) * PACKET_BYTES)
    unsealer = Unsealer(end - begin, "it")
    pieces = store.read(replica.block_id, replica.generation, offset, length)
    data = b"".join(packet.data for piece in pieces for packet in unsealer.feed(piece))
    assert unsealer.is_complete
    return data[offset - begin : offset - begin + length]


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_written_is_read_back_in_whole_and_in_ranges(disk, length):
    store, replica = open_store(disk), Replica(7, 1, length)
    write(store, replica)
    assert read(store, replica) == data_of(replica)
    for offset, count in ((0, 1), (length - 1, 1), (length // 2, length - length // 2), (length // 3, length // 3)):
        assert read(store, replica, offset, count) == data_of(replica)[offset : offset + count]


@pytest.mark.parametrize("seed", range(30))
def test_a_committed_replica_survives_a_crash_and_an_uncommitted_one_leaves_nothing(seed):
    disk = SimDisk(random.Random(seed))
    store = open_store(disk)
    kept, begun = Replica(1, 1, 3 * PACKET_BYTES + 9), Replica(257, 1, 2 * PACKET_BYTES)
    write(store, kept)
    write(store, begun, is_committed=False)
    disk.crash()
    store = open_store(disk)
    assert store.replicas() == (kept,)
    assert read(store, kept) == data_of(kept)
    assert disk.names(ROOT / "01") == ["1.1.data", "1.1.sums"]


@pytest.mark.parametrize("seed", range(10))
def test_small_files_of_a_committed_block_are_each_there_after_a_crash(seed):
    disk = SimDisk(random.Random(seed))
    lengths = [random.Random(seed + number).choice((1, 700, PACKET_BYTES, 70_000)) for number in range(6)]
    replica = Replica(1, 1, sum(lengths))
    write(open_store(disk), replica)
    disk.crash()
    store, begins = open_store(disk), 0
    for length in lengths:
        assert read(store, replica, begins, length) == data_of(replica)[begins : begins + length]
        begins += length


class FailingDisk(SimDisk):
    """Lets one call fail, the `nth` of its operation."""

    operation, nth, hits = "", 0, 0

    def check(self, operation: str) -> None:
        super().check(operation)
        if operation == self.operation:
            self.hits += 1
            if self.hits == self.nth:
                raise OSError(errno.EIO, "the nth call fails")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("operation", "nth"),
    [
        *(("create", nth) for nth in (1, 2)),
        *(("write", nth) for nth in (1, 3)),
        *((operation, nth) for operation in ("sync", "rename", "sync_directory") for nth in (1, 2)),
        ("make_directories", 1),
    ],
)
def test_whatever_fails_before_a_crash_nothing_half_is_ever_listed(operation, nth, seed):
    disk = FailingDisk(random.Random(seed))
    store = open_store(disk)
    done, failed = Replica(1, 1, PACKET_BYTES + 1), Replica(2, 1, 2 * PACKET_BYTES)
    write(store, done)
    disk.operation, disk.nth = operation, nth
    with pytest.raises(Unavailable, match="cannot be written"):
        write(store, failed)
    assert disk.hits == nth
    assert store.replicas() == (done,)
    disk.crash()
    store = open_store(disk)
    assert done in store.replicas()
    for replica in store.replicas():  # the second may be there: it was whole, and never acknowledged
        assert read(store, replica) == data_of(replica)


def test_a_directory_that_was_full_takes_writes_again_when_it_has_room_but_not_one_that_failed(disk):
    store = open_store(disk)
    disk.fail_next("write", errno.ENOSPC)
    with pytest.raises(Unavailable):
        write(store, Replica(1, 1, 100))
    disk.space_bytes = 1000
    assert not store.directories.reopen()
    with pytest.raises(Unavailable, match="takes writes any more"):
        store.create(Replica(2, 1, 100))
    disk.space_bytes = 1 << 40
    assert store.directories.reopen()
    write(store, Replica(2, 1, 100))
    assert read(store, Replica(2, 1, 100)) == data_of(Replica(2, 1, 100))
    disk.fail_next("sync", errno.EIO)
    with pytest.raises(Unavailable):
        write(store, Replica(3, 1, 100))
    assert not store.directories.reopen()
    with pytest.raises(Unavailable, match="takes writes any more"):
        store.create(Replica(4, 1, 100))


def test_a_directory_in_which_a_write_failed_is_closed_to_writing_and_still_read(disk):
    roots = (Path("/a/blocks"), Path("/b/blocks"))
    store = open_store(disk, *roots)
    first = Replica(1, 1, 100)
    write(store, first)
    disk.fail_next("sync", errno.EIO)
    with pytest.raises(Unavailable):
        write(store, Replica(2, 1, 100))
    (closed,) = store.directories.closed
    for number in range(3, 9):
        write(store, Replica(number, 1, 100))
        other = next(root for root in roots if root != closed)
        assert disk.exists(other / f"{number:02x}" / f"{number}.1.data")
    assert read(store, first) == data_of(first)
    disk.fail_next("write", errno.ENOSPC)
    with pytest.raises(Unavailable):
        write(store, Replica(9, 1, 100))
    with pytest.raises(Unavailable, match="takes writes any more"):
        store.create(Replica(10, 1, 100))
    assert store.directories.measure().free_bytes == NO_ROOM_BYTES


@pytest.mark.parametrize("bit", [0, 8 * PACKET_BYTES + 3, 8 * (2 * PACKET_BYTES + 49) + 7])
def test_a_flipped_bit_is_never_given_out(disk, bit):
    store, replica = open_store(disk), Replica(5, 2, 2 * PACKET_BYTES + 50)
    write(store, replica)
    disk.flip_bit(ROOT / "05" / "5.2.data", bit)
    with pytest.raises(DamagedReplica):
        read(store, replica)
    assert store.replicas() == ()
    with pytest.raises(DamagedReplica, match="found so before"):
        store.find(5, 2)
    assert disk.exists(ROOT / "05" / "5.2.data")


@pytest.mark.parametrize("bit", range(0, 8 * 40, 7))
def test_a_flipped_bit_among_the_checksums_is_found_too(disk, bit):
    store, replica = open_store(disk), Replica(5, 2, 2 * PACKET_BYTES + 50)
    write(store, replica)
    disk.flip_bit(ROOT / "05" / "5.2.sums", bit)
    with pytest.raises(DamagedReplica):
        read(store, replica)
    reopened = open_store(disk)
    with pytest.raises(DamagedReplica):
        read(reopened, replica)


def test_damage_elsewhere_in_a_block_does_not_keep_a_good_range_from_being_read(disk):
    store, replica = open_store(disk), Replica(5, 2, 3 * PACKET_BYTES)
    write(store, replica)
    disk.flip_bit(ROOT / "05" / "5.2.data", 8 * 2 * PACKET_BYTES)
    assert read(store, replica, 0, PACKET_BYTES) == data_of(replica)[:PACKET_BYTES]


def test_a_file_of_the_wrong_length_is_not_listed_when_a_worker_starts(disk):
    store, replica = open_store(disk), Replica(5, 2, 100)
    write(store, replica)
    whole = disk.open(ROOT / "05" / "5.2.data").read()
    disk.remove(ROOT / "05" / "5.2.data")
    with disk.create(ROOT / "05" / "5.2.data") as file:
        file.write(whole[:-1])
    store = open_store(disk)
    assert store.replicas() == ()
    with pytest.raises(DamagedReplica):
        store.find(5, 2)


def test_a_damaged_replica_that_is_written_again_is_good_again(disk):
    store, replica = open_store(disk), Replica(5, 2, 100)
    write(store, replica)
    store.mark_damaged(replica)
    write(store, replica)
    assert read(store, replica) == data_of(replica)


def test_generations_of_one_block_do_not_meet(disk):
    store = open_store(disk)
    for generation in (1, 2):
        write(store, Replica(5, generation, 100))
    store.remove(5, 1)
    store.remove(5, 1)
    with pytest.raises(NotFound):
        store.find(5, 1)
    assert read(store, Replica(5, 2, 100)) == data_of(Replica(5, 2, 100))
    assert open_store(disk).replicas() == (Replica(5, 2, 100),)


def test_a_replica_removed_while_it_is_read_is_missing_and_not_damaged(disk):
    store, replica = open_store(disk), Replica(5, 2, 40 * PACKET_BYTES)
    write(store, replica)
    pieces = store.read(5, 2)
    store.remove(5, 2)
    with pytest.raises(NotFound):
        list(pieces)


def test_two_writers_of_one_replica_do_not_meet_and_what_is_discarded_goes(disk):
    store, replica = open_store(disk), Replica(5, 2, 100)
    write(store, replica, is_committed=False)
    second = store.create(replica)
    second.write(Unsealer(100, "it").feed(b"".join(seal(data_of(replica)))))
    third = store.create(replica)
    third.write(Unsealer(50, "it").feed(b"".join(seal(bytes(50)))))
    with pytest.raises(MinireduceError, match="50 of 100"):
        third.commit()
    third.discard()
    second.commit()
    second.discard()
    assert read(store, replica) == data_of(replica)
    names = disk.names(ROOT / "05")
    assert [name for name in names if not name.startswith(".5.1")] == ["5.2.data", "5.2.sums"]


class ForgetfulDisk(SimDisk):
    """Leaves out one call that should make something durable, the `nth` of its operation."""

    forgotten, nth, hits = "", 0, 0

    def _is_forgotten(self, operation: str) -> bool:
        self.hits += operation == self.forgotten
        return operation == self.forgotten and self.hits == self.nth

    def sync(self, file) -> None:
        if not self._is_forgotten("sync"):
            super().sync(file)

    def sync_directory(self, path) -> None:
        if not self._is_forgotten("sync_directory"):
            super().sync_directory(path)


def crash_after_writing(seed: int, operation: str, nth: int) -> bool:
    """Whether a replica is there, whole, when its worker starts again after a crash."""
    disk, replica = ForgetfulDisk(random.Random(seed)), Replica(1, 1, 2 * PACKET_BYTES + 9)
    store = open_store(disk)
    disk.forgotten, disk.nth = operation, nth
    write(store, replica)
    disk.crash()
    store = open_store(disk)
    try:
        return store.replicas() == (replica,) and read(store, replica) == data_of(replica)
    except DamagedReplica:
        return False


@pytest.mark.parametrize(
    ("operation", "nth"),
    [("sync", 1), ("sync", 2), *(("sync_directory", nth) for nth in (1, 2, 3, 4))],
    ids=["bytes", "checksums", "folders", "blocks", "data directory", "names"],
)
def test_each_sync_before_the_acknowledgement_is_needed(operation, nth):
    assert all(crash_after_writing(seed, "", 0) for seed in range(20))
    assert not all(crash_after_writing(seed, operation, nth) for seed in range(20))


@pytest.mark.parametrize(("operation", "calls"), [("sync", 2), ("sync_directory", 4)])
def test_no_call_that_syncs_is_left_out_of_the_test_above(operation, calls):
    disk = ForgetfulDisk(random.Random(1))
    disk.forgotten = operation
    write(open_store(disk), Replica(1, 1, 100))
    assert disk.hits == calls


@pytest.mark.parametrize("suffix", ["data", "sums"])
def test_every_byte_of_a_replica_and_of_its_checksums_is_looked_at(disk, suffix):
    replica, path = Replica(5, 2, 60), ROOT / "05" / f"5.2.{suffix}"
    store = open_store(disk)
    write(store, replica)
    for byte in range(disk.size_bytes(path)):
        disk.flip_bit(path, 8 * byte + byte % 8)
        with pytest.raises(DamagedReplica):
            read(store, replica)
        reopened = open_store(disk)
        with pytest.raises(DamagedReplica):
            read(reopened, replica)
        assert reopened.damaged() == (Replica(5, 2, 0),)
        disk.flip_bit(path, 8 * byte + byte % 8)
        store = open_store(disk)
        assert read(store, replica) == data_of(replica)


@pytest.mark.parametrize("suffix", ["data", "sums"])
@pytest.mark.parametrize("left", [0, 1, 50, 59])
def test_a_file_cut_short_under_a_running_worker_is_damage(tmp_path, suffix, left):
    store, replica = open_store(RealDisk(), tmp_path / "blocks"), Replica(5, 2, PACKET_BYTES + 60)
    write(store, replica)
    path = tmp_path / "blocks" / "05" / f"5.2.{suffix}"
    with path.open("r+b") as file:
        file.truncate(left if suffix == "data" else min(left, path.stat().st_size - 1))
    with pytest.raises(DamagedReplica):
        read(store, replica)


def test_checksums_that_belong_to_another_replica_are_damage(tmp_path):
    store = open_store(RealDisk(), tmp_path / "blocks")
    for generation in (1, 2):
        write(store, Replica(5, generation, 100))
    folder = tmp_path / "blocks" / "05"
    for suffix in ("data", "sums"):  # each pair is whole, under the other's name
        (folder / f"5.1.{suffix}").rename(folder / "aside")
        (folder / f"5.2.{suffix}").rename(folder / f"5.1.{suffix}")
        (folder / "aside").rename(folder / f"5.2.{suffix}")
    for generation in (1, 2):
        with pytest.raises(DamagedReplica):
            read(store, Replica(5, generation, 100))


def test_files_of_others_among_the_blocks_are_left_alone(tmp_path):
    root = tmp_path / "blocks"
    write(open_store(RealDisk(), root), Replica(5, 2, 100))
    others = [root / "README", root / "lost+found" / "#12", root / "05" / "notes"]
    (root / "lost+found").mkdir()
    for path in others:
        path.write_text("precious")
    (root / "05" / ".6.1.data").touch()
    assert open_store(RealDisk(), root).replicas() == (Replica(5, 2, 100),)
    assert [path.read_text() for path in others] == ["precious"] * 3
    assert not (root / "05" / ".6.1.data").exists()


class FullFile:
    """Takes bytes, and says only when it is closed that there is no room."""

    def __init__(self, file) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    def close(self) -> None:
        self._file.close()
        raise OSError(errno.ENOSPC, "no space left on device")


class FullDisk(RealDisk):
    def create(self, path):
        return FullFile(super().create(path))


def test_nothing_is_left_of_a_write_that_filled_the_disk(tmp_path):
    store = open_store(FullDisk(), tmp_path / "blocks")
    writer = store.create(Replica(5, 2, 100))
    with pytest.raises(Unavailable, match="no space left"):
        writer.write(Unsealer(100, "it").feed(b"".join(seal(bytes(100)))))
    writer.discard()
    assert list((tmp_path / "blocks" / "05").iterdir()) == []
