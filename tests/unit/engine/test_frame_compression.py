"""Frames of both forms: the same pairs, digests and results, fewer bytes on disk, and no damage that goes unseen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from minireduce import Identity, Job, Sum
from minireduce.disk import RealDisk
from minireduce.engine import columns, frames, keys
from minireduce.engine.context import TaskContext
from minireduce.engine.disk_rates import Choice, DiskRates
from minireduce.engine.frame_compression import FRAME_BYTES_MAX, FrameCompression, compression_for
from minireduce.engine.frames import COMPRESSED_PAIRS, PAIRS, SectionReader, SectionWriter, Source, iterate
from minireduce.engine.index import read_index
from minireduce.engine.map import DATA_NAME, INDEX_NAME, MapOutput, run_map
from minireduce.engine.memory import COLUMNAR_LIMIT_BYTES_MIN
from minireduce.engine.merge import RunSlice
from minireduce.engine.merge_ahead import merge_ahead, passes_for_certain
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace
from minireduce.errors import Corruption

WORDS = [(f"word {n // 3:07}", n % 3) for n in range(30_000)]
CHANCE = [(Random(n).randbytes(20), Random(-n).randbytes(40)) for n in range(5000)]


def always() -> FrameCompression:
    return FrameCompression("always", DiskRates())


def written(pairs: list[tuple[Any, Any]], compression: FrameCompression | None) -> tuple[bytes, bytes, int]:
    """A section of these pairs, its digest and what compressing it saved."""
    file = io.BytesIO()
    writer = SectionWriter(file, compression)
    writer.write_kinds(b"\x90")
    writer.add(keys.sortable_all([key for key, _ in pairs]), columns.make([value for _, value in pairs]))
    writer.end()
    assert writer.bytes_written == len(file.getvalue())
    return file.getvalue(), writer.digest(), writer.saved_bytes


def pairs_of(data: bytes, *, is_columnar: bool = False) -> list[tuple[str, Any]]:
    found = []
    for texts, column in iterate(SectionReader(Source(io.BytesIO(data), "the run"), 0, len(data))):
        assert isinstance(texts, list)
        found += zip(texts, columns.to_values(column), strict=True)
    return found


def are_compressed(data: bytes) -> list[bool]:
    """Of each frame of pairs, whether it is compressed."""
    found, at = [], 0
    while at < len(data):
        kind, *_, length, _ = frames._HEAD.unpack_from(data, at)
        if kind in (PAIRS, COMPRESSED_PAIRS):
            found.append(kind == COMPRESSED_PAIRS)
        at += frames._HEAD.size + length
    return found


def test_a_compressed_section_holds_the_same_under_the_same_digest_in_fewer_bytes() -> None:
    plain, digest, nothing = written(WORDS, None)
    made, digest_made, saved = written(WORDS, always())
    assert digest_made == digest
    assert (nothing, saved) == (0, len(plain) - len(made))
    assert len(made) < 0.5 * len(plain)
    assert are_compressed(plain) == [False] * len(are_compressed(plain))
    assert are_compressed(made) == [True] * len(are_compressed(plain))
    assert pairs_of(made) == pairs_of(plain)


def test_a_reader_knows_the_size_of_a_frame_in_memory_and_on_disk() -> None:
    plain, made = (written(WORDS, compression)[0] for compression in (None, always()))
    sizes = []
    for data in (plain, made):
        reader = SectionReader(Source(io.BytesIO(data), "the run"), 0, len(data))
        in_memory, stored = [], reader.stored_bytes
        while reader.read() is not None:
            in_memory.append(reader.frame_bytes)
            stored += reader.stored_bytes
        sizes.append(in_memory)
        assert stored == len(data) - frames.END_BYTES
    assert sizes[0] == sizes[1]


def test_what_does_not_shrink_and_what_is_huge_stays_as_it_is() -> None:
    assert written(CHANCE, always())[0] == written(CHANCE, None)[0]
    huge = [("a", 1), ("b", "x" * FRAME_BYTES_MAX), ("c", 2)]
    assert written(huge, always())[0] == written(huge, None)[0]
    large = [("a", "x" * (FRAME_BYTES_MAX - 1000))]
    assert len(written(large, always())[0]) < FRAME_BYTES_MAX // 50


def test_no_damaged_byte_of_a_compressed_section_goes_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAME_BYTES", 2000)
    data = written(WORDS[:300], always())[0]
    assert sum(are_compressed(data)) > 2
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(Corruption, match="the run"):
            pairs_of(bytes(damaged))
    for end in range(0, len(data), 7):
        with pytest.raises(Corruption, match="the run"):
            pairs_of(data[:end] + b"\xff" * (len(data) - end))


@pytest.mark.parametrize(
    "payload",
    [
        (1000).to_bytes(4, "little") + b"\xf0 no lz4 at all",
        (1 << 31).to_bytes(4, "little") + b"\x10a",  # says that it becomes more than any frame that is compressed
        b"\1",
    ],
)
def test_a_frame_that_is_whole_but_cannot_be_decompressed_is_damage(payload: bytes) -> None:
    data = b"".join(frames._frame(COMPRESSED_PAIRS, 1, 0, 1, 1, 1, [payload]))
    reader = SectionReader(Source(io.BytesIO(data), "the run"), 0, len(data) + frames.END_BYTES)
    with pytest.raises(Corruption, match="the run cannot be decompressed at 0"):
        reader.read()


def test_below_the_least_memory_for_it_nothing_is_compressed() -> None:
    assert compression_for("always", COLUMNAR_LIMIT_BYTES_MIN - 1, DiskRates()) is None
    assert compression_for("never", COLUMNAR_LIMIT_BYTES_MIN, DiskRates()) is None
    assert compression_for("auto", COLUMNAR_LIMIT_BYTES_MIN, DiskRates()) is not None


class Simulated:
    """A disk of so many bytes a second and a clock on which nothing else takes time."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.now_s = 0.0
        self.disk = self

    def clock(self) -> float:
        return self.now_s


