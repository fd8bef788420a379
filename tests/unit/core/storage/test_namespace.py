"""Names in the block store."""

from __future__ import annotations

import pytest
from scenes.storage import StorageKit

from minireduce.core.storage.paths import parse_path
from minireduce.core.storage.requests import MakeDirectory, RemovePath, RenamePath
from minireduce.core.storage.views import Removed
from minireduce.errors import AlreadyExists, NotFound, RequestError


@pytest.mark.parametrize("path", ["a/b", "", "/a/../b", "/a/./b", "/" + "n" * 256, "/a\nb", "/\udc80", "/a" * 129])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(RequestError):
        parse_path(path)


def test_doubled_and_trailing_slashes_do_not_matter():
    assert parse_path("/a//b/") == ("a", "b")
    assert parse_path("/") == ()


def test_a_directory_needs_the_one_above_unless_parents_are_asked_for():
    kit = StorageKit()
    with pytest.raises(NotFound):
        kit.ask(MakeDirectory("/a/b"))
    assert kit.ask(MakeDirectory("/a/b", with_parents=True)).path == "/a/b"
    assert kit.ask(MakeDirectory("/a/b", with_parents=True)).path == "/a/b"
    with pytest.raises(AlreadyExists):
        kit.ask(MakeDirectory("/a/b"))
    assert kit.state.status("/a").is_directory


def test_nothing_can_be_below_a_file():
    kit = StorageKit()
    kit.write("/f")
    for request in (MakeDirectory("/f/d"), MakeDirectory("/f/d/e", with_parents=True)):
        with pytest.raises(RequestError, match="is a file"):
            kit.ask(request)
    with pytest.raises(RequestError, match="is a file"):
        kit.create("/f/g", "other")
    with pytest.raises(AlreadyExists):
        kit.ask(MakeDirectory("/f", with_parents=True))


def test_pages_list_names_in_order_and_go_on_after_the_last():
    kit = StorageKit()
    for name in ("b", "a", "c"):
        kit.ask(MakeDirectory(f"/d/{name}", with_parents=True))
    page = kit.state._namespace.page("/d", "", 2)
    assert [entry.path for entry in page.entries] == ["/d/a", "/d/b"]
    assert page.has_more
    page = kit.state._namespace.page("/d", "b", 2)
    assert [entry.path for entry in page.entries] == ["/d/c"]
    assert not page.has_more


def test_listing_a_file_gives_the_file():
    kit = StorageKit()
    kit.write("/f", 10)
    assert [entry.length for entry in kit.state.page("/f").entries] == [10]


def test_renaming_a_directory_moves_all_below_and_keeps_inodes():
    kit = StorageKit()
    file = kit.write("/a/b/f", 5)
    directory = kit.state.status("/a/b")
    moved = kit.ask(RenamePath("/a/b", "/c", directory.inode))
    assert moved.path == "/c"
    assert kit.state.status("/c/f").inode == file.inode
    with pytest.raises(NotFound):
        kit.state.status("/a/b/f")


def test_a_repeated_rename_is_recognised():
    kit = StorageKit()
    file = kit.write("/f", 5)
    first = kit.ask(RenamePath("/f", "/g", file.inode))
    assert kit.ask(RenamePath("/f", "/g", file.inode)) == first


def test_a_rename_of_something_that_was_replaced_is_refused():
    kit = StorageKit()
    old = kit.write("/f", 5)
    kit.write("/f", 6, key="second", overwrite=True)
    with pytest.raises(RequestError, match="replaced"):
        kit.ask(RenamePath("/f", "/g", old.inode))


def test_a_directory_cannot_move_below_itself():
    kit = StorageKit()
    kit.ask(MakeDirectory("/a/b", with_parents=True))
    with pytest.raises(RequestError, match="below itself"):
        kit.ask(RenamePath("/a", "/a/b/c", kit.state.status("/a").inode))
    with pytest.raises(RequestError, match="below itself"):
        kit.ask(RenamePath("/", "/a/r", 1))


def test_rename_replaces_only_when_asked_and_never_what_holds_the_source():
    kit = StorageKit()
    kit.write("/new/f", 5)
    kit.write("/old/g", 5, key="g")
    new = kit.state.status("/new").inode
    with pytest.raises(AlreadyExists):
        kit.ask(RenamePath("/new", "/old", new))
    kit.ask(RenamePath("/new", "/old", new, replace=True))
    assert [entry.path for entry in kit.state.page("/old").entries] == ["/old/f"]
    with pytest.raises(RequestError, match="below it"):
        kit.ask(RenamePath("/old/f", "/old", kit.state.status("/old/f").inode, replace=True))


def test_removing_a_directory_that_holds_something_must_be_asked_for():
    kit = StorageKit()
    kit.write("/d/f", 5, 5)
    directory = kit.state.status("/d")
    with pytest.raises(RequestError, match="not empty"):
        kit.ask(RemovePath("/d", directory.inode))
    remove = RemovePath("/d", directory.inode, recursive=True, skip_trash=True)
    assert kit.ask(remove) == Removed(2)
    assert kit.ask(remove) == Removed(0)
    kit.settle()
    assert not any(kit.disks.values())
    assert {table for table, _ in kit.rows} == {"settings"}


def test_the_root_stays():
    kit = StorageKit()
    with pytest.raises(RequestError, match="root"):
        kit.ask(RemovePath("/", 1, recursive=True))
