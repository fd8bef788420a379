"""Nothing that a test run started outlives it, however it ends: a process beside pytest sees to it.

Daemons, commands, clusters that `cluster up` leaves running and whatever tasks start inherit the environment of pytest,
and with it a mark that no other run has. The guard waits until its standard input ends, as it does when pytest ends
for whatever reason, `kill -9` among them, and then kills every process with that mark. It stands in a session of its
own, so what a terminal or a shell sends to the run does not reach it.

A process that wiped its environment is not found. Nothing here asks for a process by name.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

VARIABLE = "TEST_RUN_MARK"
"""Not one of minireduce's own variables, which are settings."""


def marked(mark: str) -> list[int]:
    """The living processes that carry the mark, this one aside, in ascending order."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended while we looked, or is another user's
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return sorted(found)


def start() -> subprocess.Popen[bytes]:
    """Mark this process's children from now on, and have them killed when this process ends."""
    mark = secrets.token_hex(8)
    # The guard itself does not carry the mark, so that the guard of a run inside a run leaves it alone.
    guard = subprocess.Popen(
        [sys.executable, "-P", __file__, mark], stdin=subprocess.PIPE, start_new_session=True, env=os.environ
    )
    os.environ[VARIABLE] = mark
    return guard


def end(guard: subprocess.Popen[bytes]) -> None:
    """End what is left now, and the guard."""
    guard.stdin.close()
    guard.wait()


def _kill_all(mark: str) -> None:
    while found := marked(mark):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    _kill_all(sys.argv[1])
