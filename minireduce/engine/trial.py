"""Run a job over a few records in memory, and see whether its combining can be trusted: what `Job.test` calls.

The pairs take the way of a real run: keys are held to one kind and sorted by their encoding, values are packed and
unpacked, so a job that works here is not surprised later. Each reduce is tried with no combining, with one over each
half of a group, and with one for every single value. Where the answers differ, a cluster would give now one and now
the other; that is an error.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from minireduce.api import task
from minireduce.api.aggregations import Aggregation
from minireduce.api.formats import Parquet
from minireduce.api.job import Job
from minireduce.api.results import Tested
from minireduce.api.step import Step
from minireduce.engine import columns, key_columns, keys, values
from minireduce.engine.arrow_columns import given_pairs, plain_keys
from minireduce.engine.batches import Batch, mapped_batches, reduced_batches
from minireduce.engine.combine import entered_combine
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import as_pair, calling, entered, entering, mapped, over_records
from minireduce.engine.faults import blamed, name_of
from minireduce.engine.group_batches import GroupBatch, Piece, Types
from minireduce.engine.join import Values
from minireduce.engine.kinds import Kinds
from minireduce.engine.named_outputs import KeptAside
from minireduce.engine.read_batches import batch_of
from minireduce.errors import RequestError

Pair = tuple[Any, Any]
Contexts = Callable[[], TaskContext]
Reduce = Callable[[Any, list[list[Any]]], list[Pair]]  # of a key and its values, cut where combines ran


def run_trial(job: Job[Any, Any], records: Iterable[Any] | Mapping[str, Iterable[Any]]) -> Tested[Any, Any]:
    """The pairs of the job. Raises UserCodeError, and RequestError where combining changes the answer."""
    given: dict[str, list[Pair]] = {name: [] for name in job.outputs}
    with ExitStack() as lent:
        return Tested(_run(job, records, _contexts(job, lent), given), given)


def _contexts(job: Job[Any, Any], lent: ExitStack) -> Contexts:
    """What makes a context in which user code finds the files that the job names, where they are here."""
    if not job.files:
        return lambda: TaskContext(path="<test>")
    folder = Path(lent.enter_context(tempfile.TemporaryDirectory(prefix="minireduce-test-")))

    def fill(work_dir: Path) -> None:
        for path in job.files:
            shutil.copy(path, work_dir)

    return lambda: TaskContext(path="<test>", work_dir=folder / "work", fill=fill)


def _run(job: Job[Any, Any], records: Any, any_context: Contexts, kept: dict[str, list[Pair]]) -> list[Pair]:
    given = records
    for step in job.steps:
        new_context = partial(_with_aside, any_context, step, kept)
        if step.inputs:
            pairs = _mapped_apart(step, given, job.name, new_context)
        else:
            pairs = _mapped_step(step, given, new_context())
        if not step.is_map_only:
            with ExitStack() as stack:
                context = new_context()
                stack.enter_context(task.entered(context))
                pairs = _reduced(step, pairs, stack, context)
        elif step.inputs:
            pairs = [(key, value) for key, (_, value) in pairs]
        given = pairs
    return list(given)


def _with_aside(new_context: Contexts, step: Step, kept: dict[str, list[Pair]]) -> TaskContext:
    context = new_context()
    context.aside = KeptAside(step.outputs, kept) if step.outputs else None
    return context


def _mapped_step(step: Step, records: Iterable[Any], context: TaskContext) -> list[Pair]:
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        own = stack.enter_context(entering(context, "map", step.mapper))
        with blamed(context, "map", step.mapper):
            return _settled("map", _mapped(step, list(records), own, context), context)


def _mapped_apart(step: Step, records: Any, name: str, new_context: Contexts) -> list[Pair]:
    """The pairs of all inputs, each value with the index of its input."""
    names = [each.name for each in step.inputs]
    if not isinstance(records, Mapping) or set(records) != set(names):
        raise RequestError(
            f"{name} has the inputs {', '.join(names)}", hint="give test a dict of the records of each of them"
        )
    pairs = []
    for index, each in enumerate(names):
        mapped_pairs = _mapped_step(step.of_input(index), records[each], new_context())
        pairs += [(key, (index, value)) for key, value in mapped_pairs]
    if not step.is_map_only:
        kinds = Kinds()
        for key, _ in pairs:
            kinds.admit(key)
    return pairs


def _mapped(step: Step, given: Sequence[Any], stack: ExitStack, context: TaskContext) -> Iterable[Pair]:
    """What the map gives; one over many records is asked for all of them at once and for each alone."""
    if step.map is not None or step.mapper is None:
        return mapped(step, context.walk(given), stack)
    if not given:
        return []
    if step.map_records is not None:
        call = over_records(step.map_records, stack)
        whole = list(call(context.walk(given)))
        with context.once_more():
            alone = [pair for record in context.walk(given) for pair in call(iter((record,)))]
        _check_same(step, whole, alone)
        return whole

    def of_rows(batches: list[Batch]) -> list[Pair]:
        with entering(context, "map", step.map_batch) as own:
            columns = mapped_batches(step, batches, own, context, None)
            return [pair for key, value in columns for pair in zip(plain_keys(key), value.to_pylist(), strict=True)]

    every = batch_of(list(given), step.input)
    together = of_rows([every])
    with context.once_more():
        apart = of_rows([_alone(every, index, record, step) for index, record in enumerate(given)])
    _check_same(step, together, apart)
    return together


def _alone(every: Batch, index: int, record: Any, step: Step) -> Batch:
    """One of the records as a batch. The columns of Parquet have the types of their file, however rows are cut."""
    if isinstance(step.input, Parquet):
        return Batch(every.rows.slice(index, 1), 1, [record].__getitem__)
    return batch_of([record], step.input)


def _check_same(step: Step, together: list[Pair], alone: list[Pair]) -> None:
    """Refuse a map for which it makes a difference which records it gets together."""
    if not _same([as_pair(pair) for pair in together], [as_pair(pair) for pair in alone]):
        role, each = ("map_batch", "row") if step.map_records is None else ("map_records", "record")
        raise RequestError(
            f"{name_of(step.mapper)} gives {together!r:.200} for all {each}s at once, but {alone!r:.200} one by one",
            hint=f"what a {role} gives for a {each} must not depend on the other {each}s",
        )


def _settled(role: str, pairs: Iterable[Any], context: TaskContext) -> list[Pair]:
    """The pairs as the next task would read them."""
    kinds = Kinds(lambda: f"from {context.label} {context.record!r:.80}")
    admitted = [(kinds.admit(key), value) for key, value in (as_pair(pair, role) for pair in pairs)]
    plain = keys.decode_all(keys.sortable_all([key for key, _ in admitted]))
    return list(zip(plain, columns.to_values(columns.make([value for _, value in admitted])), strict=True))


def _reduced(step: Step, pairs: list[Pair], stack: ExitStack, context: TaskContext) -> list[Pair]:
    groups: dict[str, list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(keys.sortable(key), []).append(value)
    if step.inputs and not step.is_join:
        groups = {text: [value for _, value in group] for text, group in groups.items()}
    context.label = "key"
    texts = sorted(groups)
    reduce = _reducing(step, context, stack)
    output: list[Pair] = []
    with blamed(context, "reduce", step.reducer):
        for text, key in zip(texts, context.walk(keys.decode_all(texts)), strict=True):
            output.extend(_tried(step, reduce, key, groups[text], context))
        if step.reduce_batch is not None and texts:
            with context.once_more():
                every = [(text, value) for text in texts for value in groups[text]]
                _check_together(step, every, output, context)
        return _settled("reduce", output, context)


def _tried(step: Step, reduce: Reduce, key: Any, group: list[Any], context: TaskContext) -> list[Pair]:
    """What the reduce gives for one key, the same however its values were combined before."""
    packed = values.pack_all(group)

    def fresh(start: int, stop: int) -> list[Any]:
        return list(values.unpack_all(b"".join(packed[start:stop])))

    answer = reduce(key, [fresh(0, len(packed))])
    if step.combine is None and step.aggregation is None:
        return answer
    half = (len(packed) + 1) // 2
    cuts = {
        "each half of the values": [fresh(0, half), fresh(half, len(packed))],
        "every single value": [fresh(i, i + 1) for i in range(len(packed))],
    }
    for name, cut in cuts.items():
        with context.once_more():
            other = reduce(key, [part for part in cut if part])
        if not _same(answer, other):
            combining = step.reduce if step.combine is None else step.combine
            raise RequestError(
                f"{name_of(combining)} gives {other!r:.200} for the key {key!r:.80} when it combines {name}, "
                f"but {answer!r:.200} when it does not",
                hint="it must give the same answer however its input is grouped",
            )
    return answer


def _same(one: list[Pair], other: list[Pair]) -> bool:
    return _are_equal(one, other) or values.pack(one) == values.pack(other)  # as those of NaN are, wherever it lies


def _are_equal(one: Any, other: Any) -> bool:
    """Whether these are equal and of the same types, as far as lists, tuples and dicts go; 1 is not 1.0, and NaN is
    NaN.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_are_equal(value, other[key]) for key, value in one.items())
    return bool(one == other) or (isinstance(one, float) and one != one and other != other)  # noqa: PLR0124


