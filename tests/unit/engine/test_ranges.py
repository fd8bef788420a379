"""Records of a fixed width, ranges of keys, and the reduce that gives pairs as they are."""

from __future__ import annotations

import io
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce import Count, FixedWidth, Hash, Identity, Job, Numbers, Range, columns
from minireduce.api.formats import Pairs
from minireduce.client import sampling
from minireduce.client.inputs import resolve
from minireduce.disk import RealDisk
from minireduce.engine import key_columns, keys, merge, parameters, ranges, read
from minireduce.engine import map as map_module
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import UserCodeError
from minireduce.engine.read import open_records
from minireduce.engine.read_batches import open_batches
from minireduce.engine.split import plan_splits
from minireduce.errors import JobFailed, RequestError
from minireduce.launch.inline import run_inline

ROOT = Path(__file__).parents[3]
WIDTH = 7


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives its test."""
    monkeypatch.setattr(RealDisk, "sync", lambda _, file: file.flush())
    monkeypatch.setattr(RealDisk, "sync_directory", lambda *_: None)


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(1, 20), st.sampled_from([1, 7, 10, 64]))
def test_each_record_is_read_once_wherever_splits_and_blocks_are_cut(count: int, split: int, block: int) -> None:
    data = bytes(range(count * WIDTH))
    expected = [(data[at : at + WIDTH], at) for at in range(0, len(data), WIDTH)]
    rows: list[tuple[bytes, int | None]] = []
    records: list[tuple[bytes, int | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK_BYTES", block)
        for offset, length in plan_splits(len(data), split, splittable=True):
            more: dict[str, Any] = {"offset": offset, "length": length, "input_format": FixedWidth(WIDTH)}
            context = TaskContext()
            records += [(r, context.offset) for r in open_records(io.BytesIO(data), context=context, **more)]
            for batch in open_batches(io.BytesIO(data), context=TaskContext(), **more):
                rows += zip(batch.rows["record"].to_pylist(), batch.rows["offset"].to_pylist(), strict=True)
    assert records == rows == expected


def test_a_file_that_ends_in_the_middle_of_a_record_is_refused() -> None:
    with pytest.raises(UserCodeError, match="3 bytes into the record at offset 14"):
        list(
            open_records(
                io.BytesIO(bytes(17)),
                offset=0,
                length=17,
                input_format=FixedWidth(WIDTH),
                context=TaskContext(path="f"),
            )
        )
    with pytest.raises(RequestError, match="whole number"):
        FixedWidth(0)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=2), max_size=30), st.integers(1, 5))
def test_a_key_goes_to_the_range_that_its_bounds_say_as_a_string_and_in_an_array(
    plain: list[bytes], parts: int
) -> None:
    encoded = [keys.encode(key) for key in plain]
    bounds = ranges.choose_bounds(encoded, parts)
    texts = keys.sortable_all(plain)
    found = ranges.partition_all(texts, bounds, parts).tolist()
    assert found == ranges.partition_all(key_columns.of_texts(texts), bounds, parts).tolist()
    assert found == [sum(bound <= key for bound in bounds) for key in encoded]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_KERNEL_BOUNDS_MAX", 0)
        assert found == ranges.partition_all(key_columns.of_texts(texts), bounds, parts).tolist()
    user, chosen = parameters.parted((("a", "b"), parameters.bounds_parameter(bounds)))
    assert user == (("a", "b"),)
    assert parameters.with_chosen(Job(lambda line: [(line, 1)], Count()), chosen).steps[0].partition == Range(bounds)


def test_parts_ascend_and_are_of_a_size_though_the_input_is_sorted(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{number:06}\n" for number in range(50_000)))

    def number(line: str) -> Iterator[tuple[int, None]]:
        if line == "000007":
            raise ValueError("a bad record in the sample is left to the tasks")
        yield int(line), None

    job = Job(number, Identity(), partition=Range(), reducers=4, skip_bad_records=1)
    result = job.run(path, inline=True, split_size=100_000)
    assert result._parts is not None
    assert [key for key, _ in result] == [key for key in range(50_000) if key != 7]
    sizes = []
    for index in range(4):
        with result._part(index).open("rb") as part:
            sizes.append(sum(1 for _ in read.read_pairs(part, name="part")))
    assert max(sizes) < 1.3 * min(sizes)
    result.close()


def test_bounds_depend_on_the_input_alone(tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"{index:02}.txt").write_text("".join(f"{(index * 7919 + n * 31) % 1000}\n" for n in range(200)))
    job = Job(lambda line: [(int(line), 1)], Identity(), partition=Range())
    inputs = resolve([tmp_path])
    opened: list[str] = []

    def open_file(path: str) -> Any:
        opened.append(path)
        return Path(path).open("rb")

    first = sampling.choose(job, inputs, 5, open_file)
    assert first == sampling.choose(job, inputs, 5, open_file)
    assert len(set(opened)) == 30
    assert len(first) == 4
    assert sampling.choose(Job(lambda n: [(n, 1)], Identity(), input=Numbers(1000)), resolve([]), 1, open_file) == ()


def test_numbers_are_sampled_too() -> None:
    job = Job(lambda n: [(n, 1)], Identity(), input=Numbers(100_000, splits=4), partition=Range(), reducers=3)
    result = job.run(inline=True)
    assert [key for key, _ in result] == list(range(100_000))
    result.close()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.binary(max_size=2), st.one_of(st.binary(max_size=3), st.integers())), max_size=20))
def test_identity_gives_in_columns_what_it_gives_when_it_is_called(pairs: list[tuple[bytes, Any]]) -> None:
    def each(key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        for value in values:
            yield key, value

    expected = sorted(pairs, key=lambda pair: pair[0])
    assert Job(None, Identity(), input=Pairs()).test(pairs) == expected
    jobs = [
        Job(lambda index: [pairs[index]], reduce, input=Numbers(len(pairs), splits=3)) for reduce in (Identity(), each)
    ]
    with pytest.MonkeyPatch.context() as patch:
        results = [run_inline(job, sampling_inputs(job), reducers=2) for job in jobs]
        for module in (map_module, merge):
            patch.setattr(module, "COLUMNAR_LIMIT_BYTES_MIN", 0)
        patch.setattr(map_module, "COLUMNAR_PAIRS_MIN", 0)
        patch.setattr(merge, "COLUMNAR_BYTES_MIN", 0)
        results.append(run_inline(jobs[0], sampling_inputs(jobs[0]), reducers=2))
    stored = [[part.read_bytes() if part.exists() else b"" for part in result.parts] for result in results]
    assert stored[0] == stored[1] == stored[2]
    counters = [result.counters["minireduce"].get("REDUCE_INPUT_GROUPS", 0) for result in results]
    assert counters == [len({key for key, _ in pairs})] * 3
    for result in results:
        result.close()


def sampling_inputs(job: Job[Any, Any]) -> Any:
    from minireduce.client.inputs import find_inputs

    return find_inputs(job, [], resolve)


def test_terasort_sorts_the_records_of_the_sort_benchmark(tmp_path: Path) -> None:
    gensort = SimpleNamespace(**runpy.run_path(str(ROOT / "bench" / "gensort.py"), run_name="gensort"))
    source = tmp_path / "records.dat"
    gensort.make(source, 30_000)
    data = source.read_bytes()
    assert data[:10] == b"JimGrayRIP"  # the first record of gensort, known to all who ran it
    job = runpy.run_path(str(ROOT / "jobs" / "terasort.py"))["job"]
    job.run(source, inline=True, output=tmp_path / "out", reducers=3, split_size=500_000)
    parts = sorted((tmp_path / "out").glob("part-*"))
    assert len(parts) == 3
    records = [data[at : at + 100] for at in range(0, len(data), 100)]
    assert b"".join(part.read_bytes() for part in parts) == b"".join(sorted(records, key=lambda record: record[:10]))
    found, given = gensort.check(parts), gensort.check([source])
    assert (found.unordered, found.checksum, found.records) == (None, given.checksum, given.records)
    assert given.unordered is not None

    def by_record(record: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield record[:10], record[10:]

    width = FixedWidth(100)
    other = Job(by_record, Identity(), input=width, output=width, partition=Range())
    other.run(source, inline=True, output=tmp_path / "other", reducers=3, split_size=500_000)
    assert [part.read_bytes() for part in sorted((tmp_path / "other").glob("part-*"))] == [
        p.read_bytes() for p in parts
    ]


@pytest.mark.parametrize("value", [b"12", "123", 5])
def test_what_makes_no_record_of_the_width_is_refused(value: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    job = Job(lambda _: [(b"k", value)], Identity(), output=FixedWidth(4))
    with pytest.raises(JobFailed, match="make no record of 4 bytes"):
        job.run(tmp_path / "in.txt", inline=True, output=tmp_path / "out")


def test_a_piece_of_each_record_is_cut_out() -> None:
    array = pa.array([b"abcd", b"efgh", b"ijkl"], pa.binary(4))[1:]
    assert columns.cut(array, 1, 3).to_pylist() == [b"fg", b"jk"]
    with pytest.raises(ValueError, match="not in records of 4"):
        columns.cut(array, 2, 5)


def test_ranges_belong_to_the_first_step() -> None:
    with pytest.raises(RequestError, match="later step"):
        Job(lambda line: [(line, 1)]).then(None, Identity(), partition=Range())
    assert Job(lambda line: [(line, 1)], partition=Hash()).steps[0].partition == Hash()
