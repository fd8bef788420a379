"""A daemon that another daemon forked (`both_main`), as whoever started the two sees it.

It is no child of this process, so there is no status to wait for; and its number could come to mean another process
once its parent has reaped it. What stands for it is a descriptor of the process (pidfd), which its parent hands over as
soon as it has forked: it shows when the process has ended, and a signal through it reaches no other.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from typing import BinaryIO

FORK_WAIT_S = 30.0
"""How long a process may take until it forks: it imports a tenth of a second."""

ENDED = -1
"""In place of a status, which only the parent learns."""


def can_be_handed_over() -> bool:
    """Whether this system has descriptors of processes (Linux 5.3)."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


class Forked:
    """Has of `subprocess.Popen` what is asked of a daemon. `stdin` is this end of its standard input."""

    def __init__(self, handover: socket.socket, stdin: BinaryIO) -> None:
        self.stdin = stdin
        self.returncode: int | None = None
        self.pid = 0
        self._handover: socket.socket | None = handover
        self._descriptor: int | None = None

    @property
    def was_forked(self) -> bool:
        """Whether there ever was such a process; known once its parent has forked it or has ended."""
        self._process()
        return self.pid > 0

    def poll(self) -> int | None:
        """None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return once it has ended. Raises TimeoutExpired."""
        ended = self._ended(timeout)
        if ended is None:
            raise subprocess.TimeoutExpired("a forked daemon", timeout or 0)
        return ended

    def send_signal(self, number: int) -> None:
        """Send it a signal. Raises ProcessLookupError where it has ended."""
        descriptor = self._process()
        if descriptor is None:
            raise ProcessLookupError
        signal.pidfd_send_signal(descriptor, number)

    def _ended(self, timeout_s: float | None) -> int | None:
        descriptor = self._process()
        if descriptor is None:
            return ENDED
        watching = select.poll()
        watching.register(descriptor, select.POLLIN)
        if not watching.poll(None if timeout_s is None else timeout_s * 1000):
            return None
        os.close(descriptor)
        self._descriptor = None
        return ENDED

    def _process(self) -> int | None:
        """The descriptor of the process; None when it has ended, or was never forked."""
        if self._handover is not None:
            with self._handover as handover, contextlib.suppress(OSError):
                handover.settimeout(FORK_WAIT_S)
                packet, descriptors, _, _ = socket.recv_fds(handover, 8, 1)
                if descriptors:
                    os.set_inheritable(descriptors[0], False)  # `recv_fds` passes no flag on that would do it
                    self.pid, self._descriptor = int.from_bytes(packet, "little"), descriptors[0]
            self._handover = None
        return self._descriptor
