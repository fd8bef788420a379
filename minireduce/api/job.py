"""A job: what the user wants done, as one immutable value.

A `Job` holds steps, and a `Step` everything that a task of it needs; nothing runs here. Options that do not exist are
refused by Python itself, as unknown keyword arguments. Types travel: the overloads tell a checker the type of a
record, of keys and of values, so that a wrong aggregation or a map that returns instead of yields is seen before
anything runs.

`run`, `submit` and `test` reach what does the work through `hooks`, since this module knows nobody above it.
"""

# ruff: noqa: A002  `map` and `input` are the words of the field
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from minireduce.api import hooks
from minireduce.api.aggregations import Aggregation
from minireduce.api.formats import FixedWidth, InputFormat, Json, Pairs, Text
from minireduce.api.named_inputs import NamedInput, named_inputs, takes_each
from minireduce.api.partitioners import Hash, Partitioner, Range
from minireduce.api.results import Handle, Result
from minireduce.api.sizes import parse_size_bytes
from minireduce.api.skipping import SkipLimit, parse_skip_limit
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")
K3 = TypeVar("K3")
V3 = TypeVar("V3")
R = TypeVar("R")
T = TypeVar("T")

BatchMap = Callable[[Any], Any]
"""From a `pyarrow.RecordBatch` to one, a table, or an iterable of them, with the columns `key` and `value`."""

AnyMap = Callable[..., Iterable[tuple[Any, Any]]]
"""The map of one of several inputs; a checker finds no type that maps of different records have in common."""

Format = InputFormat[Any] | Result[Any, Any]
"""What one input is made of."""

REDUCERS_MAX = 100_000
TEXT = Text()
HASH = Hash()


@dataclass(frozen=True, slots=True)
class Step:
    """One map, and one reduce unless the step is map-only, with all that its tasks need to know.

    With several inputs, each of these has its own map and format, and `input_ends` says, once splits are cut, which
    split is the first after each.
    """

    map: Callable[..., Iterable[tuple[Any, Any]]] | None = None
    reduce: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | Aggregation[Any, Any, Any] | None = None
    combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None
    input: InputFormat[Any] = TEXT
    reducers: int | None = None
    partition: Partitioner = HASH
    sort: bool = True
    sort_values: bool | Callable[[Any], Any] = False
    memory_limit_bytes: int | None = None
    task_timeout_s: float | None = None
    map_batch: BatchMap | None = None
    output: FixedWidth | None = None
    inputs: tuple[NamedInput, ...] = ()
    input_ends: tuple[int, ...] = ()
    is_join: bool = False  # whether `reduce` takes the values of each input apart

    def input_of(self, split: int) -> int:
        """Which of several inputs this split belongs to."""
        return bisect_right(self.input_ends, split)

    def of_input(self, index: int) -> Step:
        """The step as those see it who read this one of several inputs."""
        own = self.inputs[index]
        return replace(self, map=own.map, map_batch=own.map_batch, input=own.format, inputs=())

    def of_split(self, split: int) -> Step:
        """The step as the map task of this split sees it."""
        return self.of_input(self.input_of(split)) if self.inputs else self

    @property
    def mapper(self) -> Callable[..., Any] | None:
        """What maps, record by record or batch by batch."""
        return self.map if self.map_batch is None else self.map_batch

    @property
    def is_map_only(self) -> bool:
        """Whether pairs go from the map straight into the output."""
        return self.reduce is None

    @property
    def takes_pairs(self) -> bool:
        """Whether a record is a pair, so that the map is called as `map(key, value)`."""
        return isinstance(self.input, Pairs)

    @property
    def aggregation(self) -> Aggregation[Any, Any, Any] | None:
        """The declared aggregation, if that is what reduces."""
        return self.reduce if isinstance(self.reduce, Aggregation) else None


class StepOptions(TypedDict, total=False):
    """Options of one step."""

    reducers: int | None
    partition: Partitioner
    sort: bool
    sort_values: bool | Callable[[Any], Any]
    memory_limit: str | int | None
    task_timeout_s: float | None
    output: FixedWidth | None


