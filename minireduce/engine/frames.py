"""Pairs on disk: frames of keys and values, each with its checksum, and an end that says how much there was.

Spills, map outputs and typed parts share this layout (`docs/formats.md`). A section is a sequence of frames that ends
with an `END` frame; a map output has one section for each partition, a typed part one after its magic. Equal keys
that follow each other are stored once.

A frame closes with the pair that brings its weight to `FRAME_BYTES`. Weights depend on the pairs alone, so the same
pairs give the same bytes, whatever sizes they were handed over in. Frames are small, so that a merge of many runs
holds little. A frame of a spill or map output may be compressed, which it says itself; digests are over the frames as
they would be without.

Invariant: a reader gives all pairs of a section, or raises Corruption naming the file; never fewer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from minireduce.engine import columns, key_columns
from minireduce.engine.columns import Column, Index
from minireduce.engine.frame_compression import FrameCompression, decompress
from minireduce.engine.key_columns import Keys
from minireduce.engine.keys import decode_all
from minireduce.engine.values import unpack_each
from minireduce.errors import Corruption
from minireduce.frozen import dataclass

FRAME_BYTES = 256 << 10
PART_MAGIC = b"MRPAIRS1"
PART_WITH_OUTPUTS_MAGIC = b"MRPAIRS2"  # as long: digests leave the same number of bytes out

KINDS, PAIRS, END, COMPRESSED_PAIRS = 1, 2, 3, 4
"""What a frame is. The payload of compressed pairs stands behind its plain length in four bytes. To be compressed is no
mark beside the others, which a reader that does not know it would pass over.
"""
ONE_KEY_LENGTH, ONE_VALUE_LENGTH = 1, 2
"""Marks of a frame whose keys, or packed values, are all of one length: it is stored once."""
_HEAD = struct.Struct("<BBHIIIQQ")  # frame, form, marks, keys, values, key bytes, value bytes, XXH3-64 of all else
_CHECKED = _HEAD.size - 8
Pieces = list[Any]  # bytes that stand one after the other, or views of them: a frame is not put together to be written
END_BYTES = _HEAD.size + 8
_PLAIN_LENGTH_BYTES = 4


class SectionWriter:
    """Writes the frames of one section after the other to an open file, compressed where `compression` says so."""

    def __init__(self, file: BinaryIO, compression: FrameCompression | None = None) -> None:
        self._file = file
        self._compression = compression
        self._keys: list[Keys] = []
        self._columns: list[Column] = []
        self._weight = 0  # of the pairs that wait for their frame to fill
        self._digest = xxhash.xxh3_128()
        self.bytes_written = 0
        self.saved_bytes = 0  # by which what was written is less for being compressed
        self.pairs_written = 0
        self._section_pairs = 0

    def write_kinds(self, encoded: bytes) -> None:
        """What kinds of keys the writer of this section saw; not part of the digest, since it names places."""
        self._write(_frame(KINDS, 0, 0, 0, 0, 0, [encoded]))

    def add(self, keys: Keys, column: Column) -> None:
        """More pairs, by their sortable keys."""
        if not len(keys):
            return
        ends = np.cumsum(key_columns.lengths(keys) + columns.weights(column))
        taken = start = 0
        while self._weight + int(ends[-1]) - taken >= FRAME_BYTES:
            stop = int(np.searchsorted(ends, taken + FRAME_BYTES - self._weight)) + 1
            self._hold(keys[start:stop], column[start:stop])
            self._flush()
            start, taken = stop, int(ends[stop - 1])
            if start == len(keys):
                return
        self._hold(keys[start:], column[start:])
        self._weight += int(ends[-1]) - taken

    def end(self) -> None:
        """Close the section."""
        self._flush()
        end = _frame(END, 0, 0, 0, 0, 0, [self._section_pairs.to_bytes(8, "little")])
        self._digest_of(end)
        self._write(end)
        self._section_pairs = 0

    def write_magic(self, magic: bytes) -> None:
        """Bytes that tell what the file is."""
        self._write([magic])

    def append(self, piece: bytes) -> None:
        """Bytes that belong to no section; the digest covers them."""
        self._digest_of([piece])
        self._write([piece])

    def digest(self) -> bytes:
        """16 bytes that name all pairs so far, section by section."""
        return self._digest.digest()

    def _hold(self, keys: Keys, column: Column) -> None:
        self._keys.append(keys)
        self._columns.append(column)

    def _flush(self) -> None:
        self._weight = 0
        if not self._keys:
            return
        column = columns.settled(columns.concatenate(self._columns))
        frame = _encode_pairs(key_columns.concatenate(self._keys), column)
        self._digest_of(frame)
        self._write(frame if self._compression is None else self._compressed(frame, self._compression))
        self._section_pairs += len(column)
        self.pairs_written += len(column)
        self._keys, self._columns = [], []

    def _digest_of(self, frame: Pieces) -> None:
        for piece in frame:
            self._digest.update(piece)

    def _compressed(self, frame: Pieces, compression: FrameCompression) -> Pieces:
        head, *payload = frame
        plain_bytes = sum(map(len, payload))
        made = compression.compressed(payload, plain_bytes)
        if made is None:
            return frame
        _, form, marks, keys, values, key_bytes, *_ = _HEAD.unpack(head)
        self.saved_bytes += plain_bytes - len(made) - _PLAIN_LENGTH_BYTES
        length = plain_bytes.to_bytes(_PLAIN_LENGTH_BYTES, "little")
        return _frame(COMPRESSED_PAIRS, form, marks, keys, values, key_bytes, [length, made])

    def _write(self, pieces: Pieces) -> None:
        if self._compression is None:
            for piece in pieces:
                self._file.write(piece)
        else:
            self._compression.write(self._file.write, pieces)
        self.bytes_written += sum(map(len, pieces))


def _frame(frame: int, form: int, marks: int, keys: int, values: int, key_bytes: int, payload: Pieces) -> Pieces:
    size_bytes = sum(map(len, payload))
    head = _HEAD.pack(frame, form, marks, keys, values, key_bytes, size_bytes, 0)[:_CHECKED]
    check = xxhash.xxh3_64(head)
    for piece in payload:
        check.update(piece)
    return [head + check.intdigest().to_bytes(8, "little"), *payload]


def encode_pairs(keys: Keys, column: Column) -> bytes:
    """One frame of pairs."""
    return b"".join(_encode_pairs(keys, column))


def _encode_pairs(keys: Keys, column: Column) -> Pieces:
    count = len(keys)
    starts = key_columns.group_starts(keys)
    if len(starts) < count:
        keys = key_columns.take(keys, starts)
        counts = np.diff(starts, append=count).astype("<u4").tobytes()
    else:
        counts = b""
    blob = key_columns.blob(keys)
    lengths, are_equal = _encode_lengths(key_columns.lengths(keys))
    marks = ONE_KEY_LENGTH if are_equal else 0
    parts = [lengths, counts, blob]
    if isinstance(column, np.ndarray):
        parts.append(column.tobytes())
    else:
        lengths, are_equal = _encode_lengths(columns.packed_lengths(column))
        marks |= ONE_VALUE_LENGTH if are_equal else 0
        parts += [lengths, columns.packed_blob(column)]
    return _frame(PAIRS, columns.form(column), marks, len(keys), count, len(blob), parts)


def _encode_lengths(lengths: Index) -> tuple[bytes, bool]:
    """Lengths as they are stored, and whether one stands for all."""
    are_equal = len(lengths) > 1 and bool((lengths == lengths[0]).all())
    return (lengths[:1] if are_equal else lengths).astype("<u4").tobytes(), are_equal


def _decode_lengths(payload: bytes, count: int, at: int, *, are_equal: bool) -> tuple[npt.NDArray[Any], int]:
    """Lengths that are stored there, and where they end."""
    if are_equal:
        return np.full(count, int.from_bytes(payload[at : at + 4], "little"), np.uint32), at + 4
    return np.frombuffer(payload, "<u4", count, at), at + 4 * count


@dataclass(slots=True)
class Source:
    """A file to read sections from, by offset; `name` is told in errors."""

    file: BinaryIO | int
    name: str

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Raises Corruption if the file ends before."""
        if isinstance(self.file, int):
            data = os.pread(self.file, length, offset)
            while len(data) < length and (more := os.pread(self.file, length - len(data), offset + len(data))):
                data += more
        else:
            self.file.seek(offset)
            data = self.file.read(length)
        if len(data) < length:
            raise Corruption(f"{self.name} ends at {offset + len(data)}, but its data goes on to {offset + length}")
        return data


