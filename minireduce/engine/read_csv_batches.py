"""Turn blocks of CSV lines into Arrow record batches, with a column of strings for each field.

The rows are those of `read_csv`, whose judge of quotes is Python's `csv`. A block without quotes needs no judge: Arrow
cuts it at line ends and delimiters, which gives the same. A row that is none comes in a batch of its own, as what
stands in its place, and raises when its turn comes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import numpy as np

from minireduce.api.formats import Csv
from minireduce.engine.batches import Batch
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import UnreadableInput
from minireduce.engine.read import LongRecord, text_of
from minireduce.engine.read_csv import UNCLOSED, fields_of, header_of
from minireduce.engine.read_formats import KEPT_BYTES, UnreadableRecord

_Line = tuple[int, str]  # where it begins, and what it says


def csv_batches(
    blocks: Iterator[tuple[int, bytes | LongRecord]], form: Csv, names: tuple[str, ...] | None, context: TaskContext
) -> Iterator[tuple[Batch, bytes | LongRecord | None]]:
    """Batches of the rows, with the block that each is the first of. Without `names` the first row has them."""
    for begin, raw in blocks:
        if isinstance(raw, LongRecord):
            context.count("MAP_INPUT_RECORDS")
            yield long_batch(begin, raw), raw
            continue
        lines = _lines(begin, raw, context)
        if names is None and lines:
            names = header_of(lines[0][1], form, context)
            lines = lines[1:]
        is_first = True
        for batch in _batches(lines, form, names or (), context):
            context.count("MAP_INPUT_RECORDS", batch.count)
            yield batch, raw if is_first else None
            is_first = False


def long_batch(begin: int, raw: LongRecord) -> Batch:
    """A record that is too long, in a batch of its own."""
    return Batch(None, 1, lambda _: raw, lambda _: begin, long=raw)


def batch_of_rows(rows: list[dict[str, str]]) -> Any:
    """The columns of rows that stand in no file."""
    import pyarrow as pa

    names = list(rows[0]) if rows else []
    return pa.RecordBatch.from_arrays([pa.array([row[name] for row in rows], pa.string()) for name in names], names)


def _lines(begin: int, raw: bytes, context: TaskContext) -> list[_Line]:
    """The lines that are not empty."""
    body = text_of(begin, raw, context)
    if body is None:
        return []
    ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == ord("\n"))
    starts = [begin, *(ends + begin + 1).tolist()]
    return [(start, line) for start, line in zip(starts, body.decode().split("\n"), strict=False) if line]


def _batches(lines: list[_Line], form: Csv, names: tuple[str, ...], context: TaskContext) -> Iterator[Batch]:
    if not lines:
        return
    text = "\n".join([line for _, line in lines])
    # Arrow takes a byte order mark that begins what it is given for no part of it
    is_slow = '"' in text or "\r" in text or text.startswith("\ufeff")
    rows = None if is_slow else _cut(text, form, names)
    if rows is not None and rows.num_rows == len(lines):
        yield _batch(rows, lines, form, names)
        return
    good: list[_Line] = []
    fields: list[list[str]] = []
    for place in lines:
        found = _fields(place, form, names, context)
        if isinstance(found, list):
            good.append(place)
            fields.append(found)
            continue
        if good:
            yield _batch(_of_fields(fields, names), good, form, names)
            good, fields = [], []
        yield Batch(None, 1, lambda _, found=found: found, lambda _, place=place: place[0], long=found)  # type: ignore[misc]
    if good:
        yield _batch(_of_fields(fields, names), good, form, names)


def _batch(rows: Any, lines: list[_Line], form: Csv, names: tuple[str, ...]) -> Batch:
    def row(index: int) -> Any:
        line = lines[index][1]
        return dict(zip(names, fields_of(line, form), strict=True))

    return Batch(rows, rows.num_rows, row, lambda index: lines[index][0])


def _cut(text: str, form: Csv, names: tuple[str, ...]) -> Any:
    """The rows of lines without quotes; None where one of them has another number of fields."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if not names or not form.delimiter.isascii():
        return None
    data = text.encode()
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(data),
            arrow_csv.ReadOptions(use_threads=False, column_names=list(names), block_size=len(data) + 1),
            arrow_csv.ParseOptions(delimiter=form.delimiter, quote_char=False, newlines_in_values=False),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    batches = table.combine_chunks().to_batches()
    return batches[0] if len(batches) == 1 else None


def _of_fields(rows: list[list[str]], names: tuple[str, ...]) -> Any:
    import pyarrow as pa

    arrays = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def _fields(place: _Line, form: Csv, names: tuple[str, ...], context: TaskContext) -> list[str] | UnreadableRecord:
    """The fields of a line, or what stands for a row that is none. Raises UserCodeError where more than this line is
    not to be read.
    """
    offset, line = place
    what, hint, is_fatal = "", "see the line; Csv() has options for names and delimiter", False
    try:
        fields = fields_of(line, form)
        if len(fields) == len(names):
            return fields
        what = f"has {len(fields)} fields, and there are {len(names)} names"
    except csv.Error as cause:
        what = f"is no row of CSV: {cause}"
        if UNCLOSED in str(cause):
            what, hint = "has a quoted field that does not end in its line", "Csv(multiline=True) reads it"
            is_fatal = True  # the lines that follow are not what they seem
    path = context.path
    error = UnreadableInput(
        f"the record of {path or 'the input'} at offset {offset} {what}", hint=hint, path=path, offset=offset
    )
    error.record = repr(line)[:200]
    if is_fatal:
        raise error
    raw = line.encode(errors="replace")
    return UnreadableRecord(raw[:KEPT_BYTES], offset, len(raw), error)
