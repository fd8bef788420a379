"""The runs of a reduce, brought together: those of all inputs, or those of each input apart where a step takes them so.

A map task reads one input, and runs are known by their map task, so no pair carries a mark. Each side is merged by
itself, and has its share of the memory limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from minireduce.api.step import Step
from minireduce.engine.kinds import Kinds
from minireduce.engine.merge import (
    Ahead,
    Fold,
    Merged,
    Passes,
    RunSlice,
    is_worth_columns,
    large_frame_bytes,
    merge_in_passes,
    merged,
    open_runs,
)
from minireduce.engine.workplace import Workplace

Gives = Literal["objects", "arrays", "arrays if many"]
"""As what the last merge gives keys and values. Few bytes as arrays cost more than they save."""


class Sides:
    """The merges of one reduce, and where they keep what they need on disk."""

    def __init__(
        self,
        step: Step,
        runs: Sequence[RunSlice],
        at: Workplace,
        fold: Fold,
        gives: Gives,
        ahead: Ahead | None = None,
    ) -> None:
        self._step, self._at, self._fold, self._gives, self._ahead = step, at, fold, gives, ahead
        self._runs: list[list[RunSlice]] = [[] for _ in step.inputs] if step.is_join else [list(runs)]
        for run in runs if step.is_join else ():
            self._runs[step.input_of(run.order)].append(run)
        self.limit_bytes = at.memory_limit_bytes // len(self._runs)
        self._frame_bytes = [large_frame_bytes(of_side, at.disk) for of_side in self._runs]
        self.kinds = Kinds()
        self._left: list[Path] = []  # what passes made, or was made of them ahead

    def merging(self, stack: ExitStack) -> list[Iterator[Merged]]:
        """The merge of each side; its files are closed with `stack`."""
        shares = [self._passes(index).share_read_before(runs) for index, runs in enumerate(self._runs)]
        self._at.context.input_weight = 1 / (1 + max(shares))
        return [self._side(index, runs, stack) for index, runs in enumerate(self._runs)]

    def folder(self, index: int) -> Path:
        """What a side may keep lies here."""
        return Path(self._at.directory) / f"input-{index}"

    @property
    def kept(self) -> Path:
        """What of a key may be kept lies here."""
        return Path(self._at.directory) / "kept"

    def remove(self) -> None:
        """Remove what was left on disk."""
        for path in self._left:
            self._at.disk.remove(path)
        for index in range(len(self._runs)):
            self._at.disk.remove_tree(self.folder(index))
        if self._step.is_join:
            self._at.disk.remove_tree(self.kept)

    def _side(self, index: int, runs: list[RunSlice], stack: ExitStack) -> Iterator[Merged]:
        context, disk = self._at.context, self._at.disk
        few, spilled = merge_in_passes(
            runs,
            self._fold,
            directory=self.folder(index),
            memory_limit_bytes=self.limit_bytes,
            kinds=self.kinds,
            disk=disk,
            context=context,
            passes=self._passes(index),
            has_read=context.has_read,
            is_columnar=self._is_worth_columns(runs),
            ahead=self._ahead,
        )
        self._left += [run.file for run in few if isinstance(run.file, Path) and run not in runs]
        context.count("SPILLED_RECORDS", spilled)
        context.largest.partition_bytes += sum(run.length for run in few)
        readers = open_runs(
            few,
            self.kinds,
            disk,
            stack,
            memory_limit_bytes=self.limit_bytes,
            is_columnar=self._is_last_columnar(runs),
        )
        return merged(readers)

    def _passes(self, index: int) -> Passes:
        runs = self._runs[index]
        return Passes.within(
            self.limit_bytes,
            is_columnar=self._is_worth_columns(runs),
            is_last_columnar=self._is_last_columnar(runs),
            frame_bytes=self._frame_bytes[index],
        )

    def _is_worth_columns(self, runs: list[RunSlice]) -> bool:
        return self._step.combine is None and is_worth_columns(runs, self.limit_bytes)

    def _is_last_columnar(self, runs: list[RunSlice]) -> bool:
        if self._gives == "arrays if many":
            return is_worth_columns(runs, self.limit_bytes)
        return self._gives == "arrays"
