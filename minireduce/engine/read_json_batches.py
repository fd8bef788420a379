"""Turn blocks of JSON lines into Arrow record batches, with a column for each field that `Json` declares.

The rows are those of `read_formats.parsed_json`, whose judge is Python's `json`. A block in which nothing can be read
in two ways is parsed by Arrow; any other, and any that Arrow refuses, line by line by Python. A line that is none comes
in a batch of its own, as what stands in its place, and raises when its turn comes.

Elsewhere: what a field may hold (`read_formats.declared_fields`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from minireduce.api.formats import Json
from minireduce.engine.batches import Batch
from minireduce.engine.context import TaskContext
from minireduce.engine.read import LongRecord, text_of
from minireduce.engine.read_csv_batches import long_batch
from minireduce.engine.read_formats import declared_fields, unreadable_json

_NESTED_MAX = 500  # Python refuses what is nested about twice as deep, Arrow does not
_DIGITS = re.compile(rb"[0-9]{4300}")  # so many digits Python refuses, even where nobody asks for the field
_AMBIGUOUS = (b"\0", b"NaN", b"Infinity")  # which Python's json takes for what they say, or refuses


def json_batches(
    blocks: Iterator[tuple[int, bytes | LongRecord]], form: Json, context: TaskContext
) -> Iterator[tuple[Batch, bytes | LongRecord | None]]:
    """Batches of the rows, with the block that each is the first of."""
    for begin, raw in blocks:
        if isinstance(raw, LongRecord):
            context.count("MAP_INPUT_RECORDS")
            yield long_batch(begin, raw), raw
            continue
        body = text_of(begin, raw, context)
        if body is None:
            continue
        lines = body.split(b"\n")
        starts = [begin, *(np.flatnonzero(np.frombuffer(raw, np.uint8) == ord("\n")) + begin + 1).tolist()]
        is_first = True
        for batch in _batches(body, lines, starts, form, context):
            context.count("MAP_INPUT_RECORDS", batch.count)
            yield batch, raw if is_first else None
            is_first = False


def batch_of_objects(records: list[dict[str, Any]], form: Json) -> Any:
    """The columns of records that stand in no file. Raises ValueError for one that is not as declared."""
    return _columns([declared_fields(record, form) for record in records], form)


def _batches(body: bytes, lines: list[bytes], starts: list[int], form: Json, context: TaskContext) -> Iterator[Batch]:
    rows = _parsed_by_arrow(body, lines, form) if _is_plain(body, lines) else None
    if rows is not None:
        yield _batch(rows, lines, starts, form)
        return
    first = 0
    good: list[dict[str, Any]] = []
    for index, line in enumerate(lines):
        try:
            good.append(declared_fields(json.loads(line.decode()), form))
        except (ValueError, RecursionError) as cause:
            if good:
                yield _batch(_columns(good, form), lines[first:index], starts[first:index], form)
            bad = unreadable_json(line.decode(), cause, starts[index], context)
            yield Batch(None, 1, lambda _, bad=bad: bad, lambda _, at=starts[index]: at, long=bad)  # type: ignore[misc]
            first, good = index + 1, []
    if good:
        yield _batch(_columns(good, form), lines[first:], starts[first:], form)


def _batch(rows: Any, lines: list[bytes], starts: list[int], form: Json) -> Batch:
    def row(index: int) -> Any:
        return declared_fields(json.loads(lines[index].decode()), form)

    return Batch(rows, len(lines), row, lambda index: starts[index])


def _is_plain(body: bytes, lines: list[bytes]) -> bool:
    """Whether each line is one object, if the whole is so many objects, and Arrow and Python read them alike."""
    if any(each in body for each in _AMBIGUOUS) or _DIGITS.search(body):
        return False
    return all(line[:1] == b"{" and line[-1:] == b"}" for line in lines) and not (
        body.count(b"[") + body.count(b"{") > _NESTED_MAX
        and any(line.count(b"[") + line.count(b"{") > _NESTED_MAX for line in lines)
    )


def _parsed_by_arrow(body: bytes, lines: list[bytes], form: Json) -> Any:
    """The rows; None where some are to be judged by Python."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    try:
        table = arrow_json.read_json(
            pa.py_buffer(body),
            arrow_json.ReadOptions(use_threads=False, block_size=len(body) + 1),
            arrow_json.ParseOptions(explicit_schema=_schema(form), unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    batches = table.combine_chunks().to_batches()
    if len(batches) != 1 or batches[0].num_rows != len(lines):
        return None
    rows = batches[0]
    return rows if all(_is_as_python_reads(rows.column(index)) for index in range(rows.num_columns)) else None


def _is_as_python_reads(column: Any) -> bool:
    """Whether no float is told from how it was written: `-0` is an int to Python, and so is a long row of digits."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        return True
    numbers = np.asarray(column.fill_null(1.0))
    return bool(np.isfinite(numbers).all() and not np.signbit(numbers[numbers == 0]).any())


def _columns(rows: list[dict[str, Any]], form: Json) -> Any:
    import pyarrow as pa

    arrays = [pa.array([row[each.name] for row in rows], each.type) for each in _schema(form)]
    return pa.RecordBatch.from_arrays(arrays, schema=_schema(form))


def _schema(form: Json) -> Any:
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema([(name, types[kind]) for name, kind in (form.columns or {}).items()])
