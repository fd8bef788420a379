"""Run the user's `combine` over sorted pairs: when a buffer is spilled, and when spills are merged.

It may run any number of times, so its values take the place of those it saw, under the same key and in the same
order. A combine that yields another key would break the order of the run; that is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minireduce.engine import columns
from minireduce.engine.columns import Column
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import Pair, as_pair, calling
from minireduce.engine.errors import InvalidValue
from minireduce.engine.faults import blamed
from minireduce.engine.groups import Group, groups, window_groups
from minireduce.engine.kinds import plain
from minireduce.engine.memory import held_bytes
from minireduce.engine.merge import Merged

_PAIRS_MAX = 4096
_BYTES_MAX = 1 << 20


class Combiner:
    """The user's combine, and what it counted."""

    def __init__(self, function: Callable[..., Any], context: TaskContext) -> None:
        self._function = calling(function, "combine")
        self._named = function
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
        texts: list[str] = []
        values: list[Any] = []
        for text, key, group in grouped:
            with blamed(self._context, "combine", self._named):
                for value in self._kept(key, self._function(key, group)):
                    texts.append(text)
                    values.append(value)
            if len(texts) >= _PAIRS_MAX or held_bytes(values[-16:]) * len(values) > 16 * _BYTES_MAX:
                self.pairs_out += len(texts)
                yield texts, columns.make(values)
                texts, values = [], []
        self.pairs_out += len(texts)
        yield texts, columns.make(values)

    def _kept(self, key: Any, pairs: Iterable[Pair]) -> Iterator[Any]:
        for given in pairs:
            pair = as_pair(given, "combine")
            if pair[0] is not key and not _is_same(pair[0], key):
                raise InvalidValue(
                    f"combine yielded the key {pair[0]!r:.80} for {key!r:.80}",
                    hint="combine keeps the key it was given",
                )
            yield pair[1]


def _is_same(given: Any, key: Any) -> bool:
    return (type(given) is type(key) and given == key) or plain(given) == plain(key)
