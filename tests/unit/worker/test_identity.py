"""Who a worker is, over its lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from minireduce.disk import RealDisk
from minireduce.errors import Corruption, RequestError
from minireduce.worker.identity import IDENTITY_NAME, IdentityFile, lock


def test_a_worker_keeps_its_id_and_counts_its_lives(tmp_path: Path):
    first = IdentityFile(tmp_path, RealDisk()).identity
    second = IdentityFile(tmp_path, RealDisk()).identity
    assert second.worker == first.worker
    assert (first.incarnation, second.incarnation) == (1, 2)


def test_two_directories_are_two_workers(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert IdentityFile(tmp_path / "a", RealDisk()).identity != IdentityFile(tmp_path / "b", RealDisk()).identity


def test_the_latest_commit_of_the_master_is_remembered(tmp_path: Path):
    IdentityFile(tmp_path, RealDisk()).remember(3, 41)
    again = IdentityFile(tmp_path, RealDisk()).identity
    assert (again.highest_epoch, again.highest_txid) == (3, 41)


def test_a_draft_that_a_crash_left_is_no_hindrance(tmp_path: Path):
    (tmp_path / f"{IDENTITY_NAME}.new").write_bytes(b"half")
    assert IdentityFile(tmp_path, RealDisk()).identity.incarnation == 1


@pytest.mark.parametrize("damage", [b"", b"\x91\x01", b"\xc1"])
def test_a_damaged_identity_is_told_and_not_replaced(tmp_path: Path, damage: bytes):
    (tmp_path / IDENTITY_NAME).write_bytes(damage)
    with pytest.raises(Corruption, match=r"worker\.msgpack is damaged"):
        IdentityFile(tmp_path, RealDisk())
    assert (tmp_path / IDENTITY_NAME).read_bytes() == damage


def test_a_directory_serves_one_worker_at_a_time(tmp_path: Path):
    with lock(tmp_path / "new" / "data"), pytest.raises(RequestError, match="another worker uses"):
        lock(tmp_path / "new" / "data")
    lock(tmp_path / "new" / "data").close()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RequestError, match="cannot be used: Not a directory"):
        lock(tmp_path / "file" / "data")
