"""Damage is found before anybody meets it: in rounds, at a bounded pace, suspects first."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest
from scenes.stores import ROOT, StoreKit

from minireduce.core.replica_messages import (
    RemoveReplica,
    Replica,
    ReplicaDamaged,
    ReplicaStored,
    ReplicaVerified,
    VerifyReplica,
)
from minireduce.core.storage.requests import HurryRepair, ReportDamage
from minireduce.core.worker import ReplicaDeleted
from minireduce.testing.clock import ManualClock
from minireduce.testing.disk import SimDisk
from minireduce.wire.packets import Unsealer, seal
from minireduce.worker.block_store import BlockStore
from minireduce.worker.replica_files import FOLDERS, DamagedReplica
from minireduce.worker.scrubbing import Scrubber, ScrubLimits

STATE = Path("/data/scrubbed")
MIB = 1 << 20


class EnoughError(Exception):
    """The scene is over."""


class Scene:
    """A scrubber over replicas of a MiB each; time passes as it sleeps, until `end_s`."""

    def __init__(self, replicas: int, *, period_s: float = 1000.0, bytes_per_s: int = MIB) -> None:
        self.clock = ManualClock()
        self.disk = SimDisk(random.Random(1))
        self.limits = ScrubLimits(period_s, bytes_per_s)
        self.read: list[tuple[float, int]] = []
        self.told: list[object] = []
        self.damaged: list[Replica] = []
        store = self.open()
        for number in range(1, replicas + 1):
            writer = store.create(Replica(number, 1, MIB))
            writer.write(Unsealer(MIB, "it").feed(b"".join(seal(bytes(MIB)))))
            writer.commit()
        self.began_s = self.clock.now()
        self.scrubber = self.start()

    def open(self) -> BlockStore:
        store = BlockStore(self.disk, (ROOT,))
        store.open()
        real = store.read

        def read(block_id: int, generation: int, *rest):
            self.read.append((self.clock.now() - self.began_s, block_id))
            return real(block_id, generation, *rest)

        store.read = read  # type: ignore[method-assign]
        self.store = store
        return store

    def start(self) -> Scrubber:
        return Scrubber(
            self.store,
            self.disk,
            STATE,
            self.limits,
            self.clock,
            self.told.append,
            lambda replica, _: self.damaged.append(replica),
            self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        if self.clock.now() + seconds - self.began_s > self.end_s:
            raise EnoughError
        self.clock.advance(seconds)

    def run_until(self, end_s: float) -> None:
        self.end_s = end_s
        with pytest.raises(EnoughError):
            asyncio.run(self.scrubber.run())

    def restart(self) -> None:
        self.open()
        self.scrubber = self.start()


def test_each_replica_is_read_once_within_half_a_period_and_no_faster_than_allowed():
    scene = Scene(8, period_s=100.0, bytes_per_s=MIB // 2)
    scene.run_until(175.0)
    assert [number for _, number in scene.read] == [*range(1, 9)] * 4
    times = [at for at, _ in scene.read]
    assert all(later - earlier >= 2.0 for earlier, later in pairwise(times))
    for number in range(1, 9):
        looks = [at for at, read in scene.read if read == number]
        assert max(later - earlier for earlier, later in pairwise(looks)) <= 100.0
        assert looks[1] - looks[0] >= 50.0
    assert not scene.damaged


def test_a_limit_that_is_too_low_for_the_period_is_told(caplog):
    scene = Scene(8, period_s=10.0)
    scene.run_until(30.0)
    assert "raise scrub_bytes_per_s" in caplog.text


def test_a_round_goes_on_where_it_stood_after_a_restart():
    scene = Scene(100, period_s=10_000.0)
    scene.run_until(75.0)
    read = max(number for _, number in scene.read)
    scene.read.clear()
    scene.disk.crash()
    scene.restart()
    scene.run_until(150.0)
    first = scene.read[0][1]
    assert 1 < first <= read + 1
    assert [number for _, number in scene.read] == [*range(first, 101)]
    scene.read.clear()
    scene.restart()
    scene.run_until(4000.0)
    assert not scene.read  # the next round is not due


def test_a_state_that_cannot_be_read_begins_a_round():
    scene = Scene(2)
    with scene.disk.create(STATE) as file:
        file.write(b"{nonsense")
    scene.run_until(10.0)
    assert [number for _, number in scene.read] == [1, 2]


def test_damage_is_told_and_what_follows_is_still_read():
    scene = Scene(3)
    scene.disk.flip_bit(ROOT / "02" / "2.1.data", 8 * 700_000)
    scene.run_until(10.0)
    assert [replica.block_id for replica in scene.damaged] == [2]
    assert [number for _, number in scene.read] == [1, 2, 3]


def test_a_suspect_is_read_at_once_and_what_was_found_is_said():
    scene = Scene(3)
    scene.end_s = 0.0  # nothing sleeps
    scene.disk.flip_bit(ROOT / "02" / "2.1.sums", 8 * 40)
    for number in (1, 2, 9):
        asyncio.run(scene.scrubber.verify(Replica(number, 1, MIB)))
    assert scene.told == [ReplicaVerified(Replica(1, 1, MIB)), ReplicaDeleted(Replica(9, 1, MIB))]
    assert [replica.block_id for replica in scene.damaged] == [2]


# ── with the master ─────────────────────────────────────────────────────────────────────────────────────────────────


def scrub(kit: StoreKit, worker: str) -> None:
    """One round of a worker's scrubber, which says to the master what it finds."""

    async def go() -> None:
        with pytest.raises(EnoughError):
            await scrubber.run()

    async def stop(_: float) -> None:
        raise EnoughError  # the round is over: so fast, nothing before it sleeps

    def found(replica: Replica, _: object) -> None:
        kit.report(worker, ReplicaDamaged(replica, worker))

    limits = ScrubLimits(bytes_per_s=1 << 60)
    scrubber = Scrubber(
        kit.stores[worker], kit.files[worker], STATE, limits, ManualClock(), lambda _: None, found, stop
    )
    kit.files[worker].remove(STATE)
    asyncio.run(go())


