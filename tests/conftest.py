"""What every test run has: a guard, so that it leaves no process behind."""

from __future__ import annotations

import pytest
from scenes import guard

_GUARD = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_GUARD] = guard.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    guard.end(config.stash[_GUARD])
