"""Jobs on workers that compress what their tasks leave on disk: the same answers, by fewer bytes that are fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from minireduce import Collect, Identity, Job, LocalCluster, Sum

LIMIT_BYTES = 64 << 20
LINES = 20_000
SPLIT_BYTES = 400_000


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, len(word)


def as_line(line: str) -> Iterator[tuple[str, str]]:
    yield line[:3], line


def first_and_last(key: str, values: Iterator[str]) -> Iterator[tuple[str, str]]:
    kept = list(values)
    yield key, f"{len(kept)} {kept[0]} {kept[-1]}"


def counted(batch: pa.RecordBatch) -> pa.RecordBatch:
    groups = pa.table(batch).group_by("key", use_threads=False).aggregate([("value", "count")])
    return pa.RecordBatch.from_pydict(
        {"key": groups["key"].combine_chunks(), "value": groups["value_count"].combine_chunks()}
    )


JOBS: dict[str, Job[Any, Any]] = {
    "sums": Job(words, Sum(), memory_limit=LIMIT_BYTES),
    "values in order": Job(as_line, first_and_last, sort_values=True, memory_limit=LIMIT_BYTES),
    "a sort": Job(as_line, Identity(), memory_limit=LIMIT_BYTES),
    "batches": Job(as_line, reduce_batch=counted, memory_limit=LIMIT_BYTES),
    "lists": Job(words, Collect(), memory_limit=LIMIT_BYTES),
    "two steps": Job(words, Sum(), memory_limit=LIMIT_BYTES).then(None, Identity(), memory_limit=LIMIT_BYTES),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "lines.txt"
    path.write_text("".join(f"{n % 331:03} {n} lorem ipsum dolor sit amet {n // 7}\n" for n in range(LINES)))
    return path


@pytest.fixture(scope="module", params=["always", "never"])
def cluster(request: pytest.FixtureRequest) -> Iterator[tuple[str, LocalCluster]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIREDUCE_SPILL_COMPRESSION", request.param)
        with LocalCluster(workers=2, slots=1) as started:
            yield request.param, started


@pytest.mark.parametrize("name", JOBS)
def test_a_job_gives_the_same_whether_frames_are_compressed_or_not(
    name: str, source: Path, cluster: tuple[str, LocalCluster]
) -> None:
    job, (choice, master) = JOBS[name], cluster
    expected = job.run(source, inline=True, reducers=2, split_size=SPLIT_BYTES)
    result = job.run(source, reducers=2, split_size=SPLIT_BYTES, master=master)
    assert list(result) == list(expected)
    counts, plain = result.counters["minireduce"], expected.counters["minireduce"]
    # sections say where their first key came from, which is not the same in this process
    assert counts["MAP_OUTPUT_BYTES"] == pytest.approx(plain["MAP_OUTPUT_BYTES"], rel=0.01)
    if choice == "always":
        assert counts["REDUCE_SHUFFLE_BYTES"] < 0.9 * plain["REDUCE_SHUFFLE_BYTES"]
    if choice == "never":
        assert counts["REDUCE_SHUFFLE_BYTES"] == counts["MAP_OUTPUT_BYTES"]
