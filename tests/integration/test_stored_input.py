"""Jobs over files of the block store: records wherever block boundaries fall, workers that hold the data first."""

from __future__ import annotations

import io
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.attempt.load import source_program
from minireduce.client import jobs
from minireduce.client.fs import FileSystem
from minireduce.client.parts import PartsOfJob
from minireduce.core.requests import ConfirmPublished
from minireduce.core.spec import JobSpec, OutputKind, StepSpec, StoredFiles, StoredRange
from minireduce.core.views import JobState
from minireduce.engine.split import plan_splits
from minireduce.errors import JobFailed
from minireduce.wire import methods
from minireduce.wire.file_questions import DescribeStore

SETTINGS = {
    "MINIREDUCE_REPAIR_DELAY_S": "1",
    "MINIREDUCE_WORKER_LOST_S": "2",
    "MINIREDUCE_TASK_USER": "root",  # temporary directories of tests are for their owner alone
}

LINES = """
from minireduce import Job, Sum

def words(line):
    yield line, 1

job = Job(words, Sum())
"""


def text_of(seed: int, lines: int) -> bytes:
    """Lines of very different lengths, one longer than several blocks, and the last without its newline."""
    rng = random.Random(seed)
    written = [f"{number:06d} " + "x" * rng.choice([0, 3, 10, 100]) for number in range(lines)]
    written.insert(lines // 2, "long " + "y" * 5000)
    written.append(written[0])
    return "\n".join(written).encode()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("stored"), workers=4, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def files(cluster):
    with cluster.connect() as connection:
        yield FileSystem(connection)


def spec_of(tmp_path: Path, files: FileSystem, path: str, split_size: int, *, losses_max: int = 10) -> JobSpec:
    program_file = tmp_path / "lines.py"
    program_file.write_text(LINES)
    found = files.stat(path)
    cuts = plan_splits(found.length, split_size, splittable=True)
    return JobSpec(
        name="lines",
        program=source_program(program_file, ()),
        steps=(StepSpec(2, 64 << 20, 60.0),),
        splits=tuple(StoredRange(path, found.inode, offset, length) for offset, length in cuts),
        output=OutputKind.TEXT,
        output_path="-",
        losses_max=losses_max,
    )


def output_of(files: FileSystem, job: str, tmp_path: Path) -> Counter[str]:
    connection = files._connection
    parts = PartsOfJob(connection, job, wait_s=60.0)
    counted: Counter[str] = Counter()
    for index in range(parts.count):
        parts.fetch(index, tmp_path / "part")
        for line in (tmp_path / "part").read_text().splitlines():
            key, _, value = line.rpartition("\t")
            counted[key] += int(value)
    assert connection.call(methods.CONFIRM_PUBLISHED, ConfirmPublished(job)) is JobState.SUCCEEDED
    return counted


@pytest.mark.parametrize(("block_size", "split_size"), [(700, 700), (1000, 333), (311, 2500), (1 << 20, 4000)])
def test_each_line_is_read_once_wherever_blocks_and_splits_end(cluster, files, tmp_path, block_size, split_size):
    text = text_of(block_size, 150)
    path = f"/lines-{block_size}"
    files.put_stream(io.BytesIO(text), path, block_size=block_size)
    job = jobs.submit(files._connection, spec_of(tmp_path, files, path, split_size))
    jobs.raise_for_state(jobs.follow(files._connection, job))
    assert output_of(files, job, tmp_path) == Counter(text.decode().split("\n"))


def test_small_files_that_share_a_split_are_read_one_after_the_other(cluster, files, tmp_path):
    texts = [text_of(seed, 20) for seed in range(5)]
    ranges = []
    for number, text in enumerate(texts):
        found = files.put_stream(io.BytesIO(text), f"/small-{number}")
        ranges.append(StoredRange(f"/small-{number}", found.inode, 0, found.length))
    spec = replace(spec_of(tmp_path, files, "/small-0", 1 << 20), splits=(StoredFiles(tuple(ranges)),))
    job = jobs.submit(files._connection, spec)
    jobs.raise_for_state(jobs.follow(files._connection, job))
    expected = Counter(line for text in texts for line in text.decode().split("\n"))
    assert output_of(files, job, tmp_path) == expected


def test_small_files_that_share_a_block_are_read_each_to_its_own_end(cluster, files, tmp_path):
    expected: Counter[str] = Counter()
    texts = {f"/packed/f{number}": f"{number} first\n\n{number} last".encode() for number in range(20)}
    files.put_many(texts.items())
    for text in texts.values():
        expected.update(text.decode().split("\n"))
    found = [files.stat(path) for path in texts]
    assert len({block.source.replica.block_id for path in texts for block in files.blocks(path).blocks}) == 1
    ranges = [StoredRange(each.path, each.inode, 0, each.length) for each in found]
    splits = (StoredFiles(tuple(ranges[:15])), *ranges[15:])
    job = jobs.submit(files._connection, replace(spec_of(tmp_path, files, "/packed/f0", 1 << 20), splits=splits))
    jobs.raise_for_state(jobs.follow(files._connection, job))
    assert output_of(files, job, tmp_path) == expected


def test_maps_run_where_their_blocks_are(cluster, files, tmp_path):
    text = text_of(1, 2000)
    files.put_stream(io.BytesIO(text), "/near", block_size=16 << 10, replication=2)
    job = jobs.submit(files._connection, spec_of(tmp_path, files, "/near", 16 << 10))
    shown = jobs.follow(files._connection, job)
    counters = {name: value for _, name, value in shown.counters}
    assert counters["DATA_LOCAL_MAPS"] > counters["TOTAL_LAUNCHED_MAPS"] / 2, counters
    assert output_of(files, job, tmp_path) == Counter(text.decode().split("\n"))


def test_a_damaged_replica_of_the_input_changes_nothing(cluster, files, tmp_path):
    text = text_of(2, 300)
    files.put_stream(io.BytesIO(text), "/damaged", block_size=4 << 10)
    blocks = files.blocks("/damaged").blocks
    damaged: list[Path] = []
    for block in blocks:
        replica = block.source.replica
        name = f"{replica.block_id}.{replica.generation}.data"
        for worker in block.source.workers[:2]:
            (path,) = (cluster.root / cluster.daemon_of(worker)).glob(f"blocks/*/{name}")
            with path.open("r+b") as file:
                file.write(b"?" * 100)
            damaged.append(path)
    job = jobs.submit(files._connection, spec_of(tmp_path, files, "/damaged", 4 << 10))
    shown = jobs.follow(files._connection, job)
    assert shown.state is JobState.PUBLISHING, shown
    assert output_of(files, job, tmp_path) == Counter(text.decode().split("\n"))
    view = files._connection.call(methods.DESCRIBE_STORE, DescribeStore())
    assert view.damaged or not all(_is_damaged(path) for path in damaged), "no task met a damaged replica"


def _is_damaged(path: Path) -> bool:
    try:
        return path.read_bytes().startswith(b"???")
    except FileNotFoundError:  # mended meanwhile
        return False


def test_an_input_that_was_removed_fails_the_job_and_gives_no_empty_answer(cluster, files, tmp_path):
    files.put_stream(io.BytesIO(b"a\nb\n"), "/gone")
    spec = spec_of(tmp_path, files, "/gone", 100, losses_max=2)
    files.rm("/gone", skip_trash=True)
    job = jobs.submit(files._connection, spec)
    shown = jobs.follow(files._connection, job)
    assert shown.state is JobState.FAILED
    with pytest.raises(JobFailed, match="removed"):
        jobs.raise_for_state(shown)
