"""Turn the bytes of a split into Arrow record batches, with the records that `read` would give as their rows.

Text and Bytes come as the columns `line` and `offset` (where the line begins in its file, in what it holds if that is
compressed), FixedWidth as `record` and `offset`, Numbers as `number`, pairs and KeyValue as `key` and `value`, Csv,
Json and Parquet as their fields. A batch holds the records of one block of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from minireduce.api.formats import FORMATS, Bytes, Csv, FixedWidth, InputFormat, Json, KeyValue, Pairs, Parquet, Text
from minireduce.api.step import Step
from minireduce.engine import columns, key_columns, keys, packed_columns
from minireduce.engine.batches import Batch
from minireduce.engine.columns import Column
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import InvalidValue, UnreadableInput
from minireduce.engine.key_columns import Keys
from minireduce.engine.read import (
    BLOCK_NUMBERS,
    FOREVER,
    RECORD_BYTES_MAX,
    Lines,
    LongRecord,
    Progress,
    csv_names,
    decompressed,
    fixed_blocks,
    number_records,
    open_records,
    part_reader,
    text_of,
)
from minireduce.engine.read_csv_batches import batch_of_rows, csv_batches, long_batch
from minireduce.engine.read_formats import parquet_batches
from minireduce.engine.read_json_batches import batch_of_objects, json_batches
from minireduce.engine.value_kinds import ValueKind
from minireduce.errors import RequestError


def opener(step: Step) -> Callable[..., Iterator[Any]]:
    """What opens a split for this step: `open_batches` or `read.open_records`."""
    return open_records if step.map_batch is None else open_batches


def numbers_of(step: Step) -> Callable[..., Iterator[Any]]:
    """What gives this step its numbers: `number_batches` or `read.number_records`."""
    return number_records if step.map_batch is None else number_batches


def open_batches(
    stream: BinaryIO,
    *,
    offset: int,
    length: int,
    input_format: InputFormat[Any],
    context: TaskContext,
    record_bytes_max: int = RECORD_BYTES_MAX,
    passes_long: bool = False,
) -> Iterator[Batch]:
    """Batches of a split; arguments as of `read.open_records`."""
    if isinstance(input_format, Pairs):
        return _pair_batches(stream, context)
    if isinstance(input_format, Parquet):
        return _parquet_batches(stream, offset, length, input_format, context)
    if not isinstance(input_format, Text | Bytes | KeyValue | FixedWidth | Csv | Json) or not input_format.has_columns:
        raise RequestError(f"{input_format!r} cannot be read in batches", hint=f"use {FORMATS}")
    names = csv_names(stream, offset, input_format, context) if isinstance(input_format, Csv) else None
    plain = decompressed(stream, context.path)
    if plain is not stream:
        offset, length = 0, FOREVER
    if isinstance(input_format, FixedWidth):
        return _fixed_batches(plain, offset, length, input_format.width, context)
    blocks = Lines(context, record_bytes_max, passes_long=passes_long).blocks(plain, offset, length)
    size_of = len if plain is stream else Progress(stream).bytes_since
    is_cut = isinstance(input_format, KeyValue)
    is_text = isinstance(input_format, Text) or is_cut
    if isinstance(input_format, Csv):
        return _sized(csv_batches(blocks, input_format, names, context), size_of)
    if isinstance(input_format, Json):
        return _sized(json_batches(blocks, input_format, context), size_of)

    def batches() -> Iterator[Batch]:
        for begin, raw in blocks:
            batch = (
                long_batch(begin, raw) if isinstance(raw, LongRecord) else _lines(begin, raw, context, is_text=is_text)
            )
            batch.size_bytes = size_of(raw)
            if batch.count:
                context.count("MAP_INPUT_RECORDS", batch.count)
                yield _cut_at_tabs(batch) if is_cut and batch.rows is not None else batch

    return batches()


def _cut_at_tabs(batch: Batch) -> Batch:
    """A batch of lines as one of keys and values: what is before the first tab, and after it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lines = batch.rows.column("line")
    cut = pc.split_pattern(lines, "\t", max_splits=1)
    pieces, starts = cut.flatten(), cut.offsets[:-1]
    value_at = pc.if_else(pc.equal(pc.list_value_length(cut), 2), pc.add(starts, 1), None)
    batch.rows = pa.RecordBatch.from_arrays([pieces.take(starts), pieces.take(value_at)], names=["key", "value"])
    return batch


def _sized(
    batches: Iterator[tuple[Batch, bytes | LongRecord | None]], size_of: Callable[[Any], int]
) -> Iterator[Batch]:
    for batch, raw in batches:
        batch.size_bytes = 0 if raw is None else size_of(raw)
        yield batch


def number_batches(begin: int, end: int, *, context: TaskContext) -> Iterator[Batch]:
    """The ints from `begin` up to `end`."""
    import pyarrow as pa

    for first in range(begin, end, BLOCK_NUMBERS):
        context.progress()
        numbers = np.arange(first, min(first + BLOCK_NUMBERS, end))
        context.count("MAP_INPUT_RECORDS", len(numbers))
        rows = pa.RecordBatch.from_arrays([key_columns.of_integers(numbers)], names=["number"])
        yield Batch(rows, len(numbers), range(first, end).__getitem__, size_bytes=len(numbers))


