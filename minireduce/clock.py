"""The two readings of time that shells take, behind one seam so that tests can own time.

`now` measures: it only grows, so intervals and deadlines are taken from it. `time` names a moment that people and other
machines understand, and may jump; it is for expiry dates, history and log lines. The machines of `core` read neither:
their shell passes `now` in.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a shell reads the time, in seconds."""

    def now(self) -> float:
        """Seconds since some fixed moment of this machine's life; never goes back."""

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC, as this machine believes."""


class SystemClock:
    """The operating system's clocks."""

    def now(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()
