"""CSV: the rows that Python's `csv` gives, wherever splits are cut; what is no row is told, and left out if allowed."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce import Count, Csv, Job, JobFailed, Json, Sum, columns
from minireduce.api.formats import InputFormat
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.read import open_records
from minireduce.engine.read_batches import open_batches
from minireduce.engine.split import plan_splits
from minireduce.errors import RequestError


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives its test."""
    monkeypatch.setattr(RealDisk, "sync", lambda _, file: file.flush())
    monkeypatch.setattr(RealDisk, "sync_directory", lambda *_: None)


FIELDS = st.text(st.sampled_from('ab ,;"\té'), max_size=4)
LONG_FIELDS = st.text(st.sampled_from('ab,"\n\ré'), max_size=4)


def written(rows: list[list[str]], delimiter: str = ",") -> bytes:
    with io.StringIO(newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
        return file.getvalue().encode()


def read(data: bytes, form: Csv, split: int, path: str = "f.csv") -> list[dict[str, str]]:
    found = []
    for offset, length in plan_splits(len(data), split, splittable=not form.multiline):
        context = TaskContext(path=path)
        rows = list(open_records(io.BytesIO(data), offset=offset, length=length, input_format=form, context=context))
        assert context.counters.get(("minireduce", "MAP_INPUT_RECORDS"), 0) == len(rows)
        found += rows
    return found


def read_in_batches(data: bytes, form: Csv, split: int) -> list[dict[str, str]]:
    found = []
    for offset, length in plan_splits(len(data), split, splittable=True):
        context = TaskContext(path="f.csv")
        batches = open_batches(io.BytesIO(data), offset=offset, length=length, input_format=form, context=context)
        rows = []
        for batch in batches:
            assert batch.long is None
            rows += batch.rows.to_pylist()
            assert [batch.record_of(index) for index in range(batch.count)] == batch.rows.to_pylist()
            starts = [batch.offset_of(index) for index in range(batch.count)]
            assert all(start == 0 or data[start - 1 : start] == b"\n" for start in starts)
        assert context.counters.get(("minireduce", "MAP_INPUT_RECORDS"), 0) == len(rows)
        found += rows
    return found


def oracle(data: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline=""), delimiter=delimiter, strict=True))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(FIELDS, min_size=2, max_size=2), max_size=8), st.integers(1, 40), st.sampled_from(",;\t"))
def test_rows_are_those_of_pythons_csv_wherever_splits_are_cut(rows: list[list[str]], split: int, mark: str) -> None:
    data = written([["id", "na me"], *rows], mark)
    assert read(data, Csv(delimiter=mark), split) == oracle(data, mark)
    assert read(data, Csv(delimiter=mark, multiline=True), split) == oracle(data, mark)
    assert read_in_batches(data, Csv(delimiter=mark), split) == oracle(data, mark)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(LONG_FIELDS, min_size=2, max_size=2), max_size=8))
def test_rows_over_several_lines_are_those_of_pythons_csv(rows: list[list[str]]) -> None:
    data = written([["id", "a\nname"], *rows])
    assert read(data, Csv(multiline=True), 1 << 20) == oracle(data)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(1, 40))
def test_empty_lines_before_the_header_are_passed_over_wherever_splits_are_cut(empty: int, split: int) -> None:
    data = b"id,name\n1,a\n2,b\n"
    for reading in (read, read_in_batches):
        assert reading(b"\r\n" * empty + data, Csv(), split) == oracle(data)


def test_names_may_be_given_for_files_without_a_header() -> None:
    for reading in (read, read_in_batches):
        rows = reading(b"1,a\n2,b\n", Csv(header=("id", "name")), 3)
        assert rows == [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]


def test_a_byte_order_mark_an_empty_line_and_windows_line_ends_are_no_part_of_rows() -> None:
    data = b"\xef\xbb\xbfid,name\r\n\r\n1,a\r\n"
    for form in (Csv(), Csv(multiline=True)):
        assert read(data, form, 100) == [{"id": "1", "name": "a"}]
    assert read_in_batches(data, Csv(), 100) == [{"id": "1", "name": "a"}]


