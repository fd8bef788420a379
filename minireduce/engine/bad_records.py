"""Go on where a record cannot be computed, so that all such records of a task are found, and leave out those that are
known.

`Care` says how one run of a task treats its records (a reduce: its groups, each with all its values):

- *careful*: what user code raises, or gives that cannot be taken, makes the record a suspect, and the run goes on. What
  such a run leaves is never used: another one follows, without the records that turned out to be bad. So nothing of a
  record counts, neither pairs nor counters, unless it has returned.
- with `skips`: these records are passed over, each counted as skipped.
- as a *probe*: one record alone, the way it is done in any run.

A record is known by how many came before it in the input of its task, and by a proof that it is the same one: its
offset, or a fingerprint of the key. Where the proof does not hold, nothing is passed over.

A record that cannot be read, since it is too long or no JSON, is as bad as one for which user code raises, and never
seen by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from typing import TypeVar

from minireduce.api.step import Step
from minireduce.engine import keys, values
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import Pair, as_pair
from minireduce.engine.faults import blamed
from minireduce.engine.kinds import Kinds
from minireduce.engine.read_formats import UnreadableRecord
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

Item = TypeVar("Item")
Check = Callable[[Pair], None]

SUSPECTS_MAX = 1000
"""Suspects that one run gathers; it ends with the last of them, and the rest are found once these are left out."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record that could not be computed, and why."""

    position: int
    proof: int
    error: RequestError


@dataclass(slots=True)
class Care:
    """How one run treats bad records, and what it found. `probe`: the one position to compute; `on_probe` is called
    before user code sees it.
    """

    is_careful: bool = False
    skips: Mapping[int, int] = field(default_factory=dict)  # proofs by position
    probe: int | None = None
    on_probe: Callable[[], None] = lambda: None
    suspects: list[Suspect] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)

    @property
    def is_plain(self) -> bool:
        """Whether this run treats all records alike, as fast as it can."""
        return not self.is_careful and not self.skips and self.probe is None

    def kept(self, items: Iterable[Item], context: TaskContext, on_skip: Callable[[Item], None]) -> Iterator[Item]:
        """What of `items` user code is to see."""
        return iter(items) if self.is_plain else self._kept(items, context, on_skip)

    def _kept(self, items: Iterable[Item], context: TaskContext, on_skip: Callable[[Item], None]) -> Iterator[Item]:
        for item in items:
            position = context.records_read - 1  # a format may walk over lines that are no records, such as a header
            if self.probe is not None:
                if position < self.probe:
                    continue
                self.on_probe()
                yield _readable(item)
                return
            if position in self.skips and self.skips[position] == context.proof:
                self.skipped.append(position)
                on_skip(item)
                continue
            yield item if self.is_careful else _readable(item)

    def guarded(
        self,
        items: Iterable[Item],
        call: Callable[[Item], Iterable[Pair]],
        context: TaskContext,
        *,
        blamed: Callable[[], AbstractContextManager[None]],
        check: Check,
    ) -> Iterator[Pair]:
        """The pairs that `call` gives for `items`; an item for which it raises becomes a suspect."""
        for item in items:
            try:
                with blamed():
                    for pair in call(_readable(item)):
                        check(pair)
                        yield pair
            except RequestError as error:
                self.suspects.append(Suspect(context.records_read - 1, context.proof, error))
                if len(self.suspects) == SUSPECTS_MAX:
                    raise


def _readable(item: Item) -> Item:
    if isinstance(item, UnreadableRecord):
        raise item.error
    return item


def checking(step: Step, role: str, kinds: Kinds, context: TaskContext) -> Check:
    """Refuse at once, while its record is known, what else would be found out only when pairs are stored."""
    aggregation = step.aggregation if role == "map" else None

    def check(pair: Pair) -> None:
        key, value = as_pair(pair, role)
        keys.sortable(kinds.admit(key))
        if aggregation is not None:
            with blamed(context, "add of", aggregation):
                value = aggregation.add_all(aggregation.start(), (value,))
        values.pack(value)

    return check
