"""What repair and compaction acknowledged is on a disk, whatever crashes when, and what was removed stays away.

The disks forget what was not synced. Each sync on the way of a copy or a move is left out in turn, and must be missed.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes.stores import ROOT, StoreKit

from minireduce.core.replica_messages import RepackBlock, ReplicaDamaged, ReplicateBlock
from minireduce.core.storage.requests import RemovePath
from minireduce.testing.disk import SimDisk
from minireduce.worker.replica_files import DamagedReplica

DATA = random.Random(3).randbytes(70_000)
SMALL = {f"/s{number}": bytes([number]) * 900 for number in range(1, 7)}
SYNCS = [("sync", 1), ("sync", 2), *(("sync_directory", nth) for nth in (1, 2, 3, 4))]
SYNC_NAMES = ["bytes", "checksums", "folders", "blocks", "data directory", "names"]
STEPS = [
    ("make_directories", 1),
    *((name, nth) for name in ("create", "write", "sync", "rename", "sync_directory") for nth in (1, 2)),
]


class PickyDisk(SimDisk):
    """Leaves out, or crashes at, the `nth` call of `operation` from the moment it is told to."""

    forgotten = struck = ("", 0)
    counted = 0

    def arm(self, *, forget: tuple[str, int] = ("", 0), crash_at: tuple[str, int] = ("", 0)) -> None:
        self.forgotten, self.struck, self.counted = forget, crash_at, 0

    def check(self, operation: str) -> None:
        super().check(operation)
        if operation == self.struck[0]:
            self.counted += 1
            if self.counted == self.struck[1]:
                raise PowerLost

    def _is_forgotten(self, operation: str) -> bool:
        self.counted += operation == self.forgotten[0]
        return (operation, self.counted) == self.forgotten

    def sync(self, file) -> None:
        if not self._is_forgotten("sync"):
            super().sync(file)

    def sync_directory(self, path) -> None:
        if not self._is_forgotten("sync_directory"):
            super().sync_directory(path)


class PowerLost(BaseException):
    """The machine is off: not even its own cleaning up happens."""


def lost(kit: StoreKit, path: str, data: bytes) -> bool:
    """Whether a file cannot be read in whole any more."""
    try:
        return kit.read(path) != data
    except AssertionError:
        return True


# ── repair ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def repaired(seed: int, forget: tuple[str, int] = ("", 0)) -> StoreKit:
    """A block with one replica, copied to a second worker; then the first is gone and the second loses power."""
    kit = StoreKit(1, disk=PickyDisk, seed=seed)
    kit.store("/f", DATA)
    kit.files["w2"] = PickyDisk(random.Random(seed))
    kit.open("w2")
    kit.files["w2"].arm(forget=forget)
    kit.join("w2")
    kit.settle(2)
    assert kit.holders("/f") == [{"w1", "w2"}]
    kit.die("w1")
    kit.crash("w2")
    return kit


@pytest.mark.parametrize(("operation", "nth"), SYNCS, ids=SYNC_NAMES)
def test_each_sync_of_a_repaired_replica_is_needed(operation: str, nth: int):
    assert not any(lost(repaired(seed), "/f", DATA) for seed in range(15))
    assert any(lost(repaired(seed, (operation, nth)), "/f", DATA) for seed in range(15))


@pytest.mark.parametrize(("operation", "nth"), STEPS)
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_step_of_a_repair_leaves_the_source_and_the_repair_is_done_anew(
    operation: str, nth: int, seed: int
):
    kit = StoreKit(1, disk=PickyDisk, seed=seed)
    kit.store("/f", DATA)
    kit.files["w2"] = PickyDisk(random.Random(seed))
    kit.open("w2")
    kit.join("w2")
    kit.tick()
    assert [type(command) for _, command in kit.commands] == [ReplicateBlock]
    kit.files["w2"].arm(crash_at=(operation, nth))
    with pytest.raises(PowerLost):
        kit.carry_out()
    kit.files["w2"].arm()
    kit.crash("w2")
    assert kit.read("/f") == DATA
    kit.settle(3)
    assert kit.holders("/f") == [{"w1", "w2"}]
    kit.die("w1")
    kit.crash("w2")
    assert kit.read("/f") == DATA


# ── compaction ──────────────────────────────────────────────────────────────────────────────────────────────────────


def hollow(seed: int) -> StoreKit:
    """A container on one worker that is mostly holes, so that what is left of it is about to be moved."""
    kit = StoreKit(1, disk=PickyDisk, seed=seed)
    kit.store_packed(*SMALL.items(), replication=1)
    for path in list(SMALL)[:4]:
        kit.ask(RemovePath(path, kit.state.status(path).inode, skip_trash=True))
    kit.tick(11.0)
    while not any(isinstance(command, RepackBlock) for _, command in kit.commands):
        kit.tick(1.0)
    return kit


LEFT = list(SMALL)[4:]


def moved(seed: int, forget: tuple[str, int] = ("", 0)) -> StoreKit:
    """Moved, the old container gone, and then the power."""
    kit = hollow(seed)
    kit.files["w1"].arm(forget=forget)
    kit.settle(4)
    (block,) = kit.state.block_views()
    assert block.replica.length == sum(len(SMALL[path]) for path in LEFT)
    kit.crash("w1")
    return kit


MOVE_SYNCS = [("sync", 1), ("sync", 2), ("sync_directory", 1), ("sync_directory", 2)]


@pytest.mark.parametrize(("operation", "nth"), MOVE_SYNCS, ids=["bytes", "checksums", "folders", "names"])
def test_each_sync_of_moved_files_is_needed(operation: str, nth: int):
    assert not any(lost(moved(seed), path, SMALL[path]) for seed in range(15) for path in LEFT)
    assert any(lost(moved(seed, (operation, nth)), path, SMALL[path]) for seed in range(15) for path in LEFT)


@pytest.mark.parametrize(("operation", "nth"), STEPS)
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_step_of_a_move_leaves_every_file_readable(operation: str, nth: int, seed: int):
    kit = hollow(seed)
    kit.files["w1"].arm(crash_at=(operation, nth))
    with pytest.raises(PowerLost):
        kit.carry_out()
    kit.files["w1"].arm()
    kit.crash("w1")
    for path in LEFT:
        assert kit.read(path) == SMALL[path]
    for _ in range(12):
        kit.settle(10)
    assert all(kit.read(path) == SMALL[path] for path in LEFT)
    (block,) = kit.state.block_views()
    assert block.replica.length == sum(len(SMALL[path]) for path in LEFT)


# ── removing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("nth", [0, 1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_what_was_removed_goes_for_good_though_a_crash_brings_its_files_back(nth: int, seed: int):
    kit = StoreKit(2, disk=PickyDisk, seed=seed)
    kept = kit.store("/kept", DATA, replication=2)
    gone = kit.store("/gone", DATA[::-1], replication=2)
    kit.ask(RemovePath("/gone", kit.state.status("/gone").inode, skip_trash=True))
    kit.tick()
    kit.files["w1"].arm(crash_at=("remove", nth))
    try:
        kit.carry_out()
    except PowerLost:
        kit.files["w1"].arm()
    kit.crash("w1")  # no removal is synced, so any part of it may not have happened
    kit.settle(3)
    for worker in ("w1", "w2"):
        assert kit.stores[worker].replicas() == (kept,)
        assert not kit.stores[worker].damaged()
        folder = ROOT / f"{gone.block_id:02x}"
        assert not [name for name in kit.files[worker].names(folder) if name.startswith(f"{gone.block_id}.")]
    assert kit.read("/kept") == DATA


# ── any two of three ────────────────────────────────────────────────────────────────────────────────────────────────

LOSSES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["machine", "disk", "bytes", "checksums", "short"])),
    min_size=2,
    max_size=2,
    unique_by=lambda loss: loss[0],
)


@settings(max_examples=150, deadline=None)
@given(losses=LOSSES, length=st.integers(1, 200_000), data=st.data())
def test_whichever_two_of_three_replicas_are_lost_and_however_all_is_still_read(losses, length, data):
    kit = StoreKit(5)
    content = random.Random(length).randbytes(length)
    replica = kit.store("/f", content)
    holders = sorted(kit.holders("/f")[0])
    for number, how in losses:
        lose(kit, holders[number], replica, how, data)
        if data.draw(st.booleans(), "read now"):
            assert kit.read("/f") == content
    assert kit.read("/f") == content
    for worker in kit.places.all:
        verify_all(kit, worker)
    kit.settle(70)
    good = kit.holders("/f")[0]
    assert len(good) == 3
    assert all(kit.get(worker, replica) == content for worker in good)


def verify_all(kit: StoreKit, worker: str) -> None:
    for replica in kit.stores[worker].replicas():
        try:
            kit.get(worker, replica)
        except DamagedReplica:
            kit.report(worker, ReplicaDamaged(replica, worker))


def lose(kit: StoreKit, worker: str, replica, how: str, data: st.DataObject) -> None:
    """Let a worker's replica be lost in this way."""
    if how == "machine":
        kit.die(worker)
    elif how == "disk":
        kit.stores[worker].remove(replica.block_id, replica.generation)
        kit.rejoin(worker)
    else:
        name = f"{replica.block_id}.{replica.generation}.{'sums' if how == 'checksums' else 'data'}"
        path = ROOT / f"{replica.block_id:02x}" / name
        size = kit.files[worker].size_bytes(path)
        if how == "short":
            kit.files[worker].cut_short(path, data.draw(st.integers(0, size - 1), "cut at"))
        else:
            kit.files[worker].flip_bit(path, data.draw(st.integers(0, 8 * size - 1), "bit"))
