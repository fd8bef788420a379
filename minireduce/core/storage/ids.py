"""Numbers that are never used twice, across restarts of the master too.

They are reserved a thousand at a time: the end of the reservation is persisted before the first of them is seen, and a
master that starts goes on behind it. What lies between is lost, which costs nothing.

Numbers between those of a backup and those that were given out after it was restored are in a gap: what has them is of
a time that the metadata do not know.
"""

from __future__ import annotations

from collections.abc import Iterator

from minireduce.core.effects import Effects

RESERVED_AT_ONCE = 1000
GAP = 1 << 40
"""Metadata that were restored from a backup go on at the next multiple: further than any cluster gets in between."""
SEQUENCES = ("inodes_reserved", "blocks_reserved")


class IdSequence:
    """One sequence, persisted under `name` in the table of settings."""

    def __init__(self, name: str, first: int) -> None:
        self.name = name
        self._next = first
        self._reserved_end = first
        self._gaps: list[range] = []

    def take(self, effects: Effects) -> int:
        """The next number."""
        if self._next == self._reserved_end:
            self._reserved_end += RESERVED_AT_ONCE
            effects.persist("settings", (self.name,), (str(self._reserved_end),))
        self._next += 1
        return self._next - 1

    def supply(self, effects: Effects) -> Iterator[int]:
        """Numbers one after the other, each taken when it is asked for."""
        while True:
            yield self.take(effects)

    def was_given(self, number: int) -> bool:
        """Whether `number` may have been in use at some time."""
        return number < self._next and not any(number in gap for gap in self._gaps)

    def load(self, text: str) -> None:
        """Go on behind what was reserved."""
        self._next = self._reserved_end = int(text)

    def load_gaps(self, text: str) -> None:
        """Take in the gaps, `BEGIN-END` each, of which the end is the first number behind it."""
        bounds = [gap.partition("-") for gap in text.split()]
        self._gaps = [range(int(begin), int(end)) for begin, _, end in bounds]
