"""What is said about files: replication, owner, mode, and how much directories hold."""

from __future__ import annotations

import pytest
from scenes.storage import StorageKit

from minireduce.core.replica_messages import RemoveReplica, ReplicaRemoved, ReplicaStored, ReplicateBlock
from minireduce.core.storage.requests import ChangeAttributes, CloseFile, CreateFile, MakeDirectory
from minireduce.errors import NotFound, RequestError


def change(kit: StorageKit, path: str, **what):
    return kit.ask(ChangeAttributes(path, kit.state.status(path).inode, **what))


def test_more_replicas_are_made_and_surplus_ones_go():
    kit = StorageKit(5)
    kit.write("/f", 10, 10)
    assert change(kit, "/f", replication=5).replication == 5
    kit.settle()
    assert [len(workers) for workers in kit.holders("/f")] == [5, 5]
    change(kit, "/f", replication=1)
    kit.settle()
    assert [len(workers) for workers in kit.holders("/f")] == [1, 1]
    assert sum(len(disk) for disk in kit.disks.values()) == 2
    kit.restart()
    for worker in list(kit.places.all):
        kit.join(worker)
    kit.settle()
    assert kit.state.status("/f").replication == 1
    assert [len(workers) for workers in kit.holders("/f")] == [1, 1]


def test_more_replicas_than_workers_wait_for_workers():
    kit = StorageKit(2)
    kit.write("/f", 10)
    change(kit, "/f", replication=4)
    kit.settle()
    assert kit.holders("/f") == [{"w1", "w2"}]
    kit.join("w3")
    kit.settle()
    assert kit.holders("/f") == [{"w1", "w2", "w3"}]


def test_after_a_restart_no_replica_goes_before_enough_workers_have_said_what_they_hold():
    kit = StorageKit(4)
    kit.write("/f", 10)
    kit.restart()
    kit.join("w1")
    change(kit, "/f", replication=1)
    kit.now += 100.0
    assert kit.tick() == []
    (block,) = kit.state.block_views()
    assert block.workers in {("w1",), ()}


def test_an_order_to_remove_that_is_still_on_its_way_never_takes_a_replica_that_counts():
    """Down to one and up again: the copy overtakes the order to remove, which then comes late."""
    kit = StorageKit(2)
    kit.write("/f", 10)
    change(kit, "/f", replication=1)
    kit.tick()
    kit.carry_out()  # both say that they have it
    ((loser, order),) = kit.tick()
    assert isinstance(order, RemoveReplica)
    change(kit, "/f", replication=2)
    assert kit.tick() == []  # nothing is copied to where an order to remove is on its way
    kit.report(loser, ReplicaStored(order.replica))  # a copy of some earlier order arrives before it
    change(kit, "/f", replication=1)
    assert kit.tick() == []
    (keeper,) = {"w1", "w2"} - {loser}
    assert kit.holders("/f") == [{keeper}]
    kit.report(loser, ReplicaRemoved(order.replica))
    change(kit, "/f", replication=2)
    ((source, copy),) = kit.tick()
    assert source == keeper
    assert isinstance(copy, ReplicateBlock)
    assert copy.target == loser


def test_owner_and_mode_are_kept_and_shown():
    kit = StorageKit()
    kit.ask(MakeDirectory("/d/e", with_parents=True, owner="ada"))
    opened = kit.ask(CreateFile("/d/e/f", "lease", "key", owner="bob"))
    kit.ask(CloseFile(opened.file_id, "lease", 0))
    assert [(each.owner, each.mode) for each in kit.state.page("/d").entries] == [("ada", 0o755)]
    assert [(each.owner, each.mode) for each in kit.state.page("/d/e").entries] == [("bob", 0o644)]
    change(kit, "/d/e/f", owner="eve", mode=0o600)
    change(kit, "/d", mode=0)
    kit.restart()
    assert [(each.owner, each.mode) for each in kit.state.page("/d/e").entries] == [("eve", 0o600)]


@pytest.mark.parametrize("what", [{"replication": 513}, {"mode": 0o10000}])
def test_what_cannot_be_is_refused(what):
    kit = StorageKit()
    kit.write("/f", 10)
    with pytest.raises(RequestError):
        change(kit, "/f", **what)


def test_a_directory_has_no_replicas_and_a_replaced_file_is_left_alone():
    kit = StorageKit()
    file = kit.write("/d/f", 10)
    with pytest.raises(RequestError, match="directory"):
        change(kit, "/d", replication=2)
    kit.write("/d/f", 10, key="again", overwrite=True)
    with pytest.raises(RequestError, match="replaced"):
        kit.ask(ChangeAttributes("/d/f", file.inode, replication=2))
    with pytest.raises(NotFound):
        kit.ask(ChangeAttributes("/nothing", 1, replication=2))


def test_a_directory_knows_how_much_it_holds():
    kit = StorageKit()
    kit.write("/d/e/f", 10, 5, replication=3)
    kit.write("/d/g", 7, key="g", replication=2)
    shown = kit.state.summary("/d")
    assert (shown.directories, shown.files, shown.bytes, shown.replica_bytes) == (2, 2, 22, 59)
    change(kit, "/d/g", replication=1)
    assert kit.state.summary("/").replica_bytes == 52


def test_pages_of_a_directory_are_in_order_whatever_happened_between_them():
    kit = StorageKit()
    for name in "dbfa":
        kit.write(f"/{name}", 1, key=name)
    assert [each.path for each in kit.state.page("/").entries] == ["/a", "/b", "/d", "/f"]
    kit.write("/c", 1, key="c")
    kit.write("/z", 1, key="z")
    assert [each.path for each in kit.state.page("/", "b").entries] == ["/c", "/d", "/f", "/z"]
    assert [each.path for each in kit.state.page("/", "bb").entries] == ["/c", "/d", "/f", "/z"]