def _reducing(step: Step, context: TaskContext, stack: ExitStack) -> Reduce:
    if isinstance(step.reduce, Aggregation):
        return _aggregating(step.reduce)
    if step.reduce_batch is not None:
        return _batching(step, context, stack)
    return _joining(step, context, stack) if step.is_join else _calling(step, context, stack)


def _entered_reduce(step: Step, context: TaskContext, stack: ExitStack) -> Callable[..., Any]:
    own = stack.enter_context(entering(context, "reduce", step.reducer))
    with blamed(context, "reduce", step.reducer, is_placed=False):
        return entered(step.reducer, own)


def _joining(step: Step, context: TaskContext, stack: ExitStack) -> Reduce:
    function = calling(_entered_reduce(step, context, stack), "reduce")

    def reduce(key: Any, cut: list[list[Any]]) -> list[Pair]:
        apart: list[list[Any]] = [[] for _ in step.inputs]
        for index, value in chain.from_iterable(cut):
            apart[index].append(value)
        if step.sort_values is not False:
            for values in apart:
                values.sort(key=None if step.sort_values is True else step.sort_values)
        *others, last = apart
        return [as_pair(pair, "reduce") for pair in function(key, *map(Values, others), iter(last))]

    return reduce


def _aggregating(aggregation: Aggregation[Any, Any, Any]) -> Reduce:
    def reduce(key: Any, cut: list[list[Any]]) -> list[Pair]:
        states = [aggregation.add_all(aggregation.start(), part) for part in cut]
        states = list(values.unpack_all(b"".join(values.pack_all(states))))
        state = states[0]
        for later in states[1:]:
            state = aggregation.merge(state, later)
        return [(key, aggregation.finish(state))]

    return reduce


