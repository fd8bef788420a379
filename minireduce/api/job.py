"""A job: what the user wants done, as one immutable value.

A `Job` holds steps (step.py); nothing runs here. Options that do not exist are refused by Python itself, as unknown
keyword arguments. Types travel: the overloads tell a checker the type of a record, of keys and of values, so that a
wrong aggregation or a map that returns instead of yields is seen before anything runs.

`run`, `submit` and `test` reach what does the work through `hooks`, since this module knows nobody above it.
"""

# ruff: noqa: A002  `map` and `input` are the words of the field
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar, Unpack, overload

from minireduce.api import hooks
from minireduce.api.aggregations import Aggregation
from minireduce.api.formats import FORMATS, FixedWidth, InputFormat, KeyValue, Pairs, Text
from minireduce.api.named_inputs import named_inputs, takes_each
from minireduce.api.partitioners import Partitioner, Range
from minireduce.api.results import Handle, Result, Tested
from minireduce.api.shipped import Paths, paths_of
from minireduce.api.skipping import SkipLimit, parse_skip_limit
from minireduce.api.step import (
    HASH,
    TEXT,
    BatchMap,
    BatchReduce,
    JobOptions,
    RecordsMap,
    Step,
    StepOptions,
    is_count,
    make_step,
)
from minireduce.errors import RequestError

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")
K3 = TypeVar("K3")
V3 = TypeVar("V3")
R = TypeVar("R")
T = TypeVar("T")

NO_OUTPUTS: Mapping[str, Text] = MappingProxyType({})

AnyMap = Callable[..., Iterable[tuple[Any, Any]]]
"""The map of one of several inputs; a checker finds no type that maps of different records have in common."""

Format = InputFormat[Any] | Result[Any, Any]
"""What one input is made of."""


