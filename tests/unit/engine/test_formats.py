"""JSON lines and Parquet: each record once wherever splits are cut, and a bad one told and left out as any other."""

from __future__ import annotations

import io
import json
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
