r"""Turn the bytes of a split into records.

A record belongs to the split in which its first byte lies: a reader skips what is left of a line that began before
its split, and reads past the end of it to finish its last line. So every record is read once, wherever splits are
cut; to know whether a line begins at the very start of a split, one byte before it is looked at.

Lines are found, decoded and split by the block. `TaskContext.walk` hands them on one by one in C, and the place of a
record is worked out from the block only when somebody asks. Compressed files are one split, read as what they hold.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, BinaryIO, cast

from minireduce.api.formats import FORMATS, Bytes, Csv, FixedWidth, InputFormat, Json, KeyValue, Pairs, Parquet, Text
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import UnreadableFile, UnreadableInput
from minireduce.engine.frames import PART_MAGIC, PART_WITH_OUTPUTS_MAGIC, SectionReader, Source
from minireduce.engine.part_table import read_table
from minireduce.engine.read_csv import csv_rows, csv_rows_over_lines, header_of
from minireduce.engine.read_formats import UnreadableRecord, key_values, parquet_rows, parsed_json
from minireduce.errors import Corruption, RequestError
from minireduce.frozen import dataclass

RECORD_BYTES_MAX = 64 << 20
BLOCK_BYTES = 512 << 10
TAIL_BYTES = 64 << 10
"""Read at once beyond the end of a split, for the line that goes on there."""
LINES_BYTES = 64 << 10
"""Of lines that become strings one by one: what stays in the caches meanwhile is split sooner."""
BLOCK_NUMBERS = 8192
LONG_KEPT_BYTES = 4096
LONG_SHOWN_BYTES = 80

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FOREVER = 1 << 62


def open_records(
    stream: BinaryIO,
    *,
    offset: int,
    length: int,
    input_format: InputFormat[Any],
    context: TaskContext,
    record_bytes_max: int = RECORD_BYTES_MAX,
    passes_long: bool = False,
) -> Iterator[Any]:
    """Records of a split, whatever the format and compression (by the suffix of `context.path`).

    `stream` is the whole file, seekable unless it is compressed; it is read past the end of the split to finish the
    last record. A record that is too long is an error, or, with `passes_long`, has a `LongRecord` in its place.
    """
    if isinstance(input_format, Pairs):
        return chain.from_iterable(_pair_blocks(stream, context))
    if isinstance(input_format, Parquet):
        return chain.from_iterable(parquet_rows(stream, offset, length, input_format, context))
    if isinstance(input_format, Json | Csv | KeyValue):
        names = csv_names(stream, offset, input_format, context) if isinstance(input_format, Csv) else None
        is_over_lines = isinstance(input_format, Csv) and input_format.multiline
        lines_of_file = open_records(
            stream,
            offset=offset,
            length=length,
            input_format=Bytes() if is_over_lines else Text(),
            context=context,
            record_bytes_max=record_bytes_max,
            passes_long=passes_long,
        )
        if isinstance(input_format, KeyValue):
            return key_values(lines_of_file)
        if isinstance(input_format, Json):
            return parsed_json(lines_of_file, input_format, context, passes_bad=passes_long)
        if is_over_lines:
            return csv_rows_over_lines(
                lines_of_file, input_format, context, passes_bad=passes_long, record_bytes_max=record_bytes_max
            )
        return csv_rows(lines_of_file, input_format, names, context, passes_bad=passes_long)
    if not isinstance(input_format, Text | Bytes | FixedWidth):
        raise RequestError(f"{input_format!r} cannot be read", hint=f"use {FORMATS}")
    plain = decompressed(stream, context.path)
    if plain is not stream:
        offset, length = 0, FOREVER
    if isinstance(input_format, FixedWidth):
        fixed = fixed_blocks(plain, offset, length, input_format.width, context)
        return chain.from_iterable(_walk_fixed(begin, raw, input_format.width, context) for begin, raw in fixed)
    lines = Lines(context, record_bytes_max, passes_long=passes_long, block_bytes=min(BLOCK_BYTES, LINES_BYTES))
    walk_block = _walk_text if isinstance(input_format, Text) else _walk_bytes
    size_of = len if plain is stream else Progress(stream).bytes_since

    def walk(begin: int, raw: bytes | LongRecord) -> Iterator[Any]:
        if isinstance(raw, LongRecord):
            context.count("MAP_INPUT_RECORDS")
            return context.walk([raw], lambda _: begin, size_bytes=size_of(raw))
        return walk_block(begin, raw, context, size_of(raw))

    return chain.from_iterable(walk(begin, raw) for begin, raw in lines.blocks(plain, offset, length))


def csv_names(stream: BinaryIO, offset: int, form: Csv, context: TaskContext) -> tuple[str, ...] | None:
    """The names of the fields; None where the first line of the split that is not empty has them. A split from the
    middle looks at the beginning of its file.
    """
    if isinstance(form.header, tuple):
        return form.header
    if not offset:
        return None
    stream.seek(0)
    looking = TaskContext(path=context.path)
    for line in open_records(stream, offset=0, length=FOREVER, input_format=Text(), context=looking):
        if line:
            is_before = looking.offset is not None and looking.offset < offset
            return header_of(line, form, looking) if is_before else None
    return ()


def fixed_blocks(
    stream: BinaryIO, offset: int, length: int, width: int, context: TaskContext
) -> Iterator[tuple[int, bytes]]:
    """(place in the file, bytes) of whole records of this width that begin in the split."""
    begin, end = -(-offset // width) * width, -(-(offset + length) // width) * width
    if begin:
        stream.seek(begin)
    waiting = b""
    block_bytes = max(1, BLOCK_BYTES // width) * width  # whole records, which need not be put together
    while begin < end and (data := _read(stream, context, min(block_bytes, end - begin - len(waiting)))):
        waiting = waiting + data if waiting else data
        whole = min(len(waiting) // width * width, end - begin)
        if whole:
            yield begin, waiting[:whole]
            begin, waiting = begin + whole, waiting[whole:]
    if begin < end and waiting:
        raise UnreadableInput(
            f"{context.path or 'the input'} ends {len(waiting)} bytes into the record at offset {begin}, of {width}",
            hint="is the width right, and the file whole?",
            path=context.path,
            offset=begin,
        )


def _walk_fixed(begin: int, raw: bytes, width: int, context: TaskContext) -> Iterator[bytes]:
    records = [raw[at : at + width] for at in range(0, len(raw), width)]
    context.count("MAP_INPUT_RECORDS", len(records))
    return context.walk(records, lambda index: begin + index * width, size_bytes=len(raw))


class LongRecord(UnreadableRecord):
    """In the place of a record that is too long to be read."""

    def __repr__(self) -> str:
        return f"{self.beginning[:LONG_SHOWN_BYTES].decode(errors='replace')!r}… ({self.bytes_total:,} bytes)"


@dataclass(slots=True)
class Progress:
    """How far a compressed file is read: what it holds says nothing about its size."""

    stream: BinaryIO
    at: int = 0

    def bytes_since(self, _: object) -> int:
        """What was read since the last time."""
        before, self.at = self.at, self.stream.tell()
        return self.at - before


def number_records(begin: int, end: int, *, context: TaskContext) -> Iterator[int]:
    """The ints from `begin` up to `end`. Progress counts them as if each were a byte read."""
    return chain.from_iterable(_walk_numbers(begin, end, context))


def _walk_numbers(begin: int, end: int, context: TaskContext) -> Iterator[Iterator[int]]:
    for first in range(begin, end, BLOCK_NUMBERS):
        context.progress()
        block = range(first, min(first + BLOCK_NUMBERS, end))
        context.count("MAP_INPUT_RECORDS", len(block))
        yield context.walk(block, size_bytes=len(block))


def decompressed(stream: BinaryIO, path: str) -> BinaryIO:
    """What a compressed file holds, by its suffix; other files as they are."""
    if path.endswith(".gz"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    if path.endswith(".bz2"):
        return cast("BinaryIO", bz2.BZ2File(stream))
    if path.endswith(".xz"):
        return cast("BinaryIO", lzma.LZMAFile(stream))
    if path.endswith(".zst"):
        import pyarrow as pa

        return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(_LeftOpen(stream), "r"), "zstd"))
    return stream


class _LeftOpen:
    """A stream for Arrow, which closes what it reads as soon as nobody holds its reader: whoever opened this stream
    goes on with it.
    """

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self.read, self.seek, self.tell = stream.read, stream.seek, stream.tell

    def close(self) -> None:
        pass


class Lines:
    """Cuts a stream into blocks of whole lines, none of them too long."""

    def __init__(
        self, context: TaskContext, record_bytes_max: int, *, passes_long: bool, block_bytes: int | None = None
    ) -> None:
        self._context, self._bytes_max, self._passes_long = context, record_bytes_max, passes_long
        self._block_bytes = block_bytes

    def blocks(self, stream: BinaryIO, offset: int, length: int) -> Iterator[tuple[int, bytes | LongRecord]]:
        """(place in the file, bytes) of whole lines that begin in the split; of one that is too long what stands for
        it, alone.
        """
        end = offset + length
        position = begin = max(offset - 1, 0)
        if offset:
            stream.seek(begin)
        waiting: list[bytes] = []  # the start of a line that goes on; of one that is too long, its beginning
        waiting_bytes = 0
        is_aligned = offset == 0
        block_bytes = self._block_bytes or BLOCK_BYTES
        while data := _read(stream, self._context, min(block_bytes, max(end - position, 0) + TAIL_BYTES)):
            base, position = position, position + len(data)
            start = 0
            if not is_aligned:
                start = data.find(b"\n") + 1
                if not start:
                    if position >= end:
                        return
                    continue
                is_aligned, begin = True, base + start
                if begin >= end:
                    return
            if waiting_bytes > self._bytes_max:
                start = data.find(b"\n") + 1
                waiting_bytes += start - 1 if start else len(data)
                if not start:
                    continue
                yield begin, self._long(waiting[0], begin, waiting_bytes)
                begin, waiting, waiting_bytes = base + start, [], 0
                if begin >= end:
                    return
            stop = data.find(b"\n", max(end - 1 - base, start)) + 1 if position >= end else 0
            is_last = stop > 0
            stop = stop or data.rfind(b"\n", start) + 1
            if stop > start:
                yield from self._sized(b"".join((*waiting, memoryview(data)[start:stop])), begin)
                if is_last:
                    return
                begin, start, waiting, waiting_bytes = base + stop, stop, [], 0
            waiting.append(data[start:])
            waiting_bytes += len(data) - start
            if waiting_bytes > self._bytes_max:
                waiting = [b"".join(waiting)[:LONG_KEPT_BYTES]]
                if not self._passes_long:
                    raise self._long(waiting[0], begin, waiting_bytes).error
        if is_aligned and waiting_bytes > self._bytes_max:
            yield begin, self._long(waiting[0], begin, waiting_bytes)
        elif is_aligned and waiting_bytes:
            yield begin, b"".join(waiting)

    def _sized(self, raw: bytes, begin: int) -> Iterator[tuple[int, bytes | LongRecord]]:
        """The same lines, with something in the place of each that is too long."""
        start = at = 0
        while len(raw) - start > self._bytes_max and at < len(raw):
            stop = raw.index(b"\n", at) + 1
            if stop - 1 - at > self._bytes_max:
                if at > start:
                    yield begin + start, raw[start:at]
                long = self._long(raw[at : at + LONG_KEPT_BYTES], begin + at, stop - 1 - at)
                if not self._passes_long:
                    raise long.error
                yield begin + at, long
                start = stop
            at = stop
        if start < len(raw):
            yield begin + start, raw[start:]

    def _long(self, beginning: bytes, offset: int, bytes_total: int) -> LongRecord:
        path = self._context.path
        error = UnreadableInput(
            f"the record of {path or 'the input'} at offset {offset} is longer than {self._bytes_max} bytes",
            hint="is this a text file? raise record_bytes_max if such records are meant",
            path=path,
            offset=offset,
        )
        long = LongRecord(beginning, offset, bytes_total, error)
        error.record = repr(long)
        return long


def _read(stream: BinaryIO, context: TaskContext, block_bytes: int | None = None) -> bytes:
    context.progress()
    return read_unpacked(stream, context.path, block_bytes or BLOCK_BYTES)


def read_unpacked(stream: BinaryIO, path: str, count: int) -> bytes:
    """Up to `count` bytes more of what `decompressed` gave. Raises UnreadableFile where it cannot be unpacked."""
    try:
        return stream.read(count)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        hint = "is the file whole, and of the kind that its name says?"
        raise UnreadableFile(f"{path} cannot be unpacked: {error}", hint=hint) from error


def text_of(begin: int, raw: bytes, context: TaskContext) -> bytes | None:
    """The lines of a block that begins there, as valid UTF-8; None if it has none."""
    body = raw[:-1] if raw.endswith(b"\n") else raw
    if begin == 0 and body.startswith(_BYTE_ORDER_MARK):
        body = body[len(_BYTE_ORDER_MARK) :]
        if len(raw) == len(_BYTE_ORDER_MARK):
            return None
    if not body.isascii() and _is_invalid(body):
        context.count("INVALID_UTF8_RECORDS", sum(map(_is_invalid, body.split(b"\n"))))
        body = body.decode(errors="replace").encode()
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return body


def _walk_text(begin: int, raw: bytes, context: TaskContext, size_bytes: int) -> Iterator[str]:
    lines = _plain_lines(begin, raw)
    if lines is None:
        body = text_of(begin, raw, context)
        if body is None:
            return iter(())
        lines = body.decode().split("\n")
    context.count("MAP_INPUT_RECORDS", len(lines))
    return context.walk(lines, _offsets(begin, raw), size_bytes=size_bytes)


def _plain_lines(begin: int, raw: bytes) -> list[str] | None:
    """The lines of a block without a mark, returns and invalid bytes, with no copy of it but the decoded one."""
    if b"\r" in raw or (begin == 0 and raw.startswith(_BYTE_ORDER_MARK)):
        return None
    try:
        lines = raw.decode().split("\n")
    except UnicodeDecodeError:
        return None
    if not lines[-1]:
        lines.pop()  # after the newline that ends the block
    return lines


def _walk_bytes(begin: int, raw: bytes, context: TaskContext, size_bytes: int) -> Iterator[bytes]:
    lines = (raw[:-1] if raw.endswith(b"\n") else raw).split(b"\n")
    context.count("MAP_INPUT_RECORDS", len(lines))
    return context.walk(lines, _offsets(begin, raw), size_bytes=size_bytes)


def _is_invalid(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def _offsets(begin: int, raw: bytes) -> Callable[[int], int]:
    """Where the i-th line begins; asking for one after the other costs no second scan."""
    known = (0, 0)

    def offset_of(index: int) -> int:
        nonlocal known
        line, at = known if known[0] <= index else (0, 0)
        for _ in range(index - line):
            at = raw.index(b"\n", at) + 1
        known = (index, at)
        return begin + at

    return offset_of


def _pair_blocks(stream: BinaryIO, context: TaskContext) -> Iterator[Iterator[tuple[Any, Any]]]:
    for pairs, size_bytes in pair_lists(stream, context.file or context.path, allow_pickle=True):
        context.progress()
        context.count("MAP_INPUT_RECORDS", len(pairs))
        yield context.walk(pairs, size_bytes=size_bytes)


def read_pairs(stream: BinaryIO, *, name: str = "", allow_pickle: bool = True) -> Iterator[tuple[Any, Any]]:
    """The pairs of a typed part, checked. Raises Corruption naming `name`, Refused for a pickle that is not allowed."""
    return chain.from_iterable(pairs for pairs, _ in pair_lists(stream, name, allow_pickle=allow_pickle))


def pair_lists(stream: BinaryIO, name: str, *, allow_pickle: bool) -> Iterator[tuple[list[tuple[Any, Any]], int]]:
    """The pairs of each frame, and its size."""
    reader = part_reader(stream, name or "a typed part")
    while (found := reader.read_plain(allow_pickle=allow_pickle)) is not None:
        yield list(zip(*found, strict=True)), reader.frame_bytes


def sampled_pairs(stream: BinaryIO, name: str, step_bytes: int, *, allow_pickle: bool) -> Iterator[list[Any]]:
    """The pairs of the frames at every so many bytes of a typed part, from its first one on."""
    reader = part_reader(stream, name or "a typed part")
    wanted = passed = 0
    while reader.has_more:
        if passed < wanted:
            reader.skip()
            passed += reader.frame_bytes
            continue
        found = reader.read_plain(allow_pickle=allow_pickle)
        if found is None:
            return
        passed += reader.frame_bytes
        wanted += step_bytes * max(1, -(-(passed - wanted) // step_bytes))
        yield list(zip(*found, strict=True))


def part_reader(stream: BinaryIO, name: str, *, is_columnar: bool = False) -> SectionReader:
    """What reads the pairs of a typed part. Raises Corruption naming it."""
    size_bytes = stream.seek(0, 2)
    source = Source(stream, name)
    magic = source.read_at(0, min(size_bytes, len(PART_MAGIC)))
    if magic == PART_WITH_OUTPUTS_MAGIC:
        size_bytes = read_table(source, 0, size_bytes).pairs_bytes
    elif magic != PART_MAGIC:
        raise Corruption(f"{name} does not begin as a typed part does")
    if size_bytes == len(PART_MAGIC):
        raise Corruption(f"{name} ends before its pairs")
    return SectionReader(source, len(PART_MAGIC), size_bytes - len(PART_MAGIC), is_columnar=is_columnar)
