"""Run the map of one split, and leave its pairs partitioned and sorted in `output.data` and `output.index`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minireduce.api.job import Step
from minireduce.disk import Disk
from minireduce.engine.context import TaskContext
from minireduce.engine.reduce import OutputKind, PartOutput

DATA_NAME = "output.data"
INDEX_NAME = "output.index"


@dataclass(frozen=True, slots=True)
class MapOutput:
    """What a finished map left: bytes for each partition, and 16 bytes that name the pairs."""

    partition_bytes: tuple[int, ...]
    digest: bytes


def run_map(
    step: Step,
    records: Iterable[Any],
    *,
    directory: Path,
    partitions: int,
    memory_limit_bytes: int,
    context: TaskContext,
    disk: Disk,
) -> MapOutput:
    """Map `records` and write the output files into `directory`, synced."""
    raise NotImplementedError


def run_map_only(
    step: Step,
    records: Iterable[Any],
    *,
    directory: Path,
    part_name: str,
    output: OutputKind,
    context: TaskContext,
    disk: Disk,
) -> PartOutput:
    """Map `records` straight into a part, for a step without reduce."""
    raise NotImplementedError
