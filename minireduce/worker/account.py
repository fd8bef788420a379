"""The account that tasks run under, where that is not the worker's own: found out and tried before any task is lost.

A worker that root started runs tasks as `task_user`. Such tasks write below the data directory, so they must be able to
pass through every directory above it; a home that is closed to others is the usual mistake.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from minireduce.attempt import linux
from minireduce.errors import RequestError


def task_ids(account: str, data_dir: Path) -> tuple[int, int]:
    """User and group of `account`, which can reach what is in `data_dir`. Raises RequestError."""
    user, group = linux.account_ids(account)
    for directory in reversed(data_dir.resolve().parents):
        if not may_pass(directory.stat(), user, group):
            raise RequestError(
                f"tasks run as {account}, and that account cannot pass through {directory} to the data directory",
                hint="name another directory with --data-dir, open that one (chmod o+x), or set task_user",
            )
    return user, group


def may_pass(status: os.stat_result, user: int, group: int) -> bool:
    """Whether a process of this user and group may look for names in a directory of this status."""
    if user == 0:
        return True
    if status.st_uid == user:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == group:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
