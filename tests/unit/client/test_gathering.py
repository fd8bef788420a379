"""Small files of several threads are stored together, and none fails because of another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from minireduce.client.gathering import WRITERS_MAX, Gatherer
from minireduce.core.storage.views import FileStatus
from minireduce.errors import AlreadyExists, NotFound


class Disk:
    """Takes files; the first `WRITERS_MAX` wait until all the others have come."""

    def __init__(self, threads: int, taken: str = "", removed: str = "") -> None:
        self.removed = removed
        self.shown: list[int] = []
        self.stored: dict[str, bytes] = {}
        self.packs: list[int] = []
        self.taken = taken
        self.others = threads - WRITERS_MAX
        self.lock = threading.Lock()
        self.gatherer = Gatherer(self.together, self.alone, self.show, fits=lambda files: min(len(files), 5))

    def wait_for_the_others(self) -> None:
        while len(self.gatherer._waiting) < self.others:
            pass
        self.others = 0

    def together(self, files) -> None:
        files = list(files)
        if any(path == self.taken for path, _ in files):
            raise AlreadyExists(self.taken)
        with self.lock:
            self.stored.update(files)
            self.packs.append(len(files))

    def alone(self, file) -> FileStatus:
        self.wait_for_the_others()
        if file[0] == self.taken:
            raise AlreadyExists(self.taken)
        with self.lock:
            self.stored.update([file])
        return self.status(file)

    def status(self, file) -> FileStatus:
        return FileStatus(file[0], 1, False, len(self.stored[file[0]]), 1, 1, 0.0)

    def show(self, files) -> list[FileStatus]:
        self.shown.append(len(files))
        if any(path == self.removed for path, _ in files):
            raise NotFound(self.removed)
        return [self.status(file) for file in files]


def store(disk: Disk, names: list[str]) -> list[FileStatus | BaseException]:
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = [pool.submit(disk.gatherer.store, (name, name.encode())) for name in names]
        return [each.exception(20) or each.result() for each in waiting]


def test_one_thread_by_itself_stores_alone():
    disk = Disk(0)
    assert disk.gatherer.store(("/a", b"a")).length == 1
    assert (disk.stored, disk.packs) == ({"/a": b"a"}, [])


def test_those_who_come_while_others_write_are_stored_together():
    names = [f"/{number:02}" for number in range(WRITERS_MAX + 12)]
    disk = Disk(len(names))
    shown = store(disk, names)
    assert [each.path for each in shown] == names
    assert disk.stored == {name: name.encode() for name in names}
    assert disk.packs == [5, 5, 2]
    assert sorted(disk.shown) == [2, 5, 5]


def test_a_file_that_is_refused_fails_for_its_own_thread_only():
    names = [f"/{number:02}" for number in range(WRITERS_MAX + 8)]
    disk = Disk(len(names), taken="/05")
    shown = dict(zip(names, store(disk, names), strict=True))
    assert isinstance(shown.pop("/05"), AlreadyExists)
    assert all(isinstance(each, FileStatus) for each in shown.values())
    assert disk.stored == {name: name.encode() for name in names if name != "/05"}


def test_a_file_that_is_removed_before_it_is_shown_fails_for_its_own_thread_only():
    names = [f"/{number:02}" for number in range(WRITERS_MAX + 8)]
    disk = Disk(len(names), removed="/05")
    shown = dict(zip(names, store(disk, names), strict=True))
    assert isinstance(shown.pop("/05"), NotFound)
    assert all(isinstance(each, FileStatus) for each in shown.values())
    assert disk.stored == {name: name.encode() for name in names}


def test_after_writing_with_others_a_writer_takes_along_who_comes_until_it_is_ready():
    disk = Disk(WRITERS_MAX + 3)
    store(disk, [f"/{number}" for number in range(WRITERS_MAX + 3)])
    assert disk.packs == [3]
    come: list[threading.Thread] = []

    def together(files) -> None:
        coming = iter(files)
        first = next(coming)
        come.append(threading.Thread(target=disk.gatherer.store, args=(("/later", b""),)))
        come[0].start()
        while not disk.gatherer._waiting:
            pass
        disk.together([first, *coming])

    disk.gatherer._together = together
    disk.gatherer.store(("/first", b""))
    come[0].join(20)
    assert disk.packs == [3, 2]
    assert {"/first", "/later"} <= set(disk.stored)


def test_a_writer_who_expected_others_in_vain_is_alone_again_after_that():
    disk = Disk(WRITERS_MAX + 3)
    store(disk, [f"/{number}" for number in range(WRITERS_MAX + 3)])
    for name in ("/first", "/second"):
        disk.gatherer.store((name, b""))
    assert disk.packs == [3, 1]


def test_after_everything_has_been_stored_a_thread_finds_nobody_writing():
    disk = Disk(WRITERS_MAX + 3)
    store(disk, [f"/{number}" for number in range(WRITERS_MAX + 3)])
    assert disk.gatherer._writers == 0
    with pytest.raises(AlreadyExists):
        Gatherer(disk.together, self_refusing, disk.show, len).store(("/x", b""))


def self_refusing(file) -> FileStatus:
    raise AlreadyExists(file[0])
