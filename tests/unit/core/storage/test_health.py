"""What is said of blocks when somebody asks, and repair that waits for nobody."""

from __future__ import annotations

import pytest
from scenes.storage import StorageKit

from minireduce.core.replica_messages import ReplicaDamaged, ReplicateBlock
from minireduce.core.storage.requests import ChangeAttributes, HurryRepair
from minireduce.errors import NotFound, RequestError


def health(kit: StorageKit):
    (block,) = kit.state.health("/f").blocks
    return block


def test_a_healthy_block_needs_no_explanation():
    kit = StorageKit(3)
    kit.write("/f", 10)
    block = health(kit)
    assert (block.state, block.why, block.good) == ("healthy", "", ("w1", "w2", "w3"))


def test_too_few_replicas_are_explained():
    kit = StorageKit(3)
    file = kit.write("/f", 10)
    kit.ask(ChangeAttributes("/f", file.inode, replication=4))
    assert "start more workers" in health(kit).why
    kit.join("w4")
    kit.tick()
    assert health(kit).why == "being copied to w4"
    kit.settle()
    kit.lose("w1")
    block = health(kit)
    assert (block.state, block.absent) == ("under-replicated", ("w1",))


def test_a_block_that_nobody_has_tells_who_had_it():
    kit = StorageKit(2)
    kit.write("/f", 10)
    (view,) = kit.state.block_views()
    kit.report("w1", ReplicaDamaged(view.replica, "w1"))
    kit.lose("w2")
    assert health(kit).state == "missing"
    assert "start w2" in health(kit).why
    kit.tick(100.0)
    assert "all replicas are damaged, those on w1" in health(kit).why


def test_repair_in_a_hurry_does_not_wait_for_workers_to_come_back():
    kit = StorageKit(4)
    file = kit.write("/f", 10)
    lost = min(health(kit).good)
    kit.lose(lost)
    assert kit.tick() == []
    assert kit.ask(HurryRepair("/f", file.inode)) == 1
    ((_, order),) = kit.tick()
    assert isinstance(order, ReplicateBlock)
    kit.settle()
    assert health(kit).state == "healthy"
    assert kit.ask(HurryRepair("/f", file.inode)) == 0


def test_only_the_file_that_was_meant_is_repaired():
    kit = StorageKit(3)
    kit.write("/f", 10)
    with pytest.raises(RequestError, match="replaced"):
        kit.ask(HurryRepair("/f", 99))
    with pytest.raises(NotFound):
        kit.ask(HurryRepair("/g", 99))