class JobOptions(StepOptions, total=False):
    """Options of the first step and of the job."""

    name: str | None
    attempts_max: int | None
    speculation: bool
    skip_bad_records: int | str | None


class Job(Generic[K, V]):
    """One or more steps over one input. Immutable; `then` gives a longer one.

    Args:
        map: called with each record; yields `(key, value)` pairs. For several inputs, a dict of such functions by the
            names of the inputs.
        map_batch: instead of `map`: called with many records at once, an Arrow record batch; gives one with the columns
            `key` and `value`. What it gives for a row must not depend on the other rows. Text and Bytes come as the
            columns `line` and `offset`, Numbers as `number`, pairs as `key` and `value`. For several inputs, a dict of
            these by name, beside or instead of that in `map`; these inputs come after those of `map`.
        reduce: a declared aggregation, or a function of a key and an iterator over its values that yields pairs.
            Without it the job is map-only. With several inputs, a function `(key, users, orders)`: the values of
            each input, the last as an iterator, the others as collections that may be looped over again; or, as
            with one input, a function of a key and of the values of all, in the order of the inputs.
        combine: as `reduce`, run any number of times on the way; keeps the key.
        input: what a record is, or the result of an earlier job, whose pairs the map is called with; lines of text if
            not given. For several inputs, a dict of these, or one for all.
        reducers: partitions of the output; chosen by input size if not given.
        partition: `Hash()`, `Range()`, or a function `(key, partitions) -> int`.
        output: `FixedWidth(n)`: what an output directory gets instead of lines of text.
        sort: whether keys reach `reduce` in ascending order; else their order is unspecified.
        sort_values: True, or a key function: the order of the values of one key.
        memory_limit: of one attempt, such as "512MB".
        task_timeout_s: how long an attempt may go without finishing a record.
        name: shown in listings; the name of the map if not given.
        attempts_max: failed attempts of one task before the job fails; None: what the settings say.
        speculation: whether a task that is expected to end late may be tried a second time beside the first.
        skip_bad_records: how many records that cannot be computed may be left out: a number, or a share of those that
            are read, such as "0.1%".

    Raises:
        RequestError: an option has a value that cannot be.
        TypeError: an option does not exist.
    """

    __slots__ = ("attempts_max", "name", "skip_limit", "speculation", "steps")

    steps: tuple[Step, ...]
    name: str
    attempts_max: int | None
    speculation: bool
    skip_limit: SkipLimit

    @overload
    def __init__(
        self: Job[Any, R],
        map: Mapping[str, AnyMap | None],
        reduce: Aggregation[Any, Any, R],
        *,
        map_batch: Mapping[str, BatchMap] = ...,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Mapping[str, AnyMap | None],
        reduce: Callable[..., Iterable[tuple[K, V]]],
        *,
        map_batch: Mapping[str, BatchMap] = ...,
        combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[Any, Any],
        map: Mapping[str, AnyMap | None],
        reduce: None = None,
        *,
        map_batch: Mapping[str, BatchMap] = ...,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, R],
        map: Callable[[str], Iterable[tuple[K, V2]]],
        reduce: Aggregation[V2, Any, R],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, R],
        map: Callable[[K3, V3], Iterable[tuple[K, V2]]],
        reduce: Aggregation[V2, Any, R],
        *,
        input: Pairs | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[K3, V3], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[K, V]]],
        *,
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        input: Pairs | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[K3, V3], Iterable[tuple[K, V]]],
        reduce: None = None,
        *,
        input: Pairs | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, R],
        map: Callable[[T], Iterable[tuple[K, V2]]],
        reduce: Aggregation[V2, Any, R],
        *,
        input: InputFormat[T],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[Any, R],
        *,
        map_batch: Mapping[str, BatchMap],
        reduce: Aggregation[Any, Any, R],
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_batch: Mapping[str, BatchMap],
        reduce: Callable[..., Iterable[tuple[K, V]]],
        combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[Any, Any],
        *,
        map_batch: Mapping[str, BatchMap],
        reduce: None = None,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[Any, R],
        *,
        map_batch: BatchMap,
        reduce: Aggregation[Any, Any, R],
        input: InputFormat[Any] | Result[Any, Any] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_batch: BatchMap,
        reduce: Callable[[Any, Iterator[Any]], Iterable[tuple[K, V]]],
        combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None,
        input: InputFormat[Any] | Result[Any, Any] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[Any, Any],
        *,
        map_batch: BatchMap,
        reduce: None = None,
        input: InputFormat[Any] | Result[Any, Any] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[str], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[K, V]]],
        *,
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[T], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[K, V]]],
        *,
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        input: InputFormat[T],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[str], Iterable[tuple[K, V]]],
        reduce: None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[T], Iterable[tuple[K, V]]],
        reduce: None = None,
        *,
        input: InputFormat[T],
        **options: Unpack[JobOptions],
    ) -> None: ...
    def __init__(
        self,
        map: Any = None,
        reduce: Any = None,
        *,
        map_batch: Any = None,
        combine: Any = None,
        input: Any = None,
        reducers: int | None = None,
        partition: Partitioner = HASH,
        sort: bool = True,
        sort_values: bool | Callable[[Any], Any] = False,
        memory_limit: str | int | None = None,
        task_timeout_s: float | None = None,
        output: FixedWidth | None = None,
        name: str | None = None,
        attempts_max: int | None = None,
        speculation: bool = True,
        skip_bad_records: int | str | None = None,
    ) -> None:
        inputs = named_inputs(map, map_batch, input)
        own = None if inputs else input
        record = TEXT if own is None else Pairs(own) if isinstance(own, Result) else own
        if not isinstance(record, InputFormat):
            raise RequestError(
                f"input={input!r} is no format", hint="give Text(), Bytes() or a result; paths go to run or submit"
            )
        step = _step(
            map=None if inputs else map,
            map_batch=None if inputs else map_batch,
            reduce=reduce,
            combine=combine,
            input=record,
            reducers=reducers,
            partition=partition,
            sort=sort,
            sort_values=sort_values,
            memory_limit=memory_limit,
            task_timeout_s=task_timeout_s,
            output=output,
            inputs=inputs,
            is_join=takes_each(reduce, inputs),
        )
        if step.mapper is None and not step.takes_pairs and not inputs:
            raise RequestError("a job needs a map", hint="give a function of a record that yields (key, value) pairs")
        if attempts_max is not None and not _is_count(attempts_max, 1, 100):
            raise RequestError(f"attempts_max={attempts_max!r} must be a whole number from 1 to 100")
        if not isinstance(speculation, bool):
            raise RequestError(f"speculation={speculation!r} must be True or False")
        if name is not None and not isinstance(name, str):
            raise RequestError(f"name={name!r} must be a string")
        object.__setattr__(self, "steps", (step,))
        object.__setattr__(self, "name", name or _name_of(step))
        object.__setattr__(self, "attempts_max", attempts_max)
        object.__setattr__(self, "speculation", speculation)
        object.__setattr__(self, "skip_limit", parse_skip_limit(skip_bad_records))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Job never changes; make another one with {name}=…")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Job never changes")

    def __repr__(self) -> str:
        return f"<Job {self.name!r}, {len(self.steps)} {'step' if len(self.steps) == 1 else 'steps'}>"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.steps, self.name, self.attempts_max, self.speculation, self.skip_limit))

    @overload
    def then(
        self,
        map: Callable[[K, V], Iterable[tuple[K2, V2]]],
        reduce: Aggregation[V2, Any, R],
        **options: Unpack[StepOptions],
    ) -> Job[K2, R]: ...
    @overload
    def then(
        self,
        map: Callable[[K, V], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[T, R]]],
        *,
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        **options: Unpack[StepOptions],
    ) -> Job[T, R]: ...
    @overload
    def then(
        self,
        map: Callable[[K, V], Iterable[tuple[K2, V2]]],
        reduce: None = None,
        **options: Unpack[StepOptions],
    ) -> Job[K2, V2]: ...
    @overload
    def then(
        self, *, map_batch: BatchMap, reduce: Aggregation[Any, Any, R], **options: Unpack[StepOptions]
    ) -> Job[Any, R]: ...
    @overload
    def then(
        self,
        *,
        map_batch: BatchMap,
        reduce: Callable[[Any, Iterator[Any]], Iterable[tuple[T, R]]],
        combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None,
        **options: Unpack[StepOptions],
    ) -> Job[T, R]: ...
    @overload
    def then(self, *, map_batch: BatchMap, reduce: None = None, **options: Unpack[StepOptions]) -> Job[Any, Any]: ...
    @overload
    def then(self, map: None, reduce: Aggregation[V, Any, R], **options: Unpack[StepOptions]) -> Job[K, R]: ...
    @overload
    def then(
        self,
        map: None,
        reduce: Callable[[K, Iterator[V]], Iterable[tuple[T, R]]],
        *,
        combine: Callable[[K, Iterator[V]], Iterable[tuple[K, V]]] | None = None,
        **options: Unpack[StepOptions],
    ) -> Job[T, R]: ...
    def then(
        self,
        map: Any = None,
        reduce: Any = None,
        *,
        map_batch: BatchMap | None = None,
        combine: Any = None,
        reducers: int | None = None,
        partition: Partitioner = HASH,
        sort: bool = True,
        sort_values: bool | Callable[[Any], Any] = False,
        memory_limit: str | int | None = None,
        task_timeout_s: float | None = None,
        output: FixedWidth | None = None,
    ) -> Job[Any, Any]:
        """This job with one more step over its pairs.

        Args:
            map: called as `map(key, value)`; None passes pairs on.
            map_batch: instead of `map`: called with a batch of the columns `key` and `value`.
            reduce: as for a Job; so are all options.
        """
        step = _step(
            map=map,
            map_batch=map_batch,
            reduce=reduce,
            combine=combine,
            input=Pairs(),
            reducers=reducers,
            partition=partition,
            sort=sort,
            sort_values=sort_values,
            memory_limit=memory_limit,
            task_timeout_s=task_timeout_s,
            output=output,
        )
        if isinstance(step.partition, Range):
            raise RequestError(
                "Range() samples the input of a job, and this is a later step",
                hint="make the step a job of its own, over the result of the steps before: Job(…, input=result)",
            )
        if step.mapper is None and step.reduce is None:
            raise RequestError("this step does nothing", hint="give .then a map, a reduce, or both")
        return _rebuild((*self.steps, step), self.name, self.attempts_max, self.speculation, self.skip_limit)

    def test(self, records: Iterable[Any] | Mapping[str, Iterable[Any]]) -> list[tuple[K, V]]:
        """The pairs that the job gives for `records`, in this process and without files. Several inputs: a dict.

        Combining none, once and many times must give the same; RequestError tells where it does not.
        """
        pairs: list[tuple[K, V]] = hooks.call("test")(self, records)
        return pairs

    def run(self, *inputs: Any, **options: Any) -> Result[K, V]:
        """Run the job and wait for its end.

        Args:
            inputs: files, directories or globs, or lists of them; for a job over `Pairs()`, results of earlier jobs.
                For several inputs one dict of these by name, `{"users": "users.csv", "orders": ["a.csv", "b.csv"]}`.
            options: output, overwrite, inline, master, slots, and what `minireduce submit` takes.

        Raises:
            JobFailed: user code raised; also an instance of the class that it raised, where that can be imported here.
        """
        result: Result[K, V] = hooks.call("run")(self, *inputs, **options)
        return result

    def submit(self, *inputs: Any, **options: Any) -> Handle[K, V]:
        """Start the job and give a handle at once; takes what `run` takes."""
        handle: Handle[K, V] = hooks.call("submit")(self, *inputs, **options)
        return handle

    def with_steps(self, steps: tuple[Step, ...]) -> Job[K, V]:
        """This job with other steps."""
        return _rebuild(steps, self.name, self.attempts_max, self.speculation, self.skip_limit)

    def replaced(self, **fields: Any) -> Job[K, V]:
        """This job with fields of every step replaced, for settings that come from outside such as `--reducers`."""
        steps = tuple(replace(step, **fields) for step in self.steps)
        return _rebuild(steps, self.name, self.attempts_max, self.speculation, self.skip_limit)


