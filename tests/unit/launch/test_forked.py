"""A daemon that is no child of this process, by the descriptor that its parent handed over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minireduce.launch.forked import ENDED, Forked, can_be_handed_over

pytestmark = pytest.mark.skipif(not can_be_handed_over(), reason="this system has no descriptors of processes")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with its standard input."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as one:
        yield one
        one.kill()


def forked(process: subprocess.Popen[bytes]) -> Forked:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = os.pidfd_open(process.pid)
    with theirs:
        socket.send_fds(theirs, [process.pid.to_bytes(8, "little")], [descriptor])
    os.close(descriptor)
    assert process.stdin is not None
    return Forked(ours, process.stdin)


def test_it_runs_until_it_ends_and_then_takes_no_signal(sleeper: subprocess.Popen[bytes]) -> None:
    it = forked(sleeper)
    assert it.poll() is None
    assert it.pid == sleeper.pid
    with pytest.raises(subprocess.TimeoutExpired):
        it.wait(0)
    it.send_signal(signal.SIGKILL)
    assert it.wait() == it.poll() == it.wait(0) == ENDED
    with pytest.raises(ProcessLookupError):
        it.send_signal(signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL


def test_what_stands_for_it_is_inherited_by_no_process(sleeper: subprocess.Popen[bytes]) -> None:
    it = forked(sleeper)
    assert it.poll() is None
    assert it._descriptor is not None
    assert not os.get_inheritable(it._descriptor)
    it.send_signal(signal.SIGKILL)
    assert it.wait() == ENDED


def test_one_whose_parent_ended_before_it_forked_has_ended() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with Path(os.devnull).open("wb") as stdin:
        it = Forked(ours, stdin)
        assert it.poll() == it.wait() == ENDED


def test_what_both_daemons_import_before_the_fork_starts_no_thread() -> None:
    script = """
import importlib
from pathlib import Path
from minireduce.launch import both_main
for name in both_main.SHARED:
    importlib.import_module(name)
print(Path("/proc/self/status").read_text().partition("Threads:")[2].split()[0])
"""
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "1"
