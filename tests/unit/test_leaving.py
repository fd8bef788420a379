"""A process that leaves does all that has an effect, and no more; whoever waits for it hears of it at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minireduce.leaving import wait_for

CODE = """
import atexit, sys, threading, time
from minireduce.leaving import leave

class Taken:
    def __del__(self):
        print("taken apart", file=sys.stderr)

taken = Taken()
taken.itself = taken
atexit.register(lambda: print("registered"))
{more}
sys.stdout.write("unflushed ")
leave(7)
"""
THREAD = """
def work():
    time.sleep(0.2)
    print("thread ended")
threading.Thread(target=work).start()
"""


def run(more: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    code = CODE.format(more=more)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )


def test_what_was_registered_runs_and_streams_are_flushed_but_nothing_is_taken_apart() -> None:
    ended = run("")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "unflushed registered\n", "")


def test_threads_that_still_work_are_waited_for() -> None:
    ended = run(THREAD)
    assert ended.returncode == 7
    assert "thread ended\n" in ended.stdout
    assert "registered\n" in ended.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_what_cannot_be_written_is_told_as_python_tells_it() -> None:
    with Path("/dev/full").open("w") as full:
        ended = run("", stdout=full.fileno())
    assert ended.returncode == 120
    assert "No space left" in ended.stderr


def sleeper() -> subprocess.Popen[bytes]:
    """A process that ends with its standard input, with status 3."""
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(3)"], stdin=subprocess.PIPE)


@pytest.mark.parametrize("has_descriptors", [True, False])
def test_the_status_of_a_child_comes_when_it_ends_or_a_timeout(
    has_descriptors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with sleeper() as child:
        with pytest.raises(subprocess.TimeoutExpired):
            wait_for(child, 0.01)
        assert child.stdin is not None
        child.stdin.close()
        assert wait_for(child, 60.0) == 3
        assert wait_for(child, 0.0) == 3
