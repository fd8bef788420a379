"""Records of JSON lines and of Parquet files.

A line of JSON is parsed when its turn comes, so that one that is none is told as the record it is, and left out where
that is allowed. Of a Parquet file each row group is read whole by the split in which its first byte lies; the footer,
which says where they begin, is read by every split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from minireduce.api.formats import Json, Parquet
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import UnreadableFile, UnreadableInput, UserCodeError

_ROWS_AT_ONCE = 8192
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_JSON_NAMES = {list: "array", str: "string", bool: "boolean", type(None): "null"}
KEPT_BYTES = 4096


class UnreadableRecord:
    """In the place of a record that cannot be read: its beginning, where it is, how long, and the error."""

    def __init__(self, beginning: bytes, offset: int, bytes_total: int, error: UserCodeError) -> None:
        self.beginning, self.offset, self.bytes_total = beginning, offset, bytes_total
        self.error = error

    def __len__(self) -> int:
        return self.bytes_total


def parsed_json(lines: Iterator[Any], form: Json, context: TaskContext, *, passes_bad: bool) -> Iterator[Any]:
    """What each line says. One that is not as `form` has it raises, or with `passes_bad` has an `UnreadableRecord` in
    its place.
    """
    loads = json.loads
    for line in lines:
        if not isinstance(line, str):
            yield line  # which stands for a record that is too long
            continue
        try:
            value = loads(line)
            if form.columns is not None:
                value = declared_fields(value, form)
        except (ValueError, RecursionError) as cause:
            bad = unreadable_json(line, cause, context.offset, context)
            bad.error.position, bad.error.proof = context.position, context.proof
            if not passes_bad:
                raise bad.error from cause
            yield bad
            continue
        yield value


def key_values(lines: Iterator[Any]) -> Iterator[Any]:
    """The pair of each line, cut at its first tab."""
    for line in lines:
        if isinstance(line, str):
            key, tab, value = line.partition("\t")
            yield key, value if tab else None
        else:
            yield line  # which stands for a record that is too long


class WrongField(ValueError):
    """A line is JSON, and not as `Json(columns=…)` has it."""


def declared_fields(value: Any, form: Json) -> dict[str, Any]:
    """The fields that `form` declares, as their types. Raises WrongField."""
    if type(value) is not dict:
        raise WrongField(f"is a JSON {_JSON_NAMES.get(type(value), 'number')}, and columns are those of objects")
    return {name: _declared(value.get(name), name, kind) for name, kind in (form.columns or {}).items()}


def _declared(part: Any, name: str, kind: type) -> Any:
    given: type = type(part)
    if part is None or (kind is bool and given is bool):
        return part
    if kind is float and given in (int, float):
        try:
            return float(part)
        except OverflowError:
            raise WrongField(f"has an int as {name} that no float can hold") from None
    if given is not kind:
        raise WrongField(f"has {part!r:.80} as {name}, declared as {kind.__name__}")
    if kind is int and not _INT64_MIN <= part <= _INT64_MAX:
        raise WrongField(f"has {part!r:.80} as {name}, which does not fit 64 bits")
    if kind is str and not part.isascii():
        _check_utf8(part, name)
    return part


def _check_utf8(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WrongField(f"has a lone surrogate in {name}, which UTF-8 cannot hold") from None


def unreadable_json(line: str, cause: Exception, offset: int | None, context: TaskContext) -> UnreadableRecord:
    """What stands for a line that is not as it should be."""
    what = str(cause) if isinstance(cause, WrongField) else f"is no JSON: {cause}"
    hint = "each line of Json() is one JSON document; Text() reads lines as they are"
    if isinstance(cause, WrongField):
        hint = "see the line; Json() without columns takes all that is JSON"
    error = UnreadableInput(
        f"the record of {context.path or 'the input'} at offset {offset} {what}",
        hint=hint,
        path=context.path,
        offset=offset,
    )
    error.record = repr(line[:200])
    raw = line.encode(errors="replace")
    return UnreadableRecord(raw[:KEPT_BYTES], offset or 0, len(raw), error)


def parquet_batches(
    stream: BinaryIO, offset: int, length: int, input_format: Parquet, context: TaskContext
) -> Iterator[tuple[Any, int]]:
    """Record batches of the row groups that begin in the split, and the bytes that each stands for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _damage_named(context):
        file = pq.ParquetFile(pa.PythonFile(stream, "r"), pre_buffer=False)
    names = None if input_format.columns is None else list(input_format.columns)
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        if not offset <= _begin(group) < offset + length:
            continue
        rows_total = max(1, group.num_rows)
        stored_bytes = sum(group.column(place).total_compressed_size for place in range(group.num_columns))
        _check_names(names, file.schema_arrow.names, context)
        batches = file.iter_batches(_ROWS_AT_ONCE, row_groups=[index], columns=names, use_threads=False)
        while True:
            context.progress()
            with _damage_named(context):
                batch = next(batches, None)
            if batch is None:
                break
            context.count("MAP_INPUT_RECORDS", batch.num_rows)
            yield batch, stored_bytes * batch.num_rows // rows_total


def parquet_rows(
    stream: BinaryIO, offset: int, length: int, input_format: Parquet, context: TaskContext
) -> Iterator[Iterator[dict[str, Any]]]:
    """The rows of each batch."""
    for batch, size_bytes in parquet_batches(stream, offset, length, input_format, context):
        yield context.walk(batch.to_pylist(), size_bytes=size_bytes)


def _begin(group: Any) -> int:
    first = group.column(0)
    starts = [first.data_page_offset]
    if first.dictionary_page_offset:
        starts.append(first.dictionary_page_offset)
    return int(min(starts))


def _check_names(names: list[str] | None, found: list[str], context: TaskContext) -> None:
    missing = [name for name in names or () if name not in found]
    if missing:
        raise UnreadableInput(
            f"{context.path or 'the input'} has no column {missing[0]!r}",
            hint=f"it has {', '.join(found[:20])}",
            path=context.path,
        )


@contextmanager
def _damage_named(context: TaskContext) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = f"{context.path or 'the input'} cannot be read as Parquet: {error}"
        raise UnreadableFile(what, hint="is the file whole, and a Parquet file?") from error
