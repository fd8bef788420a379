"""Lost, damaged and surplus replicas."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from scenes.storage import StorageKit, place

from minireduce.core.replica_messages import (
    RemoveReplica,
    Replica,
    ReplicaDamaged,
    ReplicaRemoved,
    ReplicaStored,
    ReplicateBlock,
    ReplicationFailed,
    ReplicaVerified,
)
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.requests import AddBlock, CloseFile, CommitBlock, RemovePath, ReportDamage


def copies(commands):
    return [(worker, each.target) for worker, each in commands if isinstance(each, ReplicateBlock)]


def removals(commands):
    return [worker for worker, each in commands if isinstance(each, RemoveReplica)]


def stored_on(kit: StorageKit, path: str = "/f") -> set[str]:
    (holders,) = kit.holders(path)
    return holders


def test_a_lost_worker_is_hoped_for_and_then_its_replicas_are_made_anew():
    kit = StorageKit(4)
    kit.write("/f", 10)
    gone = min(stored_on(kit))
    kit.lose(gone)
    assert copies(kit.tick(59)) == []
    kit.tick(2)
    kit.carry_out()
    assert len(stored_on(kit)) == 3
    assert gone not in stored_on(kit)


def test_a_last_replica_is_copied_at_once():
    kit = StorageKit(4)
    kit.write("/f", 10)
    for worker in sorted(stored_on(kit))[:2]:
        kit.lose(worker)
    assert len(copies(kit.tick())) == 1  # the only other live worker
    kit.carry_out()
    assert len(stored_on(kit)) == 2


def test_a_worker_that_comes_back_in_time_costs_no_copy():
    kit = StorageKit(4)
    kit.write("/f", 10)
    gone = min(stored_on(kit))
    kit.lose(gone)
    kit.tick(30)
    kit.join(gone)
    assert copies(kit.tick(100)) == []
    assert len(stored_on(kit)) == 3


def test_a_replica_that_was_suspected_while_it_was_written_counts_for_certain_once_its_worker_has_read_it():
    kit = StorageKit(3)
    opened = kit.create("/f")
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0))
    replica = Replica(placed.block_id, placed.generation, 10)
    workers = tuple(target.worker for target in placed.targets)
    for worker in workers:
        kit.disks[worker][replica.block_id] = replica
        kit.report(worker, ReplicaStored(replica))
    kit.ask(ReportDamage(replica, workers[0]))
    assert kit.ask(CommitBlock(opened.file_id, "lease", replica, workers))  # its writer says that it is good
    kit.report(workers[0], ReplicaVerified(replica))
    for _ in range(3):
        kit.tick(ClusterSettings().worker_lost_s)
    (block,) = kit.state.block_views()
    assert set(block.workers) == set(workers)


def test_a_worker_that_comes_back_late_makes_a_surplus_which_goes():
    kit = StorageKit(4)
    kit.write("/f", 10)
    gone = min(stored_on(kit))
    kit.lose(gone)
    kit.tick(61)
    kit.carry_out()
    kit.join(gone)
    assert len(stored_on(kit)) == 4
    kit.settle()
    assert len(stored_on(kit)) == 3
    assert sum(1 in disk for disk in kit.disks.values()) == 3


def test_a_worker_that_comes_back_empty_is_repaired_at_once():
    kit = StorageKit(3)
    kit.write("/f", 10)
    kit.disks["w2"].clear()
    kit.join("w2")
    kit.settle(1)
    assert stored_on(kit) == {"w1", "w2", "w3"}


def test_a_block_on_fewer_workers_than_wanted_spreads_when_workers_join():
    kit = StorageKit(1)
    kit.write("/f", 10)
    kit.settle(3)
    assert stored_on(kit) == {"w1"}
    kit.join("w2")
    kit.settle(2)
    assert stored_on(kit) == {"w1", "w2"}
    kit.join("w3")
    kit.join("w4")
    kit.settle(2)
    assert len(stored_on(kit)) == 3


def test_a_damaged_replica_is_replaced_elsewhere_and_then_removed():
    kit = StorageKit(4)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    bad = block.workers[0]
    kit.report(bad, ReplicaDamaged(block.replica, bad))
    assert bad not in stored_on(kit)
    assert removals(kit.tick()) == []
    kit.carry_out()
    assert removals(kit.tick()) == [bad]
    kit.carry_out()
    assert len(stored_on(kit)) == 3
    assert block.replica.block_id not in kit.disks[bad]
    assert kit.state.view().damaged == 0


def test_a_damaged_replica_makes_room_when_its_worker_is_the_only_one_left():
    kit = StorageKit(3)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.report("w1", ReplicaDamaged(block.replica, "w1"))
    assert removals(kit.tick()) == ["w1"]
    kit.carry_out()
    kit.settle(2)
    assert stored_on(kit) == {"w1", "w2", "w3"}


def test_a_damaged_replica_that_nobody_knew_of_is_replaced_by_its_worker_s_word():
    kit = StorageKit(3)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.disks["w1"].clear()
    kit.join("w1")  # it found the damage while it started, and does not list it
    kit.report("w1", ReplicaDamaged(replace(block.replica, length=0), "w1"))
    assert removals(kit.tick()) == ["w1"]
    kit.carry_out()
    kit.settle(2)
    assert stored_on(kit) == {"w1", "w2", "w3"}


def test_a_copy_onto_a_worker_whose_damage_was_told_meanwhile_is_made_again():
    kit = StorageKit(3)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    bad = block.workers[0]
    del kit.disks[bad][block.replica.block_id]
    kit.join(bad)  # it does not list what it found damaged, and says so only now
    assert [target for _, target in copies(kit.tick())] == [bad]
    kit.report(bad, ReplicaDamaged(block.replica, bad))
    assert kit.tick() == []  # a copy is on its way
    kit.carry_out()
    kit.settle()
    assert len(stored_on(kit)) == 3
    assert kit.state.view().damaged == 0


def test_damaged_replicas_of_removed_files_and_of_older_tries_are_removed():
    kit = StorageKit(3)
    kit.write("/f", 10)
    opened = kit.create("/g", "other")
    kit.ask(AddBlock(opened.file_id, "lease", 0))
    again = kit.ask(AddBlock(opened.file_id, "lease", 0))
    (old,) = (view.replica for view in kit.state.block_views() if view.is_committed)
    kit.ask(RemovePath("/f", kit.state.status("/f").inode, skip_trash=True))
    kit.settle()
    for replica in (old, Replica(again.block_id, again.generation - 1, 0)):
        kit.report("w1", ReplicaDamaged(replica, "w1"))
        assert kit.commands.pop() == ("w1", RemoveReplica(replica))


def test_a_copy_stored_after_its_worker_said_that_what_it_had_was_damaged_is_a_good_one():
    """The order to copy was given before the master heard of the damage, and the source is gone since."""
    kit = StorageKit(2)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.report("w1", ReplicaDamaged(block.replica, "w1"))
    kit.report("w1", ReplicaStored(block.replica))
    kit.lose("w2")
    assert stored_on(kit) == {"w1"}
    assert kit.state.view().damaged == 0


def test_what_a_reader_found_damaged_is_not_good_because_its_worker_says_that_it_stored_it():
    kit = StorageKit(3)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.ask(ReportDamage(block.replica, "w1"))
    kit.report("w1", ReplicaStored(block.replica))
    assert stored_on(kit) == {"w2", "w3"}


def test_a_replica_of_which_only_its_writer_told_is_given_up_after_a_while():
    """Its worker lost its disk and came back between the write and the commit."""
    kit = StorageKit(4)
    opened = kit.create("/f")
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0))
    replica = Replica(placed.block_id, placed.generation, 10)
    workers = tuple(target.worker for target in placed.targets)
    for worker in workers[1:]:
        kit.disks[worker][replica.block_id] = replica
        kit.report(worker, ReplicaStored(replica))
    kit.join(workers[0])
    assert kit.ask(CommitBlock(opened.file_id, "lease", replica, workers))
    kit.ask(CloseFile(opened.file_id, "lease", 10))
    assert workers[0] in stored_on(kit)
    assert kit.tick() == []
    assert kit.tick(kit.settings.worker_lost_s - 1.0) == []
    assert len(copies(kit.tick())) == 1
    assert workers[0] not in stored_on(kit)


def test_the_only_replica_is_kept_and_offered_even_when_damaged():
    kit = StorageKit(1)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.report("w1", ReplicaDamaged(block.replica, "w1"))
    kit.settle()
    assert stored_on(kit) == {"w1"}
    assert block.replica.block_id in kit.disks["w1"]
    assert kit.state.view().missing == 1


def test_a_replica_of_the_wrong_length_counts_as_damaged():
    kit = StorageKit(3)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.disks["w1"][block.replica.block_id] = Replica(block.replica.block_id, block.replica.generation, 9)
    kit.join("w1")
    assert stored_on(kit) == {"w2", "w3"}


def test_a_copy_that_failed_is_tried_at_once_when_its_worker_is_back():
    kit = StorageKit(3)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.disks["w1"].clear()
    kit.join("w1")
    ((source, target),) = copies(kit.tick())
    kit.report(source, ReplicationFailed(block.replica, "refused"))
    assert copies(kit.tick()) == []
    kit.lose(target)
    kit.join(target)
    assert [copied for _, copied in copies(kit.tick())] == ["w1"]


def test_a_copy_whose_source_proves_damaged_is_made_from_another_at_once():
    """The only place that is left is not to blame: with one good replica each second counts."""
    kit = StorageKit(3)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    del kit.disks["w3"][block.replica.block_id]
    kit.join("w3")
    ((source, target),) = copies(kit.tick())
    assert target == "w3"
    kit.report(source, ReplicaDamaged(block.replica, source))
    kit.report(source, ReplicationFailed(block.replica, "damaged"))
    other = ({"w1", "w2"} - {source}).pop()
    assert (other, "w3") in copies(kit.tick())


def test_a_failed_copy_goes_to_another_worker_next():
    kit = StorageKit(5)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.disks[block.workers[0]].clear()
    kit.join(block.workers[0])
    ((source, first),) = copies(kit.tick())
    kit.report(source, ReplicationFailed(block.replica, "refused"))
    ((_, second),) = copies(kit.tick())
    assert second != first


def test_a_copy_that_never_arrives_is_given_up_and_tried_elsewhere():
    kit = StorageKit(5, settings=ClusterSettings(copy_timeout_s=30))
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.report(block.workers[0], ReplicaRemoved(block.replica))
    ((_, first),) = copies(kit.tick())
    assert copies(kit.tick(20)) == []
    ((_, second),) = copies(kit.tick(20))
    assert second != first


def test_a_copy_from_a_worker_that_is_lost_is_started_again():
    kit = StorageKit(5)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.report(block.workers[0], ReplicaRemoved(block.replica))
    ((source, _),) = copies(kit.tick())
    kit.lose(source)
    started = copies(kit.tick())  # one good replica is left, so the lost one is not waited for either
    assert {again for again, _ in started} == stored_on(kit)
    assert len(started) == 2


def test_each_worker_takes_part_in_few_copies_at_a_time():
    kit = StorageKit(4, settings=ClusterSettings(copies_per_worker_max=2))
    for number in range(20):
        kit.write(f"/f{number}", 10, key=str(number))
    gone = "w1"
    lost = sum(gone in holders for number in range(20) for holders in kit.holders(f"/f{number}"))
    kit.lose(gone)
    started = copies(kit.tick(61))
    assert 0 < len(started) <= 3  # three live workers, two copies each, two workers a copy
    assert lost > len(started)
    kit.settle(20)
    assert all(len(stored_on(kit, f"/f{number}")) == 3 for number in range(20))


def test_blocks_at_the_highest_risk_come_first():
    kit = StorageKit(5, settings=ClusterSettings(copies_per_worker_max=1))
    for number in range(6):
        kit.write(f"/f{number}", 10, key=str(number))
    views = {block.replica.block_id: block for block in kit.state.block_views()}
    for block in views.values():
        kit.report(block.workers[0], ReplicaRemoved(block.replica))
    risky = views[5]
    kit.report(risky.workers[1], ReplicaRemoved(risky.replica))
    first = next(each for _, each in kit.tick() if isinstance(each, ReplicateBlock))
    assert first.replica.block_id == 5


def test_a_block_that_somebody_waits_for_comes_before_one_at_a_higher_risk():
    kit = StorageKit(5, settings=ClusterSettings(copies_per_worker_max=1))
    for number in range(6):
        kit.write(f"/f{number}", 10, key=str(number))
    views = {block.replica.block_id: block for block in kit.state.block_views()}
    for number in (2, 5):
        kit.report(views[number].workers[0], ReplicaRemoved(views[number].replica))
    kit.report(views[5].workers[1], ReplicaRemoved(views[5].replica))
    kit.ask(ReportDamage(views[4].replica, views[4].workers[0]))  # a reader has met damage
    first = next(each for _, each in kit.tick() if isinstance(each, ReplicateBlock))
    assert first.replica.block_id == 4


def test_after_a_restart_a_block_that_somebody_waits_for_is_copied_though_not_all_workers_are_back():
    kit = StorageKit(7)
    kit.write("/f", 10, replication=5)
    kit.write("/g", 10, key="other", replication=5)
    kit.restart()
    for worker in kit.places.all:
        kit.join(worker)
    kit.tick(1)
    away = max(stored_on(kit) & stored_on(kit, "/g"))
    kit.lose(away)  # whoever is absent may hold what is missing, so repair waits
    assert copies(kit.tick(1)) == []
    (asked, other) = sorted(kit.state.block_views(), key=lambda view: view.file_id)
    kit.ask(ReportDamage(asked.replica, min(asked.workers)))
    started = [each.replica for _, each in kit.tick(1) if isinstance(each, ReplicateBlock)]
    assert asked.replica in started
    assert other.replica not in started


def test_a_worker_sends_no_more_than_its_share_however_many_could_take_it():
    length = 10 << 20
    settings = ClusterSettings(repair_bytes_per_s=length, copies_per_worker_max=100)
    kit = StorageKit(1, settings=settings)
    for number in range(20):
        kit.write(f"/f{number}", length, key=str(number))
    for number in range(2, 12):
        kit.join(f"w{number}")
    started = 0
    for _ in range(8):
        started += sum(source == "w1" for source, _ in copies(kit.tick(1)))
    assert 7 <= started <= 8 + 2  # one a second, and what it may have saved before


def test_after_a_restart_nothing_is_copied_or_removed_before_workers_had_time_to_come():
    kit = StorageKit(4)
    kit.write("/f", 10)
    holders = sorted(stored_on(kit))
    everyone = dict(kit.places.all)
    kit.places.all.clear()
    kit.places.is_anyone_expected = True
    kit.restart()
    for worker in [*holders[:2], next(name for name in everyone if name not in holders)]:
        kit.places.all[worker] = everyone[worker]
        kit.join(worker)
        assert kit.tick(1) == []
    kit.places.is_anyone_expected = False
    kit.state.worker_lost(holders[2], kit.now)
    assert kit.tick(1) == []
    assert len(copies(kit.tick(60))) == 1


def test_after_a_restart_each_block_can_be_read_as_soon_as_one_of_its_workers_is_back():
    kit = StorageKit(4)
    kit.write("/f", 10)
    kit.write("/g", 10, key="other", replication=1)
    everyone = dict(kit.places.all)
    only = min(stored_on(kit, "/g"))
    first = min(stored_on(kit) - {only})
    kit.places.all.clear()
    kit.places.is_anyone_expected = True
    kit.restart()

    def readers(path: str) -> tuple[str, ...]:
        (block,) = kit.state.file_blocks(path, 0, 10).blocks
        return block.source.workers

    assert (readers("/f"), readers("/g")) == ((), ())
    kit.places.all[first] = everyone[first]
    kit.join(first)
    assert (readers("/f"), readers("/g")) == ((first,), ())
    kit.places.all[only] = everyone[only]
    kit.join(only)
    assert readers("/g") == (only,)


def test_after_a_restart_a_last_replica_is_copied_once_the_others_are_given_up():
    kit = StorageKit(4)
    kit.write("/f", 10)
    holders = sorted(stored_on(kit))
    kit.restart()
    for worker in holders[1:]:
        kit.lose(worker)
    kit.join(holders[0])
    kit.join(next(name for name in kit.places.all if name not in holders))
    assert len(copies(kit.tick())) == 1


def test_replicas_of_removed_files_go_and_those_of_a_later_time_stay():
    kit = StorageKit(3)
    file = kit.write("/f", 10)
    kit.disks["w1"][10**6] = Replica(10**6, 1, 10)
    kit.lose("w1")
    kit.ask(RemovePath("/f", file.inode, skip_trash=True))
    kit.tick()
    kit.join("w1")
    kit.carry_out()
    assert list(kit.disks["w1"]) == [10**6]
    assert not kit.disks["w2"]
    assert not kit.disks["w3"]


def test_a_replica_of_a_later_generation_is_neither_counted_nor_removed():
    kit = StorageKit(4)
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    later = Replica(block.replica.block_id, 9, 10)
    other = next(name for name in kit.places.all if name not in block.workers)
    kit.report(other, ReplicaStored(later))
    kit.settle()
    assert other not in stored_on(kit)
    assert not removals(kit.commands)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_order_workers_come_and_go_in_every_block_gets_back_to_three(seed):
    rng = random.Random(seed)
    kit = StorageKit(6)
    for number in range(15):
        kit.write(f"/f{number}", 10, key=str(number))
    for _ in range(60):
        kit.tick(rng.choice([1, 1, 1, 20, 70]))
        if rng.random() < 0.7:
            kit.carry_out()
        absent = [worker for worker in kit.disks if worker not in kit.places.all]
        if absent and rng.random() < 0.6:
            kit.join(rng.choice(absent))
        elif len(kit.places.all) > 5 - (rng.random() < 0.2):
            kit.lose(rng.choice(sorted(kit.places.all)))
        for block in kit.state.block_views():
            copies_there = sum(block.replica.block_id in disk for disk in kit.disks.values())
            assert copies_there >= 2, kit.state.block_views()
    for worker in [worker for worker in kit.disks if worker not in kit.places.all]:
        kit.join(worker)
    for _ in range(30):
        kit.tick(20)
        kit.carry_out()
    for number in range(15):
        assert len(stored_on(kit, f"/f{number}")) == 3
    assert sum(len(disk) for disk in kit.disks.values()) == 45
    assert kit.state.view().copying == 0


def test_replicas_that_are_all_on_one_rack_are_spread_once_another_has_room():
    kit = StorageKit(3)
    kit.write("/f", 10)
    for worker in ("x1", "x2"):
        kit.places.all[worker] = place(worker, "/x", free=1)
        kit.join(worker)
    kit.hurry("/f")
    assert copies(kit.tick()) == []  # the other rack has no room
    kit.places.all["x2"] = place("x2", "/x")
    kit.hurry("/f")
    assert [target for _, target in copies(kit.tick())] == ["x2"]
    kit.carry_out()
    kit.settle(3)
    assert len(stored_on(kit)) == 3
    assert "x2" in stored_on(kit)
    assert copies(kit.tick()) == []


def test_a_block_that_is_spread_comes_after_one_that_is_in_danger():
    kit = StorageKit(3, settings=ClusterSettings(copies_per_worker_max=1))
    kit.write("/spread", 10, key="a")
    kit.write("/danger", 10, key="b")
    kit.places.all["x1"] = place("x1", "/x")
    kit.join("x1")
    (danger,) = kit.state.file_blocks("/danger", 0, 10).blocks
    for worker in danger.source.workers[:2]:
        kit.report(worker, ReplicaDamaged(danger.source.replica, worker))
    kit.hurry("/spread")
    ordered = [each.replica.block_id for _, each in kit.tick() if isinstance(each, ReplicateBlock)]
    assert ordered == [danger.source.replica.block_id]
