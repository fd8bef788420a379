"""Call a `map_batch` over batches of rows, a `reduce_batch` over batches of groups, and find the one to blame where
it fails.

A batch is computed at once. When that raises, it is bisected until one row, or one group, is left that raises alone, so
an error names a record or a key, as in the record lane. Where each must be known before user code sees it, since it may
end the process, and where one is probed alone, they come one by one; those to be skipped are cut out of their batch.

What is given for a row must not depend on the other rows, nor what is given for a group on the other groups. If none
alone raises, that is what is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

from minireduce.api.step import Step
from minireduce.engine import arrow_columns
from minireduce.engine.bad_records import SUSPECTS_MAX, Care, Suspect, checking
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import entered
from minireduce.engine.errors import InvalidKey, InvalidValue
from minireduce.engine.faults import blamed, has_user_frame, place
from minireduce.engine.kinds import Kinds
from minireduce.engine.read_formats import UnreadableRecord
from minireduce.errors import MinireduceError, RequestError
from minireduce.frozen import dataclass

Columns = tuple[Any, Any]  # keys and values, as arrays


class Part(Protocol):
    """Rows or groups that user code may be called with at once, and how to tell one of them."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def record_of(self) -> Callable[[int], Any]:
        """One of them, as errors and lists of bad records name it."""

    @property
    def offset_of(self) -> Callable[[int], int] | None:
        """Where one of them begins in its file, if there is such a place."""

    @property
    def size_bytes(self) -> int:
        """What was read for them, where nobody else has told of it."""

    def arguments(self, start: int, stop: int) -> tuple[Any, ...]:
        """What to call with, for these of them. Raises RequestError for what cannot be read."""

    def count_skipped(self, context: TaskContext, index: int) -> None:
        """One of them is left out."""


@dataclass(slots=True)
class Batch:
    """Rows of the input. One that cannot be read comes alone, and without rows."""

    rows: Any
    count: int
    record_of: Callable[[int], Any]
    offset_of: Callable[[int], int] | None = None
    size_bytes: int = 0
    long: UnreadableRecord | None = None

    def arguments(self, start: int, stop: int) -> tuple[Any, ...]:
        """These rows, as a record batch."""
        if self.long is not None:
            raise self.long.error
        return (self.rows if stop - start == self.count else self.rows.slice(start, stop - start),)

    def count_skipped(self, context: TaskContext, index: int) -> None:
        """One of the records is left out."""
        del index
        context.count("MAP_INPUT_RECORDS", -1)
        context.count("MAP_SKIPPED_RECORDS")


class _Walked:
    """The rows of a batch as the context walks over records; `at` of them were handed out."""

    def __init__(self, batch: Part) -> None:
        self._batch = batch
        self.at = 0

    def __len__(self) -> int:
        return self._batch.count

    def __getitem__(self, index: int) -> Any:
        return self._batch.record_of(index)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.at >= len(self):
            raise StopIteration
        self.at += 1
        return self[self.at - 1]

    def __length_hint__(self) -> int:
        return len(self) - self.at


def mapped_batches(
    step: Step, batches: Iterable[Batch], stack: ExitStack, context: TaskContext, care: Care | None
) -> Iterator[Columns]:
    """What the map of this step gives for the rows that it is to see."""
    return _Calls(step, "map", entered(step.map_batch, stack), context, care or Care()).over(batches)


def reduced_batches(
    step: Step, batches: Iterable[Part], stack: ExitStack, context: TaskContext, care: Care | None
) -> Iterator[Columns]:
    """What the reduce of this step gives for the groups that it is to see."""
    return _Calls(step, "reduce", entered(step.reduce_batch, stack), context, care or Care()).over(batches)


