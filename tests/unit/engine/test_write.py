"""Text output: what other programs read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.disk import RealDisk
from minireduce.engine import part
from minireduce.engine.errors import InvalidValue
from minireduce.engine.kinds import Kinds
from minireduce.engine.write import is_surely_text, text_lines


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("a", 1, "a\t1"),
        (None, "v", "v"),
        ("k", None, "k"),
        (None, None, ""),
        ("tab\there", "line\nend\r\\", "tab\\there\tline\\nend\\r\\"),
        (b"\xff", b"", "/w==\t"),
        (1, 1.5, "1\t1.5"),
        (True, False, "true\tfalse"),
        (
            ("a", None, date(2020, 1, 2)),
            [1, {"x": (b"a", "ü\n")}],
            '["a", null, "2020-01-02"]\t[1, {"x": ["YQ==", "ü\\n"]}]',
        ),
        (datetime(2020, 1, 2, tzinfo=UTC), Decimal("1.50"), "2020-01-02T00:00:00+00:00\t1.50"),
        (0.1, 1e300, "0.1\t1e+300"),
    ],
)
def test_a_pair_as_a_line(key: Any, value: Any, line: str) -> None:
    assert text_lines([key], [value]).decode() == line + "\n"


@pytest.mark.parametrize(
    "lists",
    [
        [["a", 'q"\\', "tab\t é \x00 😀"], []],
        [[1, -5, 1 << 70], [0]],
        [[True], [1]],
        [["a"], [1]],
        [["a", None]],
        [[], []],
    ],
    ids=str,
)
def test_lists_are_written_together_as_alone(lists: list[Any]) -> None:
    lines = [f"k\t{json.dumps(each, ensure_ascii=False)}\n" for each in lists]
    assert text_lines(["k"] * len(lists), lists).decode() == "".join(lines)


def test_ints_of_any_length_are_written() -> None:
    line = text_lines([10**5000], [[-(10**5000)]])
    assert line == b"1" + b"0" * 5000 + b"\t[-1" + b"0" * 5000 + b"]\n"


def test_many_pairs_are_many_lines() -> None:
    assert text_lines(["a", "b\t"], [1, 2]) == b"a\t1\nb\\t\t2\n"
    assert text_lines([None, "b"], ["x", None]) == b"x\nb\n"
    assert text_lines([], []) == b""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "nan has no text form"),
        (float("-inf"), "-inf has no text form"),
        ([float("nan")], "no text form"),
        (object, "type type has no text form"),
        ([1j], "complex has no text form"),
        ({(1, 2): 3}, "no text form"),
        ("a\ud800", "lone surrogate"),
    ],
)
@pytest.mark.parametrize("place", [lambda value: (["k"], [value]), lambda value: (["k", "l"], [value, 1])])
def test_what_text_cannot_say_is_refused(
    value: Any, message: str, place: Callable[[Any], tuple[list[Any], list[Any]]]
) -> None:
    with pytest.raises(InvalidValue, match=message):
        text_lines(*place(value))


TEXTS = st.lists(st.tuples(st.text("aé\t\n\r ", max_size=40), st.text("bö\t\\", max_size=40)), max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    pairs=TEXTS,
    is_number=st.booleans(),
    kind=st.sampled_from([pa.string(), pa.large_string()]),
    at_once=st.integers(1, 1 << 20),
)
def test_arrays_become_the_lines_of_their_pairs(
    pairs: list[tuple[str, str]], is_number: bool, kind: pa.DataType, at_once: int, tmp_path_factory: Any
) -> None:
    values: list[Any] = [len(value) - 5 if is_number else value for _, value in pairs]
    path = tmp_path_factory.mktemp("part") / "part"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, "_YIELDED_BYTES", at_once)
        with part.PartWriter(path, "text", role="map", kinds=Kinds(), disk=RealDisk()) as writer:
            writer.add_batch(
                pa.array([key for key, _ in pairs], kind), pa.array(values, pa.int64() if is_number else kind)
            )
            made = writer.close()
    expected = text_lines([key for key, _ in pairs], values)
    assert (path.read_bytes() if pairs else b"") == expected
    assert (made.bytes_written, made.records) == (len(expected), len(pairs))


class NotingDisk(RealDisk):
    """Notes what it is to begin with, and how much the file has by then."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.on_disk: list[int] = []

    def begin_sync(self, file: BinaryIO, start: int, length: int) -> None:
        super().begin_sync(file, start, length)
        self.begun.append((start, length))
        self.on_disk.append(os.fstat(file.fileno()).st_size)


def write_4500_bytes(path: Path, disk: NotingDisk, **options: bool) -> part.PartOutput:
    with part.PartWriter(path, "text", role="map", kinds=Kinds(), disk=disk, **options) as writer:
        for number in range(90):
            writer.add_yielded([(f"{number:02}", "v" * 46)])
            writer.flush()
        return writer.close()


def test_the_disk_begins_with_a_part_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "_SYNC_BEGUN_BYTES", 1000)
    disk = NotingDisk()
    made = write_4500_bytes(tmp_path / "part", disk)
    assert disk.begun == [(0, 1000), (1000, 1000), (2000, 1000), (3000, 1000)]
    assert disk.on_disk == [1000, 2000, 3000, 4000], "the system has them by then"
    assert made.bytes_written == 4500
    assert (tmp_path / "part").read_bytes() == b"".join(b"%02d\t%s\n" % (number, b"v" * 46) for number in range(90))


@pytest.mark.parametrize(
    "value",
    [None, True, 10**50, b"\xff", "tab\tand\nline", date(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC)],
)
def test_what_is_surely_text_is_taken(value: Any) -> None:
    assert is_surely_text(value)
    assert text_lines([value], [value]).endswith(b"\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", (1, math.nan), {"a": b""}, object()])
def test_what_may_be_no_text_is_not_surely_text(value: Any) -> None:
    assert not is_surely_text(value)


def test_the_disk_does_not_begin_with_what_is_only_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "_SYNC_BEGUN_BYTES", 1000)
    disk = NotingDisk()
    assert write_4500_bytes(tmp_path / "part", disk, is_durable=False).bytes_written == 4500
    assert disk.begun == []
