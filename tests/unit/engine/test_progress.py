"""How far a task says that it is, and which of its groups is the largest."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import pytest

from minireduce import Bytes, Job, Sum
from minireduce.api.formats import Pairs
from minireduce.disk import RealDisk
from minireduce.engine import keys
from minireduce.engine.context import TaskContext
from minireduce.engine.index import DATA_NAME
from minireduce.engine.map import run_map
from minireduce.engine.merge import RUN_MEMORY_BYTES, RunSlice
from minireduce.engine.read import open_records
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace


def seen_over_text(data: bytes, path: str = "f.txt", offset: int = 0, length: int = 1 << 30) -> tuple[list[int], int]:
    context = TaskContext(path=path)
    stream = io.BytesIO(data)
    records = open_records(stream, offset=offset, length=length, input_format=Bytes(), context=context)
    seen = [context.bytes_read for _ in records]
    return seen, context.bytes_read


def test_a_record_that_is_in_work_is_not_read_yet_though_its_block_is() -> None:
    assert seen_over_text(b"aaaa\nbbbb\ncccc\ndddd\n")[0] == [0, 5, 10, 15]


def test_a_split_counts_its_own_lines_only() -> None:
    line = b"x" * 99 + b"\n"
    seen, _ = seen_over_text(line * 10, offset=250, length=500)
    assert seen == [0, 100, 200, 300, 400]


def test_a_compressed_file_is_read_as_far_as_its_own_bytes_are() -> None:
    lines = random.Random(1).randbytes(1_500_000).replace(b"\n", b" ").hex().encode()
    packed = gzip.compress(b"\n".join(lines[at : at + 80] for at in range(0, len(lines), 80)))
    seen, _ = seen_over_text(packed, path="f.gz")
    assert seen == sorted(seen)
    assert 0.4 < seen[len(seen) // 2] / len(packed) < 0.7
    assert 0.95 < seen[-1] / len(packed) <= 1.0


def count(line):
    for word in line.split():
        yield word, 1


def first(key, values):
    yield key, next(values)


def runs_of(directory: Path, lines: list[str], maps: int) -> list[RunSlice]:
    """Map outputs with one partition."""
    runs = []
    for number in range(maps):
        where = directory / f"map-{number}"
        where.mkdir()
        made = run_map(
            Job(count, first).steps[0],
            iter(lines),
            1,
            Workplace(where, "part", "pairs", 64 << 20, TaskContext(), RealDisk()),
        )
        runs.append(RunSlice(where / DATA_NAME, 0, made.partition_bytes[0], number))
    return runs


class Reduced:
    """A reduce over some runs, and what it said at each key."""

    def __init__(self, directory: Path, runs: list[RunSlice], memory_limit_bytes: int = 64 << 20, job=None) -> None:
        self.context = TaskContext(on_progress=self._beat)
        self.beats = 0
        self.beats_at_first = -1
        self.seen: list[float] = []
        self.total = sum(run.length for run in runs)

        def look(key, values):
            if not self.seen:
                self.beats_at_first = self.beats
            self.seen.append(self.context.bytes_read / self.total)
            yield key, sum(values)
            self.seen.append(self.context.bytes_read / self.total)

        (directory / "reduce").mkdir()
        run_reduce(
            (job or Job(count, look)).steps[0],
            runs,
            Workplace(directory / "reduce", "part", "pairs", memory_limit_bytes, self.context, RealDisk()),
        )
        self.end = self.context.bytes_read / self.total

    def _beat(self, _: TaskContext) -> None:
        self.beats += 1


@pytest.mark.parametrize("maps", [1, 3])
def test_a_reduce_whose_input_is_in_memory_is_as_far_as_its_keys_are(tmp_path: Path, maps: int) -> None:
    reduced = Reduced(tmp_path, runs_of(tmp_path, [f"{n:03}" for n in range(100)], maps))
    assert reduced.seen[0] == 0.0
    assert 0.3 < reduced.seen[100] < 0.6
    assert 0.8 < reduced.end <= 1.0


def test_a_declared_aggregation_says_how_far_it_is_too(tmp_path: Path) -> None:
    reduced = Reduced(tmp_path, runs_of(tmp_path, ["a b c"], 3), job=Job(count, Sum()))
    assert 0.4 < reduced.end <= 1.0


@pytest.mark.parametrize(("maps", "begun"), [(6, 1 / 3), (15, 0.5)])
def test_passes_before_the_last_merge_count_by_what_they_read(tmp_path: Path, maps: int, begun: float) -> None:
    """Of six runs, where four can be merged at once, three are brought together first; of fifteen nearly all."""
    lines = [f"{n:05}" for n in range(2000)]
    reduced = Reduced(tmp_path, runs_of(tmp_path, lines, maps), memory_limit_bytes=2 * RUN_MEMORY_BYTES)
    assert begun - 0.05 < reduced.seen[0] < begun + 0.05
    assert 0.8 < reduced.end <= 1.0


def test_passes_before_the_last_merge_are_signs_of_life(tmp_path: Path) -> None:
    """Else whoever waits for a record to be finished takes a large reduce for one that hangs."""
    lines = [f"{n:05}" for n in range(2000)]
    (tmp_path / "few").mkdir()
    few = Reduced(tmp_path / "few", runs_of(tmp_path / "few", lines, 2), memory_limit_bytes=2 * RUN_MEMORY_BYTES)
    many = Reduced(tmp_path, runs_of(tmp_path, lines, 15), memory_limit_bytes=2 * RUN_MEMORY_BYTES)
    assert many.beats_at_first >= few.beats_at_first + 4  # one for each group that is brought together


def test_values_that_are_sorted_on_disk_are_signs_of_life(tmp_path: Path) -> None:
    job = Job(count, lambda key, values: [(key, sum(values))], sort_values=True)
    reduced = Reduced(tmp_path, runs_of(tmp_path, ["hot " * 1000] * 200, 2), memory_limit_bytes=1 << 20, job=job)
    plain = Job(count, lambda key, values: [(key, sum(values))])
    (tmp_path / "plain").mkdir()
    other = Reduced(tmp_path / "plain", runs_of(tmp_path / "plain", ["hot " * 1000] * 200, 2), job=plain)
    assert reduced.beats > other.beats + 100


def test_the_largest_group_is_known_with_its_share_of_the_bytes(tmp_path: Path) -> None:
    reduced = Reduced(tmp_path, runs_of(tmp_path, ["hot " * 8 + "a b"] * 100, 2))
    largest = reduced.context.largest
    assert (keys.decode_all([largest.key]), largest.records) == (["hot"], 1600)
    assert 0.7 < largest.share < 0.9


def test_a_group_that_goes_on_over_many_frames_is_known_too(tmp_path: Path) -> None:
    reduced = Reduced(tmp_path, runs_of(tmp_path, ["hot " * 1000 + "a b"] * 200, 2))
    largest = reduced.context.largest
    assert largest.records == 400_000
    assert 0.95 < largest.share <= 1.0
    assert reduced.seen[-2] < reduced.seen[-1]


def test_pairs_of_an_earlier_step_say_how_far_their_file_is_read(tmp_path: Path) -> None:
    Reduced(tmp_path, runs_of(tmp_path, [f"{n:03}" for n in range(100)], 1))
    part = tmp_path / "reduce" / "part"
    context = TaskContext(path=str(part))
    with part.open("rb") as stream:
        pairs = open_records(stream, offset=0, length=1 << 30, input_format=Pairs(), context=context)
        seen = [context.bytes_read / part.stat().st_size for _ in pairs]
    assert seen[0] == 0.0
    assert 0.4 < seen[50] < 0.6
