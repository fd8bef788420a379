"""Several inputs of one job, each with a name, a format and a map of its own.

What reduces is told apart by how it is called. `join(key, users, orders)` takes the values of each input apart, and so
does a `reduce_batch` that is called as `join(users, orders)`; a declared aggregation, `reduce(key, values)`, or a
`reduce_batch` of one batch takes those of all inputs together, in the order of the inputs.
"""

# ruff: noqa: A002  `map` is the word of the field
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from minireduce.api.aggregations import Aggregation
from minireduce.api.formats import FORMATS, InputFormat, KeyValue, Pairs, Text
from minireduce.api.results import Result
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

INPUTS_MAX = 100


@dataclass(frozen=True, slots=True)
class NamedInput:
    """One of several inputs, and the map of its records."""

    name: str
    format: InputFormat[Any]
    map: Callable[..., Iterable[tuple[Any, Any]]] | None = None
    map_records: Callable[[Iterator[Any]], Iterable[tuple[Any, Any]]] | None = None
    map_batch: Callable[[Any], Any] | None = None

    @property
    def mapper(self) -> Callable[..., Any] | None:
        """What maps, record by record, all of them, or batch by batch."""
        if self.map is not None:
            return self.map
        return self.map_batch if self.map_records is None else self.map_records


def named_inputs(map: object, map_records: object, map_batch: object, formats: object) -> tuple[NamedInput, ...]:
    """The inputs of a job, in the order of its maps, those of all records and of batches last; none if no input has a
    name.

    Raises RequestError for names or formats that do not fit.
    """
    by_role = {"map": map, "map_records": map_records, "map_batch": map_batch}
    if not any(isinstance(given, Mapping) for given in by_role.values()):
        return ()
    maps: dict[Any, Any] = {}
    roles: dict[Any, str] = {}
    for role, given in by_role.items():
        for name, function in _by_name(role, given).items():
            if name in maps:
                raise RequestError(
                    f"input {name} has a {roles[name]} and a {role}",
                    hint="leave one of them out, or give inputs two names",
                )
            maps[name], roles[name] = function, role
    if not 1 <= len(maps) <= INPUTS_MAX:
        raise RequestError(
            f"a job has 1 to {INPUTS_MAX} inputs, not {len(maps)}", hint='such as {"users": f, "orders": g}'
        )
    for name in maps:
        if not isinstance(name, str) or not name.isidentifier():
            raise RequestError(f"an input cannot be called {name!r}", hint="take letters, digits and _ for its name")
    if isinstance(formats, Mapping):
        _check_same(maps, formats)
        forms = dict(formats)
    else:
        forms = dict.fromkeys(maps, Text() if formats is None else formats)
    found = []
    for name, function in maps.items():
        record = Pairs(forms[name]) if isinstance(forms[name], Result) else forms[name]
        if not isinstance(record, InputFormat):
            raise RequestError(f"input {name}: {record!r} is no format", hint=f"give {FORMATS}, or a result")
        if function is None and not isinstance(record, Pairs | KeyValue):
            raise RequestError(f"input {name} needs a map", hint="give a function of a record that yields pairs")
        if roles[name] == "map_batch" and not record.has_columns:
            raise RequestError(f"input {name}: {record!r} is read record by record", hint="name it in map instead")
        if function is not None and not callable(function):
            raise RequestError(f"the map of input {name}, {function!r}, cannot be called", hint="give a function")
        found.append(NamedInput(name=name, format=record, **{roles[name]: function}))
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
