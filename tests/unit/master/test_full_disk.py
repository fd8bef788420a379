"""A disk that fails or is full at any write of the metadata: the commit is refused, and what was acknowledged is there.

SQLite does its own input and output, so faults come from below: a limit on the size of files makes the write that
would cross it fail (EFBIG, which SQLite takes for an I/O error), at each place where a file can grow; a file system in
memory with so many pages left says ENOSPC. What fails where nothing grows, a sync for instance, is not reached so:
`test_failing_calls` has SQLite's own calls fail.
"""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import contextmanager

import pytest
from scenes.commits import found, write_all

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.errors import MinireduceError, RequestError, Unavailable
from minireduce.master.store import LOG_NAME, open_store

COMMITS = 8
PAGE_BYTES = 4096


def commit(number):
    """Rows of three tables; of some commits so many that the log grows by many pages."""
    rows = [
        Row("inodes", (number * 1000 + n,), (1, f"f{n}", "file", 1.0, n, 64, 3, "ada", 420, 0, 0))
        for n in range(400 if number % 4 == 3 else 5)
    ]
    return Persist(1, number, (*rows, Row("workers", ("a",), (number,)), Row("blocks", (number,), (1, 0, 1, 7, 1))))


HISTORY = [commit(number) for number in range(1, COMMITS + 1)]


@contextmanager
def files_of_at_most(limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_wherever_a_file_grows_is_told_and_loses_nothing(tmp_path):
    full = open_store(tmp_path / "full")
    begins = (tmp_path / "full" / LOG_NAME).stat().st_size
    assert write_all(full, HISTORY) == (COMMITS, None)
    ends = (tmp_path / "full" / LOG_NAME).stat().st_size
    full.close()
    acknowledged = []
    for limit in range(begins, ends, 2 * (PAGE_BYTES + 24)):
        for more in (0, 24, 1000):
            store = open_store(tmp_path / f"{limit}-{more}")
            with files_of_at_most(limit + more):
                count, error = write_all(store, HISTORY)
                assert error is not None
                assert "cannot be written" in error.message
                assert "is the disk full or failing?" in error.hint
                store.close()
            acknowledged.append(count)
            assert found(tmp_path / f"{limit}-{more}", HISTORY) == count
    assert set(range(COMMITS)) >= set(acknowledged) >= {0, 2, 5, 6}, "each commit was hit"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "minireduce-test", str(place)]
    if os.getuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_at_any_page_is_told_and_loses_nothing(small_disk):
    outcomes = []
    for pages_left in range(0, 140, 3):
        directory = small_disk / f"data-{pages_left}"
        store = open_store(directory)
        ballast = small_disk / "ballast"
        left = os.statvfs(small_disk)
        with ballast.open("wb") as file:
            file.write(bytes((left.f_bavail - pages_left) * left.f_frsize))
        count, error = write_all(store, HISTORY)
        try:
            store.close()
        except MinireduceError as closing:
            pytest.fail(f"closing failed: {closing}")
        ballast.unlink()
        assert (error is None) == (count == COMMITS)
        if error is not None:
            assert "full" in error.message
        assert found(directory, HISTORY) == count
        outcomes.append(count)
        for path in directory.iterdir():
            path.unlink()
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == 0
    assert len(set(outcomes)) > 3


def start_of(directory, limit):
    """What keeps a master from starting where no file can be longer than `limit`."""
    with files_of_at_most(limit):
        try:
            open_store(directory).close()
        except (MinireduceError, OSError) as error:
            return error
    return None


def test_a_disk_that_is_full_at_the_start_is_told(tmp_path):
    limits = range(0, 40 * PAGE_BYTES, 3 * PAGE_BYTES)
    errors = {limit: start_of(tmp_path / str(limit), limit) for limit in limits}
    told = [error for error in errors.values() if error is not None]
    assert len(told) > 3
    for error in told:
        assert isinstance(error, Unavailable | RequestError), repr(error)
        assert "cannot be" in error.message
    for limit in limits:  # and what such a start left is no obstacle
        store = open_store(tmp_path / str(limit))
        store.write([commit(1)])
        store.close()
        assert found(tmp_path / str(limit), HISTORY) == 1
