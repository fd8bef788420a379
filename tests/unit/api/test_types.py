"""What a type checker sees in a job file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

JOB_FILE = """
from collections.abc import Collection, Iterator
from typing import Any
from minireduce import Agg, Bytes, Count, Csv, Job, JobResult, Mean, Pairs, Sum, Text

def words(line: str) -> Iterator[tuple[str, int]]:
    yield line, 1

def raw(line: bytes) -> Iterator[tuple[bytes, str]]:
    yield line, "text"

def forgot_to_yield(line: str) -> tuple[str, int]:
    return line, 1

def joined(key: str, values: Iterator[int]) -> Iterator[tuple[int, str]]:
    yield sum(values), key

def swapped(word: str, count: int) -> Iterator[tuple[int, str]]:
    yield count, word

def earlier(result: JobResult[str, int], other: JobResult[bytes, int]) -> None:
    fine: Job[int, str] = Job(swapped, input=result)
    Job(swapped, input=other)  # wrong result

good: Job[str, int] = Job(words, Sum(), reducers=2)
also: Job[int, str] = Job(words, joined)
raws: Job[bytes, int] = Job(raw, Count(), input=Bytes())
then: Job[int, int] = good.then(lambda word, count: [(count, word)], Count())
over_pairs: Job[int, int] = Job(swapped, Count(), input=Pairs())
def in_batches(batch: object) -> object:
    return batch

def all_words(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    return ((word, 1) for line in lines for word in line.split())

def all_raw(lines: Iterator[bytes]) -> Iterator[tuple[bytes, str]]:
    return ((line, "text") for line in lines)

def all_swapped(pairs: Iterator[tuple[str, int]]) -> Iterator[tuple[int, str]]:
    return ((count, word) for word, count in pairs)

whole: Job[str, int] = Job(map_records=all_words, reduce=Sum())
whole_joined: Job[int, str] = Job(map_records=all_words, reduce=joined)
whole_only: Job[bytes, str] = Job(map_records=all_raw, input=Bytes())
whole_then: Job[int, int] = whole.then(map_records=all_swapped, reduce=Count())
whole_pairs: Job[int, int] = Job(map_records=all_swapped, reduce=Count(), input=Pairs())
Job(map_records=all_raw)  # wrong record
Job(map_records=all_raw, reduce=Sum(), input=Bytes())  # wrong aggregation
Job(map_records=words, reduce=Sum())  # wrong: a map over each
whole.then(map_records=all_words, reduce=Sum())  # wrong: pairs come
batches: Job[Any, int] = Job(map_batch=in_batches, reduce=Sum())
groups: Job[Any, Any] = Job(words, reduce_batch=in_batches, reducers=2)
groups_of_both: Job[Any, Any] = Job(map_batch={"a": in_batches}, reduce_batch=in_batches, input=Csv())
groups_then: Job[Any, Any] = good.then(map_batch=in_batches, reduce_batch=in_batches)
Job(forgot_to_yield, reduce_batch=in_batches)  # wrong map
batches_then = good.then(map_batch=in_batches, reduce=Count())
def of_row(row: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield row["id"], row["name"]

def both(key: str, rows: Collection[str], lines: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield key, len(rows) + sum(lines)

several: Job[str, int] = Job({"rows": of_row, "lines": words}, both, input={"rows": Csv(), "lines": Text()})
union: Job[str, int] = Job({"rows": of_row, "lines": words}, Count(), input={"rows": Csv(), "lines": Text()})
batched: Job[str, int] = Job(map_batch={"rows": in_batches, "lines": in_batches}, reduce=both, input=Csv())
mixed: Job[str, int] = Job({"rows": of_row}, both, map_batch={"lines": in_batches}, input=Csv())
FORMS = {"rows": Csv(), "lines": Text()}
halves: Job[str, int] = Job({"rows": of_row}, both, map_records={"lines": all_words}, input=FORMS)
several.test({"rows": [{}], "lines": ["a"]})
Job({"rows": forgot_to_yield, "lines": words}, both)  # wrong map
rows: Job[str, int] = Job(of_row, Count(), input=Csv())
Job(of_row, Count())  # wrong record
many = Job(words, Agg(n=Count(), mean=Mean()))
Job(raw, Count())  # wrong record
Job(raw, Sum(), input=Bytes())  # wrong aggregation
Job(forgot_to_yield, Sum())  # wrong map
Job(words, Sum(), speculative=False)  # wrong option
good.then(words, Sum())  # wrong map
Job(words, Sum(), map_batch=in_batches)  # wrong: both
Job({"rows": words}, Sum(), map_batch=in_batches)  # wrong: no name
"""


def test_a_type_checker_sees_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    path = tmp_path / "job_file.py"
    path.write_text(JOB_FILE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    wrong = {number for number, line in enumerate(JOB_FILE.splitlines(), 1) if "# wrong" in line}
    of_job = [line for line in done.stdout.splitlines() if line.startswith(f"{path}:") and ": error:" in line]
    found = {int(line.removeprefix(f"{path}:").split(":")[0]) for line in of_job}
    assert found == wrong, done.stdout