def test_a_field_longer_than_pythons_limit_is_read_and_the_limit_stays() -> None:
    before = csv.field_size_limit()
    data = b'id,name\n1,"' + b"x" * (before + 10) + b'"\n'
    assert read(data, Csv(), 1 << 20) == [{"id": "1", "name": "x" * (before + 10)}]
    assert read_in_batches(data, Csv(), 1 << 20) == [{"id": "1", "name": "x" * (before + 10)}]
    assert csv.field_size_limit() == before


def test_a_long_field_over_lines_is_read_and_the_limit_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    text = "x\n" * before + "evil,row\nend"
    path = tmp_path / "long.csv"
    path.write_text(f'id,text\n1,"{text}"\n2,b\n')
    context = TaskContext(path="long.csv")
    with path.open("rb") as file:
        rows = open_records(file, offset=0, length=1 << 30, input_format=Csv(multiline=True), context=context)
        for expected in ({"id": "1", "text": text}, {"id": "2", "text": "b"}):
            assert next(rows) == expected
            assert csv.field_size_limit() == before
    job = Job(by_id, Count(), input=Csv(multiline=True))
    assert sorted(job.run(path, inline=True, skip_bad_records="100%")) == [("1", 1), ("2", 1)]


def by_id(row: dict[str, str]) -> Iterator[tuple[str, int]]:
    yield row["id"], 1


@pytest.mark.parametrize(
    "text",
    ['id,n\n"x\nevil,7\n"y,1\nz,2\n', 'id,n\n"x"y,"a\nevil,7\nz",1\n'],
    ids=["after its first line", "with a quote that may be open"],
)
def test_after_a_row_that_is_none_no_line_is_taken_for_a_row_that_may_be_quoted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text(text)
    job = Job(by_id, Count(), input=Csv(multiline=True))
    for allowed in (None, "100%"):
        with pytest.raises(JobFailed, match=r"quotes.csv at offset \d+ is no row of CSV"):
            job.run(path, inline=True, skip_bad_records=allowed)


@pytest.mark.parametrize("data", ["id,n\n\ufeffa,1\n", "\ufeff\ufeffid,n\na,1\n", "id,n\na,1\n\ufeffb,2\n"])
def test_a_mark_of_byte_order_within_a_file_is_part_of_its_row(data: str) -> None:
    rows = oracle(data.encode("utf-8").removeprefix(b"\xef\xbb\xbf"))
    for split in (1, 6, 100):
        assert read(data.encode(), Csv(), split) == read_in_batches(data.encode(), Csv(), split) == rows


def by_name(row: dict[str, str]) -> Iterator[tuple[str, int]]:
    yield row["name"], int(row["n"])


def columns_by_name(batch: Any) -> Any:
    return columns.pairs(batch["name"], batch["n"].cast("int64"))


def test_each_file_has_its_own_header_and_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,n\nx,1\ny,2\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"n,name,more\n10,x,?\n"))
    for job in (Job(by_name, Sum(), input=Csv()), Job(map_batch=columns_by_name, reduce=Sum(), input=Csv())):
        assert sorted(job.run(tmp_path, inline=True)) == [("x", 11), ("y", 2)]


BAD = 'name,n\nx,1\nx,2,3\nx,"4"5\nx,6\n'


def test_a_bad_row_is_named_by_its_file_and_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(BAD)
    with pytest.raises(JobFailed, match=r"bad.csv at offset 11 has 3 fields, and there are 2 names"):
        Job(by_name, Sum(), input=Csv()).run(path, inline=True)


