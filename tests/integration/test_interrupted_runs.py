"""A test run that is killed leaves no process: daemons, their children and what tasks started end with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scenes import guard

TESTS = Path(__file__).parents[1]
GONE_S_MAX = 30.0

RUN = r"""
import os, subprocess, time
from pathlib import Path
from scenes.cluster import ProcessCluster

def test_a_cluster_and_a_stray_that_nobody_ends(tmp_path):
    cluster = ProcessCluster(tmp_path, workers=1)
    stray = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    daemons = [daemon.process.pid for daemon in cluster.daemons.values()]
    print("\nstarted", os.environ["TEST_RUN_MARK"], stray.pid, *daemons, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_test_run_that_is_killed_leaves_no_process(tmp_path, number):
    folder = tmp_path / "tests"
    folder.mkdir()
    for name in ("conftest.py", "scenes"):
        (folder / name).symlink_to(TESTS / name)
    (folder / "test_run.py").write_text(RUN)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "--rootdir", folder, folder]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder) as run:
        try:
            line = next(line for line in run.stdout if line.startswith("started "))
            _, mark, *pids = line.split()
            assert {int(pid) for pid in pids} < set(guard.marked(mark)), "block server and zygote are there too"
        finally:
            run.send_signal(number)
    while left := guard.marked(mark):
        for pid in left:
            assert _has_ended(pid), f"process {pid} stayed behind"


def test_a_process_has_its_environment_from_the_moment_it_was_started():
    mark = f"{guard.VARIABLE}={os.environ[guard.VARIABLE]}".encode()
    for _ in range(300):
        with subprocess.Popen(["sleep", "1000"]) as started:
            try:
                assert mark in guard.environment(Path(f"/proc/{started.pid}"))
            finally:
                started.kill()


def _has_ended(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor):
        return bool(select.select([descriptor], [], [], GONE_S_MAX)[0])
