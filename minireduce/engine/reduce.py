"""Merge one partition's runs, reduce each group, and write the part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minireduce.api.job import Step
from minireduce.disk import Disk
from minireduce.engine.context import TaskContext
from minireduce.engine.merge import RunSlice

OutputKind = Literal["text", "pairs"]


@dataclass(frozen=True, slots=True)
class PartOutput:
    """What a finished part holds."""

    bytes_written: int
    digest: bytes
    records: int


def run_reduce(
    step: Step,
    runs: Sequence[RunSlice],
    *,
    directory: Path,
    part_name: str,
    output: OutputKind,
    memory_limit_bytes: int,
    context: TaskContext,
    disk: Disk,
) -> PartOutput:
    """Write `directory/part_name`, durable when this returns.

    Raises UserCodeError, Corruption naming the file, Cancelled.
    """
    raise NotImplementedError
