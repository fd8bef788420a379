"""Appending to files: the master's side, with workers that do as they are told."""

from __future__ import annotations

import pytest
from scenes.storage import StorageKit

from minireduce.core.replica_messages import RemoveReplica, Replica, ReplicaDamaged, ReplicaStored
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.recovery import choose_recovered
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    AppendFile,
    ChangeAttributes,
    CloseFile,
    CommitBlock,
    CreateFile,
    RemovePath,
)
from minireduce.core.storage.views import FileStatus, PlacedBlock
from minireduce.errors import NotFound, RequestError, Unavailable


def begin(kit: StorageKit, path: str = "/f", lease: str = "a"):
    return kit.ask(AppendFile(path, kit.state.status(path).inode, lease))


def place(kit: StorageKit, file: FileStatus, position: int, lease: str = "a", **options) -> PlacedBlock:
    return kit.ask(AddBlock(file.inode, lease, position, **options))


def store(kit: StorageKit, placed: PlacedBlock, length: int, *, workers: tuple[str, ...] | None = None) -> CommitBlock:
    replica = Replica(placed.block_id, placed.generation, length)
    names = workers or tuple(target.worker for target in placed.targets)
    for worker in names:
        kit.disks[worker][placed.block_id] = replica
        kit.report(worker, ReplicaStored(replica))
    return CommitBlock(0, "a", replica, names)


def commit(kit: StorageKit, file: FileStatus, asked: CommitBlock, lease: str = "a"):
    return kit.ask(CommitBlock(file.inode, lease, asked.replica, asked.workers))


def write(kit: StorageKit, *lengths: int) -> FileStatus:
    opened = kit.create("/f", block_size_bytes=10)
    for position, length in enumerate(lengths):
        kit.write_block(opened.file_id, position, length)
    return kit.ask(CloseFile(opened.file_id, "lease", sum(lengths)))


def test_the_last_block_becomes_longer_where_it_is_and_readers_see_it_once_it_is_committed():
    kit = StorageKit(4)
    file = write(kit, 10, 4)
    assert begin(kit).file_id == file.inode
    placed = place(kit, file, 1)
    assert (placed.base_generation, placed.base_length, placed.generation) == (1, 4, 2)
    (_, before) = kit.holders("/f")
    assert {target.worker for target in placed.targets} == before
    asked = store(kit, placed, 7)
    assert kit.state.status("/f").length == 14
    assert [each.source.replica.length for each in kit.state.file_blocks("/f", 0, 99).blocks] == [10, 4]
    assert commit(kit, file, asked)
    assert commit(kit, file, asked)  # the answer was lost
    assert kit.state.status("/f").length == 17
    assert kit.state.summary("/").bytes == 17
    assert [each.source.replica.length for each in kit.state.file_blocks("/f", 0, 99).blocks] == [10, 7]
    removed = [order.replica.generation for _, order in kit.commands if isinstance(order, RemoveReplica)]
    assert removed == [1, 1, 1]
    kit.settle()
    assert [len(workers) for workers in kit.holders("/f")] == [3, 3]


def test_full_blocks_are_followed_by_new_ones():
    kit = StorageKit(3)
    file = write(kit, 10)
    begin(kit)
    with pytest.raises(RequestError, match="full"):
        place(kit, file, 0)
    placed = place(kit, file, 1)
    assert placed.base_generation == 0
    assert [each.source.replica.length for each in kit.state.file_blocks("/f", 0, 99).blocks] == [10]
    assert commit(kit, file, store(kit, placed, 3))
    assert kit.state.status("/f").length == 13
    longer = place(kit, file, 1)
    assert longer.base_length == 3
    assert commit(kit, file, store(kit, longer, 10))
    assert kit.state.status("/f").length == 20
    kit.ask(CloseFile(file.inode, "a", 20))
    kit.ask(CloseFile(file.inode, "a", 20))


def test_one_writer_at_a_time_and_a_dead_one_is_forgotten():
    kit = StorageKit(3, settings=ClusterSettings(lease_s=10.0))
    file = write(kit, 4)
    begin(kit)
    assert begin(kit)
    with pytest.raises(RequestError, match="another writer"):
        begin(kit, lease="b")
    placed = place(kit, file, 0)
    asked = store(kit, placed, 7, workers=("w2",))
    kit.tick(11.0)
    kit.settle()
    assert begin(kit, lease="b")
    with pytest.raises(NotFound):
        commit(kit, file, asked)
    assert kit.state.status("/f").length == 4
    assert {replica.generation for disk in kit.disks.values() for replica in disk.values()} <= {1}


