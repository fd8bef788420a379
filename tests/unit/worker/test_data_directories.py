"""Several disks in one worker, of which one fills up or fails, and calls that fail one by one."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from minireduce.checksums import crc_of
from minireduce.core.replica_messages import Replica
from minireduce.errors import MinireduceError, NotFound, Unavailable
from minireduce.testing.disk import SimDisk
from minireduce.testing.disks import SimDisks
from minireduce.wire.packets import Packet, Unsealer, seal
from minireduce.worker.block_store import BlockStore, root_of
from minireduce.worker.data_directories import NO_ROOM_BYTES, READ_ERRORS_MAX
from minireduce.worker.replica_files import DamagedReplica

ROOTS = (Path("/a/blocks"), Path("/b/blocks"), Path("/c/blocks"))
LENGTH = 300


class Machine:
    """A worker's store over three disks."""

    def __init__(self, seed: int = 1) -> None:
        self.disks = {root: SimDisk(random.Random(seed + number)) for number, root in enumerate(ROOTS)}
        self.all = SimDisks({root.parent: disk for root, disk in self.disks.items()})
        self.store = self.open()

    def open(self) -> BlockStore:
        self.store = BlockStore(self.all, ROOTS)
        self.store.open()
        return self.store

    def write(self, number: int) -> Path:
        """Store a replica; where it lies."""
        replica = Replica(number, 1, LENGTH)
        writer = self.store.create(replica)
        try:
            writer.write(Unsealer(LENGTH, "it").feed(b"".join(seal(data_of(number)))))
            writer.commit()
        finally:
            writer.discard()
        return self.root_of(number)

    def root_of(self, number: int) -> Path:
        return root_of(self.all, ROOTS, Replica(number, 1, LENGTH))

    def read(self, number: int) -> bytes:
        unsealer = Unsealer(LENGTH, "it")
        return b"".join(packet.data for piece in self.store.read(number, 1) for packet in unsealer.feed(piece))

    def problems(self) -> dict[str, str]:
        return {each.path: each.problem for each in self.store.directories.measure().directories if each.problem}


def data_of(number: int) -> bytes:
    return random.Random(number).randbytes(LENGTH)


def test_a_replica_goes_to_the_disk_with_the_most_room():
    machine = Machine()
    for number, (root, disk) in enumerate(machine.disks.items(), 1):
        for other in machine.disks.values():
            other.space_bytes = 1 << 30
        disk.space_bytes = 2 << 30
        assert machine.write(number) == root


def test_room_is_the_sum_of_the_disks_that_take_writes_and_two_directories_of_one_disk_count_once():
    machine = Machine()
    assert machine.store.directories.measure().free_bytes == 3 << 40
    machine.disks[ROOTS[1]].fail_next("sync", errno.EIO)
    machine.disks[ROOTS[1]].space_bytes = 2 << 40
    with pytest.raises(Unavailable):
        machine.write(1)
    assert machine.store.directories.measure().free_bytes == 2 << 40
    one = SimDisk(random.Random(1))
    store = BlockStore(one, ROOTS)
    store.open()
    assert store.directories.measure().free_bytes == 1 << 40
    assert store.directories.capacity_bytes() == 1 << 40


def test_a_disk_that_fills_up_is_passed_over_and_named():
    machine = Machine()
    full = machine.disks[ROOTS[0]]
    full.space_bytes = 2 << 40
    full.fail_next("write", errno.ENOSPC)
    with pytest.raises(Unavailable, match="/a/blocks"):
        machine.write(1)
    assert machine.problems() == {"/a/blocks": "a simulated fault of write: ENOSPC"}
    for number in range(2, 10):
        assert machine.write(number) != ROOTS[0]
    assert machine.store.directories.reopen()
    assert machine.problems() == {}


