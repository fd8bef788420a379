"""What every test run has: a guard, so that it leaves no process behind, and signals that do what they are for.

A run that a shell starts in the background, or `nohup`, ignores signals that its tests send to what they started.
"""

from __future__ import annotations

import signal

import pytest
from scenes import guard

_GUARD = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    config.stash[_GUARD] = guard.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    guard.end(config.stash[_GUARD])
