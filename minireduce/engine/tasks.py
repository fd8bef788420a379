"""One task over input that is at hand: a map, a map that writes a part, or a reduce.

Everybody who runs tasks comes through here: a task process (attempt/work.py), a job in one process (launch/inline.py),
a failed map once more (launch/replaying.py) and the simulator. They differ in where input comes from and what becomes
of the output, so neither is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from minireduce.api.step import Step
from minireduce.engine.map import MapOutput, run_map, run_map_only
from minireduce.engine.merge import Ahead, RunSlice
from minireduce.engine.named_outputs import NamedOutputs
from minireduce.engine.part import PartOutput
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace
from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class MapWork:
    """These records, or batches of them, are to be mapped into partitions; 0: into a part. `part`: the one of the step
    before whose pairs they are.
    """

    records: Iterable[Any]
    partitions: int
    part: BinaryIO | None = None


@dataclass(frozen=True, slots=True)
class ReduceWork:
    """These runs, each of one map, are to be merged and reduced into a part. `ahead`: what was merged of them."""

    runs: Sequence[RunSlice]
    ahead: Ahead | None = None


def run_task(step: Step, work: MapWork | ReduceWork, at: Workplace) -> MapOutput | PartOutput:
    """Do the task; its output is durable when this returns.

    Raises UserCodeError, Corruption naming the file, Cancelled.
    """
    if not step.gives_aside:
        return _run(step, work, at)
    directory = Path(at.directory)
    at.disk.make_directories(directory)
    is_part = isinstance(work, ReduceWork) or work.partitions == 0
    named = NamedOutputs(
        step.outputs,
        step.taken_over,
        directory=directory,
        form=at.form if is_part else "pairs",
        becomes_text=at.writes_text,
        disk=at.disk,
        progress=at.context.progress,
        index=at.index,
    )
    with named:
        at.context.aside = named
        try:
            if isinstance(work, ReduceWork):
                work = ReduceWork(named.take_over_runs(work.runs))
            elif work.part is not None:
                named.take_over_part(work.part, at.context.file or "a typed part")
            return _run(step, work, at)
        finally:
            at.context.aside = None


def _run(step: Step, work: MapWork | ReduceWork, at: Workplace) -> MapOutput | PartOutput:
    if isinstance(work, MapWork) and work.partitions == 0:
        return run_map_only(step, work.records, at)
    at.disk.make_directories(Path(at.directory))
    if isinstance(work, MapWork):
        return run_map(step, work.records, work.partitions, at)
    return run_reduce(step, work.runs, at, work.ahead)
