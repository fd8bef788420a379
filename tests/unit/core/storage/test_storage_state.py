"""What the master tells of files: where blocks are, and that all survives a restart."""

from __future__ import annotations

import random

import pytest
from scenes.storage import StorageKit, place

from minireduce.core.spec import StoredRange
from minireduce.core.storage.requests import MakeDirectory, RemovePath, RenamePath
from minireduce.core.storage.views import FileStatus, Summary
from minireduce.core.tables import TABLES
from minireduce.errors import NotFound, RequestError


def tree(kit: StorageKit):
    def below(path: str):
        for entry in kit.state.page(path).entries:
            yield entry
            if entry.is_directory:
                yield from below(entry.path)

    return [kit.state.status("/"), *below("/")]


def sum_up(kit: StorageKit, status: FileStatus) -> Summary:
    if not status.is_directory:
        return Summary(status.path, 0, 1, status.length, status.length * status.replication)
    below = [sum_up(kit, each) for each in kit.state.page(status.path).entries]
    counts = [(each.directories, each.files, each.bytes, each.replica_bytes) for each in below]
    directories, files, size, replica_bytes = (sum(column) for column in zip((0, 0, 0, 0), *counts, strict=True))
    return Summary(status.path, directories + 1, files, size, replica_bytes)


def test_locate_gives_the_blocks_that_touch_a_range():
    kit = StorageKit()
    file = kit.write("/f", 10, 10, 4)
    assert [source.file_offset for source in kit.state.locate(file.inode, 0, 24)] == [0, 10, 20]
    assert [source.file_offset for source in kit.state.locate(file.inode, 9, 2)] == [0, 10]
    assert [source.file_offset for source in kit.state.locate(file.inode, 10, 10)] == [10]
    assert [source.replica.length for source in kit.state.locate(file.inode, 20, 100)] == [4]
    assert kit.state.locate(file.inode, 24, 5) == ()


def test_locate_puts_the_asking_worker_first_then_its_machine_then_its_rack():
    kit = StorageKit(0)
    for each in (place("a", "/1", machine="m"), place("b", "/2"), place("c", "/1"), place("d", "/2", machine="m")):
        kit.places.all[each.worker] = each
        kit.join(each.worker)
    file = kit.write("/f", 10, replication=4)
    (source,) = kit.state.locate(file.inode, 0, 10, "a")
    assert source.workers == ("a", "d", "c", "b")
    assert source.addresses == ("a:1", "d:1", "c:1", "b:1")


def test_readers_of_many_blocks_are_spread_over_the_workers():
    kit = StorageKit()
    file = kit.write("/f", *[10] * 30)
    firsts = {source.workers[0] for source in kit.state.locate(file.inode, 0, 300)}
    assert firsts == {"w1", "w2", "w3"}


def test_a_task_gets_the_block_before_its_range_too_and_those_for_its_last_record():
    kit = StorageKit()
    file = kit.write("/f", 10, 10, 10)
    located = kit.state.locate_input(StoredRange("/f", file.inode, 10, 5), "w2")
    assert [source.file_offset for source in located.blocks] == [0, 10, 20]
    assert [source.workers[0] for source in located.blocks] == ["w2"] * 3
    assert located.file_bytes == 30
    located = kit.state.locate_input(StoredRange("/f", file.inode, 11, 5), "w2")
    assert [source.file_offset for source in located.blocks] == [10, 20]


def test_a_removed_file_is_not_found_by_its_number_and_a_renamed_one_is():
    kit = StorageKit()
    file = kit.write("/f", 10)
    kit.ask(RenamePath("/f", "/g", file.inode))
    assert kit.state.locate(file.inode, 0, 10)
    kit.ask(RemovePath("/g", file.inode, skip_trash=True))
    with pytest.raises(NotFound):
        kit.state.locate(file.inode, 0, 10)


def test_blocks_of_a_directory_cannot_be_asked_for():
    kit = StorageKit()
    kit.ask(MakeDirectory("/d"))
    with pytest.raises(RequestError, match="directory"):
        kit.state.file_blocks("/d", 0, 1)


def test_tokens_name_the_block_and_its_generation():
    kit = StorageKit()
    kit.write("/f", 10)
    (block,) = kit.state.file_blocks("/f", 0, 10).blocks
    replica = block.source.replica
    assert block.read_token == f"read-{replica.block_id}-{replica.generation}"


@pytest.mark.parametrize("seed", range(10))
def test_a_restarted_master_knows_what_the_old_one_answered(seed):
    rng = random.Random(seed)
    kit = StorageKit()
    for number in range(40):
        directories = [each.path for each in tree(kit) if each.is_directory]
        path = f"{rng.choice(directories).rstrip('/')}/n{rng.randint(0, 9)}"
        try:
            match rng.randint(0, 4):
                case 0:
                    kit.ask(MakeDirectory(path))
                case 1 | 2:
                    kit.write(path, *[10] * rng.randint(0, 3), key=str(number), overwrite=rng.random() < 0.5)
                case 3:
                    chosen = rng.choice(tree(kit))
                    kit.ask(RenamePath(chosen.path, path, chosen.inode, replace=rng.random() < 0.5))
                case 4:
                    chosen = rng.choice(tree(kit))
                    is_recursive, is_for_good = rng.random() < 0.5, rng.random() < 0.5
                    kit.ask(RemovePath(chosen.path, chosen.inode, is_recursive, is_for_good))
        except RequestError:
            continue
    before, blocks = tree(kit), [block.replica for block in kit.state.block_views()]
    numbers = kit.state.view()
    sums = [kit.state.summary(each.path) for each in before]
    assert sums == [sum_up(kit, each) for each in before]
    assert len(before) > 2
    kit.restart()
    assert tree(kit) == before
    assert [kit.state.summary(each.path) for each in before] == sums
    assert sorted(block.replica for block in kit.state.block_views()) == sorted(blocks)
    assert kit.state.view().missing == len(blocks)
    for worker in list(kit.places.all):
        kit.join(worker)
    assert kit.state.view() == numbers


def test_numbers_are_not_used_again_after_a_restart():
    kit = StorageKit()
    file = kit.write("/f", 10)
    kit.ask(RemovePath("/f", file.inode, skip_trash=True))
    kit.settle()
    kit.restart()
    assert kit.write("/f", 10).inode > file.inode


def test_rows_have_the_columns_that_the_tables_declare():
    kit = StorageKit()
    kit.write("/d/f", 10)
    kit.create("/open", "other")
    shapes = {table.name: (len(table.key), len(table.columns)) for table in TABLES}
    for (table, key), values in kit.rows.items():
        assert (len(key), len(values)) == shapes[table]
    assert {"inodes", "blocks", "open_files", "settings"} <= {table for table, _ in kit.rows}
