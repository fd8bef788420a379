"""Numbers that are never used twice, across restarts of the master too.

They are reserved a thousand at a time: the end of the reservation is persisted before the first of them is seen, and a
master that starts goes on behind it. What lies between is lost, which costs nothing.
"""

from __future__ import annotations

from minireduce.core.effects import Effects

RESERVED_AT_ONCE = 1000


class IdSequence:
    """One sequence, persisted under `name` in the table of settings."""

    def __init__(self, name: str, first: int) -> None:
        self.name = name
        self._next = first
        self._reserved_end = first

    def take(self, effects: Effects) -> int:
        """The next number."""
        if self._next == self._reserved_end:
            self._reserved_end += RESERVED_AT_ONCE
            effects.persist("settings", (self.name,), (str(self._reserved_end),))
        self._next += 1
        return self._next - 1

    def was_given(self, number: int) -> bool:
        """Whether `number` may have been in use at some time."""
        return number < self._next

    def load(self, text: str) -> None:
        """Go on behind what was reserved."""
        self._next = self._reserved_end = int(text)
