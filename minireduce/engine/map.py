"""Run the map of one split, and leave its pairs partitioned and sorted in `output.data` and `output.index`.

Pairs gather in memory until the limit says otherwise, and then go to disk as a sorted run, a spill; at the end the
spills are merged, partition by partition. A map that never spilled writes its output straight from memory. Either way
the output holds the same pairs in the same order, so how often a map spilled never shows, in its digest neither.

The data file is not synced: whoever fetches a partition checks every frame, and a map output that a crash tore is
made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from minireduce.api import task
from minireduce.api.aggregations import Aggregation
from minireduce.api.partitioners import Hash, Range
from minireduce.api.step import Step
from minireduce.engine import columns, key_columns, keys, ranges
from minireduce.engine.bad_records import Care, checking
from minireduce.engine.batches import mapped_batches
from minireduce.engine.columns import Column, Index
from minireduce.engine.combine import Combiner, entered_combine
from minireduce.engine.context import Aside, TaskContext
from minireduce.engine.emit import Pair, entering, mapped, mapping
from minireduce.engine.errors import InvalidValue
from minireduce.engine.faults import blamed, place
from minireduce.engine.fold import folded
from minireduce.engine.frames import SectionWriter
from minireduce.engine.gather import COLUMNAR_PAIRS_MIN, Gathered, PairBuffer, TakingBuffer
from minireduce.engine.gather_columns import ColumnBuffer, column_buffer
from minireduce.engine.gather_many import folding_buffer
from minireduce.engine.index import DATA_NAME, INDEX_NAME, encode_index
from minireduce.engine.key_columns import Keys
from minireduce.engine.kinds import Kinds
from minireduce.engine.memory import COLUMNAR_LIMIT_BYTES_MIN, MemoryWatch
from minireduce.engine.merge import Fold, Merged, RunSlice, flat, is_worth_columns, merge_in_passes, merged, open_runs
from minireduce.engine.part import PartOutput
from minireduce.engine.workplace import Workplace
from minireduce.errors import InvariantViolation
from minireduce.frozen import dataclass

_BATCH_PAIRS_MIN = 64
_BATCH_PAIRS_MAX = 8192
_BATCH_SHARE = 0.02  # of the limit: how much may gather between two looks at the memory


@dataclass(frozen=True, slots=True)
class MapOutput:
    """What a finished map left: bytes for each partition as they lie on disk, and 16 bytes that name the pairs."""

    partition_bytes: tuple[int, ...]
    digest: bytes


def run_map(step: Step, records: Iterable[Any], partitions: int, at: Workplace) -> MapOutput:
    """Map `records`, which are batches for a `map_batch`, and write the two output files into the directory of `at`.

    Raises UserCodeError, Cancelled.
    """
    context = at.context
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        attempt = _MapAttempt(step, partitions, at, stack)
        with entering(context, "map", step.mapper) as own:
            with blamed(context, "map", step.mapper):
                if step.map_batch is None:
                    attempt.gather(_pairs(step, records, own, context, at.care))
                else:
                    attempt.gather_columns(mapped_batches(step, records, own, context, at.care))
            with context.between_records():
                attempt.settle()
        with context.between_records():
            return attempt.finish()


def run_map_only(step: Step, records: Iterable[Any], at: Workplace) -> PartOutput:
    """Map `records` straight into the part of `at`, durable when this returns. Raises as `run_map`."""
    context = at.context
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        part = stack.enter_context(at.part(step, "map", Kinds(lambda: f"from {place(context)}")))
        with entering(context, "map", step.mapper) as own, blamed(context, "map", step.mapper):
            if step.map_batch is None:
                part.add_yielded(_pairs(step, records, own, context, at.care))
            else:
                for key, value in mapped_batches(step, records, own, context, at.care):
                    with blamed(context, "map", step.mapper, is_placed=False):
                        part.add_batch(key, value)
            part.flush()
        with context.between_records():
            result = part.close()
    context.count("MAP_OUTPUT_RECORDS", result.records)
    return result


def _pairs(
    step: Step, records: Iterable[Any], stack: ExitStack, context: TaskContext, care: Care | None
) -> Iterator[Pair]:
    """What the map yields for the records that it is to see."""
    if care is None or care.is_plain:
        return mapped(step, records, stack)

    def skip(_: Any) -> None:
        context.count("MAP_INPUT_RECORDS", -1)
        context.count("MAP_SKIPPED_RECORDS")

    kept = care.kept(records, context, skip)
    if not care.is_careful:
        return mapped(step, kept, stack)
    return care.guarded(
        kept,
        mapping(step, stack),
        context,
        blamed=lambda: blamed(context, "map", step.mapper),
        check=checking(step, "map", Kinds(lambda: f"from {place(context)}"), context),
    )


@dataclass(frozen=True, slots=True)
class _Written:
    """A file of sections: how long each is, what names its pairs and how many they are, what compressing saved."""

    lengths: list[int]
    digest: bytes
    pairs: int
    saved_bytes: int


class _MapAttempt:
    """Gather, spill, merge: the state of one run of `run_map`."""

    def __init__(self, step: Step, partitions: int, at: Workplace, stack: ExitStack) -> None:
        self._step, self._partitions, self._directory = step, partitions, Path(at.directory)
        self._limit_bytes, self._context, self._disk = at.memory_limit_bytes, at.context, at.disk
        context = at.context
        self._watch = MemoryWatch(at.memory_limit_bytes, context.idle_bytes)
        self._kinds = Kinds(lambda: f"from {place(context)}")
        self._aggregation: Aggregation[Any, Any, Any] | None = step.aggregation
        self._combiner: Combiner | None = None
        if step.combine is not None:
            self._combiner = Combiner(entered_combine(step.combine, context, stack), context)
        columnar_min = COLUMNAR_PAIRS_MIN if at.memory_limit_bytes >= COLUMNAR_LIMIT_BYTES_MIN else None
        self._buffer: TakingBuffer | ColumnBuffer
        if step.map_batch is not None:
            self._buffer = column_buffer(self._kinds, self._aggregation, columnar_min, self._folding)
        elif self._aggregation is None:
            # a combine is called with plain values: to pack them for sorting would be for nothing
            self._buffer = PairBuffer(self._kinds, columnar_min if self._combiner is None else None)
        else:
            self._buffer = folding_buffer(self._kinds, self._aggregation, columnar_min, self._folding)
        self._spills: list[tuple[Path, list[int]]] = []
        self._gathered: Gathered | None = None  # what never spilled
        self._pairs = 0
        self._folded = 0

    def gather(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        """Take all pairs in, spilling what does not fit."""
        buffer = cast("TakingBuffer", self._buffer)
        batch, held_before = 1, 0  # who knows how large pairs are before there is one
        while True:
            taken = buffer.take(islice(pairs, batch))
            self._pairs += taken
            if taken < batch:
                return
            held = self._buffer.held_bytes()
            each = max(1, max(held - held_before, buffer.taken_bytes) // taken)
            room = int(self._limit_bytes * _BATCH_SHARE) // each
            batch = max(1, min(_BATCH_PAIRS_MAX, max(_BATCH_PAIRS_MIN, 2 * batch), room))
            if self._watch.is_full(held) and self._watch.is_full(self._buffer.settle()):
                self._spill()
                held = 0
            held_before = held

    def gather_columns(self, batches: Iterator[tuple[Any, Any]]) -> None:
        """Take all keys and values in, spilling what does not fit."""
        buffer = cast("ColumnBuffer", self._buffer)
        for key, value in batches:
            with blamed(self._context, "map", self._step.mapper, is_placed=False):
                self._pairs += buffer.take_columns(key, value)
                is_full = self._watch.is_full(self._buffer.held_bytes())
                if is_full and self._watch.is_full(self._buffer.settle()):
                    self._spill()

    def settle(self) -> None:
        """All pairs are here: choose their partitions and pack their values, which may call user code, or spill them to
        those before.
        """
        if self._spills:
            self._spill()
        else:
            self._gathered = self._drain()

    def finish(self) -> MapOutput:
        """Write the output from memory or spills."""
        path = self._directory / DATA_NAME
        if self._gathered is not None:
            folded_pairs = len(self._gathered.keys)
            made = self._write(path, self._sections(self._gathered), self._context.aside)
        else:
            folded_pairs = self._folded
            merging = (self._merged(index) for index in range(self._partitions))
            made = self._write(path, merging, self._context.aside)
            for spill, _ in self._spills:
                self._disk.remove(spill)
        if self._aggregation is not None:
            self._context.count("COMBINE_INPUT_RECORDS", self._pairs)
            self._context.count("COMBINE_OUTPUT_RECORDS", folded_pairs)
        if self._combiner is not None:
            self._context.count("COMBINE_INPUT_RECORDS", self._combiner.pairs_in)
            self._context.count("COMBINE_OUTPUT_RECORDS", self._combiner.pairs_out)
        self._context.count("MAP_OUTPUT_RECORDS", self._pairs)
        self._context.count("MAP_OUTPUT_BYTES", sum(made.lengths) + made.saved_bytes)
        with self._disk.create(self._directory / INDEX_NAME) as index_file:
            index_file.write(encode_index(made.lengths))
        return MapOutput(tuple(made.lengths), made.digest)

    def _drain(self) -> Gathered:
        # a key or value that cannot be stored is told by itself: its record is no longer known
        with blamed(self._context, "map", self._step.mapper, is_placed=False):
            return self._buffer.drain(self._partition_of)

    def _spill(self) -> None:
        self._context.progress()
        path = self._directory / f"spill-{len(self._spills):05d}.data"
        with self._context.between_records():
            gathered = self._drain()
            made = self._write(path, self._sections(gathered))
        self._spills.append((path, made.lengths))
        self._folded += len(gathered.keys)
        self._context.count("SPILLED_RECORDS", made.pairs)

    def _sections(self, gathered: Gathered) -> Iterator[Iterator[tuple[Keys, Column]]]:
        for pieces in gathered.sections(self._partitions):
            if self._combiner is not None:
                yield self._combiner.section(*_plain_section(pieces, is_plain=gathered.is_plain))
            elif gathered.is_plain:
                yield ((texts, self._stored(list(values))) for texts, values in pieces)
            else:
                yield pieces

    def _stored(self, values: list[Any]) -> Column:
        with blamed(self._context, "map", self._step.mapper, is_placed=False):
            return columns.make(values)

    def _merged(self, partition: int) -> Iterator[tuple[Keys, Column]]:
        fold = self._fold()
        runs = []
        for order, (path, lengths) in enumerate(self._spills):
            runs.append(RunSlice(path, sum(lengths[:partition]), lengths[partition], order))
        directory = self._directory / f"merge-{partition:05d}"
        is_columnar = self._combiner is None and is_worth_columns(runs, self._limit_bytes)
        runs, spilled = merge_in_passes(
            runs,
            fold,
            directory=directory,
            memory_limit_bytes=self._limit_bytes,
            kinds=self._kinds,
            disk=self._disk,
            context=self._context,
            is_columnar=is_columnar,
        )
        self._context.count("SPILLED_RECORDS", spilled)
        with ExitStack() as stack:
            readers = open_runs(
                runs,
                self._kinds,
                self._disk,
                stack,
                memory_limit_bytes=self._limit_bytes,
                is_columnar=is_columnar,
            )
            for pairs in fold(merged(readers)):
                self._context.progress()
                yield pairs
        self._disk.remove_tree(directory)

    def _fold(self) -> Fold:
        if self._combiner is not None:
            return self._combiner.fold
        aggregation = self._aggregation
        if aggregation is None:
            return flat

        def fold(merging: Iterator[Merged]) -> Iterator[tuple[Keys, Column]]:
            with blamed(self._context, "merge of", aggregation, is_placed=False):
                yield from folded(aggregation, merging)

        return fold

    def _folding(self) -> AbstractContextManager[None]:
        return blamed(self._context, "add of", self._aggregation, is_placed=False)

    def _write(
        self, path: Path, sections: Iterable[Iterator[tuple[Keys, Column]]], aside: Aside | None = None
    ) -> _Written:
        """One section for each partition, none at all if the map gave nothing.

        What it gave aside stands behind one partition, in turn from map to map.
        """
        if not self._pairs and (aside is None or aside.tail(has_pairs=False) is None):
            self._disk.create(path).close()
            return _Written([0] * self._partitions, b"\0" * 16, 0, 0)
        lengths: list[int] = []
        kinds = self._kinds.encoded()
        with self._disk.create(path) as file:
            writer = SectionWriter(file, self._context.compression)
            for partition, pairs in enumerate(sections):
                before = writer.bytes_written
                writer.write_kinds(kinds)
                for texts, column in pairs:
                    writer.add(texts, column)
                writer.end()
                if aside is not None:
                    is_own = partition == aside.index % self._partitions
                    for piece in aside.tail(has_pairs=True, is_own=is_own) or ():
                        writer.append(piece)
                lengths.append(writer.bytes_written - before)
        return _Written(lengths, writer.digest(), writer.pairs_written, writer.saved_bytes)

    def _partition_of(self, plain: Callable[[], list[Any]], encoded: Keys) -> Index:
        chosen = self._step.partition
        if isinstance(chosen, Range):
            if chosen.bounds is None:
                raise InvariantViolation("the bounds of Range() were not chosen before the first map")
            return ranges.partition_all(encoded, chosen.bounds, self._partitions)
        if isinstance(chosen, Hash) or self._partitions == 1:
            return keys.partition_all(encoded, self._partitions).astype(np.int64)
        with self._context.refusing("partition"):
            return self._chosen_all(chosen, plain(), len(encoded))

    def _chosen_all(self, chosen: Callable[[Any, int], int], plain: list[Any], count: int) -> Index:
        return np.fromiter(self._chosen(chosen, plain), np.int64, count)

    def _chosen(self, function: Callable[[Any, int], int], plain: list[Any]) -> Iterator[int]:
        with blamed(self._context, "partition", function, is_placed=False):
            for key in plain:
                index = function(key, self._partitions)
                if not isinstance(index, int) or not 0 <= index < self._partitions:
                    raise InvalidValue(
                        f"partition gave {index!r:.80} for the key {key!r:.80}",
                        hint=f"it must be a whole number from 0 to {self._partitions - 1}",
                    )
                yield index


def _plain_section(pieces: Iterator[tuple[Keys, list[Any] | Column]], *, is_plain: bool) -> tuple[list[str], list[Any]]:
    """All keys and values of a section, as `Combiner` takes them."""
    texts: list[str] = []
    plain: list[Any] = []
    for keys_of_piece, values in pieces:
        texts += key_columns.to_texts(keys_of_piece)
        plain += values if is_plain else columns.to_values(values)
    return texts, plain
