from __future__ import annotations

import os

import pytest

from minireduce.auth import private_files
from minireduce.errors import Refused


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "secret"


def test_a_private_file_is_its_owners_alone_from_its_first_moment(path):
    private_files.create(path, b"content")
    assert private_files.read(path) == b"content"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_creating_never_replaces_and_leaves_no_draft(path):
    private_files.create(path, b"first")
    with pytest.raises(FileExistsError):
        private_files.create(path, b"second")
    assert private_files.read(path) == b"first"
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


def test_replacing_puts_the_new_content_in_place_and_leaves_no_draft(path):
    private_files.replace(path, b"first")
    private_files.replace(path, b"second")
    assert private_files.read(path) == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666, 0o610])
def test_a_file_that_others_may_use_is_refused(path, mode):
    private_files.create(path, b"content")
    path.chmod(mode)
    with pytest.raises(Refused, match="others could have it") as refusal:
        private_files.read(path)
    assert refusal.value.hint == f"chmod 600 {path}"


def test_a_directory_in_which_others_may_write_is_refused(path):
    private_files.create(path, b"content")
    path.parent.chmod(0o777)
    with pytest.raises(Refused) as refusal:
        private_files.read(path)
    assert refusal.value.hint == f"chmod 700 {path.parent}"
    path.parent.chmod(0o1777)  # like /tmp: others may add names, but not replace this one
    assert private_files.read(path) == b"content"


def test_a_file_of_another_user_is_refused_unless_root_reads_it(path, monkeypatch):
    owned_by_7 = os.stat_result((0o100600, 1, 1, 1, 7, 7, 10, 0, 0, 0))
    monkeypatch.setattr(os, "geteuid", lambda: 8)
    with pytest.raises(Refused, match="belongs to another user"):
        private_files.refuse_loose(path, owned_by_7, forbidden=0o077, wanted="600")
    for reader in (7, 0):
        monkeypatch.setattr(os, "geteuid", lambda reader=reader: reader)
        private_files.refuse_loose(path, owned_by_7, forbidden=0o077, wanted="600")
