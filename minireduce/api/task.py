"""What user code may ask and tell while it runs: `from minireduce import task`.

The engine sets the context of the attempt around user code. Outside a task everything here is harmless: counters and
status go nowhere, and places are empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from minireduce.frozen import dataclass


class Context(Protocol):
    """What the engine knows of the running attempt."""

    path: str
    attempt_id: str
    status: str

    @property
    def work_dir(self) -> Path | None:
        """A directory of this attempt's own."""

    @property
    def offset(self) -> int | None:
        """Where the record in work begins in its file."""

    def emit(self, name: str, key: Any, value: Any) -> None:
        """Give a pair to a named output."""

    def count(self, name: str, amount: int = 1, *, group: str = ...) -> None:
        """Add to a counter."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A number that all tasks of a job add to; each committed task counts once."""

    group: str
    name: str

    def add(self, amount: int = 1) -> None:
        """Add `amount` to the count of this task."""
        if _current is not None:
            _current.count(self.name, amount, group=self.group)


_current: Context | None = None


@contextmanager
def entered(context: Context) -> Iterator[None]:
    """Make `context` the one that user code sees, for the time of the block."""
    global _current  # noqa: PLW0603  one task runs at a time in a process; threads of user code share its context
    before, _current = _current, context
    try:
        yield
    finally:
        _current = before


def counter(group: str, name: str) -> Counter:
    """The counter of this name in this group; built-in ones live in the group `minireduce`."""
    return Counter(group, name)


def emit(output: str, key: Any, value: Any) -> None:
    """Give a pair to an output that the step declares by `outputs`, beside those that are yielded."""
    if _current is not None:
        _current.emit(output, key, value)


def __getattr__(name: str) -> Any:
    """`task.input_path`, `task.offset`, `task.attempt_id`, `task.work_dir`: read when asked for."""
    match name:
        case "input_path":
            return None if _current is None else _current.path or None
        case "offset":
            return None if _current is None else _current.offset
        case "attempt_id":
            return None if _current is None else _current.attempt_id or None
        case "work_dir":
            return None if _current is None else _current.work_dir
        case _:
            raise AttributeError(f"module 'minireduce.api.task' has no attribute {name!r}")


def status(text: str) -> None:
    """Say what this task is doing now; shown beside the task."""
    if _current is not None:
        _current.status = text
