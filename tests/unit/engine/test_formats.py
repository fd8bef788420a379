"""JSON lines and Parquet: each record once wherever splits are cut, and a bad one told and left out as any other."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce import Count, Job, JobFailed, Json, Parquet, Sum, columns
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.read import open_records
from minireduce.engine.read_batches import open_batches
from minireduce.engine.read_formats import UnreadableRecord
from minireduce.engine.split import plan_splits
from minireduce.errors import Corruption, RequestError


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives its test."""
    monkeypatch.setattr(RealDisk, "sync", lambda _, file: file.flush())
    monkeypatch.setattr(RealDisk, "sync_directory", lambda *_: None)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(JSON, max_size=8), st.integers(1, 30))
def test_each_line_of_json_is_a_record_wherever_splits_are_cut(values: list[Any], split: int) -> None:
    data = "".join(f"{json.dumps(value)}\n" for value in values).encode()
    found = []
    for offset, length in plan_splits(len(data), split, splittable=True):
        opened = open_records(
            io.BytesIO(data), offset=offset, length=length, input_format=Json(), context=TaskContext(path="f.json")
        )
        found += list(opened)
    assert found == values


def by_user(record: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield record["user"], record["n"]


def test_a_line_that_is_no_json_is_named_and_left_out_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text('{"user": "a", "n": 1}\n{"user": \n{"user": "a", "n": 2}\n')
    with pytest.raises(JobFailed, match="at offset 22 is no JSON"):
        Job(by_user, Sum(), input=Json()).run(path, inline=True)
    result = Job(by_user, Sum(), input=Json(), skip_bad_records=1).run(path, inline=True)
    assert list(result) == [("a", 3)]
    assert [(bad.position, bad.offset) for bad in result.skipped] == [(1, 22)]
    assert result.counters["minireduce"]["MAP_SKIPPED_RECORDS"] == 1
    result.close()


DECLARED = Json({"a": str, "n": int, "f": float, "b": bool})

WHOLE = {
    "a": ['"x"', '"\u00e9"', '"\\u65e5"', '"2020-01-01"', '""', "null"],
    "n": ["0", "-5", "9223372036854775807", "null"],
    "f": ["1.5", "2", "0.1", "9007199254740993", "4.9e-324", "1e-400", "1.7976931348623159e308", "null"],
    "b": ["true", "false", "null"],
    "other": ["[1, {}]", '"x"', "1e3", "{}"],
}
ODD = [
    *(
        "-0",
        "-0.0",
        "1e400",
        "9223372036854775808",
        "1" * 320,
        "1.0",
        '"\\ud800"',
        '"\\u0000"',
        "NaN",
        "-Infinity",
        "01",
    ),
    *('"\x01"', '"', "[]", '{"n": 1}', "'x'", "/**/1", "\u00a01"),
]
ODD_LINES = [
    *("", " ", "{}", "null", "[]", '{"a": "x"}{"n": 1}', ' {"a": "x"}', '{"a":', '{"n": [{}', '{"b": true}]}'),
    *('{"a": 1,}', '{"n": 1}}', '{"a": "x", "a": "y"}', '{"other": ' + "[" * 1200 + "]" * 1200 + "}"),
    *('{"other": ' + "9" * 4400 + "}", '{"a": "x"}\x00}', '{"a": "x"}\r', '{"\\u0061": "x"}', '{"other": "\\ud800"}'),
]


def some_lines(chance: random.Random) -> bytes:
    """Lines that Arrow and Python read alike, or with some that only one of them takes, or takes for something else."""
    odd = chance.choice([0, 0, 0.05, 0.3])

    def line() -> str:
        if chance.random() < odd:
            return chance.choice(ODD_LINES)
        names = chance.sample(list(WHOLE), chance.randrange(len(WHOLE) + 1))
        parts = [chance.choice(ODD if chance.random() < odd else WHOLE[name]) for name in names]
        return "{" + ", ".join(f'"{name}": {part}' for name, part in zip(names, parts, strict=True)) + "}"

    return "\n".join(line() for _ in range(chance.randrange(1, 8))).encode() + chance.choice([b"", b"\n"])


def told(record: Any) -> Any:
    if isinstance(record, UnreadableRecord):
        return record.offset, record.beginning, str(record.error), record.error.hint
    return record


@pytest.mark.parametrize("seed", range(300))
def test_declared_fields_of_json_are_the_same_by_record_and_by_column(seed: int) -> None:
    data = some_lines(random.Random(seed))
    more: dict[str, Any] = {"offset": 0, "length": len(data), "input_format": DECLARED, "passes_long": True}
    by_record, by_column = TaskContext(path="f"), TaskContext(path="f")
    records = [told(record) for record in open_records(io.BytesIO(data), context=by_record, **more)]
    rows: list[Any] = []
    again: list[Any] = []
    for batch in open_batches(io.BytesIO(data), context=by_column, **more):
        rows += batch.rows.to_pylist() if batch.long is None else [told(batch.long)]
        again += [told(batch.record_of(index)) for index in range(batch.count)]
    assert repr(records) == repr(rows) == repr(again)  # -0.0 is not 0.0 here
    assert by_record.counters == by_column.counters


def test_declared_fields_are_told_apart_from_what_lines_say(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text('{"user": "a", "n": 1, "more": []}\n{"user": 5, "n": 2}\n{"n": 3}\n{"user": "a", "n": 4}\n')
    form = Json({"user": str, "n": int})
    jobs = [
        Job(by_user, Sum(), input=form),
        Job(map_batch=lambda batch: columns.pairs(batch["user"], batch["n"]), reduce=Sum(), input=form),
    ]
    for job in jobs:
        with pytest.raises(JobFailed, match="at offset 34 has 5 as user, declared as str"):
            job.run(path, inline=True)
        result = job.run(path, inline=True, skip_bad_records=1)
        assert list(result) == [(None, 3), ("a", 5)]
        assert [(bad.position, bad.offset) for bad in result.skipped] == [(1, 34)]
        assert result.counters["minireduce"]["MAP_INPUT_RECORDS"] == 3
        result.close()
        assert job.test([{"user": "a", "n": 1}, {"user": "a", "n": 2}]) == [("a", 3)]


@pytest.mark.parametrize("given", [{}, {"a": bytes}, {1: str}, ("a",), "a"], ids=repr)
def test_columns_of_json_are_names_and_types(given: Any) -> None:
    with pytest.raises(RequestError, match="must be a dict of names and types"):
        Json(columns=given)
    with pytest.raises(RequestError, match="read record by record") as refused:
        Job(map_batch=lambda batch: batch, input=Json())
    assert "declare the columns" in str(refused.value.hint)


def parquet_file(path: Path, rows: int, group: int) -> list[dict[str, Any]]:
    table = pa.table(
        {"user": [f"u{index % 7}" for index in range(rows)], "n": list(range(rows)), "other": [None] * rows}
    )
    pq.write_table(table, path, row_group_size=group)
    return table.to_pylist()


@pytest.mark.parametrize("split", [1 << 30, 2000, 300, 17])
def test_each_row_of_parquet_is_read_once_wherever_splits_are_cut(split: int, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    expected = parquet_file(path, 1000, 90)
    data = path.read_bytes()
    records: list[Any] = []
    rows: list[Any] = []
    for offset, length in plan_splits(len(data), split, splittable=True):
        more: dict[str, Any] = {"offset": offset, "length": length, "input_format": Parquet()}
        context = TaskContext(path=str(path))
        records += open_records(io.BytesIO(data), context=context, **more)
        for batch in open_batches(io.BytesIO(data), context=TaskContext(path=str(path)), **more):
            assert [batch.record_of(index) for index in range(batch.count)] == batch.rows.to_pylist()
            rows += batch.rows.to_pylist()
    assert records == rows == expected


def test_a_job_over_parquet_by_record_and_by_column(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    expected = parquet_file(path, 1000, 90)
    sums: dict[str, int] = {}
    for row in expected:
        sums[row["user"]] = sums.get(row["user"], 0) + row["n"]
    names = Parquet(("user", "n"))
    jobs = [
        Job(by_user, Sum(), input=names),
        Job(map_batch=lambda batch: columns.pairs(batch["user"], batch["n"]), reduce=Sum(), input=names),
    ]
    for job in jobs:
        result = job.run(path, inline=True, split_size=2000, reducers=2)
        assert dict(result) == sums
        assert result.counters["minireduce"]["MAP_INPUT_RECORDS"] == 1000
        result.close()
    assert jobs[1].test(expected) == sorted(sums.items())


def test_what_is_no_parquet_or_lacks_a_column_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    parquet_file(path, 10, 5)
    with pytest.raises(JobFailed, match="has no column 'when'"):
        Job(by_user, Count(), input=Parquet(("when",))).run(path, inline=True)
    damaged = io.BytesIO(path.read_bytes()[:-20])
    with pytest.raises(Corruption, match="f cannot be read as Parquet"):
        list(open_records(damaged, offset=0, length=1 << 20, input_format=Parquet(), context=TaskContext(path="f")))
    with pytest.raises(RequestError, match="tuple of names"):
        Parquet(("a", 1))  # type: ignore[arg-type]
