"""A control group for each task process, where this worker was given its own: the kernel then holds the memory limit.

Looking at a task's memory now and then (`task_memory`) says exactly how much it was and at which record, yet what grows
between two looks can take a machine down. A control group cannot be outrun. It counts more than a look does (page
tables, sockets, shared memory, files that are being written), so its limit lies a little higher and is seldom what
strikes.

A group counts as ours (version 2, "delegated") when the memory controller is on in it, we may write to it, and nobody
is in it but this worker and what it started, as under systemd with `Delegate=memory`. Processes may live in leaves
only, so the worker moves into one of its own first:

    OURS/minireduce-worker        the worker, its block server and its zygote
    OURS/minireduce-task-PID      a task process with all that it starts

Everywhere else nothing is touched, and tasks run without. An error on the way is a reason to go without, never to
fail.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path

from minireduce.attempt import linux

log = logging.getLogger(__name__)

OVERRUN_MAX = 0.25
"""How far what the kernel counts may go beyond limit and idle size."""

WORKER_NAME = "minireduce-worker"
TASK_PREFIX = "minireduce-task-"
_KILLED = re.compile(r"^oom_kill ([0-9]+)$", re.MULTILINE)


def limit_bytes(memory_limit_bytes: int, idle_bytes: int) -> int:
    """What the kernel shall hold a task to whose own limit is this."""
    return int(memory_limit_bytes * (1 + OVERRUN_MAX)) + idle_bytes


class ControlGroup:
    """The group of one task process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def limit(self, bytes_max: int) -> None:
        """Let all of it use so much from now on."""
        with contextlib.suppress(OSError):
            (self._directory / "memory.max").write_text(str(bytes_max))

    def killed_at_bytes(self) -> int | None:
        """How much was in use when the kernel ended it for its memory; None when it did not."""
        try:
            found = _KILLED.search((self._directory / "memory.events").read_text())
            if not found or found[1] == "0":
                return None
            for name in ("memory.peak", "memory.max"):  # kernels before 5.19 know no peak
                with contextlib.suppress(FileNotFoundError):
                    return int((self._directory / name).read_text())
        except (OSError, ValueError):
            return None
        return None

    def remove(self) -> bool:
        """Remove it; False while the last of its processes is not gone."""
        try:
            self._directory.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class ControlGroups:
    """The groups of a worker's tasks below `directory`, where the worker has moved out of the way."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._leaving: list[ControlGroup] = []

    def enter(self, pid: int) -> ControlGroup | None:
        """A group for a process that has started nothing yet; None where that cannot be."""
        self._leaving = [group for group in self._leaving if not group.remove()]
        directory = self._directory / f"{TASK_PREFIX}{pid}"
        try:
            directory.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                (directory / "memory.oom.group").write_text("1")  # what is left of a task is of no use
            (directory / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            log.warning("task process %d has no control group: %s", pid, error)
            with contextlib.suppress(OSError):
                directory.rmdir()
            return None
        return ControlGroup(directory)

    def leave(self, group: ControlGroup) -> None:
        """A process has ended; its group goes once what it had started is gone too."""
        if not group.remove():
            self._leaving.append(group)


def take_ours(own_pid: int, *, proc: Path = Path("/proc")) -> ControlGroups | None:
    """Move the worker and what it started into a leaf, and hand on the memory controller to groups beside it. None
    where the group is not ours.
    """
    directory = find_own_group(proc)
    if directory is None or not _is_ours(directory, own_pid):
        return None
    leaf = directory / WORKER_NAME
    try:
        leaf.mkdir(exist_ok=True)
        _move(directory, leaf)
        (directory / "cgroup.subtree_control").write_text("+memory")
    except OSError as error:
        log.warning("tasks have no control groups: %s", error)
        with contextlib.suppress(OSError):
            _move(leaf, directory)
            leaf.rmdir()
        return None
    for left in directory.glob(f"{TASK_PREFIX}*"):
        with contextlib.suppress(OSError):  # of an earlier worker
            left.rmdir()
    log.info("tasks have control groups below %s", directory)
    return ControlGroups(directory)


def find_own_group(proc: Path) -> Path | None:
    """The directory of the group (version 2) in which this process lives; None where there is none to be seen."""
    try:
        groups, mounts = ((proc / "self" / name).read_text() for name in ("cgroup", "mountinfo"))
    except OSError:
        return None
    path = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        if path is not None and kind.startswith("cgroup2 "):
            root, mounted_at = place.split()[3:5]
            with contextlib.suppress(ValueError):
                return Path(mounted_at) / Path(path).relative_to(root)
    return None


def _is_ours(directory: Path, own_pid: int) -> bool:
    try:
        controllers = (directory / "cgroup.controllers").read_text().split()
        inside = _inside(directory)
    except OSError:
        return False
    if "memory" not in controllers or not os.access(directory, os.W_OK):
        return False
    parents = linux.parents()
    return own_pid in inside and all(_is_below(pid, own_pid, parents) for pid in inside)


def _is_below(pid: int, top: int, parents: dict[int, int]) -> bool:
    while pid not in (0, top):
        pid = parents.get(pid, 0)
    return pid == top


def _inside(directory: Path) -> list[int]:
    return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]


def _move(source: Path, target: Path) -> None:
    for pid in _inside(source):
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            (target / "cgroup.procs").write_text(str(pid))