class SectionReader:
    """The frames of one section. `frame_bytes` is the size of the one that was read last, and `stored_bytes` what of it
    lies in the file, which is less if it is compressed; `frames_at_once` is how many whoever merges may hold.
    """

    def __init__(
        self, source: Source, offset: int, length: int, *, is_columnar: bool = False, frames_at_once: int = 1
    ) -> None:
        self.frames_at_once = frames_at_once
        self._source = source
        self.is_columnar = is_columnar  # keys and packed values come as arrays, not as lists
        self._offset = offset
        self._end = offset + length
        self._pairs = 0
        self.frame_bytes = self.stored_bytes = 0
        self.kinds: bytes | None = None
        if length and self._peek() == KINDS:
            self.kinds = self._next()[1]

    @property
    def has_more(self) -> bool:
        """Whether another frame of pairs follows."""
        return self._end - self._offset > END_BYTES

    def read(self) -> tuple[Keys, Column] | None:
        """The next pairs; None at the end, once it is sure that none is missing."""
        frame = self._next_pairs()
        return None if frame is None else _decode_pairs(*frame, is_columnar=self.is_columnar)

    def read_plain(self, *, allow_pickle: bool) -> tuple[list[Any], list[Any]] | None:
        """As `read`, the keys and values themselves."""
        frame = self._next_pairs()
        return None if frame is None else _plain_pairs(*frame, allow_pickle=allow_pickle)

    def _next_pairs(self) -> tuple[bytes, int, int, int, int, int] | None:
        if self._offset == self._end:
            return None
        (frame, form, marks, keys, values, key_bytes, _, _), payload = self._next()
        if frame == END:
            written = int.from_bytes(payload, "little")
            if written != self._pairs or self._offset != self._end:
                raise Corruption(f"{self._source.name} has {self._pairs} pairs where {written} were written")
            return None
        if frame != PAIRS or self._offset == self._end:
            raise Corruption(f"{self._source.name} has no end at {self._end}")
        self._pairs += values
        return payload, form, marks, keys, values, key_bytes

    def skip(self) -> bool:
        """Pass over the next pairs unread and unchecked; False at the end. `read` counts no more from then on."""
        if not self.has_more:
            return False
        length = _HEAD.unpack(self._source.read_at(self._offset, _HEAD.size))[6]
        self.frame_bytes = self.stored_bytes = _HEAD.size + length
        self._offset = min(self._end, self._offset + self.frame_bytes)
        return True

    def _peek(self) -> int:
        return self._source.read_at(self._offset, 1)[0]

    def _next(self) -> tuple[tuple[int, ...], bytes]:
        head = self._source.read_at(self._offset, _HEAD.size)
        fields = _HEAD.unpack(head)
        start, length = self._offset + _HEAD.size, fields[6]
        if start + length > self._end:
            raise Corruption(f"{self._source.name} is damaged at {self._offset}")
        payload = self._source.read_at(start, length)
        check = xxhash.xxh3_64(head[:_CHECKED])
        check.update(payload)
        if check.intdigest() != fields[7]:
            raise Corruption(f"{self._source.name} is damaged between {self._offset} and {start + length}")
        if fields[0] == COMPRESSED_PAIRS:
            plain_bytes = int.from_bytes(payload[:_PLAIN_LENGTH_BYTES], "little")
            plain = decompress(memoryview(payload)[_PLAIN_LENGTH_BYTES:], plain_bytes)
            if plain is None:
                raise Corruption(f"{self._source.name} cannot be decompressed at {self._offset}")
            fields, payload = (PAIRS, *fields[1:]), plain
        self.stored_bytes = start + length - self._offset
        self.frame_bytes = _HEAD.size + len(payload)
        self._offset = start + length
        return fields, payload


