"""Small files that share a block: named together, read, removed, and told apart from each other."""

from __future__ import annotations

import pytest
from scenes.storage import StorageKit

from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import StoredRange
from minireduce.core.storage.requests import (
    AddBlock,
    AppendFile,
    ChangeAttributes,
    CloseContainer,
    CloseFile,
    CommitBlock,
    PackedFile,
    RemovePath,
    WrittenBlock,
)
from minireduce.core.storage.views import NamedFiles
from minireduce.errors import AlreadyExists, NotFound, RequestError

SIZES = (("/d/a", 3), ("/d/b", 0), ("/d/c", 5))


@pytest.fixture
def kit() -> StorageKit:
    return StorageKit(3, settings=ClusterSettings(trash_kept_s=0.0, inodes_collected_per_tick=1))


def begins(kit: StorageKit, path: str) -> list[int]:
    return [block.source.file_offset for block in kit.state.file_blocks(path, 0, 100).blocks]


def close(kit: StorageKit, container: int, *files: tuple[str, int]) -> object:
    return kit.ask(CloseContainer(container, "lease", tuple(PackedFile(*each) for each in files))).files


def test_files_of_a_container_are_named_together_and_begin_where_those_before_them_end(kit):
    opened = kit.create("")
    kit.write_block(opened.file_id, 0, 8)
    assert not kit.state.page("/").entries
    assert close(kit, opened.file_id, *SIZES) == 3
    assert [(entry.path, entry.length) for entry in kit.state.page("/d").entries] == list(SIZES)
    assert [begins(kit, path) for path, _ in SIZES] == [[0], [], [-3]]
    assert kit.state.view().blocks == 1


def test_a_container_is_closed_once_however_often_it_is_asked_for(kit):
    container = kit.pack(*SIZES)
    before = kit.state.status("/d/a")
    assert close(kit, container, *SIZES) == 3
    assert kit.state.status("/d/a") == before
    empty = kit.pack(("/e", 0), key="empty")
    assert close(kit, empty, ("/e", 0)) == 1


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ([("/new", 4), ("/there", 4)], AlreadyExists),
        ([("/new", 4), ("/there/below", 4)], RequestError),
        ([("/new", 4), ("/new", 4)], RequestError),
        ([("/new", 4), ("/new/below", 4)], RequestError),
        ([("/new", 4)], RequestError),
        ([("/new", 9), ("/other", -1)], RequestError),
        ([], RequestError),
    ],
)
def test_none_of_the_files_appears_when_one_is_refused(kit, files, error):
    kit.write("/there", 4)
    opened = kit.create("", "pack")
    kit.write_block(opened.file_id, 0, 8)
    with pytest.raises(error):
        close(kit, opened.file_id, *files)
    assert [entry.path for entry in kit.state.page("/").entries] == ["/there"]
    assert close(kit, opened.file_id, ("/new", 8)) == 1


def written_container(kit: StorageKit, length: int) -> tuple[int, WrittenBlock]:
    opened = kit.create("", places_first=True)
    workers = tuple(target.worker for target in opened.first.targets)
    return opened.file_id, WrittenBlock(Replica(opened.first.block_id, opened.first.generation, length), workers)


def test_a_container_takes_two_requests_and_shows_its_files(kit):
    container, written = written_container(kit, 8)
    files = tuple(PackedFile(*each) for each in SIZES)
    request = CloseContainer(container, "lease", files, written, shows_files=True)
    shown = kit.ask(request).statuses
    assert shown == tuple(kit.state.status(path) for path, _ in SIZES)
    assert [each.length for each in shown] == [3, 0, 5]
    assert kit.ask(request).statuses == shown  # the answer was lost
    kit.ask(RemovePath("/d/b", shown[1].inode))
    assert kit.ask(request) == NamedFiles(3)


