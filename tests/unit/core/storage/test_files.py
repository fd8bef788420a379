"""Writing files: requests of one writer against the master."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes.storage import StorageKit

from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    CloseFile,
    CommitBlock,
    CreateFile,
    RenewLease,
    ReportDamage,
    WrittenBlock,
)
from minireduce.errors import AlreadyExists, NotFound, RequestError, Unavailable


def test_a_file_has_no_name_until_it_is_closed():
    kit = StorageKit()
    opened = kit.create("/d/f", block_size_bytes=10)
    kit.write_block(opened.file_id, 0, 10)
    with pytest.raises(NotFound):
        kit.state.status("/d/f")
    kit.ask(CloseFile(opened.file_id, "lease", 10))
    assert kit.state.status("/d/f").length == 10


def test_every_request_of_a_writer_may_be_repeated():
    kit = StorageKit()
    opened = kit.create("/f", block_size_bytes=10)
    assert kit.create("/f", block_size_bytes=10) == opened
    replica = kit.write_block(opened.file_id, 0, 7)
    commit = CommitBlock(opened.file_id, "lease", replica, ("w1", "w2"))
    assert kit.ask(commit)
    close = CloseFile(opened.file_id, "lease", 7)
    assert kit.ask(close) == kit.ask(close)
    assert kit.state.view().files == 1


def test_placing_a_block_again_raises_its_generation_and_voids_what_was_written():
    kit = StorageKit()
    opened = kit.create("/f", block_size_bytes=10)
    first = kit.ask(AddBlock(opened.file_id, "lease", 0))
    stale = Replica(first.block_id, first.generation, 10)
    second = kit.ask(AddBlock(opened.file_id, "lease", 0))
    assert (second.block_id, second.generation) == (first.block_id, first.generation + 1)
    with pytest.raises(RequestError, match="anew"):
        kit.ask(CommitBlock(opened.file_id, "lease", stale, ("w1", "w2")))
    kit.disks["w1"][stale.block_id] = stale
    kit.join("w1")
    kit.carry_out()
    assert not kit.disks["w1"]


def test_a_failed_worker_is_not_chosen_again_while_others_will_do():
    kit = StorageKit(4)
    opened = kit.create("/f", block_size_bytes=10)
    for _ in range(5):
        placed = kit.ask(AddBlock(opened.file_id, "lease", 0, excluded=("w2",)))
        assert "w2" not in {target.worker for target in placed.targets}
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0, excluded=("w1", "w2", "w3", "w4")))
    assert len(placed.targets) == 3


@pytest.mark.parametrize(("workers", "needed"), [(1, 1), (2, 2), (5, 2)])
def test_a_block_counts_as_written_once_replicas_min_workers_have_it(workers, needed):
    kit = StorageKit(workers)
    opened = kit.create("/f", block_size_bytes=10)
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0))
    replica = Replica(placed.block_id, placed.generation, 10)
    have = tuple(target.worker for target in placed.targets)[:needed]
    assert not kit.ask(CommitBlock(opened.file_id, "lease", replica, (*have[1:], *have[1:], "nobody")))
    with pytest.raises(RequestError):
        kit.ask(CloseFile(opened.file_id, "lease", 10))
    assert kit.ask(CommitBlock(opened.file_id, "lease", replica, have))
    kit.ask(CloseFile(opened.file_id, "lease", 10))


def test_a_single_replica_is_enough_for_a_file_that_wants_one():
    kit = StorageKit(5)
    opened = kit.create("/f", block_size_bytes=10, replication=1)
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0))
    assert len(placed.targets) == 1
    replica = Replica(placed.block_id, placed.generation, 10)
    kit.ask(CommitBlock(opened.file_id, "lease", replica, (placed.targets[0].worker,)))


def test_blocks_come_one_after_the_other():
    kit = StorageKit()
    opened = kit.create("/f", block_size_bytes=10)
    with pytest.raises(RequestError, match="not the next"):
        kit.ask(AddBlock(opened.file_id, "lease", 1))
    kit.write_block(opened.file_id, 0, 10)
    with pytest.raises(RequestError, match="not the next"):
        kit.ask(AddBlock(opened.file_id, "lease", 0))


def test_a_close_must_agree_with_the_blocks():
    kit = StorageKit()
    opened = kit.create("/f", block_size_bytes=10)
    kit.write_block(opened.file_id, 0, 10)
    with pytest.raises(RequestError, match="blocks hold 10"):
        kit.ask(CloseFile(opened.file_id, "lease", 20))
    with pytest.raises(RequestError, match="blocks hold 10"):
        kit.ask(CloseFile(opened.file_id, "lease", 9))
    kit.ask(CloseFile(opened.file_id, "lease", 10))


def test_a_block_that_was_placed_and_never_written_is_gone_once_the_file_is_closed():
    kit = StorageKit()
    opened = kit.create("/f", block_size_bytes=10)
    kit.write_block(opened.file_id, 0, 10)
    kit.ask(AddBlock(opened.file_id, "lease", 1))
    kit.ask(CloseFile(opened.file_id, "lease", 10))
    assert kit.state.view().blocks == len(kit.state.block_views()) == 1


# ── two requests in one ─────────────────────────────────────────────────────────────────────────────────────────────


def placed_first(kit: StorageKit, path: str = "/f", length: int = 10, **options) -> tuple[int, WrittenBlock]:
    """A new file, opened with the place of its first block, and that block on the disks of those it was placed on."""
    opened = kit.create(path, block_size_bytes=10, places_first=True, **options)
    assert opened.first is not None
    replica = Replica(opened.first.block_id, opened.first.generation, length)
    return opened.file_id, WrittenBlock(replica, tuple(target.worker for target in opened.first.targets))


def test_a_file_of_one_block_takes_two_requests():
    kit = StorageKit()
    file_id, written = placed_first(kit)
    assert len(written.workers) == 3
    closed = kit.ask(CloseFile(file_id, "lease", 10, written))
    assert (closed.path, closed.length) == ("/f", 10)
    assert kit.holders("/f") == [set(written.workers)]
    assert kit.ask(CloseFile(file_id, "lease", 10, written)) == closed  # the answer was lost
    kit.restart()
    assert kit.state.status("/f") == closed
    assert [view.is_committed for view in kit.state.block_views()] == [True]


def test_of_several_blocks_the_last_is_committed_with_the_name():
    kit = StorageKit()
    opened = kit.create("/f", block_size_bytes=10)
    kit.write_block(opened.file_id, 0, 10)
    placed = kit.ask(AddBlock(opened.file_id, "lease", 1))
    written = WrittenBlock(Replica(placed.block_id, placed.generation, 4), ("w1", "w2"))
    assert kit.ask(CloseFile(opened.file_id, "lease", 14, written)).length == 14


def test_opening_again_places_the_first_block_anew_until_it_is_committed():
    kit = StorageKit()
    file_id, old = placed_first(kit)
    again, written = placed_first(kit)
    assert again == file_id
    assert written.replica.generation > old.replica.generation
    with pytest.raises(RequestError, match="written anew"):
        kit.ask(CloseFile(file_id, "lease", 10, old))
    assert kit.ask(CommitBlock(file_id, "lease", *_fields(written)))
    assert kit.create("/f", block_size_bytes=10, places_first=True).first is None
    kit.ask(CloseFile(file_id, "lease", 10, written))


def _fields(written: WrittenBlock) -> tuple[Replica, tuple[str, ...]]:
    return written.replica, written.workers


def test_a_file_is_opened_though_its_first_block_cannot_be_placed():
    kit = StorageKit(0)
    opened = kit.create("/f", places_first=True)
    assert opened.first is None
    with pytest.raises(Unavailable):
        kit.ask(AddBlock(opened.file_id, "lease", 0))
    assert kit.ask(CloseFile(opened.file_id, "lease", 0)).length == 0


@pytest.mark.parametrize(
    ("change", "length", "match"),
    [
        ({"workers": ("w1", "w1", "nobody")}, 10, "too few"),
        ({"replica": Replica(1, 1, 11)}, 11, "does not fit"),
        ({"replica": Replica(1, 2, 10)}, 10, "written anew"),
        ({}, 9, "cannot be closed with 9"),
        ({}, 20, "cannot be closed with 20"),
    ],
)
def test_a_last_block_that_is_refused_is_not_committed_and_names_nothing(change, length, match):
    kit = StorageKit()
    file_id, written = placed_first(kit)
    before = dict(kit.rows)
    with pytest.raises(RequestError, match=match):
        kit.ask(CloseFile(file_id, "lease", length, replace(written, **change)))
    assert kit.rows == before
    assert not kit.state.page("/").entries
    assert kit.ask(CloseFile(file_id, "lease", 10, written)).length == 10


def test_a_name_that_is_refused_leaves_the_last_block_uncommitted():
    kit = StorageKit()
    file_id, written = placed_first(kit)
    kit.write("/f", key="other")
    before = dict(kit.rows)
    with pytest.raises(AlreadyExists):
        kit.ask(CloseFile(file_id, "lease", 10, written))
    assert kit.rows == before


def test_an_empty_file_keeps_no_block_that_was_placed_for_it():
    kit = StorageKit()
    file_id, _ = placed_first(kit)
    assert kit.ask(CloseFile(file_id, "lease", 0)).length == 0
    assert kit.state.block_views() == ()


def test_an_existing_file_is_kept_until_its_replacement_is_closed():
    kit = StorageKit()
    old = kit.write("/f", 5)
    with pytest.raises(AlreadyExists):
        kit.create("/f", "other")
    opened = kit.create("/f", "new", overwrite=True, block_size_bytes=10)
    kit.write_block(opened.file_id, 0, 10)
    assert kit.state.status("/f") == old
    kit.ask(CloseFile(opened.file_id, "lease", 10))
    assert kit.state.status("/f").length == 10
    kit.settle()
    assert all(len(disk) == 1 for disk in kit.disks.values())


def test_of_two_writers_of_one_name_the_first_to_close_wins():
    kit = StorageKit()
    one, two = (kit.create("/f", key) for key in ("one", "two"))
    kit.ask(CloseFile(one.file_id, "lease", 0))
    with pytest.raises(AlreadyExists):
        kit.ask(CloseFile(two.file_id, "lease", 0))
    assert kit.state.status("/f").inode == one.file_id


def test_a_writer_that_falls_silent_leaves_nothing_behind():
    kit = StorageKit(settings=ClusterSettings(lease_s=60))
    opened = kit.create("/f", block_size_bytes=10)
    kit.write_block(opened.file_id, 0, 10)
    kit.tick(50)
    assert kit.ask(RenewLease("lease")) == 60
    kit.tick(50)
    kit.ask(AddBlock(opened.file_id, "lease", 1))
    kit.tick(61)
    with pytest.raises(NotFound, match="not open"):
        kit.ask(CloseFile(opened.file_id, "lease", 10))
    kit.carry_out()
    assert not any(kit.disks.values())
    assert {table for table, _ in kit.rows} == {"settings"}


def test_the_masters_own_sleep_ends_no_lease():
    kit = StorageKit(settings=ClusterSettings(lease_s=60))
    opened = kit.create("/f")
    kit.state.shift_deadlines(500)
    kit.tick(500)
    assert kit.ask(CloseFile(opened.file_id, "lease", 0)).length == 0


def test_an_abandoned_file_is_dropped_and_only_by_its_writer():
    kit = StorageKit()
    opened = kit.create("/f", block_size_bytes=10)
    kit.write_block(opened.file_id, 0, 10)
    kit.ask(AbandonFile(opened.file_id, "somebody else"))
    assert kit.state.block_views()
    kit.ask(AbandonFile(opened.file_id, "lease"))
    kit.ask(AbandonFile(opened.file_id, "lease"))
    assert not kit.state.block_views()


def test_another_lease_opens_nothing():
    kit = StorageKit()
    opened = kit.create("/f")
    with pytest.raises(NotFound):
        kit.ask(AddBlock(opened.file_id, "other", 0))


def test_a_write_goes_on_after_the_master_was_started_again():
    kit = StorageKit()
    opened = kit.create("/d/f", block_size_bytes=10)
    first = kit.write_block(opened.file_id, 0, 10)
    kit.restart()
    for worker in list(kit.places.all):
        kit.join(worker)
    second = kit.write_block(opened.file_id, 1, 4)
    assert second.block_id > first.block_id
    assert kit.ask(CloseFile(opened.file_id, "lease", 14)).path == "/d/f"
    assert kit.holders("/d/f") == [{"w1", "w2", "w3"}] * 2


def test_nothing_is_placed_when_no_worker_has_room():
    kit = StorageKit(1)
    kit.shrink("w1", 1000)
    opened = kit.create("/f")
    with pytest.raises(RequestError, match="room"):
        kit.ask(AddBlock(opened.file_id, "lease", 0))


def test_a_full_worker_does_not_keep_the_only_other_one_from_being_written_to():
    kit = StorageKit(2)
    kit.shrink("w2", 1000)
    opened = kit.create("/f")
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0))
    assert [target.worker for target in placed.targets] == ["w1"]
    assert kit.ask(CommitBlock(opened.file_id, "lease", Replica(placed.block_id, placed.generation, 5), ("w1",)))


def test_a_writer_waits_for_workers_that_may_come():
    kit = StorageKit(1)
    opened = kit.create("/f", block_size_bytes=10)
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0))
    kit.lose("w1")
    with pytest.raises(Unavailable, match="live"):
        kit.ask(AddBlock(opened.file_id, "lease", 0))
    kit.places.is_anyone_expected = True
    with pytest.raises(Unavailable, match="expected"):
        kit.ask(CommitBlock(opened.file_id, "lease", Replica(placed.block_id, 1, 10), ("w1",)))


def test_while_workers_are_expected_no_block_counts_as_written_on_fewer_than_replicas_min():
    kit = StorageKit(3)
    opened = kit.create("/f")
    placed = kit.ask(AddBlock(opened.file_id, "lease", 0))
    for worker in ("w2", "w3"):
        kit.lose(worker)
    kit.places.is_anyone_expected = True  # the master has just been started again, and only one is back
    with pytest.raises(Unavailable, match="expected"):
        kit.ask(CommitBlock(opened.file_id, "lease", Replica(placed.block_id, 1, 10), ("w1",)))
    with pytest.raises(Unavailable, match="expected"):
        kit.ask(AddBlock(opened.file_id, "lease", 0))
    kit.places.is_anyone_expected = False  # the others stayed away
    assert kit.ask(CommitBlock(opened.file_id, "lease", Replica(placed.block_id, 1, 10), ("w1",)))


@pytest.mark.parametrize("options", [{"block_size_bytes": -1}, {"replication": -1}, {"replication": 513}])
def test_sizes_and_counts_out_of_bounds_are_refused(options):
    kit = StorageKit()
    with pytest.raises(RequestError):
        kit.ask(CreateFile("/f", "lease", "key", **options))


def test_a_reader_reports_damage_and_the_replica_is_no_longer_offered():
    kit = StorageKit()
    kit.write("/f", 10)
    (block,) = kit.state.block_views()
    kit.ask(ReportDamage(block.replica, "w2"))
    assert kit.holders("/f") == [{"w1", "w3"}]
