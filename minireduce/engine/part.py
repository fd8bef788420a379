"""The file that a reduce, or a map without reduce, leaves: an export (lines of text, or records of a fixed width) or
typed pairs.

Keys and values come in either of two ways: encoded, when they go from runs into the part untouched, or as the objects
that user code yielded. Keys of both are held to one kind. The part is synced, and its name too, before it counts as
written.

A part without pairs has no bytes and no file: nothing need be made, synced, kept or fetched for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import xxhash

from minireduce.api.formats import FixedWidth
from minireduce.disk import Disk
from minireduce.engine import columns, key_columns, keys
from minireduce.engine.arrow_columns import admit_first, encoded_keys, plain_values, value_column
from minireduce.engine.columns import Column
from minireduce.engine.context import Aside
from minireduce.engine.emit import Pair, as_pair
from minireduce.engine.frames import PART_MAGIC, PART_WITH_OUTPUTS_MAGIC, SectionWriter
from minireduce.engine.key_columns import Keys
from minireduce.engine.kinds import Kinds
from minireduce.engine.memory import held_bytes
from minireduce.engine.write import array_lines, can_be_lines, encoded_lines, encoded_records, fixed_records, text_lines
from minireduce.frozen import dataclass

PartForm = Literal["text", "pairs"]
"""Lines, or what a step declares in their place; or typed pairs."""

Tail = Iterator[bytes]
"""What follows the pairs of a part, piece by piece."""

_YIELDED_PAIRS_MAX = 4096
_YIELDED_BYTES = 1 << 20  # of pairs that wait to be written
_ENCODED_BYTES = 256 << 10  # of keys whose lines are made at once
_SYNC_BEGUN_BYTES = 8 << 20  # of lines after which the disk begins with them, so that less is left to wait for


@dataclass(frozen=True, slots=True)
class PartOutput:
    """What a finished part holds."""

    bytes_written: int
    digest: bytes
    records: int


class PartWriter:
    """Writes one part; a context manager that closes the file whatever happens."""

    def __init__(
        self,
        path: Path | str,
        output: PartForm,
        *,
        role: str,
        kinds: Kinds,
        disk: Disk,
        form: FixedWidth | None = None,
        aside: Aside | None = None,
        is_durable: bool = True,
    ) -> None:
        self._path, self._disk, self._role, self._kinds = path, disk, role, kinds
        self._aside, self._is_durable = aside, is_durable
        self._stack = ExitStack()
        self._is_typed = output == "pairs"
        self._width = None if form is None else form.width  # of the records that stand in the place of lines
        self._file: BinaryIO | None = None
        self._section: SectionWriter | None = None
        self._digest = xxhash.xxh3_128()
        self._bytes_written = self._sync_begun = 0
        self._records = 0
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._waiting_max = 1  # adapts to the size of the pairs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def add_batch(self, key: Any, value: Any) -> None:
        """Pairs that user code gave as arrays. Raises InvalidKey and InvalidValue."""
        if not self._is_typed and self._width is None and can_be_lines(key, value):
            admit_first(key, self._kinds)
            at_once = max(1, len(key) * _YIELDED_BYTES // max(1, key.nbytes + value.nbytes))
            for start in range(0, len(key), at_once):
                self._write_arrays(key[start : start + at_once], value[start : start + at_once])
            return
        self.add_encoded(encoded_keys(key, self._kinds), value_column(value))

    def add_encoded(self, texts: Keys, column: Column) -> None:
        """Pairs as they stand in runs."""
        if not len(texts):
            return
        if self._is_typed:
            self._records += len(texts)
            self._typed_section().add(texts, column)
            return
        at_once = len(texts)
        if not isinstance(texts, list):  # lines of a few are made at a time: they need not fit beside what is merged
            at_once = max(1, at_once * _ENCODED_BYTES // key_columns.size_bytes(texts))
        for start in range(0, len(texts), at_once):
            self._write_encoded(texts[start : start + at_once], column[start : start + at_once])

    def add_yielded(self, pairs: Iterable[Pair]) -> None:
        """Pairs that user code yields; each is checked when it comes."""
        kinds, waiting_keys, waiting_values = self._kinds, self._keys, self._values
        fast_type = kinds.fast_type
        for pair in pairs:
            if pair.__class__ is not tuple or len(pair) != 2:
                pair = as_pair(pair, self._role)  # noqa: PLW2901
            key, value = pair
            if key.__class__ is not fast_type:
                key = kinds.admit(key)
                fast_type = kinds.fast_type
            waiting_keys.append(key)
            waiting_values.append(value)
            if len(waiting_keys) >= self._waiting_max:
                self.flush()

    def flush(self) -> None:
        """Write the pairs that were yielded so far. Raises InvalidKey and InvalidValue."""
        if not self._keys:
            return
        each_bytes = max(1, held_bytes(self._values) // len(self._values))
        self._waiting_max = max(1, min(_YIELDED_PAIRS_MAX, 4 * len(self._keys), _YIELDED_BYTES // each_bytes))
        if not self._is_typed:
            self._write_lines(self._keys, self._values)
        else:
            self._records += len(self._keys)
            self._typed_section().add(keys.sortable_all(self._keys), columns.make(self._values))
        self._keys.clear()
        self._values.clear()

    def close(self) -> PartOutput:
        """End the part and make it durable, unless it is only for a time."""
        self.flush()
        if self._aside is not None:
            self._put_behind(self._aside)
        if self._file is None:
            return PartOutput(0, self._digest.digest(), 0)
        if self._section is not None:
            if self._aside is None:
                self._section.end()
            self._bytes_written, digest = self._section.bytes_written, self._section.digest()
        else:
            digest = self._digest.digest()
        if self._is_durable:
            self._disk.sync(self._file)
        self._stack.close()
        if self._is_durable:
            self._disk.sync_directory(Path(self._path).parent)
        return PartOutput(self._bytes_written, digest, self._records)

    def _put_behind(self, aside: Aside) -> None:
        """End the pairs, and put behind them what follows. Where there are none, a typed part has an end of pairs."""
        if self._section is not None:
            self._section.end()
        tail = aside.tail(has_pairs=self._file is not None)
        if tail is None:
            return
        if self._is_typed and self._section is None:
            self._typed_section().end()
        for piece in tail:
            if self._section is not None:
                self._section.append(piece)
            else:
                self._digest.update(piece)
                self._opened().write(piece)
                self._bytes_written += len(piece)

    def _opened(self) -> BinaryIO:
        """The file, made for the first pair."""
        if self._file is None:
            path = Path(self._path)
            self._disk.make_directories(path.parent)
            self._file = self._stack.enter_context(self._disk.create(path))
        return self._file

    def _typed_section(self) -> SectionWriter:
        if self._section is None:
            self._section = SectionWriter(self._opened())
            self._section.write_magic(PART_MAGIC if self._aside is None else PART_WITH_OUTPUTS_MAGIC)
        return self._section

    def _write_arrays(self, key: Any, value: Any) -> None:
        lines = array_lines(key, value)
        if lines is None:
            self._write_lines(plain_values(key), plain_values(value))
        else:
            self._write_bytes(lines, len(key))

    def _write_encoded(self, texts: Keys, column: Column) -> None:
        width = self._width
        lines = encoded_lines(texts, column) if width is None else encoded_records(texts, column, width)
        if lines is None:
            self._write_lines(keys.decode_all(key_columns.to_texts(texts)), columns.to_values(column))
        else:
            self._write_bytes(lines, len(texts))

    def _write_lines(self, plain: list[Any], values: list[Any]) -> None:
        made = text_lines(plain, values) if self._width is None else fixed_records(plain, values, self._width)
        self._write_bytes(made, len(plain))

    def _write_bytes(self, lines: bytes | memoryview, records: int) -> None:
        self._digest.update(lines)
        file = self._opened()
        file.write(lines)
        self._bytes_written += len(lines)
        self._records += records
        waiting_bytes = self._bytes_written - self._sync_begun
        if self._is_durable and waiting_bytes >= _SYNC_BEGUN_BYTES:
            self._disk.begin_sync(file, self._sync_begun, waiting_bytes)
            self._sync_begun = self._bytes_written
