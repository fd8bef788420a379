"""Small files that are moved to other containers: for want of other replicas, and out of holes."""

from __future__ import annotations

import pytest
from scenes.storage import StorageKit

from minireduce.core.replica_messages import ByteRange, RepackBlock, ReplicaStored, ReplicationFailed
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.moves import REST_S
from minireduce.core.storage.requests import ChangeAttributes, RemovePath

SIZES = (("/a", 3), ("/b", 4), ("/c", 5))


@pytest.fixture
def kit() -> StorageKit:
    return StorageKit(3, settings=ClusterSettings(trash_kept_s=0.0))


def place(kit: StorageKit, path: str) -> tuple[int, int]:
    """Which block a small file lies in, and where."""
    (block,) = kit.state.file_blocks(path, 0, 100).blocks
    return block.source.replica.block_id, -block.source.file_offset


def setrep(kit: StorageKit, path: str, replication: int) -> None:
    kit.ask(ChangeAttributes(path, kit.state.status(path).inode, replication))


def remove(kit: StorageKit, path: str) -> None:
    kit.ask(RemovePath(path, kit.state.status(path).inode))


def orders(kit: StorageKit) -> list[RepackBlock]:
    """What comes of containers that have been left alone for long enough."""
    kit.tick()
    return [command for _, command in kit.tick(REST_S) if isinstance(command, RepackBlock)]


def test_a_file_that_wants_other_replicas_is_moved_to_a_block_with_as_many_and_the_rest_stays(kit):
    kit.pack(*SIZES)
    old = place(kit, "/a")[0]
    setrep(kit, "/b", 1)
    (order,) = orders(kit)
    assert (order.replica.block_id, order.ranges) == (old, (ByteRange(3, 4),))
    assert place(kit, "/b") == (old, 3)
    kit.settle()
    assert place(kit, "/b") == (order.packed.block_id, 0)
    assert [place(kit, path) for path in ("/a", "/c")] == [(old, 0), (old, 7)]
    assert len(kit.holders("/b")[0]) == 1
    assert len(kit.holders("/a")[0]) == 3


def test_files_leave_a_block_that_is_mostly_holes_which_then_goes(kit):
    kit.pack(("/a", 10), ("/b", 4), ("/c", 5), replication=2)
    old = place(kit, "/b")[0]
    remove(kit, "/a")
    (order,) = orders(kit)
    assert order.ranges == (ByteRange(10, 4), ByteRange(14, 5))
    kit.settle()
    assert [place(kit, path) for path in ("/b", "/c")] == [(order.packed.block_id, 0), (order.packed.block_id, 4)]
    assert not any(old in disk for disk in kit.disks.values())
    assert len(kit.holders("/b")[0]) == 2
    assert kit.state.summary("/").bytes == 9


def test_a_block_with_few_holes_stays_as_it_is(kit):
    kit.pack(("/a", 9), ("/b", 4), ("/c", 5))
    remove(kit, "/a")
    assert orders(kit) == []


def test_files_are_moved_only_onto_as_many_confirmed_replicas_as_they_want(kit):
    kit.pack(("/a", 10), ("/b", 4), replication=3)
    old = place(kit, "/b")
    remove(kit, "/a")
    (order,) = orders(kit)
    kit.report(order.target, ReplicaStored(order.packed))
    kit.disks[order.target][order.packed.block_id] = order.packed
    kit.commands = [each for each in kit.commands if not isinstance(each[1], RepackBlock)]
    for _ in range(3):
        kit.tick()
        assert place(kit, "/b") == old
    kit.settle()
    assert place(kit, "/b") == (order.packed.block_id, 0)


def test_a_file_that_is_removed_or_changed_while_it_is_moved_is_left_alone(kit):
    kit.pack(("/a", 20), ("/b", 4), ("/c", 5), replication=2)
    remove(kit, "/a")
    (order,) = orders(kit)
    remove(kit, "/b")
    setrep(kit, "/c", 3)
    kit.settle()
    assert place(kit, "/c") == (order.packed.block_id, 4)
    assert len(kit.holders("/c")[0]) == 3


def test_a_move_whose_files_have_all_gone_leaves_nothing(kit):
    kit.pack(("/a", 20), ("/b", 4))
    remove(kit, "/a")
    assert len(orders(kit)) == 1
    remove(kit, "/b")
    kit.settle()
    assert not any(kit.disks.values())
    assert kit.state.view().blocks == 0


@pytest.mark.parametrize("is_told", [True, False])
def test_a_move_that_fails_or_takes_too_long_is_tried_again_and_what_comes_late_is_removed(kit, is_told):
    kit.pack(("/a", 20), ("/b", 4))
    old = place(kit, "/b")
    remove(kit, "/a")
    (first,) = orders(kit)
    kit.commands.clear()
    if is_told:
        kit.report(first.target, ReplicationFailed(first.packed, "its disk is full"))
    kit.tick(1.0 if is_told else 60.0)
    kit.disks[first.target][first.packed.block_id] = first.packed
    kit.report(first.target, ReplicaStored(first.packed))
    assert place(kit, "/b") == old
    again = [command for _, command in kit.tick(60.0) if isinstance(command, RepackBlock)]
    assert [order.packed.block_id == first.packed.block_id for order in again] == [False]
    kit.settle()
    assert place(kit, "/b") == (again[0].packed.block_id, 0)
    assert not any(first.packed.block_id in disk for disk in kit.disks.values())


def test_a_move_that_a_master_began_is_dropped_by_the_next_which_begins_anew(kit):
    kit.pack(("/a", 20), ("/b", 4))
    remove(kit, "/a")
    (first,) = orders(kit)
    kit.carry_out()
    kit.restart()
    for worker in kit.disks:
        kit.join(worker)
    for _ in range(10):
        kit.tick(kit.settings.lease_s / 5)
        kit.carry_out()
    kit.settle()
    assert place(kit, "/b")[1] == 0
    held = {block_id for disk in kit.disks.values() for block_id in disk}
    assert held == {place(kit, "/b")[0]}
    assert first.packed.block_id not in held


def test_files_of_a_block_that_nobody_has_now_wait_for_it(kit):
    kit.pack(("/a", 20), ("/b", 4), replication=1)
    remove(kit, "/a")
    (worker,) = kit.holders("/b")[0]
    kit.lose(worker)
    assert orders(kit) == []
    kit.join(worker)
    kit.settle()
    kit.tick(kit.settings.copy_retry_after_s)
    kit.settle()
    assert place(kit, "/b")[1] == 0
