"""Run the user's `combine` over sorted pairs: when a buffer is spilled, and when spills are merged.

It may run any number of times, so its values take the place of those it saw, under the same key and in the same
order. A combine that yields another key would break the order of the run; that is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from minireduce.engine import columns
from minireduce.engine.columns import Column
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import as_pair, calling, entered, entering
from minireduce.engine.errors import InvalidValue
from minireduce.engine.faults import blamed
from minireduce.engine.groups import Group, groups, window_groups
from minireduce.engine.kinds import plain
from minireduce.engine.memory import held_bytes
from minireduce.engine.merge import Merged

_PAIRS_MAX = 4096
_BYTES_MAX = 1 << 20
_LOOK_PAIRS_MIN = 16  # pairs after which their size is looked at first; later as rarely as their size allows


class Combiner:
    """The user's combine, and what it counted."""

    def __init__(self, function: Callable[..., Any], context: TaskContext) -> None:
        self._function = calling(function, "combine")
        self._named = function
        self._task = context
        self._context = TaskContext(path=context.path)  # walks over keys, while the task's own walks over records
        self._context.label = "key"
        self._context.is_of_input = False
        self.pairs_in = 0
        self.pairs_out = 0

    def section(self, texts: list[str], values: list[Any]) -> Iterator[tuple[list[str], Column]]:
        """Sorted pairs, combined."""
        self.pairs_in += len(texts)
        return self._combined(window_groups(texts, values, self._context))

    def fold(self, merging: Iterator[Merged]) -> Iterator[tuple[list[str], Column]]:
        """The pairs of a merge, combined."""
        return self._combined(groups(merging, self._context))

    def _combined(self, grouped: Iterator[Group]) -> Iterator[tuple[list[str], Column]]:
        is_more = True
        while is_more:
            texts: list[str] = []
            values: list[Any] = []
            with blamed(self._context, "combine", self._named), self._task.refusing("combine"):
                is_more = self._take(grouped, texts, values)
            self.pairs_out += len(texts)
            yield texts, columns.make(values)

    def _take(self, grouped: Iterator[Group], texts: list[str], values: list[Any]) -> bool:
        """Combine groups until there are enough pairs to be written; whether there may be more groups."""
        looked_at = size_bytes = 0
        look_at = _LOOK_PAIRS_MIN
        for text, key, group in grouped:
            for pair in self._function(key, group):
                if pair.__class__ is not tuple or len(pair) != 2:
                    pair = as_pair(pair, "combine")  # noqa: PLW2901
                given, value = pair
                if given is not key and not _is_same(given, key):
                    raise InvalidValue(
                        f"combine yielded the key {given!r:.80} for {key!r:.80}",
                        hint="combine keeps the key it was given",
                    )
                texts.append(text)
                values.append(value)
            count = len(values)
            if count < look_at:
                continue
            size_bytes += held_bytes(values[looked_at:])
            if count >= _PAIRS_MAX or size_bytes > _BYTES_MAX:
                return True
            looked_at = count
            look_at = max(count + 1, min(_PAIRS_MAX, 4 * count, _BYTES_MAX * count // max(1, size_bytes)))
        return False


def entered_combine(function: Callable[..., Any], context: TaskContext, stack: ExitStack) -> Callable[..., Any]:
    """What to call; if it is a context manager it is left with `stack`, for a merge may call it to the end."""
    own = stack.enter_context(entering(context, "combine", function))
    with blamed(context, "combine", function, is_placed=False), context.refusing("combine"):
        return entered(function, own)


def _is_same(given: Any, key: Any) -> bool:
    return (type(given) is type(key) and given == key) or plain(given) == plain(key)
