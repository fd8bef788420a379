"""How much memory each task uses, together with all processes that it started, and whether that is too much.

What a task starts stays below its process, whatever it does (`attempt.zygote`), so the sum over the tree of processes
is all of it. Reading one process takes microseconds; finding who is below whom means a look at every process of the
machine, so it is done as often as it takes no more than `LOOKING_SHARE_MAX` of a core.

Children share pages with the process that forked them, which the plain sum counts again for each. Where that sum is
beyond the limit, and only there, a slower look divides each page among those that share it, and that one decides.

Not counted: files in memory and memory that is shared on purpose, which have no one owner.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

from minireduce.attempt import linux
from minireduce.frozen import dataclass

OVERRUN_MAX = 0.10
"""How far memory may go beyond limit and idle size: what lies between two looks, and what allocators have not
returned."""

LOOKING_SHARE_MAX = 0.02


class Measured(Protocol):
    """A task process, as far as it is asked here. `idle_bytes` is what it had before it had anything to do."""

    pid: int
    idle_bytes: int

    def anonymous_bytes(self) -> int:
        """Its RssAnon; 0 when it has ended."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """A task that uses too much: so much beside its idle size, with so many processes that it started."""

    used_bytes: int
    children: int


class TaskMemory:
    """Watches the memory of one worker's tasks."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] = {}
        self._look_again_at = 0.0

    def find_overrun(self, process: Measured, limit_bytes: int, now: float) -> Overrun | None:
        """By how much a task is beyond its limit; None when it is not."""
        most = limit_bytes * (1 + OVERRUN_MAX) + process.idle_bytes
        if now >= self._look_again_at:
            self._look(now)
        used = process.anonymous_bytes()
        below = tuple(self._below(process.pid))
        if not below:
            return Overrun(used - process.idle_bytes, 0) if used > most else None
        if used + sum(map(linux.anonymous_bytes_of, below)) <= most:
            return None
        self._look(now)  # those who ended since must not count
        below = tuple(self._below(process.pid))
        used = sum(map(linux.anonymous_share_bytes, (process.pid, *below)))
        return Overrun(used - process.idle_bytes, len(below)) if used > most else None

    def _look(self, now: float) -> None:
        began_s = time.thread_time()
        self._children = {}
        for pid, parent in linux.parents().items():
            self._children.setdefault(parent, []).append(pid)
        self._look_again_at = now + (time.thread_time() - began_s) / LOOKING_SHARE_MAX

    def _below(self, pid: int) -> Iterator[int]:
        for child in self._children.get(pid, ()):
            yield child
            yield from self._below(child)
