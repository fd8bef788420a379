"""Which accounts can run tasks below a data directory."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from minireduce.errors import RequestError
from minireduce.worker.account import may_pass, python_directories, task_ids


def status(mode: int, user: int = 1, group: int = 1) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, user, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("directory", "user", "group", "expected"),
    [
        (status(0o700), 0, 0, True),
        (status(0o711), 7, 7, True),
        (status(0o710), 7, 7, False),
        (status(0o710), 7, 1, True),
        (status(0o701), 7, 1, False),
        (status(0o100), 1, 7, True),
        (status(0o077), 1, 1, False),
    ],
)
def test_a_directory_lets_through_whom_its_mode_names(directory, user, group, expected):
    assert may_pass(directory, user, group) is expected


def test_a_data_directory_that_tasks_cannot_reach_is_told_with_what_closes_it(tmp_path: Path):
    closed = tmp_path / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(RequestError, match="cannot pass through") as refused:
        task_ids("nobody", closed / "data")
    assert "--data-dir" in str(refused.value.hint)


def test_a_python_that_tasks_cannot_read_is_told_before_any_task_misses_a_module(tmp_path: Path):
    library = tmp_path / "closed" / "lib"
    library.mkdir(parents=True)
    library.parent.chmod(0o700)
    everybodys = Path("/")
    with pytest.raises(RequestError, match=rf"cannot pass through .* Python's modules: {library}") as refused:
        task_ids("nobody", everybodys, [everybodys, library])
    assert "task_user" in str(refused.value.hint)
    account = pwd.getpwnam("nobody")
    assert task_ids("nobody", everybodys, [everybodys]) == (account.pw_uid, account.pw_gid)


def test_where_python_has_its_modules_is_there():
    assert all(each.is_dir() for each in python_directories())


def test_the_account_of_whoever_runs_this_reaches_its_own_directory(tmp_path: Path):
    own = pwd.getpwuid(os.geteuid())
    assert task_ids(own.pw_name, tmp_path / "data") == (own.pw_uid, own.pw_gid)


def test_an_account_that_does_not_exist_is_told(tmp_path: Path):
    with pytest.raises(RequestError, match="there is no account"):
        task_ids("nobody-of-this-name", tmp_path)
