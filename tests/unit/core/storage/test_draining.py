"""Doing without a worker, as far as its blocks go, and waiting for one that stopped in good order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes.storage import StorageKit

from minireduce.core.replica_messages import RemoveReplica, ReplicateBlock
from minireduce.core.settings import ClusterSettings


def drain(kit: StorageKit, worker: str, *, is_draining: bool = True) -> None:
    if worker in kit.places.all:
        place = kit.places.all[worker]
        kit.places.all[worker] = replace(place, is_draining=is_draining, takes_replicas=not is_draining)
    kit.state.worker_drains(worker, is_draining=is_draining)


def sent(commands) -> list[str]:
    return [each.target for _, each in commands if isinstance(each, ReplicateBlock)]


def removed_from(commands) -> list[str]:
    return [worker for worker, each in commands if isinstance(each, RemoveReplica)]


def stored_on(kit: StorageKit) -> set[str]:
    (block,) = kit.state.block_views()
    return set(block.workers)


def test_what_a_draining_worker_holds_is_copied_elsewhere_and_stays_readable_there():
    kit = StorageKit(4)
    kit.write("/f", 10)
    worker = min(stored_on(kit))
    drain(kit, worker)
    assert len(sent(kit.tick())) == 1
    kit.carry_out()
    kit.settle(5)
    assert stored_on(kit) == {"w1", "w2", "w3", "w4"}
    assert kit.state.drain_left(worker).why == ""


def test_it_gets_no_new_replica_and_nothing_is_removed_for_its_sake():
    kit = StorageKit(4)
    drain(kit, "w2")
    for number in range(20):
        kit.write(f"/f{number}", 10)
    kit.settle()
    assert not kit.disks["w2"]
    assert all(len(block.workers) == 3 for block in kit.state.block_views())


def test_replicas_too_many_go_once_it_is_taken_back():
    kit = StorageKit(4)
    kit.write("/f", 10)
    worker = min(stored_on(kit))
    drain(kit, worker)
    kit.settle(5)
    drain(kit, worker, is_draining=False)
    assert removed_from(kit.tick()) == []
    kit.carry_out()  # all say that they still have it
    assert len(removed_from(kit.tick())) == 1
    kit.carry_out()
    assert len(stored_on(kit)) == 3


def test_a_worker_that_died_unnoticed_and_is_taken_back_costs_nobody_the_last_good_replica():
    kit = StorageKit(2)
    kit.write("/f", 10, replication=1)
    (dead,) = stored_on(kit)
    (other,) = {"w1", "w2"} - {dead}
    drain(kit, dead)
    kit.settle(5)
    kit.disks[dead].clear()
    drain(kit, dead, is_draining=False)  # it still counts as live, but answers nothing any more
    for _ in range(20):
        assert removed_from(kit.tick()) == []
        kit.carry_out()
    kit.lose(dead)
    kit.settle()
    assert stored_on(kit) == {other}
    assert kit.disks[other]


def test_it_says_what_it_waits_for_and_how_long_that_may_take():
    kit = StorageKit(4, settings=ClusterSettings(repair_bytes_per_s=10))
    for number in range(40):
        kit.write(f"/f{number}", 10)
    held = kit.state.blocks_on("w1")
    assert held > 10
    drain(kit, "w1")
    assert "not been looked at" in kit.state.drain_left("w1").why
    kit.tick()
    left = kit.state.drain_left("w1")
    assert left.blocks == held
    assert left.bytes == 10 * held
    assert "being copied" in left.why
    assert "waiting for their turn" in left.why
    for _ in range(4):
        kit.carry_out()
        kit.tick()
    later = kit.state.drain_left("w1")
    assert later.blocks < held
    assert later.left_s > 0


def test_where_too_few_others_are_there_it_is_done_and_says_that_they_are_few():
    kit = StorageKit(3)
    kit.write("/f", 10)
    drain(kit, "w1")
    kit.settle(3)
    left = kit.state.drain_left("w1")
    assert (left.blocks, left.scarce, left.why) == (0, 1, "")
    kit.join("w4")
    kit.settle(3)
    assert stored_on(kit) == {"w1", "w2", "w3", "w4"}
    assert kit.state.drain_left("w1").scarce == 0


def test_a_worker_alone_is_never_done():
    kit = StorageKit(1)
    kit.write("/f", 10)
    drain(kit, "w1")
    kit.settle(3)
    left = kit.state.drain_left("w1")
    assert left.blocks == 1
    assert "no other worker" in left.why


def test_a_draining_worker_that_is_lost_is_not_hoped_for():
    kit = StorageKit(5)
    kit.write("/f", 10)
    worker = min(stored_on(kit))
    drain(kit, worker)
    del kit.places.all[worker]
    kit.state.worker_lost(worker, kit.now, is_draining=True)
    assert len(sent(kit.tick())) == 1


@pytest.mark.parametrize("is_orderly", [False, True])
def test_a_worker_that_stopped_in_good_order_is_waited_for_longer(is_orderly: bool):
    kit = StorageKit(4)
    kit.write("/f", 10)
    worker = min(stored_on(kit))
    del kit.places.all[worker]
    kit.state.worker_lost(worker, kit.now, is_orderly=is_orderly)
    assert sent(kit.tick(59)) == []
    assert len(sent(kit.tick(2))) == (0 if is_orderly else 1)
    if is_orderly:
        assert len(sent(kit.tick(600))) == 1


def test_the_last_replica_is_copied_at_once_though_the_others_stopped_in_good_order():
    kit = StorageKit(4)
    kit.write("/f", 10)
    for worker in sorted(stored_on(kit))[:2]:
        del kit.places.all[worker]
        kit.state.worker_lost(worker, kit.now, is_orderly=True)
    assert len(sent(kit.tick())) == 1