def test_the_next_container_is_opened_with_the_close_of_one(kit):
    opened = kit.create("", overwrite=True, replication=2, block_size_bytes=64)
    kit.write_block(opened.file_id, 0, 8)
    request = CloseContainer(opened.file_id, "lease", (PackedFile("/a", 8),), next_lease="next")
    following = kit.ask(request).next
    assert (following.replication, following.block_size_bytes, len(following.first.targets)) == (2, 64, 2)
    again = kit.ask(request).next  # the answer was lost: the block is placed anew
    assert (again.file_id, again.first.generation) == (following.file_id, following.first.generation + 1)
    written = WrittenBlock(
        Replica(again.first.block_id, again.first.generation, 5), tuple(each.worker for each in again.first.targets)
    )
    kit.restart()
    for worker in kit.places.all:
        kit.join(worker)
    assert kit.ask(CloseContainer(again.file_id, "next", (PackedFile("/a", 5),), written)).files == 1
    assert kit.state.status("/a").length == 5  # it may replace others, as the one before it
    assert kit.ask(request).next is None  # late


def test_a_container_that_was_opened_ahead_and_left_is_dropped(kit):
    opened = kit.create("")
    kit.write_block(opened.file_id, 0, 8)
    kit.ask(CloseContainer(opened.file_id, "lease", (PackedFile("/a", 8),), next_lease="next"))
    assert len(kit.state.block_views()) == 2
    kit.tick(ClusterSettings().lease_s + 1)
    kit.settle()
    assert [view.is_committed for view in kit.state.block_views()] == [True]
    assert not [key for key in kit.rows if key[0] == "open_files"]


def test_no_container_is_opened_ahead_by_a_close_that_is_refused(kit):
    opened = kit.create("")
    before = dict(kit.rows)
    with pytest.raises(RequestError):
        kit.ask(CloseContainer(opened.file_id, "lease", (PackedFile("/a", 8),), next_lease="next"))
    assert kit.rows == before


def test_a_container_that_is_refused_has_no_block(kit):
    kit.write("/there", 4, key="there")
    container, written = written_container(kit, 8)
    before = dict(kit.rows)
    for files in [(("/new", 4), ("/there", 4)), (("/new", 9),)]:
        with pytest.raises(RequestError):
            kit.ask(CloseContainer(container, "lease", tuple(PackedFile(*each) for each in files), written))
    assert kit.rows == before


def test_a_container_of_empty_files_keeps_no_block(kit):
    container, _ = written_container(kit, 8)
    assert close(kit, container, ("/a", 0), ("/b", 0)) == 2
    assert kit.state.block_views() == ()


def test_what_is_overwritten_by_a_packed_file_goes_with_its_block(kit):
    kit.write("/d/a", 4)
    kit.pack(*SIZES, overwrite=True)
    kit.settle()
    assert kit.state.status("/d/a").length == 3
    assert kit.state.view().blocks == 1


def test_only_the_lease_with_which_it_was_opened_closes_a_container(kit):
    opened = kit.create("")
    kit.write_block(opened.file_id, 0, 8)
    with pytest.raises(NotFound):
        kit.ask(CloseContainer(opened.file_id, "another", (PackedFile("/a", 8),)))
    with pytest.raises(RequestError):
        kit.ask(CloseFile(opened.file_id, "lease", 8))


def test_a_named_file_is_not_closed_as_a_container(kit):
    opened = kit.create("/f")
    kit.write_block(opened.file_id, 0, 8)
    with pytest.raises(RequestError, match="no container"):
        close(kit, opened.file_id, ("/a", 8))


def test_the_block_goes_with_the_last_file(kit):
    kit.pack(*SIZES)
    for path, left in (("/d/a", 1), ("/d/c", 0)):
        kit.ask(RemovePath(path, kit.state.status(path).inode))
        kit.settle()
        assert kit.state.view().blocks == left
    assert not any(kit.disks.values())


def test_a_container_is_the_same_after_a_restart_of_the_master(kit):
    kit.pack(*SIZES)
    kit.ask(RemovePath("/d/a", kit.state.status("/d/a").inode))
    kit.restart()
    for worker in kit.disks:
        kit.join(worker)
    assert begins(kit, "/d/c") == [-3]
    assert len(kit.holders("/d/c")[0]) == 3
    kit.settle()
    kit.ask(RemovePath("/d/c", kit.state.status("/d/c").inode))
    kit.settle()
    assert kit.state.view().blocks == 0


