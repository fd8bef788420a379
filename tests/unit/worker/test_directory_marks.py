"""Directories that are not there, not ours, or new: what a worker makes of each."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import msgpack
import pytest

from minireduce.core.replica_messages import Replica
from minireduce.disk import RealDisk
from minireduce.errors import Corruption, RequestError
from minireduce.testing.disk import SimDisk
from minireduce.wire.packets import Unsealer, seal
from minireduce.worker.block_store import BLOCKS_NAME, BlockStore
from minireduce.worker.directory_marks import MARK_NAME, DirectoryMarks
from minireduce.worker.identity import IDENTITY_NAME


@pytest.fixture
def dirs(tmp_path: Path) -> tuple[Path, ...]:
    """Two directories of a worker that has joined a cluster."""
    made = tuple(tmp_path / name for name in ("a", "b"))
    for each in made:
        each.mkdir()
    DirectoryMarks(RealDisk(), made).remember(1, 7, "c0ffee")
    return made


def mark_of(data_dir: Path) -> list[str]:
    fields: list[str] = msgpack.unpackb((data_dir / MARK_NAME).read_bytes())
    return fields


def take_away(data_dir: Path) -> Path:
    """As if its disk were not mounted: an empty directory is there. Where the contents are."""
    away = data_dir.with_name(f"{data_dir.name}-away")
    data_dir.rename(away)
    data_dir.mkdir()
    return away


def bring_back(data_dir: Path) -> None:
    shutil.rmtree(data_dir)
    data_dir.with_name(f"{data_dir.name}-away").rename(data_dir)


def test_each_directory_says_whose_it_is_and_that_never_changes(dirs: tuple[Path, ...]) -> None:
    marks = [mark_of(each) for each in dirs]
    worker = DirectoryMarks(RealDisk(), dirs).identity_file.identity.worker
    assert [mark[:2] for mark in marks] == [["c0ffee", worker]] * 2
    assert marks[0][2] != marks[1][2]
    assert [mark_of(each) for each in dirs] == marks


def test_a_directory_that_is_empty_but_was_not_is_done_without_until_it_is_back(dirs: tuple[Path, ...]) -> None:
    take_away(dirs[1])
    for _ in range(2):  # a second start has not forgotten
        marks = DirectoryMarks(RealDisk(), dirs)
        assert list(marks.missing) == [dirs[1]]
        marks.remember(2, 9, "c0ffee")
        assert list(dirs[1].iterdir()) == []
    bring_back(dirs[1])
    assert not DirectoryMarks(RealDisk(), dirs).missing


def test_a_directory_that_people_call_new_is_taken_in(dirs: tuple[Path, ...]) -> None:
    before = mark_of(dirs[1])
    take_away(dirs[1])
    assert not DirectoryMarks(RealDisk(), dirs, [dirs[1]]).missing
    assert mark_of(dirs[1])[:2] == before[:2]
    assert mark_of(dirs[1])[2] != before[2]
    assert not DirectoryMarks(RealDisk(), dirs).missing


def test_one_more_directory_and_one_less_are_nothing_to_ask_about(dirs: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    assert not DirectoryMarks(RealDisk(), (*dirs, tmp_path / "c")).missing
    assert not DirectoryMarks(RealDisk(), dirs[:1]).missing
    take_away(dirs[1])
    assert list(DirectoryMarks(RealDisk(), (*dirs, tmp_path / "c")).missing) == [dirs[1]], "it is remembered"


def test_disks_that_changed_places_are_the_same_disks(dirs: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    DirectoryMarks(RealDisk(), (*dirs, tmp_path / "c"))
    away = take_away(dirs[1])
    dirs[1].rmdir()
    (tmp_path / "c").rename(dirs[1])
    away.rename(tmp_path / "c")
    assert not DirectoryMarks(RealDisk(), (*dirs, tmp_path / "c")).missing


def test_the_directory_of_another_worker_is_refused_by_both_names(dirs: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = DirectoryMarks(RealDisk(), (tmp_path / "other",)).identity_file.identity.worker
    ours = DirectoryMarks(RealDisk(), dirs).identity_file.identity.worker
    before = mark_of(tmp_path / "other")
    with pytest.raises(RequestError, match=f"belongs to {other} of no cluster yet, but .* to {ours} of cluster c0ffee"):
        DirectoryMarks(RealDisk(), (*dirs, tmp_path / "other"))
    assert mark_of(tmp_path / "other") == before


def test_a_directory_of_another_cluster_is_refused_by_both_names(dirs: tuple[Path, ...]) -> None:
    _, worker, directory = mark_of(dirs[1])
    (dirs[1] / MARK_NAME).write_bytes(msgpack.packb(("facade", worker, directory)))
    with pytest.raises(RequestError, match=r"of cluster facade, but .* of cluster c0ffee"):
        DirectoryMarks(RealDisk(), dirs)


def test_a_first_directory_that_is_not_mounted_makes_no_new_worker(dirs: tuple[Path, ...]) -> None:
    worker = mark_of(dirs[0])[1]
    take_away(dirs[0])
    with pytest.raises(RequestError, match=f"belongs to {worker} of cluster c0ffee, whose first") as raised:
        DirectoryMarks(RealDisk(), dirs)
    assert "mount the disk" in (raised.value.hint or "")
    assert list(dirs[0].iterdir()) == []


def test_a_copy_of_a_directory_is_refused(dirs: tuple[Path, ...], tmp_path: Path) -> None:
    shutil.copytree(dirs[1], tmp_path / "copy")
    with pytest.raises(RequestError, match="copies of each other"):
        DirectoryMarks(RealDisk(), (*dirs, tmp_path / "copy"))


@pytest.mark.parametrize("damage", [b"", b"\x91\x01", b"\xc1"])
def test_a_damaged_mark_is_told_and_not_replaced(dirs: tuple[Path, ...], damage: bytes) -> None:
    (dirs[1] / MARK_NAME).write_bytes(damage)
    with pytest.raises(Corruption, match=r"directory\.msgpack is damaged"):
        DirectoryMarks(RealDisk(), dirs)
    assert (dirs[1] / MARK_NAME).read_bytes() == damage


def test_directories_of_an_earlier_version_are_taken_in(dirs: tuple[Path, ...]) -> None:
    for each in dirs:
        (each / MARK_NAME).unlink()
    (dirs[0] / IDENTITY_NAME).write_bytes(msgpack.packb(("worker-1", 4, 2, 30)))
    marks = DirectoryMarks(RealDisk(), dirs)
    assert not marks.missing
    assert (marks.identity_file.identity.worker, marks.identity_file.identity.incarnation) == ("worker-1", 5)
    assert [mark_of(each)[1] for each in dirs] == ["worker-1"] * 2


@pytest.mark.parametrize("seed", range(20))
def test_what_was_remembered_survives_a_crash(seed: int) -> None:
    disk = SimDisk(random.Random(seed))
    paths = (Path("/a"), Path("/b"))
    for each in paths:
        disk.make_directories(each)
        disk.sync_directory(Path("/"))
    DirectoryMarks(disk, paths).remember(1, 7, "c0ffee")
    disk.crash()
    disk.remove(paths[1] / MARK_NAME)
    assert list(DirectoryMarks(disk, paths).missing) == [paths[1]]


def test_a_store_leaves_a_missing_directory_alone_and_says_why(tmp_path: Path) -> None:
    roots = (tmp_path / "a" / BLOCKS_NAME, tmp_path / "b" / BLOCKS_NAME)
    store = BlockStore(RealDisk(), roots, missing={roots[1]: "it is not the one"})
    store.open()
    writer = store.create(Replica(1, 1, 5))
    writer.write(Unsealer(5, "it").feed(b"".join(seal(b"bytes"))))
    writer.commit()
    assert [each.problem for each in store.directories.measure().directories] == ["", "it is not the one"]
    assert not roots[1].exists()
    store.remove(1, 1)
    assert not store.directories.reopen()