class SlowFile(io.FileIO):
    """Takes the time of the disk for each write."""

    machine: Simulated

    def write(self, data: Any, /) -> int:
        self.machine.now_s += len(data) / self.machine.bytes_per_s
        return super().write(data)


class SlowDisk(RealDisk):
    def __init__(self, machine: Simulated) -> None:
        self._machine = machine

    def create(self, path: Path) -> Any:
        file = SlowFile(path, "x+b")
        file.machine = self._machine
        return file


def mapped(record: int) -> Iterator[tuple[str, int]]:
    yield f"a key of some length, number {record:07}", record


def run_one_map(folder: Path, choice: Choice, bytes_per_s: float, records: int = 60_000) -> tuple[MapOutput, bytes]:
    """A map of some MiB that spills often, on a disk of that speed; what it left."""
    machine = Simulated(bytes_per_s)
    folder.mkdir()
    compression = None if choice == "never" else FrameCompression(choice, DiskRates(), machine.clock)
    context = TaskContext(compression=compression)
    made = run_map(
        Job(mapped, Identity()).steps[0],
        context.walk(range(records)),
        2,
        Workplace(folder, "part", "pairs", 4 << 20, context, SlowDisk(machine)),
    )
    assert context.counters["minireduce", "SPILLED_RECORDS"] >= records
    assert context.counters["minireduce", "MAP_OUTPUT_BYTES"] == sum(made.partition_bytes) + saved_in(folder)
    return made, (folder / DATA_NAME).read_bytes()


def saved_in(folder: Path) -> int:
    """How much larger the output would be if no frame of it were compressed."""
    data, saved = (folder / DATA_NAME).read_bytes(), 0
    for offset, length in read_index(folder / INDEX_NAME):
        reader = SectionReader(Source(io.BytesIO(data), "the output"), offset, length)
        while reader.read() is not None:
            saved += reader.frame_bytes - reader.stored_bytes
    return saved


