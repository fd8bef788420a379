"""Lines of key and value as input: the export of one job is the input of the next, in both lanes and all modes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minireduce import Identity, Job, KeyValue, LocalCluster, Sum, Text
from minireduce.errors import JobFailed

LINES = "\ufeffa\t1\r\nb\nc\t\nd\t4\t44\n\n\t6\nä\tü"
PAIRS = [("a", "1"), ("b", None), ("c", ""), ("d", "4\t44"), ("", None), ("", "6"), ("ä", "ü")]


def seen(key: str, value: str | None) -> Iterator[tuple[str, str | None]]:
    yield key, value


def seen_batch(batch: Any) -> Any:
    assert batch.schema.names == ["key", "value"]
    return batch


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_both_lanes_and_all_modes_see_the_same_pairs(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("in.txt.gz" if packed else "in.txt")
    path.write_bytes(gzip.compress(LINES.encode()) if packed else LINES.encode())
    jobs = [Job(seen, input=KeyValue()), Job(map_batch=seen_batch, input=KeyValue()), Job(None, input=KeyValue())]
    with LocalCluster(workers=1) as cluster:
        for job in jobs:
            assert list(job.run(path, inline=True, split_size=4)) == PAIRS
            assert list(job.run(path, master=cluster)) == PAIRS
            assert job.test(PAIRS) == PAIRS


def test_what_a_job_wrote_as_text_is_read_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("x y x\n")
    counts = tmp_path / "counts"
    Job(lambda line: [(word, 1) for word in line.split()], Sum()).run(tmp_path / "in.txt", output=counts, inline=True)
    job = Job(lambda key, value: [(key, int(value))], Sum(), input=KeyValue())
    assert list(job.run(counts, inline=True)) == [("x", 2), ("y", 1)]
    both = {"old": KeyValue(str(counts)), "new": Text(str(tmp_path / "in.txt"))}
    joined = Job({"old": None, "new": lambda line: [(word, "new") for word in line.split()]}, Identity(), input=both)
    assert list(joined.run(inline=True)) == [("x", "2"), ("x", "new"), ("x", "new"), ("y", "1"), ("y", "new")]


def test_a_line_that_is_too_long_is_named_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(f"a\t1\n{'b' * 200}\t2\nc\t3\n")
    for job in (Job(seen, input=KeyValue()), Job(map_batch=seen_batch, input=KeyValue())):
        with pytest.raises(JobFailed, match="offset 4 is longer than 100 bytes"):
            job.run(tmp_path / "in.txt", inline=True, record_bytes_max=100)
        left = job.run(tmp_path / "in.txt", inline=True, record_bytes_max=100, skip_bad_records=1)
        assert list(left) == [("a", "1"), ("c", "3")]
