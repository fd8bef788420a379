"""End a process without taking it apart.

When Python ends it looks for garbage and frees every object one by one, which the system does at once with the whole:
20 to 50 ms for a command or a daemon that somebody waits for. What has an effect is done as ever: functions that were
registered for the exit run, and standard streams are flushed. Where threads still work that Python would wait for, or a
stream takes no more, Python ends as it always does.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn


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
