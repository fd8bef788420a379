"""What a finished job left, as its submitter reads it: typed pairs, stored, read as often as wanted, computed once.

Parts are fetched one after the other, when a reader comes to them, into a private directory where later readers find
them; `head` of a large result fetches one part. The pairs of a job that this process submitted are read with their
exact types; those of another job only as far as plain types go, unless the caller trusts it, since a pickle can do
anything.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from minireduce.api.bad_record import BadRecord
from minireduce.client.cut_parts import cut_part
from minireduce.client.publish import Parts, part_name
from minireduce.core.task_data import Counters
from minireduce.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

K = TypeVar("K")
V = TypeVar("V")


class Counts(dict[str, int]):
    """The counters of one group; one that was never added to reads 0."""

    def __missing__(self, name: str) -> int:
        return 0


class CounterGroups(dict[str, Counts]):
    """`counters[group][name]`; a group that does not exist is empty."""

    def __missing__(self, group: str) -> Counts:
        return Counts()


def read_counters(counters: Counters) -> CounterGroups:
    """Counters as they come from the master, by group and name."""
    groups = CounterGroups()
    for group, name, value in counters:
        groups.setdefault(group, Counts())[name] = value
    return groups


class OutputPairs:
    """The pairs of one named output, in the order of tasks and of `task.emit`. Iterate as often as you like."""

    def __init__(self, read: Callable[[], Iterator[tuple[Any, Any]]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Raises as iterating over the result does."""
        return self._read()

    def head(self, count: int = 10) -> list[tuple[Any, Any]]:
        """The first `count` pairs."""
        return list(islice(self, count))


class JobResult(Generic[K, V]):
    """The pairs of a finished job. Iterate as often as you like; `close` lets go of them, here and in the cluster.

    Args:
        job: its id.
        counters: what it counted.
        parts: its typed parts; None when its output was written as text.
        allow_pickle: whether values of any type may be read.
        on_close: called once by `close`.
        skipped: the records that were left out.
        outputs: the names of its outputs beside its pairs.
    """

    def __init__(
        self,
        job: str,
        counters: CounterGroups,
        parts: Parts | None,
        *,
        allow_pickle: bool = False,
        on_close: Callable[[], None] | None = None,
        skipped: Sequence[BadRecord] = (),
        outputs: Sequence[str] = (),
    ) -> None:
        self.id = job
        self.skipped = list(skipped)
        self.counters = counters
        self.outputs = {name: OutputPairs(partial(self._pairs, name)) for name in outputs}
        self._parts = parts
        self._allow_pickle = allow_pickle
        self._on_close = on_close
        self._folder: Path | None = None
        self._is_closed = False

    def __iter__(self) -> Iterator[tuple[K, V]]:
        """All pairs, part by part, ascending by key within a part.

        Raises:
            RequestError: the result is closed, or the job wrote text.
        """
        return self._pairs()

    def head(self, count: int = 10) -> list[tuple[K, V]]:
        """The first `count` pairs."""
        return list(islice(self, count))

    def to_pandas(self) -> pd.DataFrame:
        """A DataFrame with the columns `key` and `value`. Needs pandas."""
        import pandas as pd

        return pd.DataFrame(list(self), columns=["key", "value"])

    def to_arrow(self) -> pa.Table:
        """A table with the columns `key` and `value`.

        Raises:
            RequestError: keys or values are of types that one column cannot hold.
        """
        import pyarrow as pa

        keys: list[Any] = []
        values: list[Any] = []
        for key, value in self:
            keys.append(key)
            values.append(value)
        try:
            return pa.table({"key": keys, "value": values})
        except pa.ArrowException as cause:
            raise RequestError(f"the pairs of {self.id} fit no table: {cause}", hint="iterate over them") from cause

    def fetch_all(self) -> None:
        """Have every part here, so that the cluster is needed no more."""
        if self._parts is not None:
            for index in range(self._parts.count):
                self._part(index)

    def part_files(self) -> list[Path]:
        """The typed parts, all of them fetched; the files go with this result. For a job that reads them.

        Raises:
            RequestError: the result is closed, the job wrote text, or its pairs are not to be trusted with a pickle:
                the tasks that read them would open one.
        """
        self._require_open()
        if not self._allow_pickle:
            raise RequestError(
                f"the pairs of {self.id} come from somebody else, and a job that reads them trusts them",
                hint="ask for the result with allow_pickle=True, if you do",
            )
        self.fetch_all()
        assert self._parts is not None
        return [self._part(index) for index in range(self._parts.count)]

    def close(self) -> None:
        """Let go of the pairs. Harmless when repeated."""
        if not self._is_closed:
            self._is_closed = True
            if self._folder is not None:
                self._remove_folder()
            if self._on_close is not None:
                self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JobResult of {self.id}>"

    def _pairs(self, output: str = "") -> Iterator[tuple[Any, Any]]:
        """The pairs of the job, or of one of its outputs."""
        self._require_open()
        return self._read(output)

    def _read(self, output: str) -> Iterator[tuple[Any, Any]]:
        from minireduce.engine.read import read_pairs  # which imports numpy: not needed for what is written as text

        assert self._parts is not None
        for index in range(self._parts.count):
            self._require_open()
            part = self._part(index)
            if output:
                part = part.parent / output / part.name
                if not part.exists():
                    continue
            if not part.stat().st_size:
                continue  # it has no pairs; parts are held against their lengths when they come
            with part.open("rb") as stream:
                yield from read_pairs(stream, name=f"{part_name(index)} of {self.id}", allow_pickle=self._allow_pickle)

    def _part(self, index: int) -> Path:
        """The file of a part, fetched now if no reader came here before."""
        assert self._parts is not None
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="minireduce-"))
            self._remove_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / part_name(index)
        if not path.exists():
            draft = path.with_suffix(".draft")
            self._parts.fetch(index, draft)
            for of_output in cut_part(draft, is_typed=True):
                of_output.rename(of_output.with_name(path.name))
            draft.rename(path)
        return path

    def _require_open(self) -> None:
        if self._is_closed:
            raise RequestError(
                f"the result of {self.id} is closed", hint="keep it open while you read, or run it again"
            )
        if self._parts is None:
            raise RequestError(
                f"{self.id} wrote text, which keeps no types",
                hint="run it without an output to get its pairs",
            )