class _Calls:
    def __init__(self, step: Step, role: str, function: Callable[..., Any], context: TaskContext, care: Care) -> None:
        self._things = "rows" if role == "map" else "groups"
        self._role, self._function, self._context, self._care = role, function, context, care
        self._is_single = care.probe is not None or (care.is_careful and context.on_each is not None)
        self._check = checking(step, role, Kinds(lambda: f"from {place(context)}"), context)

    def over(self, batches: Iterable[Part]) -> Iterator[Columns]:
        """The pairs of all batches."""
        for batch in batches:
            walked = _Walked(batch)
            self._context.walk(walked, batch.offset_of, size_bytes=batch.size_bytes)  # type: ignore[arg-type]
            first = self._context.records_read
            if self._care.probe is not None:
                if self._care.probe < first + batch.count:
                    walked.at = self._care.probe - first + 1
                    self._context.mark()
                    self._care.on_probe()
                    yield from self._mapped(batch, walked, walked.at - 1, walked.at)
                    return
                walked.at = batch.count
                continue
            for start, stop in self._pieces(batch, walked, first):
                yield from self._mapped(batch, walked, start, stop)
                if walked.at >= batch.count:  # a child that user code forked has nothing left to do
                    break
            walked.at = batch.count

    def _pieces(self, batch: Part, walked: _Walked, first: int) -> Iterator[tuple[int, int]]:
        """What to compute at once: all, or one by one, without those to be skipped."""
        start = 0
        for position in sorted(self._care.skips):
            index = position - first
            if not 0 <= index < batch.count:
                continue
            walked.at = index + 1
            if self._care.skips[position] != self._context.proof:
                continue
            yield from self._cut(start, index)
            walked.at, start = index + 1, index + 1
            self._care.skipped.append(position)
            batch.count_skipped(self._context, index)
        yield from self._cut(start, batch.count)

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        size = self._piece_size(stop - start)
        yield from ((at, min(at + size, stop)) for at in range(start, stop, size))

    def _piece_size(self, count: int) -> int:
        """How many of so many to compute at once: one, where a process that ends is to tell which it was; the root of
        them, where it is to tell nearly that, since a call takes longer than a row; else all.
        """
        if self._is_single:
            return 1
        return max(1, count if self._context.on_each is None else math.isqrt(count))

    def _mapped(self, batch: Part, walked: _Walked, start: int, stop: int) -> Iterator[Columns]:
        self._begin(walked, start, stop)
        try:
            result = self._called(batch, start, stop)
        except (MemoryError, MinireduceError, OSError) as error:
            is_of_user = isinstance(error, OSError) and has_user_frame(error)
            if not (is_of_user or isinstance(error, InvalidKey | InvalidValue | RequestError)):
                raise
            result = self._failed(batch, walked, start, stop, error)
        except Exception as error:
            result = self._failed(batch, walked, start, stop, error)
        yield from result

    def _begin(self, walked: _Walked, start: int, stop: int) -> None:
        walked.at = start + 1
        self._context.mark(stop - start)
        if self._context.on_each is not None and stop - start == 1:
            self._context.on_each()

    def _called(self, batch: Part, start: int, stop: int) -> list[Columns]:
        given = self._function(*batch.arguments(start, stop))
        result = list(arrow_columns.given_pairs(given, f"{self._role}_batch"))
        if self._care.is_careful:
            for key, value in result:
                for pair in zip(arrow_columns.plain_keys(key), value.to_pylist(), strict=True):
                    self._check(pair)
        return result

    def _failed(self, batch: Part, walked: _Walked, start: int, stop: int, error: Exception) -> list[Columns]:
        """Blame a row: raise, or in a careful run make it a suspect and give the pairs of the others."""
        if stop - start > 1:
            middle = (start + stop) // 2
            found = [
                pairs for half in ((start, middle), (middle, stop)) for pairs in self._mapped(batch, walked, *half)
            ]
            if self._care.is_careful:
                return found
            walked.at = start + 1
            counted = f"over {stop - start} {self._things}, but over none alone"
            depends = f"what it gives for one must not depend on the other {self._things}"
            if isinstance(error, MinireduceError):  # of what it gave or was to get: it raised nothing
                raise InvalidValue(f"{error.message}; so {counted}", hint=error.hint or depends) from error
            raise InvalidValue(
                f"{self._role}_batch raised {type(error).__name__} {counted}: {error}", hint=depends
            ) from error
        if not self._care.is_careful:
            raise error
        try:
            with blamed(self._context, self._role, self._function):
                raise error
        except RequestError as told:
            self._care.suspects.append(Suspect(self._context.records_read - 1, self._context.proof, told))
            if len(self._care.suspects) == SUSPECTS_MAX:
                raise
        return []
