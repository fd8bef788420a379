from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from minireduce.testing.disk import SimDisk

HOME = Path("/data")


def disk_with_home(seed: int = 0) -> SimDisk:
    disk = SimDisk(random.Random(seed))
    disk.make_directories(HOME)
    disk.sync_directory(Path("/"))
    return disk


def write(disk: SimDisk, path: Path, data: bytes, *, sync: bool = True) -> None:
    with disk.create(path) as file:
        file.write(data)
        if sync:
            disk.sync(file)


def read(disk: SimDisk, path: Path) -> bytes:
    with disk.open(path) as file:
        return file.read()


def outcomes(act, seeds: int = 200) -> set[bytes | None]:
    """All that crashes leave under one name, over many draws."""
    found: set[bytes | None] = set()
    for seed in range(seeds):
        disk = disk_with_home(seed)
        act(disk)
        disk.crash()
        found.add(read(disk, HOME / "file") if disk.exists(HOME / "file") else None)
    return found


def test_what_was_synced_with_its_directory_survives_every_crash():
    def act(disk: SimDisk) -> None:
        write(disk, HOME / "file", b"abc")
        disk.sync_directory(HOME)

    assert outcomes(act) == {b"abc"}


def test_a_name_may_be_lost_when_its_directory_was_not_synced():
    assert outcomes(lambda disk: write(disk, HOME / "file", b"abc")) == {b"abc", None}


def test_bytes_that_a_disk_has_only_begun_with_may_be_lost():
    def act(disk: SimDisk) -> None:
        with disk.create(HOME / "file") as file:
            file.write(b"abc")
            disk.begin_sync(file, 0, 3)
        disk.sync_directory(HOME)

    assert {b"abc", b""} <= outcomes(act)


def test_bytes_that_were_not_synced_may_be_lost_cut_or_empty():
    def act(disk: SimDisk) -> None:
        write(disk, HOME / "file", b"abc", sync=False)
        disk.sync_directory(HOME)

    assert outcomes(act) >= {b"", b"a", b"ab", b"abc", b"\0\0\0"}


def test_a_synced_beginning_survives_though_the_tail_does_not():
    def act(disk: SimDisk) -> None:
        write(disk, HOME / "file", b"abc")
        disk.sync_directory(HOME)
        with disk.open_append(HOME / "file") as file:
            file.write(b"def")

    found = outcomes(act)
    assert all(data is not None and data.startswith(b"abc") for data in found)
    assert len(found) > 3


def test_a_rename_replaces_at_once_and_a_crash_leaves_the_old_or_the_new():
    def act(disk: SimDisk) -> None:
        write(disk, HOME / "file", b"old")
        write(disk, HOME / "next", b"new")
        disk.sync_directory(HOME)
        disk.rename(HOME / "next", HOME / "file")
        assert read(disk, HOME / "file") == b"new"

    assert outcomes(act) == {b"old", b"new"}


def test_a_removed_file_may_come_back():
    def act(disk: SimDisk) -> None:
        write(disk, HOME / "file", b"abc")
        disk.sync_directory(HOME)
        disk.remove(HOME / "file")
        assert not disk.exists(HOME / "file")

    assert outcomes(act) == {b"abc", None}


def test_any_of_the_changes_of_a_directory_may_be_lost():
    found = set()
    for seed in range(200):
        disk = disk_with_home(seed)
        for name in ("a", "b", "c"):
            write(disk, HOME / name, b"x")
        disk.crash()
        found.add("".join(disk.names(HOME)))
    assert found == {"", "a", "b", "c", "ab", "ac", "bc", "abc"}


def test_the_changes_of_a_directory_that_survive_take_effect_in_their_order():
    found = set()
    for seed in range(200):
        disk = disk_with_home(seed)
        for text in (b"first", b"second"):
            disk.create(HOME / "new").write(text)
            disk.rename(HOME / "new", HOME / "file")
        disk.crash()
        found.add("".join(disk.names(HOME)))
    assert found == {"", "file", "new", "filenew"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_operation_fails_as_ordered_and_only_once(number):
    disk = disk_with_home()
    disk.fail_next("create", number)
    with pytest.raises(OSError, match="simulated fault of create") as caught:
        disk.create(HOME / "file")
    assert caught.value.errno == number
    disk.create(HOME / "file").close()


def test_a_sync_that_failed_is_not_made_good_by_the_next_one():
    disk = disk_with_home()
    file = disk.create(HOME / "file")
    disk.sync_directory(HOME)
    file.write(b"abc")
    disk.fail_next("sync")
    with pytest.raises(OSError, match="EIO"):
        disk.sync(file)
    disk.sync(file)
    assert read(disk, HOME / "file") == b"abc", "it can still be read, from the cache"
    disk.crash()
    assert read(disk, HOME / "file") == b"\0\0\0"


def test_a_flipped_bit_is_durable():
    disk = disk_with_home()
    write(disk, HOME / "file", b"\0")
    disk.sync_directory(HOME)
    disk.flip_bit(HOME / "file", 3)
    disk.crash()
    assert read(disk, HOME / "file") == b"\x08"


def test_it_behaves_like_a_file_system_when_nothing_fails():
    disk = disk_with_home()
    with pytest.raises(FileNotFoundError):
        disk.open(HOME / "file")
    write(disk, HOME / "file", b"abcdef")
    with pytest.raises(FileExistsError):
        disk.create(HOME / "file")
    with disk.open(HOME / "file") as file:
        file.seek(2)
        assert file.read(2) == b"cd"
        with pytest.raises(OSError, match="not open for writing"):
            file.write(b"x")
    assert disk.size_bytes(HOME / "file") == 6
    disk.make_directories(HOME / "a" / "b")
    write(disk, HOME / "a" / "b" / "c", b"")
    disk.rename(HOME / "file", HOME / "a" / "moved")
    assert disk.names(HOME / "a") == ["b", "moved"]
    disk.remove_tree(HOME / "a")
    disk.remove(HOME / "never was")
    assert disk.names(HOME) == []
    assert disk.names(HOME / "missing") == []
    assert disk.calls["rename"] == 1