def _rebuild(
    steps: tuple[Step, ...], name: str, attempts_max: int | None, speculation: bool, skip_limit: SkipLimit
) -> Job[Any, Any]:
    job: Job[Any, Any] = object.__new__(Job)
    object.__setattr__(job, "steps", steps)
    object.__setattr__(job, "name", name)
    object.__setattr__(job, "attempts_max", attempts_max)
    object.__setattr__(job, "speculation", speculation)
    object.__setattr__(job, "skip_limit", skip_limit)
    return job


def _name(function: object) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def _name_of(step: Step) -> str:
    if not step.inputs:
        return _name(step.mapper)
    is_function = step.reduce is not None and step.aggregation is None
    return _name(step.reduce if is_function else step.inputs[0].mapper)


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _no_columns_hint(form: InputFormat[Any]) -> str:
    if isinstance(form, Json):
        return 'declare the columns, such as Json({"user": str, "n": int}), or give a map in place of map_batch'
    return "give a map in place of map_batch"


def _step(*, memory_limit: str | int | None, **fields: Any) -> Step:
    """The step of these options. Raises RequestError for what cannot be."""
    step = Step(memory_limit_bytes=None if memory_limit is None else parse_size_bytes(memory_limit), **fields)
    if step.map is not None and step.map_batch is not None:
        raise RequestError("a step has a map or a map_batch, not both", hint="leave one of them out")
    if step.map_batch is not None and not step.input.has_columns:
        raise RequestError(f"{step.input!r} is read record by record", hint=_no_columns_hint(step.input))
    if step.is_join and step.combine is not None:
        raise RequestError(
            "a reduce that takes the values of each input apart has no combine",
            hint="leave combine out, or write reduce(key, values) for the values of all inputs",
        )
    for role in ("map", "map_batch", "reduce", "combine"):
        given = getattr(step, role)
        if isinstance(given, type) and issubclass(given, Aggregation):
            raise RequestError(f"{role}={given.__name__} is the class", hint=f"write {given.__name__}()")
        if given is not None and not callable(given) and not (role == "reduce" and isinstance(given, Aggregation)):
            raise RequestError(f"{role}={given!r} cannot be called", hint=f"give a function as {role}")
    if step.combine is not None and step.reduce is None:
        raise RequestError("a step with combine needs a reduce")
    if step.combine is not None and step.aggregation is not None:
        raise RequestError(f"{type(step.reduce).__name__}() combines by itself", hint="leave combine out")
    if step.reducers is not None and not _is_count(step.reducers, 1, REDUCERS_MAX):
        raise RequestError(f"reducers={step.reducers!r} must be a whole number from 1 to {REDUCERS_MAX}")
    is_named = isinstance(step.partition, Hash | Range)
    if not is_named and (isinstance(step.partition, type) or not callable(step.partition)):
        raise RequestError(
            f"partition={step.partition!r}", hint="give Hash(), Range() or a function (key, partitions) -> int"
        )
    if step.output is not None and not isinstance(step.output, FixedWidth):
        raise RequestError(f"output={step.output!r} is no format", hint="give FixedWidth(n); a place goes to run or -o")
    if not isinstance(step.sort, bool):
        raise RequestError(f"sort={step.sort!r} must be True or False")
    if not isinstance(step.sort_values, bool) and not callable(step.sort_values):
        raise RequestError(f"sort_values={step.sort_values!r} must be True, False or a key function")
    timeout = step.task_timeout_s
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise RequestError(f"task_timeout_s={timeout!r} must be a number of seconds above 0")
    return step
