"""Records of splits, wherever they are cut."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce import Bytes, FixedWidth, Pairs, Text
from minireduce.engine import read
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import Cancelled
from minireduce.engine.frames import PART_MAGIC
from minireduce.engine.read import LongRecord, number_records, open_records
from minireduce.engine.read_batches import open_batches
from minireduce.engine.split import is_splittable, plan_ranges, plan_splits
from minireduce.errors import Corruption, RequestError

TEXT = Text()


def records(
    data: bytes, *, path: str = "f.txt", input_format: Any = TEXT, split: int = 1 << 30, **more: Any
) -> list[Any]:
    found = []
    for offset, length in plan_splits(len(data), split, splittable=is_splittable(path)):
        stream = io.BytesIO(data)
        context = TaskContext(path=path)
        found += open_records(stream, offset=offset, length=length, input_format=input_format, context=context, **more)
    return found


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"\n", [""]),
        (b"a\r\nb\rc\r\r\n", ["a", "b\rc\r"]),
        (b"a\r", ["a"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [""]),
        ("ä\u2028\x0b\x85ö".encode(), ["ä\u2028\x0b\x85ö"]),
        (b"a\xff\nb", ["a\ufffd", "b"]),
    ],
)
def test_lines_of_text(data: bytes, lines: list[str]) -> None:
    assert records(data) == lines


def test_lines_of_bytes_keep_everything_but_the_newline() -> None:
    assert records(b"\xef\xbb\xbfa\xff\r\n\nb", input_format=Bytes()) == [b"\xef\xbb\xbfa\xff\r", b"", b"b"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([b"", b"a", b"bc\r", "ä".encode(), b"\xff" * 9]), max_size=12),
    st.integers(1, 9),
    st.booleans(),
)
@pytest.mark.parametrize("block", [1, 3, 64])
def test_every_record_is_read_once_wherever_splits_and_blocks_are_cut(
    block: int, lines: list[bytes], split: int, is_ended: bool
) -> None:
    data = b"\n".join(lines) + (b"\n" if is_ended and lines else b"")
    expected = data.removesuffix(b"\n").split(b"\n") if data else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK_BYTES", block)
        patch.setattr(read, "TAIL_BYTES", 2)
        assert records(data, input_format=Bytes(), split=split) == expected
        assert records(data, split=split) == [line.removesuffix(b"\r").decode(errors="replace") for line in expected]


@pytest.mark.parametrize(("form", "beyond"), [(Text(), read.LINES_BYTES - 4), (FixedWidth(4), 0)])
def test_little_is_read_beyond_the_end_of_a_split(form: Any, beyond: int) -> None:
    stream = io.BytesIO(b"abc\n" * (1 << 20))
    length = (1 << 20) + 4
    found = list(open_records(stream, offset=0, length=length, input_format=form, context=TaskContext(path="f")))
    assert len(found) == length // 4
    assert stream.tell() == length + beyond


def test_splits_cover_a_file_and_the_last_may_be_a_tenth_larger() -> None:
    assert plan_splits(0, 10, splittable=True) == []
    assert plan_splits(31, 10, splittable=True) == [(0, 10), (10, 10), (20, 11)]
    assert plan_splits(32, 10, splittable=True) == [(0, 10), (10, 10), (20, 10), (30, 2)]
    assert plan_splits(32, 10, splittable=False) == [(0, 32)]


@pytest.mark.parametrize(
    ("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", None)]
)
def test_compressed_files_are_read_as_what_they_hold(suffix: str, compress: Callable[[bytes], bytes] | None) -> None:
    data = b"\xef\xbb\xbf" + b"line\n" * 50_000 + b"last"
    packed = pa.Codec("zstd").compress(data, asbytes=True) if compress is None else compress(data)
    assert records(packed, path=f"f.{suffix}", split=10) == ["line"] * 50_000 + ["last"]
    file = io.BytesIO(packed)
    read_all = open_records(
        file, offset=0, length=len(packed), input_format=Text(), context=TaskContext(path=f"f.{suffix}")
    )
    assert sum(1 for _ in read_all) == 50_001
    assert not file.closed, "it is its opener's, who looks whether it has changed since"


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_torn_compressed_file_is_corruption_that_names_it(suffix: str, compress: Callable[[bytes], bytes]) -> None:
    packed = compress(b"line\n" * 50_000)
    for damaged in (packed[: len(packed) // 2], b"no such thing"):
        with pytest.raises(Corruption, match=rf"f\.{suffix}"):
            records(damaged, path=f"f.{suffix}")


def test_invalid_text_is_counted_by_records() -> None:
    context = TaskContext()
    data = b"ok\n\xff\xff\nok\n\xc3\n"
    list(open_records(io.BytesIO(data), offset=0, length=len(data), input_format=Text(), context=context))
    assert context.counters == {("minireduce", "INVALID_UTF8_RECORDS"): 2, ("minireduce", "MAP_INPUT_RECORDS"): 4}


@pytest.mark.parametrize("block", [4, 1 << 20])
def test_a_record_that_is_too_long_is_told_with_its_place(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "BLOCK_BYTES", block)
    assert records(b"ab\n" + b"x" * 20, record_bytes_max=20) == ["ab", "x" * 20]
    with pytest.raises(RequestError, match=r"f\.txt at offset 3 is longer than 20 bytes"):
        records(b"ab\n" + b"x" * 21 + b"\nc\n", record_bytes_max=20)


@given(
    st.lists(st.integers(0, 12).map(lambda size: b"x" * size), max_size=12),
    st.integers(1, 12),
    st.integers(1, 12),
    st.booleans(),
)
def test_wherever_blocks_and_splits_end_something_stands_in_the_place_of_each_record_that_is_too_long(
    lines: list[bytes], block: int, split: int, is_ended: bool
) -> None:
    data = b"\n".join(lines) + (b"\n" if is_ended else b"")
    wanted = data.removesuffix(b"\n").split(b"\n") if data else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK_BYTES", block)
        found = records(data, input_format=Bytes(), split=split, record_bytes_max=5, passes_long=True)
    assert [each.bytes_total if isinstance(each, LongRecord) else each for each in found] == [
        len(line) if len(line) > 5 else line for line in wanted
    ]
    longs = [(each.offset, each.beginning) for each in found if isinstance(each, LongRecord)]
    assert all(data[offset:].startswith(beginning) and beginning for offset, beginning in longs)
    assert all(offset == 0 or data[offset - 1 : offset] == b"\n" for offset, _ in longs)


def test_the_place_of_the_record_in_work_is_known_while_it_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "BLOCK_BYTES", 7)
    data = b"one\ntwo\r\n\nf\xc3\xbcnf\nsix"
    context = TaskContext(path="f")
    seen = []
    for record in open_records(io.BytesIO(data), offset=0, length=len(data), input_format=Text(), context=context):
        assert context.record == record
        seen.append((context.records_read, context.offset))
    assert seen == [(1, 0), (2, 4), (3, 9), (4, 10), (5, 16)]


def test_a_cancelled_attempt_stops_at_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "BLOCK_BYTES", 4)
    context = TaskContext(attempt_id="job-3f9a01-1_s0_m00000_a0")
    lines = open_records(io.BytesIO(b"aaa\nbbb\nccc\n"), offset=0, length=12, input_format=Text(), context=context)
    assert next(lines) == "aaa"
    context.cancelled = True
    with pytest.raises(Cancelled, match="job-3f9a01-1_s0_m00000_a0"):
        list(lines)


@given(st.integers(0, 50_000), st.integers(1, 40))
def test_numbers_are_each_read_once_and_in_order_however_they_are_split(count: int, splits: int) -> None:
    context = TaskContext()
    ranges = plan_ranges(count, splits)
    found = [number for begin, end in ranges for number in number_records(begin, end, context=context)]
    assert found == list(range(count))
    assert context.counters.get(("minireduce", "MAP_INPUT_RECORDS"), 0) == context.records_read == count
    assert max(end - begin for begin, end in ranges) - min(end - begin for begin, end in ranges) <= 1


def test_the_number_in_work_is_known_beyond_the_first_block() -> None:
    context = TaskContext()
    for number in number_records(1 << 40, (1 << 40) + 3 * read.BLOCK_NUMBERS, context=context):
        assert context.record == number


@pytest.mark.parametrize("open_pairs", [open_records, open_batches])
def test_a_damaged_part_is_told_by_the_file_whatever_user_code_calls_it(open_pairs: Callable[..., Any]) -> None:
    context = TaskContext(path="step-0/part-00001")
    context.file = "/data/jobs/job-000001-1/job-000001-1_s0_r00001_a0/part"
    stream = io.BytesIO(PART_MAGIC + bytes(100))
    opened = open_pairs(stream, offset=0, length=108, input_format=Pairs(), context=context)
    with pytest.raises(Corruption, match=f"^{context.file} "):
        list(opened)
