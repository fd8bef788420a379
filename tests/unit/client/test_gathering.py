"""Small files of several threads are stored together, and none fails because of another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from minireduce.client import gathering
from minireduce.client.gathering import WRITERS_MAX, Gatherer
from minireduce.core.storage.views import FileStatus
from minireduce.errors import AlreadyExists, NotFound


class Disk:
    """Takes files; the first `WRITERS_MAX` wait until all the others have come."""

    def __init__(self, threads: int, taken: str = "", removed: str = "", *, shows: bool = True) -> None:
        self.removed = removed
        self.shows = shows
        self.shown: list[int] = []
        self.stored: dict[str, bytes] = {}
        self.packs: list[int] = []
        self.taken = taken
        self.others = threads - WRITERS_MAX
        self.lock = threading.Lock()
        self.gatherer = Gatherer(self.together, self.alone, self.show, fits=lambda groups: min(len(groups), 5))

    def wait_for_the_others(self) -> None:
        while len(self.gatherer._waiting) < self.others:
            pass
        self.others = 0

    def together(self, files) -> list[FileStatus]:
        files = list(files)
        if any(path == self.taken for path, _ in files):
            raise AlreadyExists(self.taken)
        with self.lock:
            self.stored.update(files)
            self.packs.append(len(files))
        return [self.status(file) for file in files] if self.shows else []

    def alone(self, files) -> list[FileStatus]:
        self.wait_for_the_others()
        if any(path == self.taken for path, _ in files):
            raise AlreadyExists(self.taken)
        with self.lock:
            self.stored.update(files)
        return [self.status(file) for file in files]

    def status(self, file) -> FileStatus:
        return FileStatus(file[0], 1, False, len(self.stored[file[0]]), 1, 1, 0.0)

    def show(self, files) -> list[FileStatus]:
        self.shown.append(len(files))
        if any(path == self.removed for path, _ in files):
            raise NotFound(self.removed)
        return [self.status(file) for file in files]


def store_groups(disk: Disk, groups: list[list[str]]) -> list[list[FileStatus] | BaseException]:
    with ThreadPoolExecutor(len(groups)) as pool:
        waiting = [pool.submit(disk.gatherer.store, [(name, name.encode()) for name in names]) for names in groups]
        return [each.exception(20) or each.result() for each in waiting]


def store(disk: Disk, names: list[str]) -> list[FileStatus | BaseException]:
    told = store_groups(disk, [[name] for name in names])
    return [each if isinstance(each, BaseException) else each[0] for each in told]


def test_one_thread_by_itself_stores_alone():
    disk = Disk(0)
    assert disk.gatherer.store([("/a", b"a")])[0].length == 1
    assert (disk.stored, disk.packs) == ({"/a": b"a"}, [])


def test_those_who_come_while_others_write_are_stored_together():
    names = [f"/{number:02}" for number in range(WRITERS_MAX + 12)]
    disk = Disk(len(names))
    shown = store(disk, names)
    assert [each.path for each in shown] == names
    assert disk.stored == {name: name.encode() for name in names}
    assert disk.packs == [5, 5, 2]
    assert not disk.shown  # each was shown when it was stored


def test_groups_of_files_stay_together():
    groups = [[f"/{number:02}.{letter}" for letter in "ab"[: 1 + number % 2]] for number in range(WRITERS_MAX + 6)]
    disk = Disk(len(groups))
    shown = store_groups(disk, groups)
    assert [[status.path for status in each] for each in shown] == groups
    assert sum(disk.packs) + len(groups[0]) == sum(map(len, groups))
    assert len(disk.packs) == 2  # of five groups and of one


def test_a_group_of_which_one_file_is_refused_fails_for_its_own_thread_only():
    groups = [[f"/{number:02}.{letter}" for letter in "ab"] for number in range(WRITERS_MAX + 6)]
    disk = Disk(len(groups), taken="/05.b")
    told = store_groups(disk, groups)
    assert [isinstance(each, AlreadyExists) for each in told] == [group == groups[5] for group in groups]
    assert set(disk.stored) == {name for group in groups if group != groups[5] for name in group}


def test_a_file_that_is_refused_fails_for_its_own_thread_only():
    names = [f"/{number:02}" for number in range(WRITERS_MAX + 8)]
    disk = Disk(len(names), taken="/05")
    shown = dict(zip(names, store(disk, names), strict=True))
    assert isinstance(shown.pop("/05"), AlreadyExists)
    assert all(isinstance(each, FileStatus) for each in shown.values())
    assert disk.stored == {name: name.encode() for name in names if name != "/05"}


def test_a_file_that_is_removed_before_it_is_shown_fails_for_its_own_thread_only():
    names = [f"/{number:02}" for number in range(WRITERS_MAX + 8)]
    disk = Disk(len(names), removed="/05", shows=False)
    shown = dict(zip(names, store(disk, names), strict=True))
    assert isinstance(shown.pop("/05"), NotFound)
    assert all(isinstance(each, FileStatus) for each in shown.values())
    assert disk.stored == {name: name.encode() for name in names}


def test_after_writing_with_others_a_writer_takes_along_who_comes_until_it_is_ready():
    disk = Disk(WRITERS_MAX + 3)
    store(disk, [f"/{number}" for number in range(WRITERS_MAX + 3)])
    assert disk.packs == [3]
    come: list[threading.Thread] = []

    def together(files) -> list[FileStatus]:
        coming = iter(files)
        first = next(coming)
        come.append(threading.Thread(target=disk.gatherer.store, args=([("/later", b"")],)))
        come[0].start()
        while not disk.gatherer._waiting:
            pass
        return disk.together([first, *coming])

    disk.gatherer._together = together
    disk.gatherer.store([("/first", b"")])
    come[0].join(20)
    assert disk.packs == [3, 2]
    assert {"/first", "/later"} <= set(disk.stored)


def test_a_writer_waits_until_as_many_have_come_as_were_written_together_before(monkeypatch):
    monkeypatch.setattr(gathering, "EXPECTED_S_MAX", 20.0)
    disk = Disk(WRITERS_MAX + 3)
    store(disk, [f"/{number}" for number in range(WRITERS_MAX + 3)])
    disk.others = 0
    store(disk, [f"/later{number}" for number in range(3)])
    assert disk.packs == [3, 3]


def test_a_writer_who_expected_others_in_vain_is_alone_again_after_that():
    disk = Disk(WRITERS_MAX + 3)
    store(disk, [f"/{number}" for number in range(WRITERS_MAX + 3)])
    for name in ("/first", "/second"):
        disk.gatherer.store([(name, b"")])
    assert disk.packs == [3, 1]


def test_after_everything_has_been_stored_a_thread_finds_nobody_writing():
    disk = Disk(WRITERS_MAX + 3)
    store(disk, [f"/{number}" for number in range(WRITERS_MAX + 3)])
    assert disk.gatherer._writers == 0
    with pytest.raises(AlreadyExists):
        Gatherer(disk.together, self_refusing, disk.show, len).store([("/x", b"")])


def self_refusing(files) -> list[FileStatus]:
    raise AlreadyExists(files[0][0])