def test_a_disk_that_has_died_takes_its_replicas_along_and_the_others_serve():
    machine = Machine()
    for number in range(1, 30):
        root = machine.write(number)
        machine.disks[root].space_bytes -= 1 << 20
    where = {number: machine.root_of(number) for number in range(1, 30)}
    assert set(where.values()) == set(ROOTS)
    machine.disks[ROOTS[2]].break_down()
    first = next(number for number, root in where.items() if root == ROOTS[2])
    with pytest.raises(DamagedReplica):
        machine.read(first)
    lost = {replica.block_id for replica in machine.store.take_given_up()} | {first}
    assert lost == {number for number, root in where.items() if root == ROOTS[2]}
    assert not machine.store.take_given_up()
    assert list(machine.problems()) == ["/c/blocks"]
    for number in set(where) - lost:
        assert machine.read(number) == data_of(number)
    assert machine.write(99) != ROOTS[2]
    machine.store.remove(first, 1)  # nothing can be done there, and nobody waits for it
    with pytest.raises(NotFound):
        machine.read(first)


def test_one_unreadable_replica_is_damage_and_one_too_many_is_a_failing_disk():
    machine = Machine()
    for disk in machine.disks.values():
        disk.space_bytes = 1 << 30
    machine.disks[ROOTS[1]].space_bytes = 2 << 30
    for number in range(1, 9):
        assert machine.write(number) == ROOTS[1]
    for number in range(1, READ_ERRORS_MAX + 2):
        assert machine.problems() == {}
        machine.disks[ROOTS[1]].fail_next("read")
        with pytest.raises(DamagedReplica):
            machine.read(number)
    assert list(machine.problems()) == ["/b/blocks"]
    assert {replica.block_id for replica in machine.store.take_given_up()} == set(range(READ_ERRORS_MAX + 2, 9))


def test_a_worker_starts_without_a_disk_that_has_died_but_not_without_all():
    machine = Machine()
    for number in range(1, 20):
        machine.disks[machine.write(number)].space_bytes -= 1 << 20
    machine.disks[ROOTS[0]].break_down()
    store = machine.open()
    assert 0 < len(store.replicas()) < 19
    assert list(machine.problems()) == ["/a/blocks"]
    for disk in machine.disks.values():
        disk.break_down()
    with pytest.raises(OSError, match="died"):
        machine.open()


def test_where_no_disk_takes_writes_that_is_said():
    machine = Machine()
    for number, root in enumerate(ROOTS, 1):
        machine.disks[root].space_bytes = 2 << 40
        machine.disks[root].fail_next("create", errno.EIO)
        with pytest.raises(Unavailable):
            machine.write(number)
    assert machine.store.directories.measure().free_bytes == NO_ROOM_BYTES
    with pytest.raises(Unavailable, match="no directory of this worker takes writes any more"):
        machine.write(9)


# ── every call of a write, one by one ───────────────────────────────────────────────────────────────────────────────

WRITE_CALLS = [
    ("make_directories", 1),
    ("sync_directory", 1),
    ("create", 1),
    ("write", 1),
    ("sync", 1),
    ("create", 2),
    ("write", 2),
    ("sync", 2),
    ("rename", 1),
    ("rename", 2),
    *(("sync_directory", nth) for nth in (2, 3, 4)),
]
APPEND_CALLS = [
    ("link", 1),
    ("open_append", 1),
    ("write", 1),
    ("sync", 1),
    ("create", 1),
    ("write", 2),
    ("write", 3),
    ("sync", 2),
    ("rename", 1),
    ("rename", 2),
    ("sync_directory", 1),
]
ERRORS = [errno.ENOSPC, errno.EIO]
COUNTED = ("make_directories", "sync_directory", "create", "write", "sync", "rename", "link", "open_append")


def fail_nth(disk: SimDisk, operation: str, nth: int, number: int) -> None:
    """Let the `nth` call from now on fail."""
    real = disk.check
    seen = [0]

    def check(name: str) -> None:
        real(name)
        if name == operation:
            seen[0] += 1
            if seen[0] == nth:
                raise OSError(number, f"{operation} number {nth} fails")

    disk.check = check  # type: ignore[method-assign]


