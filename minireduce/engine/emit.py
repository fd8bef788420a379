"""Call the user's functions over records and groups, at the speed of C, and say clearly what they gave that is no pair.

A generator function is chained as it is, and a map over all records is called once. Any other function is looked at
once a record, since one that forgot to yield gives None, and one that returned its pair would be taken for two pairs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from itertools import chain, starmap
from types import TracebackType
from typing import Any, cast

from minireduce.api.step import RecordsMap, Step
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import InvalidValue
from minireduce.engine.faults import blamed

Pair = tuple[Any, Any]


def mapped(step: Step, records: Iterable[Any], stack: ExitStack) -> Iterator[Pair]:
    """What the map of this step yields, unchecked; a map that is a context manager is entered in `stack`."""
    if step.map_records is not None:
        return iter(over_records(step.map_records, stack)(iter(records)))
    if step.map is None:
        return iter(records)
    function = calling(entered(step.map, stack), "map")
    return chain.from_iterable(starmap(function, records) if step.takes_pairs else map(function, records))


def mapping(step: Step, stack: ExitStack) -> Callable[[Any], Iterable[Pair]]:
    """What to call with one record after the other, for those who look at each."""
    if step.map_records is not None:
        function = over_records(step.map_records, stack)
        return lambda record: function(iter((record,)))
    if step.map is None:
        return lambda record: (record,)
    function = calling(entered(step.map, stack), "map")
    return (lambda record: function(*record)) if step.takes_pairs else function


def over_records(map_records: RecordsMap, stack: ExitStack) -> Callable[[Iterator[Any]], Iterable[Pair]]:
    """What to call with an iterator over records."""
    return calling(entered(map_records, stack), "map_records")


def entered(function: Any, stack: ExitStack) -> Callable[..., Any]:
    """What to call: a context manager is entered first, and may give another callable."""
    if not (hasattr(type(function), "__enter__") and hasattr(type(function), "__exit__")):
        return cast("Callable[..., Any]", function)
    result = stack.enter_context(function)
    return cast("Callable[..., Any]", result if callable(result) else function)


def entering(context: TaskContext, role: str, function: object) -> ExitStack:
    """A stack to enter this function of the user's in, if it is a context manager.

    Whoever has drawn all that it gives leaves the block while that still counts: its `__exit__` may count, and give to
    named outputs. What it raises is told as the user's, of no record. But what went wrong within goes before that, and
    goes on whatever `__exit__` says: half an output would be taken for a whole one.
    """
    return _Entering(context, role, function)


class _Entering(ExitStack):
    def __init__(self, context: TaskContext, role: str, function: object) -> None:
        super().__init__()
        self._context, self._role, self._function = context, role, function
        self._is_used = False  # which it seldom is, and small tasks are many

    def enter_context(self, manager: Any) -> Any:
        self._is_used = True
        return super().enter_context(manager)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if not self._is_used:
            return
        if error is None:
            context = self._context
            refusing = context.refusing("combine") if self._role == "combine" else nullcontext()
            with blamed(context, self._role, self._function, is_placed=False), context.between_records(), refusing:
                super().__exit__(None, None, None)
            return
        with suppress(Exception):  # which mostly follows from the first
            super().__exit__(kind, error, trace)


def is_generator(function: Any) -> bool:
    """Whether calling this gives a generator for sure."""
    if inspect.isroutine(function) or isinstance(function, partial):
        return inspect.isgeneratorfunction(function)
    return inspect.isgeneratorfunction(type(function).__call__)


def calling(function: Callable[..., Any], role: str) -> Callable[..., Iterable[Pair]]:
    """`function`, made to say what it gave if that is nothing to take pairs from."""
    return function if is_generator(function) else _looked_at(function, role)


def _looked_at(function: Callable[..., Any], role: str) -> Callable[..., Iterable[Pair]]:
    def call(*arguments: Any) -> Iterable[Pair]:
        result = function(*arguments)
        if result is None:
            raise InvalidValue(f"{role} returned None", hint="yield (key, value) pairs; for none at all, yield nothing")
        if isinstance(result, tuple) and result and not isinstance(result[0], tuple):
            raise InvalidValue(f"{role} returned {result!r:.80}", hint="yield the pair, or return a list of pairs")
        if isinstance(result, str | bytes) or not hasattr(type(result), "__iter__"):
            raise InvalidValue(f"{role} returned {result!r:.80}, which holds no pairs", hint="yield (key, value) pairs")
        return cast("Iterable[Pair]", result)

    return call


def as_pair(given: Any, role: str = "map") -> Pair:
    """`given` if it is a pair. Raises InvalidValue."""
    if isinstance(given, tuple) and len(given) == 2:
        return (given[0], given[1])
    raise InvalidValue(
        f"{role} yielded {given!r:.80}, which is no (key, value) pair",
        hint="yield a tuple of two, such as: yield word, 1",
    )
