"""Rows of CSV files, as dicts of strings.

The judge of quotes is Python's `csv`, in its strict way; a line without quotes is split at the delimiter, which gives
the same. Of a file that is cut, each split reads the first line again for the names.

A quoted field that goes over a line end cannot be found from the middle of a file. Without `multiline` it ends the job
rather than count as a bad record, since the lines that follow it would be taken for rows; so does with it a row that
turns out to be none after its first line, or with an odd number of quotes in that.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import Any

from minireduce.api.formats import Csv
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import UnreadableInput, UserCodeError
from minireduce.engine.read_formats import KEPT_BYTES, UnreadableRecord

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FIELD_CHARACTERS_MAX = csv.field_size_limit()  # what Python's csv takes, unless it is told otherwise
UNCLOSED = "unexpected end of data"

Fields = list[str] | UnreadableRecord


def header_of(line: str, form: Csv, context: TaskContext) -> tuple[str, ...]:
    """The names that the first line of a file gives. Raises UserCodeError."""
    return _names(_parsed(line, form, context), context)


def csv_rows(
    lines: Iterator[Any], form: Csv, names: tuple[str, ...] | None, context: TaskContext, *, passes_bad: bool
) -> Iterator[Any]:
    """The row of each line of text. Without `names` the first line has them. A bad row raises, or with `passes_bad` has
    an `UnreadableRecord` in its place; so has a line that is too long.
    """
    delimiter = form.delimiter
    for line in lines:
        if not isinstance(line, str):
            yield line
            continue
        if not line:
            context.count("MAP_INPUT_RECORDS", -1)
            continue
        if '"' not in line and "\r" not in line:
            fields: Fields = line.split(delimiter)
        else:
            fields = _kept(lambda: _parsed(line, form, context), line, passes_bad=passes_bad and names is not None)  # noqa: B023 - called at once
        if names is None:
            assert isinstance(fields, list)
            names = _names(fields, context)
            context.count("MAP_INPUT_RECORDS", -1)
            continue
        yield _row(names, fields, line, context, passes_bad=passes_bad)


def csv_rows_over_lines(
    lines: Iterator[Any],
    form: Csv,
    context: TaskContext,
    *,
    passes_bad: bool,
    record_bytes_max: int,
) -> Iterator[Any]:
    """The rows of a whole file, given its lines as bytes; a row may go over several."""
    names = form.header if isinstance(form.header, tuple) else None
    source = _Lines(lines, context, record_bytes_max)
    reader = csv.reader(source, delimiter=form.delimiter, strict=True)
    while True:
        source.begin()
        try:
            fields: Fields | None = next(reader, None)
        except csv.Error as cause:
            error = _error(f"is no row of CSV: {cause}", context)
            if UNCLOSED in str(cause) or source.may_be_quoted:
                error.position = None  # not one bad record: the lines that follow may be no rows either
                raise error from cause
            if names is None or not passes_bad:
                raise error from cause
            fields = UnreadableRecord(source.first_line[:KEPT_BYTES], context.offset or 0, source.row_bytes, error)
        finally:
            if source.limit_before is not None:
                csv.field_size_limit(source.limit_before)
                source.limit_before = None
        if fields is None:
            return
        context.count("MAP_INPUT_RECORDS", 1 - source.row_lines)
        if isinstance(fields, list) and not fields:
            context.count("MAP_INPUT_RECORDS", -1)
        elif names is None:
            assert isinstance(fields, list)
            names = _names(fields, context)
            context.count("MAP_INPUT_RECORDS", -1)
        else:
            yield _row(
                names, fields, source.first_line[:KEPT_BYTES].decode(errors="replace"), context, passes_bad=passes_bad
            )


class _Lines:
    """Hands lines to a csv reader as it asks for them, and knows which of them its row took."""

    def __init__(self, lines: Iterator[Any], context: TaskContext, bytes_max: int) -> None:
        self._lines, self._context, self._bytes_max = lines, context, bytes_max
        self._looked_at_bytes = min(bytes_max + 1, _FIELD_CHARACTERS_MAX)  # of a row, from which its size matters
        self._is_first = True
        self.limit_before: int | None = None  # that of Python's csv, while a row may have longer fields
        self.begin()

    def begin(self) -> None:
        """The next line is the first of a row."""
        self.first_line, self.row_bytes, self.row_lines = b"", 0, 0

    @property
    def may_be_quoted(self) -> bool:
        """Whether what follows a row that is none may stand in a quoted field of it."""
        return self.row_lines > 1 or self.first_line.count(b'"') % 2 == 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        if not isinstance(raw, bytes):
            raise raw.error
        if self._is_first:
            raw, self._is_first = raw.removeprefix(_BYTE_ORDER_MARK), False
        if not self.row_lines:
            self.first_line = raw
        self.row_lines += 1
        self.row_bytes += len(raw) + 1
        if self.row_bytes > self._looked_at_bytes:
            if self.row_bytes > self._bytes_max + 1:
                raise _error(
                    f"ends a row of more than {self._bytes_max} bytes", self._context, hint="is a quote missing?"
                )
            if self.limit_before is None:
                self.limit_before = csv.field_size_limit(self._bytes_max + 1)
        try:
            return raw.decode() + "\n"
        except UnicodeDecodeError:
            self._context.count("INVALID_UTF8_RECORDS")
            return raw.decode(errors="replace") + "\n"


def _row(names: tuple[str, ...], fields: Fields, line: str, context: TaskContext, *, passes_bad: bool) -> Any:
    if isinstance(fields, UnreadableRecord):
        return fields
    if len(fields) != len(names):
        error = _error(f"has {len(fields)} fields, and there are {len(names)} names", context)
        if not passes_bad:
            raise error
        raw = line.encode(errors="replace")
        return UnreadableRecord(raw[:KEPT_BYTES], context.offset or 0, len(raw), error)
    return dict(zip(names, fields, strict=True))


def _kept(parse: Callable[[], list[str]], line: str, *, passes_bad: bool) -> Fields:
    """The fields, or what stands for them."""
    try:
        return parse()
    except UserCodeError as error:
        if not passes_bad or error.position is None:
            raise
        raw = line.encode(errors="replace")
        return UnreadableRecord(raw[:KEPT_BYTES], error.offset or 0, len(raw), error)


def fields_of(line: str, form: Csv) -> list[str]:
    """The fields of one line. Raises csv.Error; `UNCLOSED` stands in it where a quoted field does not end."""
    if '"' not in line and "\r" not in line:
        return line.split(form.delimiter)
    is_long = len(line) > _FIELD_CHARACTERS_MAX
    before = csv.field_size_limit(len(line)) if is_long else 0
    try:
        return next(csv.reader((line,), delimiter=form.delimiter, strict=True))
    finally:
        if is_long:
            csv.field_size_limit(before)


def _parsed(line: str, form: Csv, context: TaskContext) -> list[str]:
    try:
        return fields_of(line, form)
    except csv.Error as cause:
        if UNCLOSED not in str(cause):
            raise _error(f"is no row of CSV: {cause}", context) from cause
        error = _error("has a quoted field that does not end in its line", context, hint="Csv(multiline=True) reads it")
        error.position = None  # not one bad record: the lines that follow are no rows either
        raise error from cause


def _names(fields: list[str], context: TaskContext) -> tuple[str, ...]:
    if len(set(fields)) < len(fields):
        twice = next(name for name in fields if fields.count(name) > 1)
        error = _error(f"names {twice!r} twice", context, hint='give names of your own: Csv(header=("id", …))')
        error.position = None
        raise error
    return tuple(fields)


def _error(what: str, context: TaskContext, hint: str | None = None) -> UserCodeError:
    error = UnreadableInput(
        f"the record of {context.path or 'the input'} at offset {context.offset} {what}",
        hint=hint or "see the line; Csv() has options for names and delimiter",
        path=context.path,
        offset=context.offset,
        position=context.position,
        proof=context.proof,
    )
    error.record = repr(context.record)[:200]
    return error
