"""One step of a job: a map, a reduce unless it is map-only, and their options, as one immutable value.

`make_step` refuses what cannot be, and says what can, so whoever holds a `Step` need not look at it again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypedDict

from minireduce.api.aggregations import Aggregation
from minireduce.api.formats import FixedWidth, InputFormat, Json, KeyValue, Pairs, Text
from minireduce.api.named_inputs import NamedInput
from minireduce.api.partitioners import Hash, Partitioner, Range
from minireduce.api.shipped import Paths
from minireduce.api.sizes import parse_size_bytes
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

BatchMap = Callable[[Any], Any]
"""From a `pyarrow.RecordBatch` to one, a table, or an iterable of them, with the columns `key` and `value`."""

BatchReduce = Callable[..., Any]
"""The same from a batch of whole groups; where there are several inputs, from one of each."""
RecordsMap = Callable[[Iterator[Any]], Iterable[tuple[Any, Any]]]
"""From an iterator over records to pairs."""

MAPS = ("map", "map_records", "map_batch")
"""The ways to map, of which a step has one."""

REDUCERS_MAX = 100_000
OUTPUTS_MAX = 100
"""Outputs that a step may declare: a task has a file for each."""

_OUTPUT_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]{0,63}")
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
    map_records: RecordsMap | None = None
    map_batch: BatchMap | None = None
    reduce_batch: BatchReduce | None = None
    output: FixedWidth | None = None
    inputs: tuple[NamedInput, ...] = ()
    input_ends: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ()  # names of what its map and reduce may give aside
    taken_over: tuple[str, ...] = ()  # and of what steps before it gave
    is_join: bool = False  # whether what reduces takes the values of each input apart

    def input_of(self, split: int) -> int:
        """Which of several inputs this split belongs to."""
        return bisect_right(self.input_ends, split)

    def of_input(self, index: int) -> Step:
        """The step as those see it who read this one of several inputs."""
        own = self.inputs[index]
        return replace(
            self, map=own.map, map_records=own.map_records, map_batch=own.map_batch, input=own.format, inputs=()
        )

    def of_split(self, split: int) -> Step:
        """The step as the map task of this split sees it."""
        return self.of_input(self.input_of(split)) if self.inputs else self

    @property
    def mapper(self) -> Callable[..., Any] | None:
        """What maps, record by record, all of them, or batch by batch."""
        if self.map is not None:
            return self.map
        return self.map_batch if self.map_records is None else self.map_records

    @property
    def reducer(self) -> Callable[..., Any] | Aggregation[Any, Any, Any] | None:
        """What reduces, group by group, batch by batch, or as declared."""
        return self.reduce if self.reduce_batch is None else self.reduce_batch

    @property
    def is_map_only(self) -> bool:
        """Whether pairs go from the map straight into the output."""
        return self.reducer is None

    @property
    def gives_aside(self) -> bool:
        """Whether anything but its pairs goes through this step."""
        return bool(self.outputs or self.taken_over)

    @property
    def takes_pairs(self) -> bool:
        """Whether a record is a pair, so that the map is called as `map(key, value)`."""
        return isinstance(self.input, Pairs | KeyValue)

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
    outputs: Mapping[str, Text]


class JobOptions(StepOptions, total=False):
    """Options of the first step and of the job."""

    name: str | None
    attempts_max: int | None
    speculation: bool
    skip_bad_records: int | str | None
    files: Paths
    py_files: Paths


def check_reducers(reducers: object) -> None:
    """Raise RequestError for a number of reducers that cannot be."""
    if reducers is not None and not is_count(reducers, 1, REDUCERS_MAX):
        raise RequestError(f"reducers={reducers!r} must be a whole number from 1 to {REDUCERS_MAX}")


def is_output_name(name: object) -> bool:
    """Whether an output can have this name, which is that of a directory too."""
    return isinstance(name, str) and bool(_OUTPUT_NAME.fullmatch(name)) and not name.startswith("part-")


def output_names(outputs: object) -> tuple[str, ...]:
    """The names of declared outputs, ascending. Raises RequestError for what cannot be."""
    if not isinstance(outputs, Mapping):
        raise RequestError(f"outputs={outputs!r:.80} declares nothing", hint='write outputs={"errors": Text()}')
    if len(outputs) > OUTPUTS_MAX:
        raise RequestError(
            f"a step declares {len(outputs)} outputs, more than {OUTPUTS_MAX}",
            hint="give a pair's kind in its key, and fewer outputs",
        )
    for name, form in outputs.items():
        if not is_output_name(name):
            raise RequestError(
                f"an output cannot be named {name!r:.80}",
                hint="its name is that of a directory: a letter, then letters, digits, _ and -, 64 in all; "
                "not part-…, as parts are called",
            )
        if type(form) is not Text:
            raise RequestError(f"the output {name!r} cannot be {form!r:.80}", hint="give Text()")
    return tuple(sorted(outputs))


def is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _no_columns_hint(form: InputFormat[Any]) -> str:
    if isinstance(form, Json):
        return 'declare the columns, such as Json({"user": str, "n": int}), or give a map in place of map_batch'
    return "give a map in place of map_batch"


def make_step(*, memory_limit: str | int | None, outputs: Mapping[str, Text], **fields: Any) -> Step:
    """The step of these options. Raises RequestError for what cannot be."""
    step = Step(memory_limit_bytes=None if memory_limit is None else parse_size_bytes(memory_limit), **fields)
    step = replace(step, outputs=output_names(outputs))
    given = [role for role in MAPS if getattr(step, role) is not None]
    if len(given) > 1:
        raise RequestError(f"a step has a {given[0]} or a {given[1]}, not both", hint="leave one of them out")
    if step.reduce is not None and step.reduce_batch is not None:
        raise RequestError("a step has a reduce or a reduce_batch, not both", hint="leave one of them out")
    if isinstance(step.reduce_batch, Aggregation):
        raise RequestError(
            f"reduce_batch={step.reduce_batch!r} is a declared aggregation", hint=f"write reduce={step.reduce_batch!r}"
        )
    if step.map_batch is not None and not step.input.has_columns:
        raise RequestError(f"{step.input!r} is read record by record", hint=_no_columns_hint(step.input))
    if step.is_join and step.combine is not None:
        raise RequestError(
            "a reduce that takes the values of each input apart has no combine",
            hint="leave combine out, or write a reduce that takes the values of all inputs together",
        )
    for role in (*MAPS, "reduce", "reduce_batch", "combine"):
        function = getattr(step, role)
        if isinstance(function, type) and issubclass(function, Aggregation):
            raise RequestError(f"{role}={function.__name__} is the class", hint=f"write {function.__name__}()")
        if function is None or callable(function) or (role == "reduce" and isinstance(function, Aggregation)):
            continue
        raise RequestError(f"{role}={function!r} cannot be called", hint=f"give a function as {role}")
    if step.combine is not None and step.is_map_only:
        raise RequestError("a step with combine needs a reduce")
    if step.combine is not None and step.aggregation is not None:
        raise RequestError(f"{type(step.reduce).__name__}() combines by itself", hint="leave combine out")
    check_reducers(step.reducers)
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
