"""The account that tasks run under, where that is not the worker's own: found out and tried before any task is lost.

A worker that root started runs tasks as `task_user`. Such tasks write below the data directory, so they must be able to
pass through every directory above it; a home that is closed to others is the usual mistake. They also import what the
process they are forked from has not, from a Python that is often in such a home (pyenv, uv). Small jobs would run there
and others fail in the middle for want of a module that is plainly there, so such a worker does not start at all.
"""

from __future__ import annotations

import os
import stat
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from minireduce.attempt import linux
from minireduce.errors import RequestError


def python_directories() -> list[Path]:
    """Where this Python has its library, what is installed with it, and this package."""
    paths = sysconfig.get_paths()
    return [Path(paths["stdlib"]), Path(paths["purelib"]), Path(paths["platlib"]), Path(__file__).parent]


def task_ids(account: str, data_dir: Path, libraries: Sequence[Path] = ()) -> tuple[int, int]:
    """User and group of `account`, which can reach what is in `data_dir` and in `libraries`. Raises RequestError."""
    user, group = linux.account_ids(account)
    closed = _first_closed(data_dir.resolve().parents, user, group)
    if closed is not None:
        raise RequestError(
            f"tasks run as {account}, and that account cannot pass through {closed} to the data directory",
            hint="name another directory with --data-dir, open that one (chmod o+x), or set task_user",
        )
    for library in libraries:
        resolved = library.resolve()
        closed = _first_closed([resolved, *resolved.parents], user, group)
        if closed is not None:
            raise RequestError(
                f"tasks run as {account}, which cannot pass through {closed} to Python's modules: {resolved}",
                hint="install Python where everybody can read it, open that directory (chmod o+x), or set task_user",
            )
    return user, group


def _first_closed(upwards: Sequence[Path], user: int, group: int) -> Path | None:
    """The topmost of some directories, each in the next, that this user and group cannot pass."""
    return next((each for each in reversed(upwards) if not may_pass(each.stat(), user, group)), None)


def may_pass(status: os.stat_result, user: int, group: int) -> bool:
    """Whether a process of this user and group may look for names in a directory of this status."""
    if user == 0:
        return True
    if status.st_uid == user:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == group:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
