"""What happened in a simulation: one hash over all of it, and on request a text that people can follow.

The hash covers every message as it went over the wire, every transaction as it was written, and everything else that
reached a machine. Two runs with equal hashes were the same run. It must not depend on the process that ran it, which
a test shows with two values of PYTHONHASHSEED.

The text leaves out what repeats (heartbeats, acknowledgements, ticks) and gives one line to each thing that an actor
said or did, so that a golden file of a whole situation stays a page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from minireduce.testing.clock import ManualClock


class Trace:
    """Collects one run. With `is_told`, the text is collected as well."""

    def __init__(self, clock: ManualClock, *, is_told: bool = False) -> None:
        self._clock = clock
        self._hash = hashlib.sha256()
        self._lines: list[str] = []
        self.is_told = is_told

    def mark(self, actor: str, what: str, body: bytes = b"") -> None:
        """Let the hash cover that `actor` met or did this now."""
        self._hash.update(f"{self._clock.now():.9f} {actor} {what} {len(body)}\n".encode())
        self._hash.update(body)

    def tell(self, actor: str, *sentences: str) -> None:
        """Add lines to the text; callers ask `is_told` first where making them costs time."""
        if self.is_told:
            self._lines.extend(f"{self._clock.now():8.2f}  {actor:<9} {sentence}" for sentence in sentences)

    @property
    def digest(self) -> str:
        """The hash so far, in hexadecimal."""
        return self._hash.hexdigest()

    def text(self) -> str:
        """The lines so far, as one text."""
        return "".join(f"{line}\n" for line in self._lines)

    @property
    def lines(self) -> Sequence[str]:
        """The lines so far."""
        return self._lines
