"""Removed things: kept for a while, brought back, collected a few at a time."""

from __future__ import annotations

import pytest
from scenes.storage import StorageKit

from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.requests import MakeDirectory, RemovePath, RenamePath
from minireduce.core.storage.trash import MINUTE_S
from minireduce.errors import NotFound, RequestError

KEPT_S = 3600.0
SETTINGS = ClusterSettings(trash_kept_s=KEPT_S, inodes_collected_per_tick=2)


def remove(kit: StorageKit, path: str, **options):
    return kit.ask(RemovePath(path, kit.state.status(path).inode, recursive=True, **options))


def inode_rows(kit: StorageKit) -> int:
    return sum(table == "inodes" for table, _ in kit.rows)


def test_what_was_removed_is_kept_as_it_was_until_its_time_is_over():
    kit = StorageKit(settings=SETTINGS)
    file = kit.write("/a/b/f", 5)
    removed = remove(kit, "/a/b")
    assert removed.inodes == 2
    assert removed.trash_path == "/.Trash/19700101T0016Z/a/b"
    assert kit.state.status(f"{removed.trash_path}/f").inode == file.inode
    assert kit.holders(f"{removed.trash_path}/f") == [{"w1", "w2", "w3"}]
    kit.now += KEPT_S
    kit.settle()
    assert kit.state.status(removed.trash_path)
    kit.now += MINUTE_S
    kit.settle()
    with pytest.raises(NotFound):
        kit.state.status("/.Trash/19700101T0016Z")
    assert not any(kit.disks.values())


def test_a_rename_brings_back_what_was_removed():
    kit = StorageKit(settings=SETTINGS)
    file = kit.write("/f", 5)
    removed = remove(kit, "/f")
    restored = kit.ask(RenamePath(removed.trash_path, "/f", file.inode))
    assert restored == file
    kit.now += KEPT_S + MINUTE_S
    kit.settle()
    assert kit.state.status("/f") == file
    assert kit.holders("/f") == [{"w1", "w2", "w3"}]


def test_nothing_is_put_into_the_trash_by_hand():
    """It would be removed with what is old, and a file in the place of the trash would stop all removals."""
    kit = StorageKit(settings=SETTINGS)
    kit.write("/old", 1)
    inode = kit.state.status("/old").inode
    for refused in (
        lambda: kit.create("/.Trash", key="1"),
        lambda: kit.create("/.Trash/f", key="2"),
        lambda: kit.ask(MakeDirectory("/.Trash/d", with_parents=True)),
        lambda: kit.ask(RenamePath("/old", "/.Trash/old", inode)),
        lambda: kit.pack(("/a", 1), ("/.Trash/b", 1)),
    ):
        with pytest.raises(RequestError, match="is kept for what is removed"):
            refused()
    assert kit.state.status("/old").inode == inode
    assert remove(kit, "/old").trash_path == "/.Trash/19700101T0016Z/old"


def test_the_trash_itself_stays_where_it_is_and_what_is_in_it_does_not():
    kit = StorageKit(settings=SETTINGS)
    kit.write("/old", 1)
    remove(kit, "/old")
    for target in ("/elsewhere", "/.Trash2"):
        with pytest.raises(RequestError, match="stays where it is"):
            kit.ask(RenamePath("/.Trash", target, kit.state.status("/.Trash").inode))
    minute = kit.state.status("/.Trash/19700101T0016Z")
    assert kit.ask(RenamePath(minute.path, "/back", minute.inode)).path == "/back"
    assert kit.state.status("/back/old").length == 1


def test_things_of_one_name_removed_in_one_minute_are_all_kept():
    kit = StorageKit(settings=SETTINGS)
    kit.write("/a", 1, key="1")
    assert remove(kit, "/a").trash_path == "/.Trash/19700101T0016Z/a"
    kit.write("/a/b", 2, key="2")
    assert remove(kit, "/a/b").trash_path == "/.Trash/19700101T0016Z-2/a/b"
    assert remove(kit, "/a").trash_path == "/.Trash/19700101T0016Z-3/a"


def test_what_lies_as_deep_as_paths_may_goes_to_the_trash_by_its_last_name():
    kit = StorageKit(settings=SETTINGS)
    path = "/d" * 127 + "/f"
    kit.write(path, 1)
    assert remove(kit, path).trash_path == "/.Trash/19700101T0016Z/f"


@pytest.mark.parametrize("kept_s", [0.0, KEPT_S])
def test_nothing_is_kept_of_what_is_removed_for_good_or_in_the_trash_or_without_one(kept_s):
    kit = StorageKit(settings=ClusterSettings(trash_kept_s=kept_s))
    kit.write("/f", 5)
    if kept_s:
        kit.write("/g", 5, key="g")
        assert not remove(kit, "/g", skip_trash=True).trash_path
        assert remove(kit, "/f").trash_path
        assert remove(kit, "/.Trash").trash_path == ""
    else:
        assert remove(kit, "/f").trash_path == ""
    kit.settle()
    assert kit.state.view().files == 0
    assert not any(kit.disks.values())


def test_removing_a_large_directory_writes_one_row_and_collects_a_few_inodes_a_tick():
    kit = StorageKit(settings=SETTINGS)
    for number in range(7):
        kit.write(f"/d/e{number % 2}/f{number}", 5, key=str(number))
    before = dict(kit.rows)
    remove(kit, "/d", skip_trash=True)
    assert sum(kit.rows[key] != values for key, values in before.items()) == 1
    assert kit.state.view().files == 0
    with pytest.raises(NotFound):
        kit.state.status("/d")
    left = [inode_rows(kit)]
    while left[-1]:
        kit.tick()
        left.append(inode_rows(kit))
    assert left == [10, 8, 6, 4, 2, 0]
    kit.settle()
    assert not any(kit.disks.values())


@pytest.mark.parametrize("ticks", range(6))
def test_a_restarted_master_goes_on_with_what_was_removed(ticks):
    kit = StorageKit(settings=SETTINGS)
    kit.write("/kept", 5)
    for number in range(7):
        kit.write(f"/d/e{number % 2}/f{number}", 5, key=str(number))
    remove(kit, "/d", skip_trash=True)
    for _ in range(ticks):
        kit.tick()
    kit.restart()
    for worker in list(kit.places.all):
        kit.join(worker)
    assert kit.state.view().files == 1
    kit.settle()
    assert inode_rows(kit) == 1
    assert [len(disk) for disk in kit.disks.values()] == [1, 1, 1]


def test_a_new_thing_may_have_the_name_of_one_that_waits_to_be_collected():
    kit = StorageKit(settings=SETTINGS)
    for number in range(5):
        kit.write(f"/d/f{number}", 5, key=str(number))
    remove(kit, "/d", skip_trash=True)
    kit.ask(MakeDirectory("/d"))
    kit.write("/d/f0", 7, key="again")
    kit.settle()
    assert [entry.length for entry in kit.state.page("/d").entries] == [7]
    assert kit.state.summary("/").files == 1