def _batching(step: Step, context: TaskContext, stack: ExitStack) -> Reduce:
    """Of one group, as a batch of its own."""
    function = _entered_reduce(step, context, stack)
    combined = _combining(step, context, stack)

    def reduce(key: Any, cut: list[list[Any]]) -> list[Pair]:
        text = keys.sortable(key)
        batch = _group_batch(step, [(text, value) for value in combined(key, cut)])
        return _pairs_of(function(*batch.arguments(0, batch.count)))

    return reduce


def _check_together(step: Step, pairs: list[tuple[str, Any]], alone: list[Pair], context: TaskContext) -> None:
    """Raise RequestError unless all groups at once give what they give one by one."""
    batch = _group_batch(step, pairs)
    with entering(context, "reduce", step.reduce_batch) as own:
        together = [
            pair
            for key, value in reduced_batches(step, [batch], own, context, None)
            for pair in zip(plain_keys(key), value.to_pylist(), strict=True)
        ]
    if not _same(together, alone):
        raise RequestError(
            f"{name_of(step.reduce_batch)} gives {together!r:.200} for all groups at once, but {alone!r:.200} one by "
            "one",
            hint="what a reduce_batch gives for a group must not depend on the other groups, and stand in their order",
        )


def _group_batch(step: Step, pairs: list[tuple[str, Any]]) -> GroupBatch:
    """Pairs that are sorted by key; the value of a join is the index of an input, and a value of it."""
    if not step.is_join:
        return GroupBatch([_piece(pairs)], step.sort_values, Types(1))
    sides = range(len(step.inputs))
    apart = [[(text, value) for text, (index, value) in pairs if index == side] for side in sides]
    return GroupBatch([_piece(side) for side in apart], step.sort_values, Types(len(sides)))


def _piece(pairs: list[tuple[str, Any]]) -> Piece:
    column = columns.make([value for _, value in pairs])
    return Piece(
        key_columns.of_texts([text for text, _ in pairs]),
        key_columns.of_bytes(column) if isinstance(column, list) else column,
    )


def _pairs_of(given: Any) -> list[Pair]:
    columns_given = given_pairs(given, "reduce_batch")
    return [pair for key, value in columns_given for pair in zip(plain_keys(key), value.to_pylist(), strict=True)]


def _combining(step: Step, context: TaskContext, stack: ExitStack) -> Callable[[Any, list[list[Any]]], Iterator[Any]]:
    """What is left of the values of a key when each part of them is combined."""
    combine = None if step.combine is None else calling(entered_combine(step.combine, context, stack), "combine")

    def combined(key: Any, cut: list[list[Any]]) -> Iterator[Any]:
        for part in cut:
            if combine is None or len(cut) == 1:
                yield from part
                continue
            with blamed(context, "combine", step.combine), context.refusing("combine"):
                yield from [as_pair(pair, "combine")[1] for pair in combine(key, iter(part))]

    return combined


def _calling(step: Step, context: TaskContext, stack: ExitStack) -> Reduce:
    function = calling(_entered_reduce(step, context, stack), "reduce")
    combined = _combining(step, context, stack)

    def reduce(key: Any, cut: list[list[Any]]) -> list[Pair]:
        group = combined(key, cut)
        if step.sort_values is not False:
            group = iter(sorted(group, key=None if step.sort_values is True else step.sort_values))
        return [as_pair(pair, "reduce") for pair in function(key, group)]

    return reduce
