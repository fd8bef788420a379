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
from minireduce.api.aggregations import Aggregation
from minireduce.api.identity import Identity
from minireduce.api.step import Step
from minireduce.engine.bad_records import checking
from minireduce.engine.batches import reduced_batches
from minireduce.engine.combine import Combiner, entered_combine
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import Pair, calling, entered, entering
from minireduce.engine.faults import blamed
from minireduce.engine.fold import finished, folded
from minireduce.engine.group_batches import group_batches
from minireduce.engine.groups import groups, unwalked_groups
from minireduce.engine.join import Keep, calling_with_each, joined, readied
from minireduce.engine.key_columns import group_starts
from minireduce.engine.kinds import Kinds
from minireduce.engine.merge import Ahead, Fold, LongGroup, Merged, RunSlice, Window, flat
from minireduce.engine.part import PartOutput, PartWriter
from minireduce.engine.sides import Gives, Sides
from minireduce.engine.sort_values import Sorting
from minireduce.engine.workplace import Workplace


def run_reduce(step: Step, runs: Sequence[RunSlice], at: Workplace, ahead: Ahead | None = None) -> PartOutput:
    """Write the part of `at`, durable when this returns. `ahead`: what is here of the first pass.

    Raises UserCodeError, Corruption naming the file, Cancelled.
    """
    context = at.context
    context.label = "key"
    context.count("REDUCE_SHUFFLE_BYTES", sum(run.length for run in runs))
    function = step.reduce if step.reduce_batch is None else step.reduce_batch
    is_streamed = is_streamed_into_part(step) and (at.care is None or at.care.is_plain)
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        fold = _fold(step, context, stack)
        with blamed(context, "reduce", function, is_placed=False):
            sides = Sides(step, runs, at, fold, _gives(step, is_streamed=is_streamed), ahead)
            merges = sides.merging(stack)
        kinds = sides.kinds if is_streamed_into_part(step) else Kinds()
        part = stack.enter_context(at.part(step, "reduce", kinds))
        with entering(context, "reduce", function) as own, blamed(context, "reduce", function):
            if step.reduce_batch is not None:
                _reduce_batches(step, merges, part, own, at)
            elif step.is_join:
                _reduce_joined(step, sides, merges, part, own, at)
            elif not is_streamed:
                _reduce_groups(step, merges[0], part, own, at)
            elif step.aggregation is None:
                _pass_on(merges[0], part, context)
            else:
                _aggregate(step.aggregation, merges[0], part, context)
            part.flush()
        with context.between_records():
            result = part.close()
    sides.remove()
    context.count("REDUCE_OUTPUT_RECORDS", result.records)
    return result


def _reduce_groups(step: Step, merging: Iterator[Merged], part: PartWriter, stack: ExitStack, at: Workplace) -> None:
    """Call the reduce with each key and its values."""
    context = at.context
    grouped = groups(_counted(merging, context, is_walked=True), context)
    if at.care is not None:
        grouped = at.care.kept(grouped, context, lambda group: _skip(group, context))
    if step.sort_values is not False:
        grouped = _sorting(step, Path(at.directory), at.memory_limit_bytes, at).groups(grouped)
    _call(step, _reducing(step, stack), grouped, part, at)


def _reduce_joined(
    step: Step, sides: Sides, merges: list[Iterator[Merged]], part: PartWriter, stack: ExitStack, at: Workplace
) -> None:
    """Call the reduce with each key and its values of each input apart."""
    context = at.context
    apart = [unwalked_groups(_counted(merging, context, is_walked=False), context) for merging in merges]
    grouped = joined(apart, context)
    if at.care is not None:
        grouped = at.care.kept(grouped, context, lambda group: _skip(group, context))
    sorting: list[Sorting] = []
    if step.sort_values is not False:
        sorting = [_sorting(step, sides.folder(index), sides.limit_bytes, at) for index in range(len(merges))]
    keep = Keep(sides.kept, at.memory_limit_bytes, len(apart), at.disk, context)
    grouped = readied(grouped, sorting, keep)
    _call(step, calling_with_each(calling(entered(step.reduce, stack), "reduce")), grouped, part, at)


def _reduce_batches(
    step: Step, merges: list[Iterator[Merged]], part: PartWriter, stack: ExitStack, at: Workplace
) -> None:
    """Call the reduce with batches of whole groups, of all inputs or of each."""
    context = at.context
    batches = group_batches(
        [_counted(merging, context, is_walked=False) for merging in merges],
        sort_values=step.sort_values,
        memory_limit_bytes=at.memory_limit_bytes,
        context=context,
    )
    for key, value in reduced_batches(step, batches, stack, context, at.care):
        with blamed(context, "reduce", step.reduce_batch, is_placed=False):
            part.add_batch(key, value)


def _gives(step: Step, *, is_streamed: bool) -> Gives:
    if step.reduce_batch is not None:
        return "arrays"
    return "arrays if many" if is_streamed else "objects"


def _fold(step: Step, context: TaskContext, stack: ExitStack) -> Fold:
    """How pairs come together when runs must be merged before the last merge."""
    if step.combine is not None:
        return Combiner(entered_combine(step.combine, context, stack), context).fold
    return fold_without_user_code(step)


def fold_without_user_code(step: Step) -> Fold:
    """The same of a step that has no `combine` of its own."""
    aggregation = step.aggregation
    return flat if aggregation is None else lambda merging: folded(aggregation, merging)


def is_streamed_into_part(step: Step) -> bool:
    """Whether pairs go from the merge into the part past all user code."""
    if step.is_join or step.reduce_batch is not None:
        return False
    return step.aggregation is not None or (isinstance(step.reduce, Identity) and step.sort_values is False)


def _pass_on(merging: Iterator[Merged], part: PartWriter, context: TaskContext) -> None:
    for merged_part in _counted(merging, context, is_walked=False):
        context.progress()
        groups_found = len(group_starts(merged_part.keys)) if isinstance(merged_part, Window) else 1
        context.count("REDUCE_INPUT_GROUPS", groups_found)
        for texts, column in flat(iter((merged_part,))):
            part.add_encoded(texts, column)


def _aggregate(
    aggregation: Aggregation[Any, Any, Any], merging: Iterator[Merged], part: PartWriter, context: TaskContext
) -> None:
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


def _sorting(step: Step, directory: Path, memory_limit_bytes: int, at: Workplace) -> Sorting:
    """What puts values in the order that the step asks for."""
    at.disk.make_directories(directory)
    return Sorting(
        None if isinstance(step.sort_values, bool) else step.sort_values,
        memory_limit_bytes=memory_limit_bytes,
        directory=directory,
        disk=at.disk,
        context=at.context,
    )


def _call(
    step: Step,
    function: Callable[[Any, Iterator[Any]], Iterable[Pair]],
    grouped: Iterator[tuple[str, Any, Any]],
    part: PartWriter,
    at: Workplace,
) -> None:
    context, care = at.context, at.care
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
            check=checking(step, "reduce", Kinds(), context),
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
