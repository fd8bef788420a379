"""The columnar lane on a real cluster: the same parts as the record lane, and the same care for bad records."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minireduce import Job, JobResult, LocalCluster, Sum, columns

JOBS = Path(__file__).parents[2] / "jobs"
LINES = [f"word{number % 97} \u3000 ünï{number % 13}\x1c{number}" for number in range(3000)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("MINIREDUCE_MASTER", raising=False)
        with LocalCluster(workers=1, slots=2) as started:
            yield started


def parts_of(result: JobResult[Any, Any]) -> list[bytes]:
    assert result._parts is not None
    return [result._part(index).read_bytes() for index in range(result._parts.count)]


def test_word_count_by_column_is_that_by_record_inline_and_on_a_cluster(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in LINES) * 3)
    by_record, by_column = (
        runpy.run_path(str(JOBS / f"{name}.py"))["job"] for name in ("wordcount", "wordcount_columns")
    )
    options: dict[str, Any] = {"reducers": 2, "split_size": 100_000}
    results = [
        by_record.run(path, inline=True, **options),
        by_column.run(path, inline=True, **options),
        by_column.run(path, master=cluster, **options),
    ]
    expected = parts_of(results[0])
    assert sum(count for _, count in results[2]) == sum(len(line.split()) for line in LINES) * 3
    assert [parts_of(result) for result in results[1:]] == [expected, expected]
    for result in results:
        result.close()


def deadly_job() -> Job[Any, Any]:
    """Its map is made here, so that it is shipped with the job."""

    def deadly(batch: Any) -> Any:
        for line in batch["line"].to_pylist():
            if line == "exit":
                os._exit(3)
            if line == "raise":
                raise ValueError("not this one")
        return columns.pairs(batch["line"], 1)

    return Job(map_batch=deadly, reduce=Sum(), skip_bad_records=2)


def test_rows_that_raise_or_end_the_process_are_left_out(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    lines = [{20: "exit", 30: "raise"}.get(index, str(index)) for index in range(60)]
    path.write_text("".join(f"{line}\n" for line in lines))
    result = deadly_job().run(path, master=cluster)
    assert sorted(result) == sorted((line, 1) for line in lines if line.isdigit())
    assert sorted((bad.position, bad.record, bad.kind) for bad in result.skipped) == [
        (20, "exit", "exited"),
        (30, "raise", "raised"),
    ]
    result.close()


def numbered(line: str) -> Iterator[tuple[str, int]]:
    yield line.split(maxsplit=1)[0], int(line.rsplit("\x1c", 1)[1])


def total(key: str, numbers: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield key, sum(numbers)


def totals(batch: Any) -> Any:
    starts = columns.group_starts(batch["key"])
    return columns.pairs(columns.take(batch["key"], starts), np.add.reduceat(columns.numbers(batch["value"]), starts))


def test_groups_at_once_are_groups_one_by_one_inline_and_on_a_cluster(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in LINES) * 3)
    by_group = Job(numbered, total).then(None, total)
    by_batch = Job(numbered, reduce_batch=totals).then(map_batch=as_given, reduce_batch=totals)
    options: dict[str, Any] = {"reducers": 2, "split_size": 100_000}
    results = [
        by_group.run(path, inline=True, **options),
        by_batch.run(path, inline=True, **options),
        by_batch.run(path, master=cluster, **options),
    ]
    expected = parts_of(results[0])
    assert len(dict(results[0])) == 97
    assert [parts_of(result) for result in results[1:]] == [expected, expected]
    for result in results:
        result.close()


def as_given(batch: Any) -> Any:
    return batch


def deadly_groups() -> Job[Any, Any]:
    """Its reduce is made here, so that it is shipped with the job."""

    def deadly(batch: Any) -> Any:
        for key in batch["key"].to_pylist():
            if key == "exit":
                os._exit(3)
            if key == "raise":
                raise ValueError("not this one")
        return batch

    return Job(map_batch=lambda batch: columns.pairs(batch["line"], 1), reduce_batch=deadly, skip_bad_records=2)


def test_groups_that_raise_or_end_the_process_are_left_out(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    lines = [{20: "exit", 30: "raise"}.get(index, str(index)) for index in range(60)]
    path.write_text("".join(f"{line}\n" for line in lines))
    result = deadly_groups().run(path, master=cluster, reducers=1)
    assert sorted(result) == sorted((line, 1) for line in lines if line.isdigit())
    assert sorted((bad.key, bad.kind) for bad in result.skipped) == [("exit", "exited"), ("raise", "raised")]
    result.close()


def test_terasort_by_the_command_line_sorts_through_all_parts(minireduce, tmp_path: Path) -> None:
    gensort = runpy.run_path(str(JOBS.parent / "bench" / "gensort.py"))
    source, out = tmp_path / "records.dat", tmp_path / "out"
    gensort["make"](source, 20_000)
    ran = minireduce(
        "submit", JOBS / "terasort.py", source, "-o", out, "--reducers", 2, "--slots", 2, MINIREDUCE_SPLIT_SIZE="700KiB"
    )
    assert ran.status == 0, ran.err
    data = source.read_bytes()
    expected = sorted((data[at : at + 100] for at in range(0, len(data), 100)), key=lambda record: record[:10])
    assert b"".join(part.read_bytes() for part in sorted(out.glob("part-*"))) == b"".join(expected)
    assert all(part.stat().st_size > 400_000 for part in out.glob("part-*"))
