"""The zygote as a child process: started, killed, reaped. What is said to it is `task_processes`' business.

A worker starts its zygote before it imports what it needs itself, so this module imports little.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from minireduce.attempt.environment import ENVIRONMENT
from minireduce.leaving import wait_for

END_S_MAX = 5.0


class ZygoteProcess:
    """A zygote and this end of the socket on which it takes its orders: it ends when that is closed."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.control = control
        self._process = process

    @classmethod
    def begin(cls) -> ZygoteProcess:
        """Start one. It imports for a while; what it is asked meanwhile waits in the socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - a module of ours, without a shell
                # Nothing in the directory where the worker was started is imported by accident.
                [sys.executable, "-P", "-m", "minireduce.attempt.zygote", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a signal from the terminal is for the worker alone
            )
        return cls(process, ours)

    def forget(self) -> None:
        """Let go of it, in a process that was forked since: it must end with the other one."""
        self.control.close()
        self._process.returncode = 0  # not a child of this one

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self._process.kill()

    def end(self) -> None:
        """Let it end with all that it started, and reap it. At once where it has ended; harmless when repeated."""
        self.control.close()
        try:
            wait_for(self._process, END_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """What the zygote and all tasks see: what the worker does, without its tokens."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MINIREDUCE_TOKEN")}
    return {**kept, **ENVIRONMENT}
