"""Sections: the same pairs give the same bytes, and a damaged byte is never passed on."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.engine import columns, frames, key_columns, keys
from minireduce.engine.frames import SectionReader, SectionWriter, Source, iterate
from minireduce.engine.index import encode_index, read_index
from minireduce.engine.read import read_pairs
from minireduce.errors import Corruption


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAME_BYTES", 60)


def written(pairs: list[tuple[str, Any]], cuts: list[int]) -> tuple[bytes, bytes]:
    """A typed part of these pairs, handed over in pieces, and its digest."""
    file = io.BytesIO()
    writer = SectionWriter(file)
    writer.write_magic(frames.PART_MAGIC)
    bounds = sorted({0, len(pairs), *(cut % (len(pairs) + 1) for cut in cuts)})
    for start, stop in pairwise(bounds):
        piece = pairs[start:stop]
        writer.add(keys.sortable_all([key for key, _ in piece]), columns.make([value for _, value in piece]))
    writer.end()
    return file.getvalue(), writer.digest()


VALUES = st.one_of(st.integers(-200, 1 << 64), st.floats(allow_nan=False), st.text(max_size=4), st.booleans())


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("aab"), st.one_of(st.integers(), VALUES)), max_size=30),
    st.lists(st.integers(0, 30)),
)
def test_the_same_pairs_give_the_same_bytes_however_they_were_handed_over(pairs: list[Any], cuts: list[int]) -> None:
    data, digest = written(pairs, cuts)
    assert (data, digest) == written(pairs, [])
    assert repr(list(read_pairs(io.BytesIO(data)))) == repr(pairs)


def test_no_damaged_byte_and_no_torn_file_goes_unseen() -> None:
    pairs = [("a", 1), ("a", 2), ("b", 1 << 70), ("c", "text"), ("d", 0.5)] * 3
    data, _ = written(pairs, [])
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(Corruption, match="the part"):
            list(read_pairs(io.BytesIO(damaged), name="the part"))
        with pytest.raises(Corruption, match="the part"):
            list(read_pairs(io.BytesIO(data[:at]), name="the part"))
    with pytest.raises(Corruption, match="the part"):
        list(read_pairs(io.BytesIO(data + b"\0"), name="the part"))


@pytest.mark.parametrize(
    ("pairs", "lengths"),
    [
        ([("aa", "x"), ("bb", "y"), ("cc", "z")], 8),  # one for the keys, one for the values
        ([("aa", "x"), ("bb", "yy"), ("cc", "z")], 16),
        ([("aa", "x"), ("b", "y"), ("cc", "z")], 16),
        ([("aa", "x"), ("aa", "y"), ("bb", "zz")], 4 + 8 + 12),  # and how often each key occurs
        ([("aa", 1), ("bb", 2), ("cc", 3)], 4),
        ([("aa", "x")], 8),
    ],
)
@pytest.mark.parametrize("is_written_once", [True, False])
def test_a_length_that_all_have_is_written_once_and_read_either_way(
    pairs: list[Any], lengths: int, is_written_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_written_once:
        monkeypatch.setattr(frames, "_encode_lengths", lambda each: (each.astype("<u4").tobytes(), False))
    data, _ = written(pairs, [])
    section = data[len(frames.PART_MAGIC) :]
    assert list(read_pairs(io.BytesIO(data), name="the part")) == pairs
    for is_columnar in (False, True):
        reader = SectionReader(Source(io.BytesIO(section), "x"), 0, len(section), is_columnar=is_columnar)
        found = [
            pair
            for texts, column in iterate(reader)
            for pair in zip(keys.decode_all(key_columns.to_texts(texts)), columns.to_values(column), strict=True)
        ]
        assert found == pairs
    if is_written_once:
        distinct = {keys.sortable_all([key])[0] for key, _ in pairs}
        values = 8 * len(pairs) if isinstance(pairs[0][1], int) else sum(1 + len(value) for _, value in pairs)
        frame_bytes = frames._HEAD.size + lengths + sum(map(len, distinct)) + values
        assert len(section) == frame_bytes + frames.END_BYTES


def test_a_section_without_one_of_its_frames_is_seen() -> None:
    data, _ = written([("a", 1)] * 40, [])
    section = data[len(frames.PART_MAGIC) :]
    reader = SectionReader(Source(io.BytesIO(section), "x"), 0, len(section))
    reader.read()
    first_ends = reader._offset
    with pytest.raises(Corruption, match="x has"):
        list(iterate(SectionReader(Source(io.BytesIO(section[first_ends:]), "x"), 0, len(section) - first_ends)))


def test_a_section_can_be_read_through_a_descriptor(tmp_path: Path) -> None:
    data, _ = written([("a", 1), ("b", 2)], [])
    path = tmp_path / "part"
    path.write_bytes(data)
    with path.open("rb") as file:
        magic = len(frames.PART_MAGIC)
        reader = SectionReader(Source(file.fileno(), "x"), magic, len(data) - magic)
        assert [texts for texts, _ in iterate(reader)] == [["\x05a", "\x05b"]]


def test_the_index_says_where_partitions_lie_and_sees_damage(tmp_path: Path) -> None:
    data = encode_index([5, 0, 7])
    assert read_index(data) == [(0, 5), (5, 0), (5, 7)]
    path = tmp_path / "output.index"
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(Corruption, match=r"output\.index"):
            read_index(path)
        with pytest.raises(Corruption):
            read_index(data[:at])