def test_what_an_earlier_try_left_is_void_and_removed():
    kit = StorageKit(3)
    file = write(kit, 4)
    begin(kit)
    first = place(kit, file, 0)
    kit.report("w1", ReplicaStored(Replica(first.block_id, first.generation, 9)))
    second = place(kit, file, 0)
    assert second.generation == first.generation + 1
    assert (second.base_generation, second.base_length) == (1, 4)
    assert ("w1", RemoveReplica(Replica(first.block_id, first.generation, 9))) in kit.commands
    with pytest.raises(RequestError, match="anew"):
        commit(kit, file, CommitBlock(0, "a", Replica(first.block_id, first.generation, 9), ("w1", "w2")))
    kit.report("w2", ReplicaStored(Replica(first.block_id, first.generation, 9)))  # it came late
    assert ("w2", RemoveReplica(Replica(first.block_id, first.generation, 9))) in kit.commands
    assert commit(kit, file, store(kit, second, 8))
    assert kit.state.status("/f").length == 8


def test_what_an_append_that_was_given_up_left_damaged_is_removed():
    kit = StorageKit(3)
    file = write(kit, 4)
    begin(kit)
    left = Replica(place(kit, file, 0).block_id, 2, 9)
    kit.ask(AbandonFile(file.inode, "a"))
    kit.report("w1", ReplicaDamaged(left, "w1"))
    assert kit.commands[-1] == ("w1", RemoveReplica(left))
    assert kit.holders("/f") == [{"w1", "w2", "w3"}]


def test_a_block_that_too_few_have_is_written_anew_as_a_whole():
    kit = StorageKit(4)
    file = write(kit, 4)
    begin(kit)
    (holders,) = kit.holders("/f")
    some, other, *_ = sorted(holders)
    placed = place(kit, file, 0, excluded=(some, other))
    assert placed.base_generation == 0
    assert len(placed.targets) >= 2
    assert commit(kit, file, store(kit, placed, 6))
    assert kit.state.status("/f").length == 6


def test_a_restarted_master_goes_on_with_an_append():
    kit = StorageKit(3)
    file = write(kit, 4)
    begin(kit)
    asked = store(kit, place(kit, file, 0), 7)
    kit.restart()
    for worker in list(kit.places.all):
        kit.join(worker)
    assert kit.state.status("/f").length == 4
    assert commit(kit, file, asked)
    kit.restart()
    for worker in list(kit.places.all):
        kit.join(worker)
    assert kit.state.status("/f").length == 7
    assert kit.holders("/f") == [{"w1", "w2", "w3"}]
    assert place(kit, file, 0).generation == 3


def test_a_worker_that_lost_what_was_appended_does_not_count_at_the_commit():
    kit = StorageKit(3)
    file = write(kit, 4)
    begin(kit)
    placed = place(kit, file, 0)
    asked = store(kit, placed, 7)
    kit.lose("w1")
    assert commit(kit, file, asked)
    assert kit.holders("/f") == [{"w2", "w3"}]


def test_too_few_workers_do_not_make_a_file_longer():
    kit = StorageKit(3)
    file = write(kit, 4)
    begin(kit)
    placed = place(kit, file, 0)
    assert not commit(kit, file, store(kit, placed, 7, workers=("w1",)))
    assert kit.state.status("/f").length == 4
    with pytest.raises(RequestError, match="4 bytes, not 7"):
        kit.ask(CloseFile(file.inode, "a", 7))


def test_an_abandoned_append_keeps_what_was_committed():
    kit = StorageKit(3)
    file = write(kit, 10)
    begin(kit)
    assert commit(kit, file, store(kit, place(kit, file, 1), 3))
    store(kit, place(kit, file, 1), 9)
    kit.ask(AbandonFile(file.inode, "a"))
    kit.settle()
    assert kit.state.status("/f").length == 13
    assert [each.length for each in sorted(kit.disks["w1"].values())] in ([10, 3], [10])
    begin(kit, lease="b")
    assert place(kit, file, 1, "b").base_length == 3


def test_what_cannot_be_appended_to_is_refused():
    kit = StorageKit(3)
    file = write(kit, 4)
    with pytest.raises(RequestError, match="directory"):
        kit.ask(AppendFile("/", 1, "a"))
    with pytest.raises(RequestError, match="replaced"):
        kit.ask(AppendFile("/f", 99, "a"))
    begin(kit)
    placed = place(kit, file, 0)
    kit.ask(RemovePath("/f", file.inode, skip_trash=True))
    with pytest.raises(NotFound, match="removed"):
        commit(kit, file, store(kit, placed, 7))


