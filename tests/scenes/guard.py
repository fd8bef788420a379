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

_END_OF_ENVIRONMENT = 48
"""The place of `env_end` among the fields of `/proc/PID/stat` that follow the name: see proc(5), where it is 51."""


def marked(mark: str) -> list[int]:
    """The living processes that carry the mark, this one aside, in ascending order."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended while we looked, or is another user's
                if wanted in environment(entry).split(b"\0"):
                    found.append(int(entry.name))
    return sorted(found)


def environment(process: Path) -> bytes:
    """What a process has in its environment. Raises OSError if it has ended, and for the kernel's own threads."""
    while True:
        fields = (process / "stat").read_bytes().rpartition(b") ")[2].split()
        data = (process / "environ").read_bytes()
        # Within `exec` a process has a new program already and its environment not yet; whoever started it may go on.
        if data or fields[_END_OF_ENVIRONMENT] != b"0":
            return data
        (process / "exe").readlink()


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