def calls_of(disk: SimDisk) -> dict[str, int]:
    return {name: disk.calls[name] for name in COUNTED if disk.calls[name]}


def test_the_lists_of_calls_are_all_that_a_write_and_an_append_make():
    machine = Machine()
    disk = machine.disks[ROOTS[0]]
    disk.calls.clear()
    machine.write(1)
    made = calls_of(disk)
    assert made == {name: sum(call[0] == name for call in WRITE_CALLS) for name in made}
    assert len(WRITE_CALLS) == sum(made.values())
    disk.calls.clear()
    append(machine.store)
    made = calls_of(disk)
    assert made == {name: sum(call[0] == name for call in APPEND_CALLS) for name in made}
    assert len(APPEND_CALLS) == sum(made.values())


def append(store: BlockStore) -> None:
    """Make block 1 longer by 50 bytes."""
    data = data_of(1) + bytes(50)
    writer = store.append(Replica(1, 2, len(data)), 1, LENGTH)
    try:
        writer.write([Packet(crc_of(data), data)])
        writer.commit()
    finally:
        writer.discard()


@pytest.mark.parametrize("number", ERRORS, ids=["full", "failing"])
@pytest.mark.parametrize(("operation", "nth"), WRITE_CALLS)
def test_a_write_whose_disk_fails_at_any_call_is_refused_that_directory_closes_and_the_next_write_works(
    operation: str, nth: int, number: int
):
    machine = Machine()
    kept = [machine.write(block) for block in range(257, 260)]
    for root in kept:
        machine.disks[root].space_bytes -= 1 << 30
    struck = max(ROOTS, key=lambda root: machine.disks[root].space_bytes)
    fail_nth(machine.disks[struck], operation, nth, number)
    with pytest.raises(Unavailable, match=str(struck)):
        machine.write(5)
    assert list(machine.problems()) == [str(struck)]
    assert Replica(5, 1, LENGTH) not in machine.store.replicas()
    assert machine.write(6) != struck
    machine.all.crash()
    machine.open()
    for block in (6, 257, 258, 259):
        assert machine.read(block) == data_of(block)
    names = [name for disk in machine.disks.values() for root in ROOTS for name in disk.names(root / "05")]
    assert not [name for name in names if name.startswith(".")]


@pytest.mark.parametrize("number", ERRORS, ids=["full", "failing"])
@pytest.mark.parametrize(("operation", "nth"), APPEND_CALLS)
def test_an_append_whose_disk_fails_at_any_call_leaves_what_there_was(operation: str, nth: int, number: int):
    machine = Machine()
    root = machine.write(1)
    fail_nth(machine.disks[root], operation, nth, number)
    with pytest.raises(MinireduceError, match=str(root)):
        append(machine.store)
    assert list(machine.problems()) == [str(root)]
    assert machine.read(1) == data_of(1)
    assert machine.write(2) != root
    machine.all.crash()
    machine.open()
    assert machine.read(1) == data_of(1)
    assert machine.read(2) == data_of(2)


@pytest.mark.parametrize("crash_after", range(3))
@pytest.mark.parametrize("seed", range(10))
def test_a_crash_in_the_middle_of_a_removal_leaves_all_of_a_replica_or_nothing(crash_after: int, seed: int):
    machine = Machine(seed)
    root = machine.write(1)
    disk = machine.disks[root]
    fail_nth(disk, "remove", crash_after, errno.EIO)
    try:
        machine.store.remove(1, 1)
    except OSError:
        assert crash_after in (1, 2)
    machine.all.crash()
    machine.open()
    if machine.store.replicas():
        assert machine.read(1) == data_of(1)
    else:
        assert not [name for name in disk.names(root / "01") if name.endswith("data")]
