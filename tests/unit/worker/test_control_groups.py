"""Control groups (version 2) played by plain files: what the kernel does with them is not shown here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minireduce.worker.control_groups import TASK_PREFIX, WORKER_NAME, ControlGroups, find_own_group, take_ours

MOUNT = "30 24 0:27 {root} {at} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def a_system(root: Path, *, controllers: str = "cpu memory pids", inside: tuple[int, ...] = ()) -> tuple[Path, Path]:
    """A `/proc` and the group that this process lives in, as a worker with delegation sees them."""
    ours = root / "groups" / "ours.service"
    ours.mkdir(parents=True)
    (ours / "cgroup.controllers").write_text(controllers)
    (ours / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in inside or (os.getpid(),)))
    proc = root / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("4:memory:/elsewhere\n0::/ours.service\n")
    (proc / "self" / "mountinfo").write_text(
        f"29 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n{MOUNT.format(root='/', at=root / 'groups')}"
    )
    return proc, ours


def test_a_group_of_our_own_is_taken_and_each_task_gets_one_beside_the_worker(tmp_path):
    proc, ours = a_system(tmp_path)
    groups = take_ours(os.getpid(), proc=proc)
    assert groups is not None
    assert (ours / WORKER_NAME / "cgroup.procs").read_text() == str(os.getpid())
    assert (ours / "cgroup.subtree_control").read_text() == "+memory"
    group = groups.enter(4711)
    assert group is not None
    group.limit(1 << 20)
    directory = ours / f"{TASK_PREFIX}4711"
    assert (directory / "cgroup.procs").read_text() == "4711"
    assert (directory / "memory.max").read_text() == str(1 << 20)


@pytest.mark.parametrize("why", ["no memory controller", "somebody else is in it", "we are not in it", "not there"])
def test_a_group_that_is_not_ours_alone_is_left_as_it_is(tmp_path, why):
    others = {"somebody else is in it": (os.getpid(), 1), "we are not in it": (1,)}.get(why, ())
    proc, ours = a_system(tmp_path, controllers="cpu" if why == "no memory controller" else "memory", inside=others)
    if why == "not there":
        (proc / "self" / "cgroup").write_text("4:memory:/elsewhere\n")
    before = sorted(ours.iterdir())
    assert take_ours(os.getpid(), proc=proc) is None
    assert sorted(ours.iterdir()) == before


def test_the_group_of_a_container_is_found_below_the_root_that_it_sees(tmp_path):
    proc, ours = a_system(tmp_path)
    (proc / "self" / "cgroup").write_text("0::/pod/ours.service\n")
    (proc / "self" / "mountinfo").write_text(MOUNT.format(root="/pod", at=tmp_path / "groups"))
    assert find_own_group(proc) == ours


def test_only_a_task_that_the_kernel_ended_for_its_memory_says_how_much_it_was(tmp_path):
    groups = ControlGroups(tmp_path)
    group = groups.enter(4711)
    assert group is not None
    directory = tmp_path / f"{TASK_PREFIX}4711"
    assert group.killed_at_bytes() is None
    (directory / "memory.max").write_text("90000000")
    (directory / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n")
    assert group.killed_at_bytes() is None
    (directory / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n")
    assert group.killed_at_bytes() == 90000000
    (directory / "memory.peak").write_text("89999360\n")
    assert group.killed_at_bytes() == 89999360


def test_a_group_that_still_has_a_process_goes_later(tmp_path):
    groups = ControlGroups(tmp_path)
    group = groups.enter(4711)
    assert group is not None
    directory = tmp_path / f"{TASK_PREFIX}4711"  # of plain files: what is in it keeps it, as a process would
    groups.leave(group)
    assert directory.exists()
    for file in directory.iterdir():
        file.unlink()
    groups.enter(4712)
    assert not directory.exists()
