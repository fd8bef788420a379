"""Replicas move from full workers to empty ones, slowly, safely, and not for ever."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from scenes.storage import GIB, StorageKit, place

from minireduce.core.replica_messages import RemoveReplica, ReplicateBlock
from minireduce.core.settings import ClusterSettings

CAPACITY = 100 * GIB
SETTINGS = ClusterSettings(balance_bytes_per_s=GIB)


class Kit(StorageKit):
    """Workers whose disks are as full as what they hold."""

    def measure(self) -> None:
        for worker, each in self.places.all.items():
            held = sum(replica.length for replica in self.disks[worker].values())
            self.places.all[worker] = replace(each, capacity_bytes=CAPACITY, free_bytes=CAPACITY - held)

    def add(self, worker: str, rack: str = "/r", *, weight: float = 1.0) -> None:
        self.places.all[worker] = place(worker, rack, weight=weight)
        self.disks[worker] = {}
        self.join(worker)
        self.measure()

    def use_of(self, worker: str) -> int:
        return sum(replica.length for replica in self.disks[worker].values()) // GIB

    def pass_time(self, seconds: int, *, is_measured: bool = True) -> list[object]:
        """Second after second; the copies that were ordered."""
        copies: list[object] = []
        for _ in range(seconds):
            copies += [command for _, command in self.tick() if isinstance(command, ReplicateBlock)]
            self.check()
            self.carry_out()
            self.check()
            if is_measured:
                self.measure()
        return copies

    def check(self) -> None:
        """No block ever has fewer replicas than it wants, on disks, beside those that are told to go."""
        going = {(worker, each.replica.block_id) for worker, each in self.commands if isinstance(each, RemoveReplica)}
        for block in self.state.block_views():
            kept = [
                worker
                for worker, disk in self.disks.items()
                if block.replica.block_id in disk and (worker, block.replica.block_id) not in going
            ]
            assert len(kept) >= block.wanted


def fill(kit: Kit, files: int, replication: int = 2) -> None:
    for number in range(files):
        kit.write(f"/f{number}", GIB, key=f"{number}", replication=replication)
    kit.measure()
    kit.settle(2)
    kit.measure()


def test_a_newcomer_is_filled_until_all_are_within_the_threshold_and_then_nothing_moves():
    kit = Kit(3, settings=SETTINGS)
    kit.measure()
    fill(kit, 75)
    kit.add("w4")
    assert kit.use_of("w4") == 0
    assert kit.pass_time(200)
    mean = 150 / 4
    assert all(abs(kit.use_of(worker) - mean) <= 10 for worker in kit.disks)
    assert kit.use_of("w4") >= mean - 10
    assert sum(map(kit.use_of, kit.disks)) == 150
    assert kit.pass_time(100) == []


def test_a_heavy_newcomer_is_filled_further_than_the_others_and_a_light_one_less():
    def filled(weight: float) -> int:
        kit = Kit(3, settings=SETTINGS)
        kit.measure()
        fill(kit, 75)
        kit.add("w4", weight=weight)
        kit.pass_time(250)
        assert kit.pass_time(50) == []  # it comes to rest
        return kit.use_of("w4")

    light, plain, heavy = filled(0.2), filled(1.0), filled(2.0)
    assert light < 15 < plain < 38
    assert heavy >= 40  # its share is 60 of 150, and the threshold a tenth of disks twice as large


def test_within_the_threshold_nothing_moves():
    kit = Kit(3, settings=SETTINGS)
    kit.measure()
    fill(kit, 30)
    assert kit.pass_time(100) == []


@pytest.mark.parametrize("rate_gib_s", [1, 4])
def test_no_faster_than_allowed_from_and_to_each_worker(rate_gib_s: int):
    kit = Kit(3, settings=replace(SETTINGS, balance_bytes_per_s=GIB // rate_gib_s))
    kit.measure()
    fill(kit, 75)
    kit.add("w4")
    copies = kit.pass_time(20)
    assert 20 // rate_gib_s // 2 <= len(copies) <= 20 // rate_gib_s + 1


def test_balancing_can_be_turned_off():
    kit = Kit(3, settings=replace(SETTINGS, balance_bytes_per_s=0))
    kit.measure()
    fill(kit, 75)
    kit.add("w4")
    assert kit.pass_time(50) == []


def test_a_block_stays_on_as_many_racks_as_before():
    kit = Kit(0, settings=SETTINGS)
    for worker, rack in (("a1", "/a"), ("a2", "/a"), ("b1", "/b")):
        kit.add(worker, rack)
    fill(kit, 50)
    assert kit.use_of("b1") == 50  # every block has one replica in each rack
    kit.add("a3", "/a")
    assert kit.pass_time(200)
    for block in kit.state.block_views():
        assert {kit.places.all[worker].rack for worker in block.workers} == {"/a", "/b"}
    assert kit.use_of("b1") == 50  # it is the fullest, and its blocks have no other place in its rack
    kit.add("b2", "/b")
    kit.pass_time(200)
    assert kit.use_of("b1") < 50
    for block in kit.state.block_views():
        assert {kit.places.all[worker].rack for worker in block.workers} == {"/a", "/b"}


def test_nothing_moves_while_workers_are_expected_or_a_block_needs_repair_or_its_worker_is_waited_for():
    kit = Kit(4, settings=SETTINGS)
    kit.measure()
    fill(kit, 50, replication=3)
    kit.add("w5")
    kit.places.is_anyone_expected = True
    assert kit.pass_time(10) == []
    kit.places.is_anyone_expected = False
    kit.lose("w1")
    assert [command for command in kit.pass_time(30) if command.target == "w5"] == []
    kit.join("w1")
    kit.measure()
    assert kit.pass_time(5)


def test_what_was_moved_counts_though_no_worker_has_measured_it_yet():
    kit = Kit(3, settings=replace(SETTINGS, balance_bytes_per_s=100 * GIB))
    kit.measure()
    fill(kit, 75)
    kit.add("w4")
    kit.pass_time(29, is_measured=False)
    assert kit.use_of("w4") <= 48  # the mean and the threshold, not all that fits into 29 looks at an old measure


def test_a_draining_worker_gets_nothing_and_is_left_to_repair():
    kit = Kit(4, settings=SETTINGS)
    kit.measure()
    fill(kit, 80)
    kit.add("w5")
    kit.places.all["w5"] = replace(kit.places.all["w5"], is_draining=True, takes_replicas=False)
    kit.state.worker_drains("w5", is_draining=True)
    assert kit.pass_time(30) == []


@pytest.mark.parametrize("seed", range(6))
def test_workers_and_masters_that_are_killed_while_balancing_cost_no_replica(seed):
    """At any moment of it, `check` holds; and once nobody is killed any more, it comes to its end."""
    chance = random.Random(seed)
    kit = Kit(3, settings=replace(SETTINGS, repair_delay_s=2.0))
    kit.measure()
    fill(kit, 40)
    kit.add("w4")
    copies, struck = 0, 0
    for _ in range(30):
        copies += len(kit.pass_time(chance.randrange(3)))
        kit.tick()  # what this orders is under way when it strikes
        struck += any(isinstance(command, ReplicateBlock | RemoveReplica) for _, command in kit.commands)
        victim = chance.choice(["master", *sorted(kit.places.all)])
        if victim == "master":
            kit.restart()
            for worker in sorted(kit.places.all):
                kit.join(worker)
        else:
            kit.lose(victim)
            kit.commands = [(worker, command) for worker, command in kit.commands if worker != victim]
            copies += len(kit.pass_time(chance.randrange(5)))
            kit.join(victim)
        kit.measure()
    assert copies >= 10
    assert struck >= 5
    kit.pass_time(200)
    assert sum(map(kit.use_of, kit.disks)) == 80
    assert all(abs(kit.use_of(worker) - 20) <= 10 for worker in kit.disks)
