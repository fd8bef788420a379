"""Pairs that a task gives aside, into outputs with names, and how they travel with what it yields.

They stand behind its pairs, in the same file: behind a part, or behind one partition of a map output, and a table ends
the file or partition. So the length and the digest that a task is committed with cover them, and what becomes of its
output, lost, made again, dropped as a twin's, becomes of them. Nothing beside the engine needs to know of them on their
way:

- the reduce of that partition takes them over from all its maps, in their order, before its own;
- a map over a part takes over what stands behind the part.

In the end all are behind the parts of the last step. What maps gave is spread over the reduces by the maps' numbers.

A pair is encoded when it is given: the record in work is to blame for one that cannot be, and what becomes of the value
later does not matter. Where it cannot be said how often user code runs (a combine), nothing can be given (`refusing`).

Memory: `_HELD_BYTES` for each output, and what its frame takes; the rest lies beside the attempt's other files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from minireduce.disk import Disk
from minireduce.engine import keys, values
from minireduce.engine.context import Aside
from minireduce.engine.emit import Pair
from minireduce.engine.errors import InvalidValue
from minireduce.engine.frames import PART_MAGIC, PART_WITH_OUTPUTS_MAGIC, SectionReader, Source, iterate
from minireduce.engine.index import source_name
from minireduce.engine.kinds import Kinds
from minireduce.engine.merge import RunSlice
from minireduce.engine.part import PartForm, PartWriter, Tail
from minireduce.engine.part_table import Table, encode_table, read_table
from minireduce.engine.write import is_surely_text, text_lines
from minireduce.errors import Corruption

_HELD_BYTES = 64 << 10
_READ_BYTES = 1 << 20


class _Declared(Aside):
    """Takes pairs for the declared outputs only, and none while it refuses."""

    def __init__(self, declared: Sequence[str]) -> None:
        self._declared = frozenset(declared)
        self._refusal = ""

    @contextmanager
    def refusing(self, role: str) -> Iterator[None]:
        before, self._refusal = self._refusal, role
        try:
            yield
        finally:
            self._refusal = before

    def _check(self, name: str) -> None:
        if name not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none"
            raise InvalidValue(f"there is no output {name!r:.80}", hint=f"the step declares by outputs=: {known}")
        if self._refusal:
            raise InvalidValue(
                f"a pair for the output {name!r} from {self._refusal}, which may run any number of times",
                hint="give it in the map or the reduce",
            )


class KeptAside(_Declared):
    """Keeps pairs in memory, as they would be read: for `Job.test`."""

    def __init__(self, declared: Sequence[str], kept: dict[str, list[Pair]]) -> None:
        super().__init__(declared)
        self._kept = kept
        self._kinds = {name: Kinds() for name in declared}
        self._is_kept = True

    @contextmanager
    def once_more(self) -> Iterator[None]:
        before, self._is_kept = self._is_kept, False
        try:
            yield
        finally:
            self._is_kept = before

    def give(self, name: str, key: Any, value: Any) -> None:
        self._check(name)
        text = keys.sortable(self._kinds[name].admit(key))
        pair = keys.decode_all([text])[0], next(values.unpack_all(values.pack(value)))
        if self._is_kept:
            self._kept[name].append(pair)


class NamedOutputs(_Declared):
    """What one attempt gives to the outputs in `declared`, and takes over for those in `taken_over`.

    `becomes_text`: what is written as pairs becomes text later. `index` is the task's number, and `progress` is called
    while it takes over. A context manager that closes its files whatever happens.
    """

    def __init__(
        self,
        declared: Sequence[str],
        taken_over: Sequence[str],
        *,
        directory: Path,
        form: PartForm,
        disk: Disk,
        progress: Callable[[], None],
        becomes_text: bool = False,
        index: int = 0,
    ) -> None:
        self.index = index
        super().__init__(declared)
        self._disk, self._progress = disk, progress
        self._lock = threading.Lock()  # threads of user code may give at the same time
        self._stack = ExitStack()
        names = sorted({*declared, *taken_over})
        is_text = becomes_text or form == "text"
        self._outputs = {
            name: _Output(directory / f"output-{at:05d}", form, disk, is_text=is_text) for at, name in enumerate(names)
        }

    def __enter__(self) -> Self:
        for output in self._outputs.values():
            self._stack.enter_context(output.writer)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        for output in self._outputs.values():
            self._disk.remove(output.path)

    def give(self, name: str, key: Any, value: Any) -> None:
        self._check(name)
        with self._lock:
            self._outputs[name].add(key, value)

    def take_over_part(self, file: BinaryIO, name: str) -> None:
        size_bytes = file.seek(0, 2)
        source = Source(file, name)
        if source.read_at(0, min(size_bytes, len(PART_MAGIC))) == PART_WITH_OUTPUTS_MAGIC:
            self._take_over(source, read_table(source, 0, size_bytes))

    def take_over_runs(self, runs: Sequence[RunSlice]) -> list[RunSlice]:
        """What stands behind the pairs of these runs, in the order of their maps; gives the runs without it."""
        bare = {}
        for run in sorted(runs, key=lambda run: run.order):
            bare[run.order] = run
            if not run.length:
                continue
            with ExitStack() as stack:
                file = run.file if isinstance(run.file, int) else stack.enter_context(self._disk.open(run.file))
                source = Source(file, source_name(run.file, run.offset))
                table = read_table(source, run.offset, run.length)
                self._take_over(source, table)
            bare[run.order] = RunSlice(run.file, run.offset, table.pairs_bytes, run.order)
        return [bare[run.order] for run in runs]

    def tail(self, *, has_pairs: bool, is_own: bool = True) -> Tail | None:
        with self._lock:
            lengths = [(name, output.settle()) for name, output in self._outputs.items()] if is_own else []
        lengths = [(name, length) for name, length in lengths if length]
        if not has_pairs and not lengths:
            return None
        return self._pieces(lengths)

    def _pieces(self, lengths: list[tuple[str, int]]) -> Tail:
        for name, _ in lengths:
            with self._disk.open(self._outputs[name].path) as file:
                while piece := file.read(_READ_BYTES):
                    yield piece
        yield encode_table(lengths)

    def _take_over(self, source: Source, table: Table) -> None:
        for name, (offset, length) in table.outputs.items():
            if name not in self._outputs:
                continue
            if source.read_at(offset, len(PART_MAGIC)) != PART_MAGIC:
                raise Corruption(f"{source.name} has no typed output at {offset}")
            reader = SectionReader(source, offset + len(PART_MAGIC), length - len(PART_MAGIC))
            try:
                for texts, column in iterate(reader):
                    self._progress()
                    self._outputs[name].writer.add_encoded(texts, column)
            except InvalidValue as error:
                raise InvalidValue(f"the output {name!r}: {error.message}", hint=error.hint) from error


class _Output:
    """One output of one attempt: what waits in memory, and the file."""

    def __init__(self, path: Path, form: PartForm, disk: Disk, *, is_text: bool) -> None:
        self.path = path
        self._is_text = is_text
        self._kinds = Kinds()
        self.writer = PartWriter(path, form, role="emit", kinds=self._kinds, disk=disk, is_durable=False)
        self._keys: list[str] = []
        self._values: list[bytes] = []
        self._held_bytes = 0
        self._length: int | None = None

    def add(self, key: Any, value: Any) -> None:
        if self._length is not None:
            raise InvalidValue(
                "a pair for a named output after the task has written it",
                hint="give it before the map or reduce has ended, in its __exit__ at the latest",
            )
        plain = self._kinds.admit(key)
        text, packed = keys.sortable(plain), values.pack(value)
        if self._is_text and not (is_surely_text(plain) and is_surely_text(value)):
            text_lines([plain], [value])  # raises what would else be found when the record is no longer known
        self._keys.append(text)
        self._values.append(packed)
        self._held_bytes += len(text) + len(packed)
        if self._held_bytes >= _HELD_BYTES:
            self._flush()

    def settle(self) -> int:
        """Have all of it in the file, whose length this is."""
        if self._length is None:
            self._flush()
            self._length = self.writer.close().bytes_written
        return self._length

    def _flush(self) -> None:
        self.writer.add_encoded(self._keys, self._values)
        self._keys, self._values, self._held_bytes = [], [], 0
