"""The records of the sort bench: held against ones that gensort and Hadoop's TeraGen made."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

gensort = SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parents[2] / "bench" / "gensort.py")))

FIRST_OF_TERAGEN = (
    b"JimGrayRIP\x00\x1100000000000000000000000000000000\x88\x99\xaa\xbb"
    b"222200002222000022220000222200002222000000001111\xcc\xdd\xee\xff"
)
FIRST_OF_GENSORT_ASCII = (
    b"AsfAGHM5om  00000000000000000000000000000000  0000222200002222000022220000222200002222000000001111\r\n"
)
SUM_OF_TERAVALIDATE = 0x271F1B056E54  # of the first 20,000 records


def test_records_are_those_that_gensort_and_teragen_make(tmp_path: Path) -> None:
    path = tmp_path / "records"
    gensort.make(path, 1, ascii=True)
    assert path.read_bytes() == FIRST_OF_GENSORT_ASCII
    gensort.make(path, 20_000)  # more than are made at once
    assert path.read_bytes()[:100] == FIRST_OF_TERAGEN
    found = gensort.check([path])
    assert (found.records, found.checksum) == (20_000, SUM_OF_TERAVALIDATE)
    assert found.unordered == 2


def test_a_range_of_records_can_be_made_by_itself(tmp_path: Path) -> None:
    whole, end = tmp_path / "whole", tmp_path / "end"
    gensort.make(whole, 17_000)
    gensort.make(end, 600, first=16_400)
    assert whole.read_bytes()[1_640_000:] == end.read_bytes()


def test_files_in_order_pass_and_what_is_wrong_with_others_is_told(tmp_path: Path) -> None:
    path = tmp_path / "records"
    gensort.make(path, 100)
    data = path.read_bytes()
    ordered = sorted(data[at : at + 100] for at in range(0, len(data), 100))

    def check(*parts: list[bytes]) -> SimpleNamespace:
        names = [tmp_path / f"part-{number}" for number in range(len(parts))]
        for name, records in zip(names, parts, strict=True):
            name.write_bytes(b"".join(records))
        return gensort.check(names)

    right = check(ordered[:60], [], ordered[60:])
    assert (right.records, right.unordered, right.duplicates) == (100, None, 0)
    assert right.checksum == gensort.check([path]).checksum
    assert check(ordered[60:], ordered[:60]).unordered == 40
    assert check(ordered, ordered[-1:]).duplicates == 1
    assert check(ordered[1:]).checksum != right.checksum
    with pytest.raises(ValueError, match="whole number of records"):
        check([ordered[0][:-1]])