@pytest.mark.parametrize("suffix", ["data", "sums"])
def test_every_flipped_byte_of_a_replica_is_found_another_is_used_and_the_bad_one_replaced(suffix: str):
    kit = StoreKit(3)
    data = random.Random(1).randbytes(60)
    replica = kit.store("/f", data)
    path = ROOT / f"{replica.block_id % FOLDERS:02x}" / f"{replica.block_id}.{replica.generation}.{suffix}"
    for byte in range(kit.files["w1"].size_bytes(path)):
        kit.files["w1"].flip_bit(path, 8 * byte + byte % 8)
        if byte % 2:
            scrub(kit, "w1")
        (holders,) = kit.holders("/f")
        assert ("w1" in holders) == (byte % 2 == 0)
        assert kit.read("/f") == data
        if "w1" in holders:  # whom a reader asks first is for the master to say: another asks this one
            with pytest.raises(DamagedReplica):
                kit.get("w1", replica)
            kit.ask(ReportDamage(replica, "w1"))
            assert kit.read("/f") == data
        kit.settle(4)
        assert kit.holders("/f") == [{"w1", "w2", "w3"}]
        assert kit.get("w1", replica) == data


def commands_of(kit: StoreKit, kind: type) -> list[str]:
    return [worker for worker, command in kit.commands if isinstance(command, kind)]


def test_a_reader_that_is_wrong_about_a_replica_costs_nothing_but_a_look():
    kit = StoreKit(3)
    replica = kit.store("/f", b"as it was written")
    kit.ask(ReportDamage(replica, "w2"))
    assert kit.holders("/f") == [{"w1", "w3"}]
    assert commands_of(kit, VerifyReplica) == ["w2"]
    kit.carry_out()
    assert kit.holders("/f") == [{"w1", "w2", "w3"}]
    assert not commands_of(kit, RemoveReplica)


def test_replicas_that_were_all_damaged_are_read_again_when_somebody_asks_for_repair():
    """A disk that failed for a moment, or files that were brought back: what is right counts again, and is copied."""
    kit = StoreKit(3)
    data = b"as it was written"
    replica = kit.store("/f", data)
    path = ROOT / f"{replica.block_id % FOLDERS:02x}" / f"{replica.block_id}.{replica.generation}.data"
    for worker in kit.stores:
        kit.files[worker].flip_bit(path, 0)
        scrub(kit, worker)
    assert kit.state.view().missing == 1
    file = kit.state.status("/f").inode
    assert kit.ask(HurryRepair("/f", file)) == 1
    assert commands_of(kit, VerifyReplica) == ["w1", "w2", "w3"]
    kit.settle(3)
    assert kit.state.view().missing == 1  # they are damaged still
    kit.files["w2"].flip_bit(path, 0)
    kit.settle(3)
    assert kit.state.view().missing == 1  # nobody asked
    kit.ask(HurryRepair("/f", file))
    kit.settle(6)
    assert kit.holders("/f") == [{"w1", "w2", "w3"}]
    assert kit.read("/f") == data
    assert [kit.get(worker, replica) for worker in kit.stores] == [data] * 3


def test_a_replica_of_another_length_is_damaged_though_it_is_what_its_worker_wrote():
    kit = StoreKit(1)
    replica = kit.store("/f", b"as it was written")
    other = Replica(replica.block_id, replica.generation, 3)
    kit.put("w1", other, b"abc")
    kit.report("w1", ReplicaStored(other))
    assert kit.state.view().missing == 1
    kit.ask(HurryRepair("/f", kit.state.status("/f").inode))
    kit.report("w1", ReplicaVerified(other))
    assert kit.state.view().missing == 1


def test_a_suspect_that_is_to_be_removed_is_not_counted_on_again():
    kit = StoreKit(4)
    replica = kit.store("/f", b"as it was written")
    (holders,) = kit.holders("/f")
    suspect = min(holders)
    kit.ask(ReportDamage(replica, suspect))
    kit.commands.clear()  # the order to look goes astray
    kit.tick()
    kit.carry_out()
    kit.tick()
    assert commands_of(kit, RemoveReplica) == [suspect]
    kit.report(suspect, ReplicaVerified(replica))
    assert suspect not in kit.holders("/f")[0]
    kit.settle(3)
    assert len(kit.holders("/f")[0]) == 3


def test_a_suspect_makes_no_room_for_a_better_one_before_its_worker_has_looked():
    kit = StoreKit(3)
    replica = kit.store("/f", b"as it was written")
    kit.ask(ReportDamage(replica, "w2"))
    kit.tick()
    assert not commands_of(kit, RemoveReplica)
    kit.report("w2", ReplicaDamaged(replica, "w2"))
    kit.tick()
    assert commands_of(kit, RemoveReplica) == ["w2"]
    kit.settle(3)
    assert kit.holders("/f") == [{"w1", "w2", "w3"}]