def test_replication_may_change_while_somebody_appends():
    kit = StorageKit(4)
    file = write(kit, 10)
    begin(kit)
    kit.ask(ChangeAttributes("/f", file.inode, replication=4))
    assert commit(kit, file, store(kit, place(kit, file, 1), 3))
    kit.settle()
    assert [len(workers) for workers in kit.holders("/f")] == [4, 4]


def test_a_new_file_may_be_appended_to_when_it_is_empty():
    kit = StorageKit(3)
    opened = kit.ask(CreateFile("/f", "lease", "key", block_size_bytes=10))
    file = kit.ask(CloseFile(opened.file_id, "lease", 0))
    begin(kit)
    placed = place(kit, file, 0)
    assert placed.base_generation == 0
    assert commit(kit, file, store(kit, placed, 3))
    assert kit.state.status("/f").length == 3


def test_no_worker_that_could_hold_it_is_waited_for():
    kit = StorageKit(3)
    file = write(kit, 4)
    begin(kit)
    for worker in ("w1", "w2", "w3"):
        kit.lose(worker)
    with pytest.raises(Unavailable):
        place(kit, file, 0)


def die_while_appending(kit: StorageKit, *tries: tuple[int, tuple[str, ...]]) -> tuple[FileStatus, CommitBlock]:
    """A file of four bytes, of which a writer left longer replicas in one or more tries before its lease ran out."""
    file = write(kit, 4)
    begin(kit)
    for length, workers in tries:
        asked = store(kit, place(kit, file, 0), length, workers=workers)
    kit.tick(61.0)
    return file, asked


def generations(kit: StorageKit) -> set[tuple[int, int]]:
    return {(replica.generation, replica.length) for disk in kit.disks.values() for replica in disk.values()}


def test_what_enough_workers_have_of_a_dead_writers_append_is_kept_under_the_new_generation():
    kit = StorageKit(4)
    die_while_appending(kit, (7, ("w1", "w2")))
    assert kit.state.status("/f").length == 7
    kit.settle()
    assert generations(kit) == {(2, 7)}
    assert [len(workers) for workers in kit.holders("/f")] == [3]
    kit.restart()
    assert kit.state.status("/f").length == 7


def test_what_only_one_worker_has_of_it_is_void_however_long_it_is_and_can_never_come_back():
    kit = StorageKit(3)
    file, asked = die_while_appending(kit, (9, ("w1",)))
    assert kit.state.status("/f").length == 4
    kit.settle()
    assert generations(kit) == {(1, 4)}
    begin(kit, lease="b")
    later = place(kit, file, 0, lease="b")
    assert later.generation > asked.replica.generation
    kit.report("w1", ReplicaStored(asked.replica))  # it lay on a disk that was away
    assert ("w1", RemoveReplica(asked.replica)) in kit.commands
    kit.tick(61.0)
    assert kit.state.status("/f").length == 4


def test_of_two_tries_of_a_dead_writer_only_the_last_can_count():
    kit = StorageKit(3)
    die_while_appending(kit, (9, ("w1", "w2", "w3")), (6, ("w2", "w3")))
    assert kit.state.status("/f").length == 6
    kit.settle()
    assert generations(kit) == {(3, 6)}


def test_a_worker_that_was_lost_does_not_speak_for_what_it_had_of_an_append():
    kit = StorageKit(3)
    file = write(kit, 4)
    begin(kit)
    store(kit, place(kit, file, 0), 7, workers=("w1", "w2"))
    kit.lose("w2")
    kit.tick(61.0)
    assert kit.state.status("/f").length == 4


def test_a_new_block_that_a_dead_writer_had_sent_is_kept_if_enough_workers_have_it():
    for workers, length in ((("w1", "w3"), 15), (("w3",), 10)):
        kit = StorageKit(3)
        file = write(kit, 10)
        begin(kit)
        store(kit, place(kit, file, 1), 5, workers=workers)
        kit.restart()
        for worker in ("w1", "w2", "w3"):
            kit.join(worker)
        kit.tick(61.0)
        assert kit.state.status("/f").length == length
        kit.settle()
        assert kit.ask(CloseFile(file.inode, "late", length)).length == length


def test_the_greatest_length_that_enough_live_workers_have_is_chosen():
    assert choose_recovered({"w1": Replica(1, 2, 5)}, ("w1", "w2"), 2) is None
    held = {"w1": Replica(1, 2, 9), "w2": Replica(1, 2, 5), "w3": Replica(1, 2, 5), "gone": Replica(1, 2, 9)}
    assert choose_recovered(held, ("w1", "w2", "w3"), 2) == (5, ("w2", "w3"))
