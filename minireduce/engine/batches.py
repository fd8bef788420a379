"""Call a `map_batch` over batches of rows, and find the row to blame where it fails.

A batch is mapped at once. When that raises, its rows are bisected until one is left that raises alone, so an error
names a record, as in the record lane. Where each record must be known before user code sees it, since it may end the
process, and where a record is probed alone, a batch has one row; records to be skipped are cut out of theirs.

What a `map_batch` gives for a row must not depend on the other rows. If no row alone raises, that is what is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from minireduce.api.step import Step
from minireduce.engine import arrow_columns
from minireduce.engine.bad_records import SUSPECTS_MAX, Care, Suspect, checking
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import entered
from minireduce.engine.errors import InvalidKey, InvalidValue
from minireduce.engine.faults import blamed, place
from minireduce.engine.kinds import Kinds
from minireduce.engine.read_formats import UnreadableRecord
from minireduce.errors import MinireduceError, RequestError
from minireduce.frozen import dataclass

Columns = tuple[Any, Any]  # keys and values, as arrays


@dataclass(slots=True)
class Batch:
    """Rows of the input, and how to tell one of them. One that cannot be read comes alone, and without rows."""

    rows: Any
    count: int
    record_of: Callable[[int], Any]
    offset_of: Callable[[int], int] | None = None
    size_bytes: int = 0
    long: UnreadableRecord | None = None


class _Walked:
    """The rows of a batch as the context walks over records; `at` of them were handed out."""

    def __init__(self, batch: Batch) -> None:
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
    assert step.map_batch is not None
    return _BatchMap(step, entered(step.map_batch, stack), context, care or Care()).over(batches)


class _BatchMap:
    def __init__(self, step: Step, function: Callable[[Any], Any], context: TaskContext, care: Care) -> None:
        self._step, self._function, self._context, self._care = step, function, context, care
        self._is_single = context.on_each is not None or care.probe is not None
        self._check = checking(step, "map", Kinds(lambda: f"from {place(context)}"))

    def over(self, batches: Iterable[Batch]) -> Iterator[Columns]:
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

    def _pieces(self, batch: Batch, walked: _Walked, first: int) -> Iterator[tuple[int, int]]:
        """The rows to map at once: all, or one by one, without those to be skipped."""
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
            self._context.count("MAP_INPUT_RECORDS", -1)
            self._context.count("MAP_SKIPPED_RECORDS")
        yield from self._cut(start, batch.count)

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        if self._is_single:
            yield from ((index, index + 1) for index in range(start, stop))
        elif start < stop:
            yield start, stop

    def _mapped(self, batch: Batch, walked: _Walked, start: int, stop: int) -> Iterator[Columns]:
        self._begin(walked, start, stop)
        try:
            result = self._called(batch, start, stop)
        except (MemoryError, MinireduceError, OSError) as error:
            if not isinstance(error, InvalidKey | InvalidValue | RequestError):
                raise
            result = self._failed(batch, walked, start, stop, error)
        except Exception as error:
            result = self._failed(batch, walked, start, stop, error)
        yield from result

    def _begin(self, walked: _Walked, start: int, stop: int) -> None:
        walked.at = start + 1
        self._context.mark(stop - start)
        if self._context.on_each is not None:
            self._context.on_each()

    def _called(self, batch: Batch, start: int, stop: int) -> list[Columns]:
        if batch.long is not None:
            raise batch.long.error
        rows = batch.rows if stop - start == batch.count else batch.rows.slice(start, stop - start)
        result = list(arrow_columns.given_pairs(self._function(rows)))
        if self._care.is_careful:
            for key, value in result:
                for pair in zip(arrow_columns.plain_keys(key), value.to_pylist(), strict=True):
                    self._check(pair)
        return result

    def _failed(self, batch: Batch, walked: _Walked, start: int, stop: int, error: Exception) -> list[Columns]:
        """Blame a row: raise, or in a careful run make it a suspect and give the pairs of the others."""
        if stop - start > 1:
            middle = (start + stop) // 2
            found = [
                pairs for half in ((start, middle), (middle, stop)) for pairs in self._mapped(batch, walked, *half)
            ]
            if self._care.is_careful:
                return found
            walked.at = start + 1
            raise InvalidValue(
                f"map_batch raised {type(error).__name__} over {stop - start} rows, but over none alone: {error}",
                hint="what it gives for a row must not depend on the other rows",
            ) from error
        if not self._care.is_careful:
            raise error
        try:
            with blamed(self._context, "map", self._function):
                raise error
        except RequestError as told:
            self._care.suspects.append(Suspect(self._context.records_read - 1, self._context.proof, told))
            if len(self._care.suspects) == SUSPECTS_MAX:
                raise
        return []