class Job(Generic[K, V]):
    """One or more steps over one input. Immutable; `then` gives a longer one.

    Args:
        map: called with each record; yields `(key, value)` pairs. For several inputs, a dict of such functions by the
            names of the inputs.
        map_records: instead of `map`: called with an iterator over all records of a split, or over its pairs; yields
            pairs. What it yields for a record must not depend on the other records. For several inputs, a dict of
            these by name.
        map_batch: instead of `map`: called with many records at once, an Arrow record batch; gives one with the columns
            `key` and `value`. What it gives for a row must not depend on the other rows. Text and Bytes come as the
            columns `line` and `offset`, Numbers as `number`, pairs and KeyValue as `key` and `value`. For several
            inputs, a dict of these by name, beside or instead of that in `map`; these inputs come after those of the
            others.
        reduce: a declared aggregation, or a function of a key and an iterator over its values that yields pairs.
            Without it the job is map-only. With several inputs, a function `(key, users, orders)`: the values of
            each input, the last as an iterator, the others as collections that may be looped over again; or, as
            with one input, a function of a key and of the values of all, in the order of the inputs.
        reduce_batch: instead of `reduce`: called with many whole groups at once, an Arrow record batch of the columns
            `key` and `value` in the order of keys; gives one with the same columns. What it gives for a key must not
            depend on the other keys of the batch. With several inputs it is called with a batch of each, or, if it
            takes one argument, with the pairs of all.
        combine: as `reduce`, run any number of times on the way; keeps the key.
        input: what a record is, or the result of an earlier job, whose pairs the map is called with; lines of text if
            not given. For several inputs, a dict of these, or one for all.
        reducers: partitions of the output; chosen by input size if not given.
        partition: `Hash()`, `Range()`, or a function `(key, partitions) -> int`.
        output: `FixedWidth(n)`: what an output directory gets instead of lines of text.
        outputs: outputs beside the pairs, by name, such as `{"errors": Text()}`: what the map and the reduce give to
            them by `task.emit("errors", key, value)`. They are there with the output, or not at all.
        sort: whether keys reach `reduce` in ascending order; else their order is unspecified.
        sort_values: True, or a key function: the order of the values of one key.
        memory_limit: of one attempt, such as "512MB".
        task_timeout_s: how long an attempt may go without finishing a record.
        name: shown in listings; the name of the map if not given.
        attempts_max: failed attempts of one task before the job fails; None: what the settings say.
        speculation: whether a task that is expected to end late may be tried a second time beside the first.
        skip_bad_records: how many records that cannot be computed may be left out: a number, or a share of those that
            are read, such as "0.1%".
        files: paths of files that every task finds in `task.work_dir`, under their names.
        py_files: paths of modules, packages or zip archives that the job imports where its tasks run.

    Raises:
        RequestError: an option has a value that cannot be.
        TypeError: an option does not exist.
    """

    __slots__ = ("attempts_max", "files", "name", "py_files", "skip_limit", "speculation", "steps")

    steps: tuple[Step, ...]
    name: str
    attempts_max: int | None
    speculation: bool
    skip_limit: SkipLimit
    files: tuple[str, ...]
    py_files: tuple[str, ...]

    @overload
    def __init__(
        self: Job[Any, R],
        map: Mapping[str, AnyMap | None],
        reduce: Aggregation[Any, Any, R],
        *,
        map_records: Mapping[str, RecordsMap] = ...,
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
        map_records: Mapping[str, RecordsMap] = ...,
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
        map_records: Mapping[str, RecordsMap] = ...,
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
        input: Pairs | KeyValue | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[K3, V3], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[K, V]]],
        *,
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        input: Pairs | KeyValue | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        map: Callable[[K3, V3], Iterable[tuple[K, V]]],
        reduce: None = None,
        *,
        input: Pairs | KeyValue | Result[K3, V3],
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
        map_records: Mapping[str, RecordsMap] = ...,
        map_batch: Mapping[str, BatchMap],
        reduce: Aggregation[Any, Any, R],
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Mapping[str, RecordsMap] = ...,
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
        map_records: Mapping[str, RecordsMap] = ...,
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
    @overload
    def __init__(
        self: Job[Any, Any],
        map: AnyMap | Mapping[str, AnyMap | None] | None = None,
        *,
        map_records: RecordsMap | Mapping[str, RecordsMap] = ...,
        map_batch: BatchMap | Mapping[str, BatchMap] = ...,
        reduce_batch: BatchReduce,
        combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[Any, R],
        *,
        map_records: Mapping[str, RecordsMap],
        reduce: Aggregation[Any, Any, R],
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Mapping[str, RecordsMap],
        reduce: Callable[..., Iterable[tuple[K, V]]],
        combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[Any, Any],
        *,
        map_records: Mapping[str, RecordsMap],
        reduce: None = None,
        input: Format | Mapping[str, Format] = ...,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, R],
        *,
        map_records: Callable[[Iterator[str]], Iterable[tuple[K, V2]]],
        reduce: Aggregation[V2, Any, R],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Callable[[Iterator[str]], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[K, V]]],
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Callable[[Iterator[str]], Iterable[tuple[K, V]]],
        reduce: None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, R],
        *,
        map_records: Callable[[Iterator[tuple[K3, V3]]], Iterable[tuple[K, V2]]],
        reduce: Aggregation[V2, Any, R],
        input: Pairs | KeyValue | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Callable[[Iterator[tuple[K3, V3]]], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[K, V]]],
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        input: Pairs | KeyValue | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Callable[[Iterator[tuple[K3, V3]]], Iterable[tuple[K, V]]],
        reduce: None = None,
        input: Pairs | KeyValue | Result[K3, V3],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, R],
        *,
        map_records: Callable[[Iterator[T]], Iterable[tuple[K, V2]]],
        reduce: Aggregation[V2, Any, R],
        input: InputFormat[T],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Callable[[Iterator[T]], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[K, V]]],
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        input: InputFormat[T],
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Job[K, V],
        *,
        map_records: Callable[[Iterator[T]], Iterable[tuple[K, V]]],
        reduce: None = None,
        input: InputFormat[T],
        **options: Unpack[JobOptions],
    ) -> None: ...
    def __init__(
        self,
        map: Any = None,
        reduce: Any = None,
        *,
        map_records: Any = None,
        map_batch: Any = None,
        reduce_batch: Any = None,
        combine: Any = None,
        input: Any = None,
        reducers: int | None = None,
        partition: Partitioner = HASH,
        sort: bool = True,
        sort_values: bool | Callable[[Any], Any] = False,
        memory_limit: str | int | None = None,
        task_timeout_s: float | None = None,
        output: FixedWidth | None = None,
        outputs: Mapping[str, Text] = NO_OUTPUTS,
        name: str | None = None,
        attempts_max: int | None = None,
        speculation: bool = True,
        skip_bad_records: int | str | None = None,
        files: Paths = (),
        py_files: Paths = (),
    ) -> None:
        inputs = named_inputs(map, map_records, map_batch, input)
        own = None if inputs else input
        record = TEXT if own is None else Pairs(own) if isinstance(own, Result) else own
        if not isinstance(record, InputFormat):
            raise RequestError(
                f"input={input!r} is no format", hint=f"give {FORMATS}, or a result; paths go to run or submit"
            )
        step = make_step(
            map=None if inputs else map,
            map_records=None if inputs else map_records,
            map_batch=None if inputs else map_batch,
            reduce=reduce,
            reduce_batch=reduce_batch,
            combine=combine,
            input=record,
            reducers=reducers,
            partition=partition,
            sort=sort,
            sort_values=sort_values,
            memory_limit=memory_limit,
            task_timeout_s=task_timeout_s,
            output=output,
            outputs=outputs,
            inputs=inputs,
            is_join=takes_each(reduce_batch or reduce, inputs, is_batched=reduce_batch is not None),
        )
        if step.mapper is None and not step.takes_pairs and not inputs:
            raise RequestError("a job needs a map", hint="give a function of a record that yields (key, value) pairs")
        if attempts_max is not None and not is_count(attempts_max, 1, 100):
            raise RequestError(f"attempts_max={attempts_max!r} must be a whole number from 1 to 100")
        if not isinstance(speculation, bool):
            raise RequestError(f"speculation={speculation!r} must be True or False")
        if name is not None and not isinstance(name, str):
            raise RequestError(f"name={name!r} must be a string")
        fields = {
            "steps": (step,),
            "name": name or _name_of(step),
            "attempts_max": attempts_max,
            "speculation": speculation,
            "skip_limit": parse_skip_limit(skip_bad_records),
            "files": paths_of("files", files),
            "py_files": paths_of("py_files", py_files),
        }
        _fill(self, fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Job never changes; make another one with {name}=…")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Job never changes")

    def __repr__(self) -> str:
        return f"<Job {self.name!r}, {len(self.steps)} {'step' if len(self.steps) == 1 else 'steps'}>"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self._fields(),))

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
        self,
        *,
        map_records: Callable[[Iterator[tuple[K, V]]], Iterable[tuple[K2, V2]]],
        reduce: Aggregation[V2, Any, R],
        **options: Unpack[StepOptions],
    ) -> Job[K2, R]: ...
    @overload
    def then(
        self,
        *,
        map_records: Callable[[Iterator[tuple[K, V]]], Iterable[tuple[K2, V2]]],
        reduce: Callable[[K2, Iterator[V2]], Iterable[tuple[T, R]]],
        combine: Callable[[K2, Iterator[V2]], Iterable[tuple[K2, V2]]] | None = None,
        **options: Unpack[StepOptions],
    ) -> Job[T, R]: ...
    @overload
    def then(
        self,
        *,
        map_records: Callable[[Iterator[tuple[K, V]]], Iterable[tuple[K2, V2]]],
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
    @overload
    def then(
        self,
        map: Callable[[K, V], Iterable[tuple[Any, Any]]] | None = None,
        *,
        map_records: RecordsMap = ...,
        map_batch: BatchMap = ...,
        reduce_batch: BatchReduce,
        combine: Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None,
        **options: Unpack[StepOptions],
    ) -> Job[Any, Any]: ...
    def then(
        self,
        map: Any = None,
        reduce: Any = None,
        *,
        map_records: RecordsMap | None = None,
        map_batch: BatchMap | None = None,
        reduce_batch: BatchReduce | None = None,
        combine: Any = None,
        reducers: int | None = None,
        partition: Partitioner = HASH,
        sort: bool = True,
        sort_values: bool | Callable[[Any], Any] = False,
        memory_limit: str | int | None = None,
        task_timeout_s: float | None = None,
        output: FixedWidth | None = None,
        outputs: Mapping[str, Text] = NO_OUTPUTS,
    ) -> Job[Any, Any]:
        """This job with one more step over its pairs.

        Args:
            map: called as `map(key, value)`; None passes pairs on.
            map_records: instead of `map`: called with an iterator over pairs.
            map_batch: instead of `map`: called with a batch of the columns `key` and `value`.
            reduce: as for a Job; so are `reduce_batch` and all options.
        """
        step = make_step(
            map=map,
            map_records=map_records,
            map_batch=map_batch,
            reduce=reduce,
            reduce_batch=reduce_batch,
            combine=combine,
            input=Pairs(),
            reducers=reducers,
            partition=partition,
            sort=sort,
            sort_values=sort_values,
            memory_limit=memory_limit,
            task_timeout_s=task_timeout_s,
            output=output,
            outputs=outputs,
        )
        step = replace(step, taken_over=self.outputs)
        if isinstance(step.partition, Range):
            raise RequestError(
                "Range() samples the input of a job, and this is a later step",
                hint="make it a job of its own over the result of the steps before it: result = job.run(…), and then "
                f"Job({'None' if step.mapper is None else _name(step.mapper)}, …, input=result, partition=Range())",
            )
        if step.mapper is None and step.is_map_only:
            raise RequestError("this step does nothing", hint="give .then a map, a reduce, or both")
        return self.with_steps((*self.steps, step))

    def test(self, records: Iterable[Any] | Mapping[str, Iterable[Any]]) -> Tested[K, V]:
        """The pairs that the job gives for `records`, in this process and without files. Several inputs: a dict.

        Combining none, once and many times must give the same; RequestError tells where it does not. What was given to
        named outputs is in `.outputs["errors"]` of the list.
        """
        pairs: Tested[K, V] = hooks.call("test")(self, records)
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

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that its steps declare, ascending."""
        last = self.steps[-1]
        return tuple(sorted({*last.outputs, *last.taken_over}))

    def with_steps(self, steps: tuple[Step, ...]) -> Job[Any, Any]:
        """This job with other steps."""
        return _rebuild({**self._fields(), "steps": steps})

    def replaced(self, **fields: Any) -> Job[K, V]:
        """This job with fields of every step replaced, for settings that come from outside such as `--reducers`."""
        return self.with_steps(tuple(replace(step, **fields) for step in self.steps))

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Job.__slots__}


def _rebuild(fields: dict[str, Any]) -> Job[Any, Any]:
    job: Job[Any, Any] = object.__new__(Job)
    _fill(job, fields)
    return job


def _fill(job: Job[Any, Any], fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        object.__setattr__(job, name, value)


def _name(function: object) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def _name_of(step: Step) -> str:
    if not step.inputs:
        return _name(step.mapper)
    is_function = not step.is_map_only and step.aggregation is None
    return _name(step.reducer if is_function else step.inputs[0].mapper)
