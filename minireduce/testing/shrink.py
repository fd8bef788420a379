"""Shrink a seed that fails: find fewer faults, fewer jobs and, if possible, calm weather with which it still fails.

A story of sixteen faults is hard to read; mostly two of them matter. Delta debugging: halves of what is left are taken
away first, then smaller and smaller parts, as long as the run still fails, until nothing more can go. After Zeller and
Hildebrandt, "Simplifying and isolating failure-inducing input" (2002).

What comes out fails for sure, since it was run; it need not be the smallest. Every run counts against `RUNS_MAX`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from minireduce.testing.draw import WHOLE, Cut

RUNS_MAX = 120

Fails = Callable[[Cut], bool]
"""Run the seed cut down like this: whether it still fails."""


def shrink(faults: int, jobs: int, fails: Fails) -> Cut:
    """The smallest cut found of a seed that fails and has drawn so many faults and jobs."""
    runs_left = [RUNS_MAX]

    def still(cut: Cut) -> bool:
        runs_left[0] -= 1
        return runs_left[0] >= 0 and fails(cut)

    cut = WHOLE
    if still(replace(cut, has_weather=False)):
        cut = replace(cut, has_weather=False)
    kept = minimise(range(faults), lambda some: still(replace(cut, faults=frozenset(some))))
    cut = replace(cut, faults=frozenset(kept))
    kept_jobs = minimise(range(jobs), lambda some: bool(some) and still(replace(cut, jobs=frozenset(some))))
    return replace(cut, jobs=frozenset(kept_jobs)) if len(kept_jobs) < jobs else cut


def minimise(items: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> Sequence[int]:
    """Some of `items` with which it still fails, none of which can be left out alone unless the runs ran out."""
    if fails(()):
        return ()
    parts = 2
    while len(items) > 1:
        size = -(-len(items) // parts)
        for begin in range(0, len(items), size):
            rest = [*items[:begin], *items[begin + size :]]
            if fails(rest):
                items, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(items):
                break
            parts = min(len(items), 2 * parts)
    return items
