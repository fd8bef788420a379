"""Durable before visible: the one rule about when what was decided may be seen.

What one call of the machine sends, and what a read shows after it, leaves only when every `Persist` of that call and of
all earlier ones is durable. So releases wait in the order in which they were made, each with the number of commits that
it stands behind; nothing overtakes. When nothing waits to be durable, a release happens at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Release = Callable[[], None]


class Watermark:
    """Counts commits begun and commits durable, and holds back what stands between."""

    def __init__(self) -> None:
        self._begun = 0
        self._durable = 0
        self._held: deque[tuple[int, Release]] = deque()

    def begin(self) -> None:
        """A commit is on its way: all that is held from now on stands behind it too."""
        self._begun += 1

    def hold(self, release: Release) -> None:
        """Call `release` when all commits begun so far are durable, after all that was held before."""
        if self._durable == self._begun:
            release()
        else:
            self._held.append((self._begun, release))

    def durable(self, count: int) -> None:
        """The next `count` commits are durable."""
        self._durable += count
        while self._held and self._held[0][0] <= self._durable:
            _, release = self._held.popleft()
            release()
