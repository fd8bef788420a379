"""Several inputs of one job, each with a name, a format and a map of its own.

What reduces is told apart by how it is called. `join(key, users, orders)` takes the values of each input apart, and so
does a `reduce_batch` that is called as `join(users, orders)`; a declared aggregation, `reduce(key, values)`, or a
`reduce_batch` of one batch takes those of all inputs together, in the order of the inputs.
"""

# ruff: noqa: A002  `map` is the word of the field
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minireduce.api.aggregations import Aggregation
from minireduce.api.formats import InputFormat, Pairs, Text
from minireduce.api.results import Result
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

INPUTS_MAX = 100


@dataclass(frozen=True, slots=True)
class NamedInput:
    """One of several inputs, and the map of its records."""

    name: str
    map: Callable[..., Iterable[tuple[Any, Any]]] | None
    format: InputFormat[Any]
    map_batch: Callable[[Any], Any] | None = None

    @property
    def mapper(self) -> Callable[..., Any] | None:
        """What maps, record by record or batch by batch."""
        return self.map if self.map_batch is None else self.map_batch


def named_inputs(map: object, map_batch: object, formats: object) -> tuple[NamedInput, ...]:
    """The inputs of a job, in the order of its maps, those of batches last; none if no input has a name.

    Raises RequestError for names or formats that do not fit.
    """
    if not isinstance(map, Mapping) and not isinstance(map_batch, Mapping):
        return ()
    apart, batched = _by_name("map", map), _by_name("map_batch", map_batch)
    for name in batched:
        if name in apart:
            raise RequestError(
                f"input {name} has a map and a map_batch", hint="leave one of them out, or give inputs two names"
            )
    maps = {**apart, **batched}
    if not 1 <= len(maps) <= INPUTS_MAX:
        raise RequestError(
            f"a job has 1 to {INPUTS_MAX} inputs, not {len(maps)}", hint='such as {"users": f, "orders": g}'
        )
    for name in maps:
        if not isinstance(name, str) or not name.isidentifier():
            raise RequestError(f"an input cannot be called {name!r}", hint="take letters, digits and _ for its name")
    if isinstance(formats, Mapping):
        _check_same(maps, formats)
        given = dict(formats)
    else:
        given = dict.fromkeys(maps, Text() if formats is None else formats)
    found = []
    for name, function in maps.items():
        record = Pairs(given[name]) if isinstance(given[name], Result) else given[name]
        if not isinstance(record, InputFormat):
            raise RequestError(f"input {name}: {record!r} is no format", hint="give Text(), Csv() or a result")
        if function is None and not isinstance(record, Pairs):
            raise RequestError(f"input {name} needs a map", hint="give a function of a record that yields pairs")
        if name in batched and not record.has_columns:
            raise RequestError(f"input {name}: {record!r} is read record by record", hint="name it in map instead")
        if function is not None and not callable(function):
            raise RequestError(f"the map of input {name}, {function!r}, cannot be called", hint="give a function")
        by_row, by_batch = (None, function) if name in batched else (function, None)
        found.append(NamedInput(name, by_row, record, by_batch))
    return tuple(found)


def _by_name(role: str, given: object) -> dict[Any, Any]:
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    raise RequestError(
        f"{role}={given!r} is one function, and the inputs have names", hint=f'write {role}={{"NAME": …}}'
    )


def _check_same(maps: Mapping[str, object], formats: Mapping[str, object]) -> None:
    for name in maps:
        if name not in formats:
            raise RequestError(f"input= has no format for {name}", hint=f'add it: input={{…, "{name}": Text()}}')
    for name in formats:
        if name not in maps:
            raise RequestError(f"input= names {name!r}, for which there is no map", hint=f"maps: {', '.join(maps)}")


def takes_each(reduce: object, inputs: tuple[NamedInput, ...], *, is_batched: bool) -> bool:
    """Whether what reduces takes the values of each input apart. Raises RequestError if it fits neither way."""
    if len(inputs) < 2 or isinstance(reduce, Aggregation | type) or not callable(reduce):
        return False  # what is no function is refused elsewhere
    try:
        signature = inspect.signature(reduce)
    except (TypeError, ValueError):  # written in C, without one
        return False
    required = sum(
        each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in signature.parameters.values()
    )
    before = 0 if is_batched else 1  # the key
    if required != before + 1 and _can_take(signature, before + len(inputs)):
        return True
    if _can_take(signature, before + 1):
        return False
    names = ", ".join(each.name for each in inputs)
    apart, together = (names, "batch") if is_batched else (f"key, {names}", "key, values")
    called = getattr(reduce, "__name__", None) or type(reduce).__name__
    raise RequestError(
        f"{called}{signature} cannot reduce {len(inputs)} inputs",
        hint=f"write {called}({apart}), or {called}({together}) for the values of all",
    )


def _can_take(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