def _decode_pairs(
    payload: bytes, form: int, marks: int, keys: int, values: int, key_bytes: int, *, is_columnar: bool
) -> tuple[Keys, Column]:
    key_lengths, at = _decode_lengths(payload, keys, 0, are_equal=bool(marks & ONE_KEY_LENGTH))
    counts = None
    if keys < values:
        counts = np.frombuffer(payload, "<u4", keys, at)
        at += 4 * keys
    texts = _keys(payload[at : at + key_bytes], key_lengths, is_columnar=is_columnar)
    at += key_bytes
    if counts is not None:
        texts = key_columns.take(texts, np.repeat(np.arange(keys), counts))
    if form == columns.INTEGERS:
        return texts, np.frombuffer(payload, "<i8", values, at)
    if form == columns.FLOATS:
        return texts, np.frombuffer(payload, "<f8", values, at)
    lengths, at = _decode_lengths(payload, values, at, are_equal=bool(marks & ONE_VALUE_LENGTH))
    if is_columnar:
        return texts, key_columns.of_parts(lengths, memoryview(payload)[at:])
    stops = (np.cumsum(lengths, dtype=np.int64) + at).tolist()
    starts = [at, *stops[:-1]]
    return texts, [payload[start:stop] for start, stop in zip(starts, stops, strict=True)]


def _plain_pairs(
    payload: bytes, form: int, marks: int, keys: int, values: int, key_bytes: int, *, allow_pickle: bool
) -> tuple[list[Any], list[Any]]:
    """Nothing is cut into pieces that would only be put together again, and equal keys are decoded once."""
    key_lengths, at = _decode_lengths(payload, keys, 0, are_equal=bool(marks & ONE_KEY_LENGTH))
    counts = None
    if keys < values:
        counts = np.frombuffer(payload, "<u4", keys, at).tolist()
        at += 4 * keys
    plain = decode_all(_keys(payload[at : at + key_bytes], key_lengths, is_columnar=False))
    if counts is not None:
        plain = list(chain.from_iterable(map(repeat, plain, counts)))
    at += key_bytes
    if form == columns.PACKED:
        lengths, at = _decode_lengths(payload, values, at, are_equal=bool(marks & ONE_VALUE_LENGTH))
        return plain, unpack_each(memoryview(payload)[at:], lengths.astype(np.int64), allow_pickle=allow_pickle)
    return plain, np.frombuffer(payload, "<i8" if form == columns.INTEGERS else "<f8", values, at).tolist()


def _keys(blob: bytes, lengths: Index, *, is_columnar: bool) -> Keys:
    if is_columnar:
        return key_columns.of_parts(lengths, blob)
    text, stops = blob.decode("latin-1"), np.cumsum(lengths, dtype=np.int64).tolist()
    return [text[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def iterate(reader: SectionReader) -> Iterator[tuple[Keys, Column]]:
    """All pairs of a section, frame by frame."""
    while (frame := reader.read()) is not None:
        yield frame