@pytest.mark.parametrize("form", [Csv(), Csv(multiline=True)], ids=["by line", "multiline"])
def test_bad_rows_are_left_out_where_that_is_allowed_and_no_others(tmp_path: Path, form: Csv) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(BAD)
    result = Job(by_name, Sum(), input=form).run(path, inline=True, skip_bad_records=2)
    assert list(result) == [("x", 7)]
    assert [record.offset for record in result.skipped] == [11, 17]
    assert result.counters["minireduce"]["MAP_INPUT_RECORDS"] == 2
    assert result.counters["minireduce"]["MAP_SKIPPED_RECORDS"] == 2


def test_bad_rows_among_columns_are_told_and_left_out_as_among_records(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(BAD)
    job = Job(map_batch=columns_by_name, reduce=Sum(), input=Csv())
    with pytest.raises(JobFailed, match=r"bad.csv at offset 11 has 3 fields, and there are 2 names"):
        job.run(path, inline=True)
    result = job.run(path, inline=True, skip_bad_records=2)
    assert list(result) == [("x", 7)]
    assert [record.offset for record in result.skipped] == [11, 17]
    assert result.counters["minireduce"]["MAP_INPUT_RECORDS"] == 2
    assert result.counters["minireduce"]["MAP_SKIPPED_RECORDS"] == 2


@pytest.mark.parametrize("form", [Csv(multiline=True), Json()], ids=repr)
def test_what_has_no_columns_takes_no_map_batch(form: InputFormat[Any]) -> None:
    with pytest.raises(RequestError, match="is read record by record"):
        Job(map_batch=columns_by_name, reduce=Sum(), input=form)


def test_rows_of_a_test_are_columns_too() -> None:
    job = Job(map_batch=columns_by_name, reduce=Sum(), input=Csv())
    assert job.test([{"name": "x", "n": "1"}, {"name": "x", "n": "2"}]) == [("x", 3)]


def test_a_row_for_which_the_map_raises_is_left_out_after_header_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,n\n\nx,1\n\nx,one\nx,2\n")
    result = Job(by_name, Sum(), input=Csv()).run(path, inline=True, skip_bad_records=1)
    assert list(result) == [("x", 3)]
    assert [record.offset for record in result.skipped] == [13]


def test_a_quote_that_goes_over_a_line_end_is_refused_with_a_hint_even_where_bad_records_are_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "long.csv"
    path.write_text('name,n\n"x\ny",1\n')
    job = Job(by_name, Count(), input=Csv())
    over_columns = Job(map_batch=columns_by_name, reduce=Count(), input=Csv())
    for each, allowed in ((job, None), (job, 10), (over_columns, None), (over_columns, 10)):
        with pytest.raises(JobFailed, match="does not end in its line") as failed:
            each.run(path, inline=True, skip_bad_records=allowed)
        assert "multiline=True" in str(failed.value.hint)
    assert list(Job(by_name, Sum(), input=Csv(multiline=True)).run(path, inline=True)) == [("x\ny", 1)]


def test_a_quote_that_never_ends_is_refused_and_not_the_rest_of_the_file_lost(tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    path.write_text('name,n\nx,1\n"x,2\nx,3\n')
    with pytest.raises(JobFailed, match="unexpected end of data"):
        Job(by_name, Sum(), input=Csv(multiline=True)).run(path, inline=True)


def test_a_header_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("name,name\nx,1\n")
    with pytest.raises(JobFailed, match="names 'name' twice"):
        Job(by_name, Sum(), input=Csv()).run(path, inline=True, skip_bad_records=5)


def test_a_multiline_file_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("name,n\n" + '"x\n1,2",1\n' * 500)
    job = Job(by_name, Sum(), input=Csv(multiline=True))
    assert list(job.run(path, inline=True, split_size="1KiB")) == [("x\n1,2", 500)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"header": False},
        {"header": ()},
        {"header": ("a", "a")},
        {"delimiter": '"'},
        {"delimiter": "ab"},
        {"multiline": 1},
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="Csv: "):
        Csv(**arguments)  # type: ignore[arg-type]
