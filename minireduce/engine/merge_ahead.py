"""Bring the next group of a reduce's first pass together before the reduce begins, while it waits for other maps.

Where a reduce has more runs than it may merge at once, it first brings neighbours together on disk, in full groups from
the first run on (`Passes.groups`). Which groups these are depends only on how many runs hold anything. So a group is
certain once enough runs are here, and what it comes to is the same whenever it is done: merging ahead changes neither
the order of values nor what is read and written, only when. The runs stay as they are; the reduce takes a group from
here if it is made of the very runs that it has, and else makes it itself.

Not for joins and batches of groups, whose inputs are merged apart, nor where named outputs stand behind the runs, which
the reduce takes over from each; and not where a `combine` would have to be called: user code runs in attempts that have
begun, which alone may fail by it. (What the `merge` of an aggregation of the user's own raises, the reduce will meet
again.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minireduce.api.step import Step
from minireduce.engine.kinds import Kinds
from minireduce.engine.memory import COLUMNAR_LIMIT_BYTES_MIN
from minireduce.engine.merge import COLUMNAR_BYTES_MIN, MergedRun, Passes, RunSlice, merge_into
from minireduce.engine.reduce import fold_without_user_code, is_streamed_into_part
from minireduce.engine.workplace import Workplace


def passes_for_certain(step: Step, *, memory_limit_bytes: int, bytes_here: int) -> Passes | None:
    """How the reduce will bring runs together, of which so many bytes are here; None if that may still change, or if
    nothing of it can be done ahead.
    """
    if step.gives_aside or step.is_join or step.reduce_batch is not None or step.combine is not None:
        return None
    is_large = memory_limit_bytes >= COLUMNAR_LIMIT_BYTES_MIN
    if is_large and bytes_here < COLUMNAR_BYTES_MIN:
        return None
    return Passes.within(
        memory_limit_bytes, is_columnar=is_large, is_last_columnar=is_large and is_streamed_into_part(step)
    )


def merge_ahead(
    step: Step, runs: Sequence[RunSlice], passes: Passes, path: Path, at: Workplace
) -> tuple[MergedRun, int] | None:
    """The first group of these runs, and how many of them are in it, empty ones too; None if they are too few."""
    filled = [place for place, run in enumerate(runs) if run.length][: passes.at_once]
    if len(filled) < passes.at_once:
        return None
    made = merge_into(
        path,
        [runs[place] for place in filled],
        fold_without_user_code(step),
        memory_limit_bytes=at.memory_limit_bytes,
        kinds=Kinds(),
        disk=at.disk,
        is_columnar=at.memory_limit_bytes >= COLUMNAR_LIMIT_BYTES_MIN,
        context=at.context,
    )
    return made, filled[-1] + 1