def batch_of(records: list[Any], input_format: InputFormat[Any]) -> Batch:
    """Records that stand in no file, as one batch; where they begin is null."""
    import pyarrow as pa

    if isinstance(input_format, Pairs):
        return _pairs(records, 0)
    if isinstance(input_format, Text | Bytes | FixedWidth):
        kind = pa.string() if isinstance(input_format, Text) else pa.binary()
        name = "line"
        if isinstance(input_format, FixedWidth):
            kind, name = pa.binary(input_format.width), "record"
        arrays, names = [pa.array(records, kind), pa.nulls(len(records), pa.int64())], [name, "offset"]
    elif isinstance(input_format, KeyValue):
        columns_of = [pa.array(column, pa.string()) for column in zip(*records, strict=True)]
        arrays, names = columns_of, ["key", "value"]
    elif isinstance(input_format, Csv):
        return Batch(batch_of_rows(records), len(records), records.__getitem__)
    elif isinstance(input_format, Json):
        return Batch(batch_of_objects(records, input_format), len(records), records.__getitem__)
    elif isinstance(input_format, Parquet):
        return Batch(pa.RecordBatch.from_pylist(records), len(records), records.__getitem__)
    else:
        arrays, names = [pa.array(records)], ["number"]
    return Batch(pa.RecordBatch.from_arrays(arrays, names=names), len(records), records.__getitem__)


def _lines(begin: int, raw: bytes, context: TaskContext, *, is_text: bool) -> Batch:
    import pyarrow as pa

    body = text_of(begin, raw, context) if is_text else raw[:-1] if raw.endswith(b"\n") else raw
    if body is None:
        return Batch(None, 0, list[Any]().__getitem__)
    ends = _newlines(raw)
    starts = begin + np.concatenate((np.zeros(1, np.int64), ends + 1))
    if not raw.startswith(body):  # returns or a mark are gone from it
        ends = _newlines(body)
    count = 1 + int(np.searchsorted(ends, len(body)))  # less the newline that ends the block
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:-1] = ends[: count - 1] - np.arange(count - 1)
    offsets[-1] = len(body) - (count - 1)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(body.replace(b"\n", b""))]
    lines = pa.Array.from_buffers(pa.string() if is_text else pa.binary(), count, buffers)
    rows = pa.RecordBatch.from_arrays([lines, key_columns.of_integers(starts[:count])], names=["line", "offset"])
    return Batch(rows, count, lambda index: lines[index].as_py(), lambda index: int(starts[index]))


def _newlines(block: bytes) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))


def _parquet_batches(
    stream: BinaryIO, offset: int, length: int, input_format: Parquet, context: TaskContext
) -> Iterator[Batch]:
    for rows, size_bytes in parquet_batches(stream, offset, length, input_format, context):
        yield Batch(rows, rows.num_rows, partial(_row, rows), size_bytes=size_bytes)


def _row(rows: Any, index: int) -> Any:
    return rows.slice(index, 1).to_pylist()[0]


def _fixed_batches(stream: BinaryIO, offset: int, length: int, width: int, context: TaskContext) -> Iterator[Batch]:
    for begin, raw in fixed_blocks(stream, offset, length, width, context):
        yield _fixed(begin, raw, width, context)


def _fixed(begin: int, raw: bytes, width: int, context: TaskContext) -> Batch:
    import pyarrow as pa

    count = len(raw) // width
    context.count("MAP_INPUT_RECORDS", count)
    records = pa.Array.from_buffers(pa.binary(width), count, [None, pa.py_buffer(raw)])
    offsets = key_columns.of_integers(np.arange(begin, begin + len(raw), width))
    rows = pa.RecordBatch.from_arrays([records, offsets], names=["record", "offset"])
    return Batch(
        rows,
        count,
        lambda index: raw[index * width : (index + 1) * width],
        lambda index: begin + index * width,
        size_bytes=len(raw),
    )


def _pair_batches(stream: BinaryIO, context: TaskContext) -> Iterator[Batch]:
    kind = ValueKind()
    reader = part_reader(stream, context.file or context.path or "a typed part", is_columnar=True)
    while (frame := reader.read()) is not None:
        context.progress()
        context.count("MAP_INPUT_RECORDS", len(frame[1]))
        try:
            batch = _pair_batch(*frame, reader.frame_bytes)
            kind.admit(batch.rows.column("value"), partial(packed_columns.plain_key, frame[0]))
        except InvalidValue as error:  # of the part, whatever record of it was taken last
            raise UnreadableInput(
                f"{context.path or 'the input'} cannot be read in batches: {error.message}",
                hint=error.hint,
                path=context.path,
            ) from error
        yield batch


def _pair_batch(encoded: Keys, column: Column, size_bytes: int) -> Batch:
    """A frame of a typed part as it is, or by way of its objects where there is no array of its keys or values."""
    import pyarrow as pa

    @cache
    def found() -> list[tuple[Any, Any]]:
        plain = keys.decode_all(key_columns.to_texts(encoded))
        return list(zip(plain, columns.to_values(column), strict=True))

    key, value = packed_columns.key_array(encoded), packed_columns.value_array(column)
    if key is None or value is None:
        return _pairs(found(), size_bytes)
    rows = pa.RecordBatch.from_arrays([key, value], names=["key", "value"])
    return Batch(rows, len(column), lambda index: found()[index], None, size_bytes)


def _pairs(found: list[tuple[Any, Any]], size_bytes: int) -> Batch:
    import pyarrow as pa

    key = packed_columns.object_keys([pair[0] for pair in found])
    value = packed_columns.object_values([pair[1] for pair in found], lambda place: found[place][0])
    rows = pa.RecordBatch.from_arrays([key, value], names=["key", "value"])
    return Batch(rows, len(found), found.__getitem__, None, size_bytes)
