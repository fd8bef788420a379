"""End a process without taking it apart, and see at once that another one has ended.

When Python ends it looks for garbage and frees every object one by one, which the system does at once with the whole:
20 to 50 ms for a command or a daemon that somebody waits for. What has an effect is done as ever: functions that were
registered for the exit run, and standard streams are flushed. Where threads still work that Python would wait for, or a
stream takes no more, Python ends as it always does.

Python's wait for a child, with a timeout, looks at it again and again, after 0.5 ms and then twice as long each time:
the longer a process takes to end, the later that is seen.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import subprocess


def leave(status: int) -> NoReturn:
    """End this process with an exit status."""
    me = threading.current_thread()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not me):
        sys.exit(status)
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - what Python does next
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.exit(status)
    os._exit(status)


def wait_for(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """The status of a child, at the moment it ends. Raises TimeoutExpired."""
    if process.poll() is None:
        try:
            descriptor = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # a system without descriptors of processes
            return process.wait(timeout_s)
        ending = select.poll()
        ending.register(descriptor, select.POLLIN)
        try:
            ending.poll(timeout_s * 1000)
        finally:
            os.close(descriptor)
    return process.wait(0)