def test_a_container_lost_with_a_worker_is_copied_as_any_block(kit):
    kit.pack(*SIZES, replication=2)
    lost = min(kit.holders("/d/a")[0])
    kit.lose(lost)
    kit.settle(100)
    for path in ("/d/a", "/d/c"):
        assert len(kit.holders(path)[0]) == 2
        assert lost not in kit.holders(path)[0]


def test_a_container_has_the_replicas_of_the_file_that_wants_most(kit):
    kit.pack(*SIZES, replication=1)
    inode = kit.state.status("/d/a").inode
    for replication, wanted in ((3, 3), (2, 2), (1, 1), (3, 3)):
        kit.ask(ChangeAttributes("/d/a", inode, replication))
        kit.settle()
        assert len(kit.holders("/d/c")[0]) == wanted
    kit.ask(RemovePath("/d/a", inode))
    kit.settle()
    assert len(kit.holders("/d/c")[0]) == 1


def test_a_map_reads_a_packed_file_and_is_local_where_the_container_is(kit):
    kit.pack(*SIZES, replication=2)
    stored = StoredRange("/d/c", kit.state.status("/d/c").inode, 0, 5)
    located = kit.state.locate_input(stored, "w1")
    assert [source.file_offset for source in located.blocks] == [-3]
    assert located.file_bytes == 5
    assert [(count, set(workers)) for count, workers in kit.state.holders_of(stored)] == [(5, kit.holders("/d/c")[0])]


def test_a_packed_file_that_is_appended_to_becomes_a_file_of_its_own(kit):
    kit.pack(*SIZES)
    inode = kit.state.status("/d/c").inode
    opened = kit.ask(AppendFile("/d/c", inode, "append"))
    assert opened.is_packed
    placed = kit.ask(AddBlock(inode, "append", 0))
    workers = tuple(target.worker for target in placed.targets)
    short = Replica(placed.block_id, placed.generation, 4)
    with pytest.raises(RequestError, match="begin with"):
        kit.ask(CommitBlock(inode, "append", short, workers))
    assert begins(kit, "/d/c") == [-3]
    longer = Replica(placed.block_id, placed.generation, 7)
    for worker in workers:
        kit.disks[worker][longer.block_id] = longer
    assert kit.ask(CommitBlock(inode, "append", longer, workers))
    assert begins(kit, "/d/c") == [0]
    assert kit.ask(CloseFile(inode, "append", 7)).length == 7
    assert not kit.ask(AppendFile("/d/c", inode, "again")).is_packed
    kit.restart()
    assert begins(kit, "/d/c") == [0]
    assert begins(kit, "/d/a") == [0]
    assert kit.state.view().blocks == 2


def test_a_packed_file_is_as_it_was_when_appending_to_it_is_given_up(kit):
    kit.pack(*SIZES)
    inode = kit.state.status("/d/c").inode
    kit.ask(AppendFile("/d/c", inode, "append"))
    kit.ask(AddBlock(inode, "append", 0))
    kit.tick(kit.settings.lease_s + 1)
    assert begins(kit, "/d/c") == [-3]
    assert kit.state.status("/d/c").length == 5
    assert kit.state.view().blocks == 1


def test_health_says_how_many_files_share_a_block_and_what_holes_there_are(kit):
    kit.pack(*SIZES)
    kit.write("/alone", 4)
    told = [kit.state.health(path).blocks[0] for path in ("/d/c", "/alone")]
    assert [(block.state, block.shared_by, block.holes_bytes) for block in told] == [
        ("healthy", 2, 0),
        ("healthy", 0, 0),
    ]
    kit.ask(RemovePath("/d/a", kit.state.status("/d/a").inode))
    kit.settle()
    (block,) = kit.state.health("/d/c").blocks
    assert (block.shared_by, block.holes_bytes) == (1, 3)
