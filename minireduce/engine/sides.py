"""The runs of a reduce, brought together: those of all inputs, or those of each input apart where a step takes them so.

A map task reads one input, and runs are known by their map task, so no pair carries a mark. Each side is merged by
itself, and has its share of the memory limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from minireduce.api.step import Step
from minireduce.disk import Disk
from minireduce.engine.context import TaskContext
from minireduce.engine.kinds import Kinds
from minireduce.engine.merge import (
    Fold,
    Merged,
    Passes,
    RunSlice,
    is_worth_columns,
    merge_in_passes,
    merged,
    open_runs,
)


class Sides:
    """The merges of one reduce. With `is_columnar` the last of them gives arrays, however little there is."""

    def __init__(
        self,
        step: Step,
        runs: Sequence[RunSlice],
        *,
        directory: Path,
        memory_limit_bytes: int,
        context: TaskContext,
        disk: Disk,
        fold: Fold,
        is_columnar: bool,
    ) -> None:
        self._step, self._context, self._disk, self._fold = step, context, disk, fold
        self._directory, self._is_columnar = directory, is_columnar
        self._runs: list[list[RunSlice]] = [[] for _ in step.inputs] if step.is_join else [list(runs)]
        for run in runs if step.is_join else ():
            self._runs[step.input_of(run.order)].append(run)
        self.limit_bytes = memory_limit_bytes // len(self._runs)

    def merging(self, stack: ExitStack) -> list[Iterator[Merged]]:
        """The merge of each side; its files are closed with `stack`."""
        kinds = Kinds()
        shares = [self._passes(runs).share_read_before(runs) for runs in self._runs]
        self._context.input_weight = 1 / (1 + max(shares))
        return [self._side(index, runs, kinds, stack) for index, runs in enumerate(self._runs)]

    def folder(self, index: int) -> Path:
        """What a side may keep lies here."""
        return self._directory / f"input-{index}"

    def remove(self) -> None:
        """Remove what the merges left."""
        for index in range(len(self._runs)):
            self._disk.remove_tree(self.folder(index))

    def _side(self, index: int, runs: list[RunSlice], kinds: Kinds, stack: ExitStack) -> Iterator[Merged]:
        few, spilled = merge_in_passes(
            runs,
            self._fold,
            directory=self.folder(index),
            memory_limit_bytes=self.limit_bytes,
            kinds=kinds,
            disk=self._disk,
            passes=self._passes(runs),
            has_read=self._context.has_read,
            is_columnar=self._is_worth_columns(runs),
            compression=self._context.compression,
        )
        self._context.count("SPILLED_RECORDS", spilled)
        self._context.largest.partition_bytes += sum(run.length for run in few)
        return merged(
            open_runs(
                few,
                kinds,
                self._disk,
                stack,
                memory_limit_bytes=self.limit_bytes,
                is_columnar=self._is_columnar,
            )
        )

    def _passes(self, runs: list[RunSlice]) -> Passes:
        return Passes.within(
            self.limit_bytes, is_columnar=self._is_worth_columns(runs), is_last_columnar=self._is_columnar
        )

    def _is_worth_columns(self, runs: list[RunSlice]) -> bool:
        return self._step.combine is None and is_worth_columns(runs, self.limit_bytes)
