"""Merge one partition's runs, reduce each group, and write the part.

Runs are merged in the order of their maps, so the values of a key come in input order, and equal inputs give equal
parts. The results of declared aggregations go from the merge into the part without becoming Python objects where that
is possible; a `reduce` function sees one group at a time, and need not look at all of its values; a `reduce_batch` sees
many whole groups at once, as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from minireduce.api import task
from minireduce.api.identity import Identity
from minireduce.api.step import Step
from minireduce.disk import Disk
from minireduce.engine.bad_records import Care, checking
from minireduce.engine.batches import reduced_batches
from minireduce.engine.combine import Combiner
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import Pair, calling, entered
from minireduce.engine.faults import blamed
from minireduce.engine.fold import finished, folded
from minireduce.engine.group_batches import group_batches
from minireduce.engine.groups import Group, groups, unwalked_groups
from minireduce.engine.join import Joined, Keep, calling_with_each, joined
from minireduce.engine.key_columns import group_starts
from minireduce.engine.kinds import Kinds
from minireduce.engine.merge import (
    Ahead,
    Fold,
    LongGroup,
    Merged,
    Passes,
    RunSlice,
    Window,
    flat,
    is_worth_columns,
    merge_in_passes,
    merged,
    open_runs,
)
from minireduce.engine.part import PartForm, PartOutput, PartWriter
from minireduce.engine.sides import Sides
from minireduce.engine.sort_values import sorted_groups


def run_reduce(
    step: Step,
    runs: Sequence[RunSlice],
    *,
    directory: Path,
    part_name: str,
    output: PartForm,
    memory_limit_bytes: int,
    context: TaskContext,
    disk: Disk,
    care: Care | None = None,
    ahead: Ahead | None = None,
) -> PartOutput:
    """Write `directory/part_name`, durable when this returns. `ahead`: what is here of the first pass.

    Raises UserCodeError, Corruption naming the file, Cancelled.
    """
    context.label = "key"
    context.count("REDUCE_SHUFFLE_BYTES", sum(run.length for run in runs))
    if step.reduce_batch is not None or step.is_join:
        run_by_sides = _run_join if step.reduce_batch is None else _run_batches
        return run_by_sides(
            step,
            runs,
            directory=directory,
            part_name=part_name,
            output=output,
            memory_limit_bytes=memory_limit_bytes,
            context=context,
            disk=disk,
            care=care,
        )
    kinds = Kinds()
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        fold = _fold(step, context, stack)
        is_streamed = is_streamed_into_part(step) and (care is None or care.is_plain)
        with blamed(context, "reduce", step.reduce, is_placed=False):
            few, merging = _merging(
                step,
                runs,
                fold,
                kinds,
                stack,
                directory=directory,
                memory_limit_bytes=memory_limit_bytes,
                context=context,
                disk=disk,
                ahead=ahead,
                is_streamed=is_streamed,
            )
        out_kinds = kinds if is_streamed_into_part(step) else Kinds()
        part = stack.enter_context(
            PartWriter(
                directory / part_name,
                output,
                role="reduce",
                kinds=out_kinds,
                disk=disk,
                form=step.output,
                aside=context.aside,
            )
        )
        with blamed(context, "reduce", step.reduce):
            if is_streamed and step.aggregation is None:
                _pass_on(merging, part, context)
            elif is_streamed:
                _aggregate(step, merging, part, context)
            else:
                grouped = groups(_counted(merging, context, is_walked=True), context)
                if care is not None:
                    grouped = care.kept(grouped, context, lambda group: _skip(group, context))
                if step.sort_values is not False:
                    grouped = _sorted(step, grouped, directory, memory_limit_bytes, disk, context)
                _call(step, _reducing(step, stack), grouped, part, context, care)
            part.flush()
        with context.between_records():
            result = part.close()
    for run in few:
        if isinstance(run.file, Path) and run not in runs:
            disk.remove(run.file)
    context.count("REDUCE_OUTPUT_RECORDS", result.records)
    return result


def _merging(
    step: Step,
    runs: Sequence[RunSlice],
    fold: Fold,
    kinds: Kinds,
    stack: ExitStack,
    *,
    directory: Path,
    memory_limit_bytes: int,
    context: TaskContext,
    disk: Disk,
    ahead: Ahead | None,
    is_streamed: bool,
) -> tuple[list[RunSlice], Iterator[Merged]]:
    """The runs that passes left, few enough to merge at once, and their merge; its files are closed with `stack`."""
    is_large = is_worth_columns(runs, memory_limit_bytes)
    is_columnar = is_large and is_streamed
    is_merged_columnar = is_large and step.combine is None
    passes = Passes.within(memory_limit_bytes, is_columnar=is_merged_columnar, is_last_columnar=is_columnar)
    context.input_weight = 1 / (1 + passes.share_read_before(runs))
    few, spilled = merge_in_passes(
        runs,
        fold,
        directory=directory,
        memory_limit_bytes=memory_limit_bytes,
        kinds=kinds,
        disk=disk,
        passes=passes,
        has_read=context.has_read,
        is_columnar=is_merged_columnar,
        ahead=ahead,
        compression=context.compression,
    )
    context.count("SPILLED_RECORDS", spilled)
    context.largest.partition_bytes = sum(run.length for run in few)
    readers = open_runs(few, kinds, disk, stack, memory_limit_bytes=memory_limit_bytes, is_columnar=is_columnar)
    return few, merged(readers)


def _run_join(
    step: Step,
    runs: Sequence[RunSlice],
    *,
    directory: Path,
    part_name: str,
    output: PartForm,
    memory_limit_bytes: int,
    context: TaskContext,
    disk: Disk,
    care: Care | None,
) -> PartOutput:
    """A reduce that is called with the values of each input apart."""
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        with blamed(context, "reduce", step.reduce, is_placed=False):
            sides = Sides(
                step,
                runs,
                directory=directory,
                memory_limit_bytes=memory_limit_bytes,
                context=context,
                disk=disk,
                fold=flat,
                is_columnar=False,
            )
            merges = sides.merging(stack)
        part = stack.enter_context(
            PartWriter(
                directory / part_name,
                output,
                role="reduce",
                kinds=Kinds(),
                disk=disk,
                form=step.output,
                aside=context.aside,
            )
        )
        with blamed(context, "reduce", step.reduce):
            apart = [unwalked_groups(_counted(merging, context, is_walked=False), context) for merging in merges]
            if step.sort_values is not False:
                for index, grouped_side in enumerate(apart):
                    disk.make_directories(sides.folder(index))
                    apart[index] = _sorted(step, grouped_side, sides.folder(index), sides.limit_bytes, disk, context)
            keep = Keep(directory / "kept", memory_limit_bytes, len(apart), disk, context)
            grouped: Iterator[tuple[str, Any, Joined]] = joined(apart, keep, context)
            if care is not None:
                grouped = care.kept(grouped, context, lambda group: _skip(group, context))
            function = calling_with_each(calling(entered(step.reduce, stack), "reduce"))
            _call(step, function, grouped, part, context, care)
            part.flush()
        with context.between_records():
            result = part.close()
    sides.remove()
    disk.remove_tree(directory / "kept")
    context.count("REDUCE_OUTPUT_RECORDS", result.records)
    return result


def _run_batches(
    step: Step,
    runs: Sequence[RunSlice],
    *,
    directory: Path,
    part_name: str,
    output: PartForm,
    memory_limit_bytes: int,
    context: TaskContext,
    disk: Disk,
    care: Care | None,
) -> PartOutput:
    """A reduce that is called with batches of whole groups, of all inputs or of each."""
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        with blamed(context, "reduce", step.reduce_batch, is_placed=False):
            sides = Sides(
                step,
                runs,
                directory=directory,
                memory_limit_bytes=memory_limit_bytes,
                context=context,
                disk=disk,
                fold=_fold(step, context, stack),
                is_columnar=True,
            )
            merges = sides.merging(stack)
        part = stack.enter_context(
            PartWriter(
                directory / part_name,
                output,
                role="reduce",
                kinds=Kinds(),
                disk=disk,
                form=step.output,
                aside=context.aside,
            )
        )
        with blamed(context, "reduce", step.reduce_batch):
            batches = group_batches(
                [_counted(merging, context, is_walked=False) for merging in merges],
                sort_values=step.sort_values,
                memory_limit_bytes=memory_limit_bytes,
                context=context,
            )
            for key, value in reduced_batches(step, batches, stack, context, care):
                with blamed(context, "reduce", step.reduce_batch, is_placed=False):
                    part.add_batch(key, value)
        with context.between_records():
            result = part.close()
    sides.remove()
    context.count("REDUCE_OUTPUT_RECORDS", result.records)
    return result


def _fold(step: Step, context: TaskContext, stack: ExitStack) -> Fold:
    """How pairs come together when runs must be merged before the last merge."""
    if step.combine is not None:
        return Combiner(entered(step.combine, stack), context).fold
    return fold_without_user_code(step)


def fold_without_user_code(step: Step) -> Fold:
    """The same of a step that has no `combine` of its own."""
    aggregation = step.aggregation
    return flat if aggregation is None else lambda merging: folded(aggregation, merging)


def is_streamed_into_part(step: Step) -> bool:
    """Whether pairs go from the merge into the part past all user code."""
    return step.aggregation is not None or (isinstance(step.reduce, Identity) and step.sort_values is False)


def _pass_on(merging: Iterator[Merged], part: PartWriter, context: TaskContext) -> None:
    for merged_part in _counted(merging, context, is_walked=False):
        context.progress()
        groups_found = len(group_starts(merged_part.keys)) if isinstance(merged_part, Window) else 1
        context.count("REDUCE_INPUT_GROUPS", groups_found)
        for texts, column in flat(iter((merged_part,))):
            part.add_encoded(texts, column)


def _aggregate(step: Step, merging: Iterator[Merged], part: PartWriter, context: TaskContext) -> None:
    aggregation = step.aggregation
    assert aggregation is not None
    for texts, column in folded(aggregation, _counted(merging, context, is_walked=False)):
        context.progress()
        context.count("REDUCE_INPUT_GROUPS", len(texts))
        part.add_encoded(texts, finished(aggregation, column))


def _reducing(step: Step, stack: ExitStack) -> Callable[[Any, Iterator[Any]], Iterable[Pair]]:
    """What to call with each key and its values; those of a declared aggregation are its states."""
    aggregation = step.aggregation
    if aggregation is None:
        return calling(entered(step.reduce, stack), "reduce")

    def finish(key: Any, states: Iterator[Any]) -> Iterator[Pair]:
        state = next(states)
        for other in states:
            state = aggregation.merge(state, other)
        yield key, aggregation.finish(state)

    return finish


def _sorted(
    step: Step,
    grouped: Iterator[Group],
    directory: Path,
    memory_limit_bytes: int,
    disk: Disk,
    context: TaskContext,
) -> Iterator[Group]:
    sort_key = None if step.sort_values is True else step.sort_values
    assert not isinstance(sort_key, bool)
    return sorted_groups(
        grouped,
        sort_key,
        memory_limit_bytes=memory_limit_bytes,
        directory=directory,
        disk=disk,
        compression=context.compression,
    )


def _call(
    step: Step,
    function: Callable[[Any, Iterator[Any]], Iterable[Pair]],
    grouped: Iterator[tuple[str, Any, Any]],
    part: PartWriter,
    context: TaskContext,
    care: Care | None,
) -> None:
    count = 0
    if care is None or not care.is_careful:
        for _, key, values in grouped:
            part.add_yielded(function(key, values))
            count += 1
        context.count("REDUCE_INPUT_GROUPS", count)
        return

    def call(group: tuple[str, Any, Any]) -> Iterable[Pair]:
        context.count("REDUCE_INPUT_GROUPS")
        return function(group[1], group[2])

    part.add_yielded(
        care.guarded(
            grouped,
            call,
            context,
            blamed=lambda: blamed(context, "reduce", step.reduce),
            check=checking(step, "reduce", Kinds()),
        )
    )


def _skip(group: tuple[str, Any, Any], context: TaskContext) -> None:
    records = sum(1 for _ in group[2])
    context.count("REDUCE_INPUT_RECORDS", -records)
    context.count("REDUCE_SKIPPED_GROUPS")
    context.count("REDUCE_SKIPPED_RECORDS", records)


def _counted(merging: Iterator[Merged], context: TaskContext, *, is_walked: bool) -> Iterator[Merged]:
    """The same, counted. Windows that are walked over count as read while that is done."""
    for part in merging:
        if isinstance(part, Window):
            context.count("REDUCE_INPUT_RECORDS", len(part.column))
            if not is_walked:
                context.has_read(part.stored_bytes)
        else:
            part.pieces = _counted_pieces(part, part.pieces, context)
        yield part


def _counted_pieces(group: LongGroup, pieces: Iterator[Any], context: TaskContext) -> Iterator[Any]:
    records = 0
    before_bytes = 0.0
    for piece in pieces:
        records += len(piece)
        context.count("REDUCE_INPUT_RECORDS", len(piece))
        context.has_read(group.stored_bytes - before_bytes)
        before_bytes = group.stored_bytes
        context.largest.meet(group.key, records, group.stored_bytes)
        yield piece