def test_a_map_begins_to_compress_once_its_writes_take_the_time_of_a_slow_disk(tmp_path: Path) -> None:
    made, data = run_one_map(tmp_path / "slow", "auto", 100e6)
    fast, fast_data = run_one_map(tmp_path / "fast", "auto", 3000e6)
    never, never_data = run_one_map(tmp_path / "never", "never", 100e6)
    assert fast_data == never_data
    assert made.digest == fast.digest == never.digest
    assert len(data) < 0.5 * len(never_data)


@pytest.mark.parametrize("reduce", [Sum(), Identity()])
def test_a_reduce_and_what_is_merged_ahead_take_runs_of_both_forms(tmp_path: Path, reduce: Any) -> None:
    job: Job[Any, Any] = Job(mapped, reduce)
    step, parts = job.steps[0], []
    for name, choices in (("plain", [None] * 15), ("mixed", [always() if n % 2 else None for n in range(15)])):
        runs = []
        for index, compression in enumerate(choices):
            context = TaskContext(compression=compression)
            folder = tmp_path / f"{name}-{index}"
            folder.mkdir()
            run_map(
                step,
                context.walk(range(index, 4000, 3)),
                1,
                Workplace(folder, "part", "pairs", 16 << 20, context, RealDisk()),
            )
            runs.append(RunSlice(folder / DATA_NAME, *read_index(folder / INDEX_NAME)[0], index))
        passes = passes_for_certain(step, memory_limit_bytes=16 << 20, bytes_here=1)
        assert passes is not None
        at = Workplace(tmp_path, "part", "pairs", 16 << 20, TaskContext(compression=choices[1]), RealDisk())
        made = merge_ahead(step, runs, passes, tmp_path / name, at)
        assert made is not None
        assert any(are_compressed((tmp_path / name).read_bytes())) == (name == "mixed")
        context = TaskContext(compression=choices[1])
        (tmp_path / f"{name}-reduce").mkdir()
        run_reduce(
            step,
            runs,
            Workplace(tmp_path / f"{name}-reduce", "part", "pairs", 16 << 20, context, RealDisk()),
            {tuple(range(passes.at_once)): made[0]},
        )
        assert context.counters.pop(("minireduce", "REDUCE_SHUFFLE_BYTES")) == sum(run.length for run in runs)
        parts.append(((tmp_path / f"{name}-reduce" / "part").read_bytes(), context.counters, made[0].pairs))
    assert parts[0] == parts[1]


def walked(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield key, sum(values)


@pytest.mark.parametrize("reduce", [Identity(), walked])
def test_progress_and_the_largest_group_go_by_what_lies_on_disk(tmp_path: Path, reduce: Any) -> None:
    job: Job[Any, Any] = Job(lambda n: [("the largest" if n % 2 else f"{n:09}", n)], reduce)
    seen = []
    for compression in (None, always()):
        folder = tmp_path / ("plain" if compression is None else "compressed")
        folder.mkdir()
        context = TaskContext(compression=compression)
        made = run_map(
            job.steps[0],
            context.walk(range(200_000)),
            1,
            Workplace(folder, "part", "pairs", 256 << 20, context, RealDisk()),
        )
        (total,) = made.partition_bytes
        context = TaskContext(compression=compression)
        run_reduce(
            job.steps[0],
            [RunSlice(folder / DATA_NAME, 0, total, 0)],
            Workplace(folder, "part", "pairs", 256 << 20, context, RealDisk()),
        )
        assert 0.9 * total < context.bytes_read <= total
        assert 0.1 < context.largest.share < 0.9
        assert context.largest.records == 100_000
        seen.append(total)
    assert seen[1] < 0.8 * seen[0]
