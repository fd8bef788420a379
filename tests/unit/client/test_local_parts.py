"""When a part that lies here need not be read, since it is what its writer took the digest of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from minireduce.client import local_parts
from minireduce.client.local_parts import is_as_written
from minireduce.client.page_cache import is_all_in_memory, is_unread

SIZE = 100_000


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part"
    path.write_bytes(b"x" * SIZE)
    return path


@pytest.fixture
def descriptor(part: Path) -> Iterator[int]:
    opened = os.open(part, os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.fixture
def kept_at_ns(part: Path) -> int:
    """Just after the part was written."""
    return part.stat().st_ctime_ns + 1


def overwritten(part: Path) -> None:
    with part.open("r+b") as file:
        file.write(b"y")
    os.utime(part, (0, 0))  # whoever may write a file may also set its times, but not that of its last change


def given_other_rights(part: Path) -> None:
    part.chmod(0o600)


def test_a_part_that_nobody_touched_is_as_it_was_written(
    descriptor: int, kept_at_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_parts, "is_all_in_memory", lambda _descriptor, size_bytes: size_bytes == SIZE)
    monkeypatch.setattr(local_parts, "is_unread", lambda _: True)
    assert is_as_written(descriptor, SIZE, kept_at_ns)
    assert not is_as_written(descriptor, SIZE - 1, kept_at_ns)
    assert not is_as_written(descriptor, SIZE, kept_at_ns - 1)


@pytest.mark.parametrize("touch", [overwritten, given_other_rights])
def test_a_part_that_was_touched_since_is_to_be_read(
    part: Path, descriptor: int, kept_at_ns: int, touch: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_parts, "is_all_in_memory", lambda *_: True)
    monkeypatch.setattr(local_parts, "is_unread", lambda _: True)
    touch(part)
    while part.stat().st_ctime_ns < kept_at_ns:  # some kernels count in ticks of their clock
        touch(part)
    assert not is_as_written(descriptor, SIZE, kept_at_ns)


def test_a_part_with_a_second_name_is_to_be_read(
    part: Path, descriptor: int, kept_at_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_parts, "is_all_in_memory", lambda *_: True)
    monkeypatch.setattr(local_parts, "is_unread", lambda _: True)
    part.with_name("other").hardlink_to(part)
    assert not is_as_written(descriptor, SIZE, kept_at_ns + (1 << 62))


def test_a_part_of_which_the_kernel_holds_less_than_all_is_to_be_read(descriptor: int, kept_at_ns: int) -> None:
    if not is_all_in_memory(descriptor, SIZE) or not is_unread(descriptor):
        pytest.skip("this kernel does not tell what it holds of a file, or not on this file system")
    assert is_as_written(descriptor, SIZE, kept_at_ns)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    if is_all_in_memory(descriptor, SIZE):
        pytest.skip("this file system lives in memory")
    assert not is_as_written(descriptor, SIZE, kept_at_ns)


def test_a_part_that_was_read_since_it_was_written_is_to_be_read(
    part: Path, descriptor: int, kept_at_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_unread(descriptor):
        pytest.skip("this file system does not note when a file is read")
    monkeypatch.setattr(local_parts, "is_all_in_memory", lambda *_: True)
    assert is_as_written(descriptor, SIZE, kept_at_ns)
    while part.stat().st_atime_ns <= part.stat().st_mtime_ns:  # some kernels count in ticks of their clock
        part.read_bytes()
    assert not is_as_written(descriptor, SIZE, kept_at_ns)


def test_where_reading_leaves_no_trace_nothing_counts_as_unread(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = os.fstatvfs(descriptor).f_flag
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=flags | os.ST_NOATIME))
    assert not is_unread(descriptor)


def test_of_what_cannot_be_told_nothing_is_said(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    assert not is_all_in_memory(reading, 1)
    os.close(reading)
