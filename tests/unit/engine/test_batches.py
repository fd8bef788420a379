"""The columnar lane gives what the record lane gives, to the byte, whatever comes and wherever it is cut."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce import Bytes, Collect, Count, Job, Max, Mean, Min, Numbers, Sum, columns
from minireduce.api.formats import Pairs
from minireduce.disk import RealDisk
from minireduce.engine import gather_columns, read
from minireduce.engine.arrow_columns import given_pairs, value_column
from minireduce.engine.bad_records import Care
from minireduce.engine.batches import Batch, mapped_batches
from minireduce.engine.columns import to_values
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import UserCodeError
from minireduce.engine.read import open_records
from minireduce.engine.read_batches import open_batches
from minireduce.engine.split import plan_splits
from minireduce.errors import JobFailed, RequestError
from minireduce.launch.inline import run_inline
from minireduce.testing.sequential import run_sequentially

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
INTS = st.one_of(st.integers(-3, 3), st.integers(-(1 << 63), (1 << 63) - 1))
FLOATS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
KEYS: dict[str, tuple[st.SearchStrategy[Any], pa.DataType]] = {
    "str": (WORDS, pa.string()),
    "large str": (WORDS, pa.large_string()),
    "dictionary": (WORDS, pa.dictionary(pa.int32(), pa.string())),
    "bytes": (st.binary(max_size=2), pa.binary()),
    "bytes of one length": (st.binary(min_size=2, max_size=2), pa.binary(2)),
    "int": (INTS, pa.int64()),
    "float": (st.sampled_from([0.0, -0.0, 1.5, -2.0]), pa.float64()),
    "bool": (st.booleans(), pa.bool_()),
    "date": (st.dates(), pa.date32()),
    "instant": (st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0)), pa.timestamp("us", "UTC")),
}
VALUES = {
    "ints": (INTS, pa.int64()),
    "small ints": (st.integers(-128, 127), pa.int8()),
    "one int": (st.just(7), pa.int64()),
    "ints and None": (st.one_of(st.none(), INTS), pa.int64()),
    "floats": (FLOATS, pa.float64()),
}


def unpickled(line: str) -> Any:
    return pickle.loads(base64.b64decode(line))


def record_map(line: str) -> Iterator[tuple[Any, Any]]:
    yield unpickled(line)


def batch_map(key_type: pa.DataType, value_type: pa.DataType) -> Any:
    def mapped(batch: pa.RecordBatch) -> pa.RecordBatch:
        found = [unpickled(line) for line in batch["line"].to_pylist()]
        plain = pa.array(
            [key for key, _ in found], key_type.value_type if key_type == KEYS["dictionary"][1] else key_type
        )
        key = plain.dictionary_encode() if key_type == KEYS["dictionary"][1] else plain
        if key_type == pa.large_string() and len(found) % 2:  # offsets of both widths meet
            key = plain.cast(pa.string())
        return columns.pairs(key, pa.array([value for _, value in found], value_type))

    return mapped


def parts(job: Job[Any, Any], path: Path, **options: Any) -> tuple[list[bytes], list[str], dict[str, int]]:
    result = job.run(path, inline=True, reducers=2, split_size=64, **options)
    try:
        assert result._parts is not None
        stored = [result._part(index).read_bytes() for index in range(result._parts.count)]
        counters = dict(result.counters["minireduce"])
        return stored, sorted(repr((key, value, type(value))) for key, value in result), counters
    finally:
        result.close()


def collected(key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    yield key, list(values)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives its test."""
    monkeypatch.setattr(RealDisk, "sync", lambda _, file: file.flush())
    monkeypatch.setattr(RealDisk, "sync_directory", lambda *_: None)


REDUCES = {type(reduce).__name__: reduce for reduce in (Sum(), Count(), Min(), Max(), Mean(), Collect())}
REDUCES["function"] = collected


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("reduce", list(REDUCES))
def test_both_lanes_write_the_same_bytes(
    reduce: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key_strategy, key_type = KEYS[data.draw(st.sampled_from(list(KEYS)))]
    value_strategy, value_type = VALUES[data.draw(st.sampled_from(list(VALUES)))]
    if data.draw(st.booleans()):
        key_strategy = st.one_of(st.none(), key_strategy)
    distinct = data.draw(st.lists(key_strategy, min_size=1, max_size=4))
    found = data.draw(st.lists(st.tuples(st.sampled_from(distinct), value_strategy), min_size=1, max_size=30))
    found = [(key + 0.0 if isinstance(key, float) else key, value) for key, value in found]
    lines = [base64.b64encode(pickle.dumps(pair)).decode() for pair in found]
    path = tmp_path_factory.mktemp("lanes") / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    record_job, batch_job = (
        Job(record_map, REDUCES[reduce]),
        Job(map_batch=batch_map(key_type, value_type), reduce=REDUCES[reduce]),
    )
    expected = sorted(repr((key, value, type(value))) for key, value in run_sequentially(record_job, lines))
    record_parts, record_pairs, record_counters = parts(record_job, path)
    assert record_pairs == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK_BYTES", 100)
        patch.setattr(gather_columns, "ROWS_WAITING", data.draw(st.integers(0, 5)))
        patch.setattr(gather_columns, "NARROW_BYTES_MAX", data.draw(st.sampled_from([0, 1 << 30])))
        batch_parts, batch_pairs, batch_counters = parts(batch_job, path)
        spilled_parts, _, spilled_counters = parts(batch_job.replaced(memory_limit_bytes=1), path)
    assert batch_pairs == expected
    assert batch_parts == spilled_parts == record_parts
    assert spilled_counters["SPILLED_RECORDS"] > 0
    for name in ("MAP_INPUT_RECORDS", "MAP_OUTPUT_RECORDS", "REDUCE_INPUT_GROUPS", "REDUCE_OUTPUT_RECORDS"):
        assert batch_counters[name] == record_counters[name]


LINES = st.sampled_from([b"", b"a", b"bc\r", "ä \u3000 x".encode(), b"\xff" * 3, b"\xef\xbb\xbf"])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LINES, max_size=12), st.integers(1, 9), st.booleans(), st.sampled_from([1, 3, 64]))
@pytest.mark.parametrize("input_format", ["text", "bytes"])
def test_rows_are_the_records_and_offsets_their_places(
    input_format: str, lines: list[bytes], split: int, is_ended: bool, block: int
) -> None:
    data = b"\n".join(lines) + (b"\n" if is_ended and lines else b"")
    form: Any = Bytes() if input_format == "bytes" else read.Text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK_BYTES", block)
        for offset, length in plan_splits(len(data), split, splittable=True):
            context, batch_context = TaskContext(path="f"), TaskContext(path="f")
            opened = open_records(io.BytesIO(data), offset=offset, length=length, input_format=form, context=context)
            records = [(record, context.offset) for record in opened]
            batches = open_batches(
                io.BytesIO(data), offset=offset, length=length, input_format=form, context=batch_context
            )
            rows = []
            for batch in batches:
                assert batch.offset_of is not None
                found = list(zip(batch.rows["line"].to_pylist(), batch.rows["offset"].to_pylist(), strict=True))
                assert found == [(batch.record_of(i), batch.offset_of(i)) for i in range(batch.count)]
                rows += found
            assert rows == records
            assert batch_context.counters == context.counters


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", "a" * 31, "é" * 16, "x" * 255, "y" * 256, "z" * 65_536]), max_size=6))
def test_strings_and_bytes_are_packed_at_once_as_one_by_one(values: list[str]) -> None:
    packed = [v.encode() for v in values]
    kinds = [(values, pa.string()), (values, pa.large_string()), (packed, pa.binary()), (packed, pa.large_binary())]
    for array in (pa.array(each, kind) for each, kind in kinds):
        assert to_values(value_column(array)) == array.to_pylist()


@pytest.mark.parametrize("width", [0, 1, 255, 256, 65_536])
def test_bytes_of_one_length_are_packed_at_once_as_one_by_one(width: int) -> None:
    array = pa.array([bytes([number]) * width for number in range(4)] + [None], pa.binary(width))
    for each in (array, array[:4], array[1:3], array[:0]):
        assert to_values(value_column(given_column(each))) == each.to_pylist()


def given_column(array: pa.Array) -> pa.Array:
    """The values of a batch as the lane sees them."""
    pairs = list(given_pairs(pa.RecordBatch.from_arrays([array, array], names=["key", "value"])))
    return pairs[0][1] if pairs else array.cast(pa.binary())


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    if any("bad" in line for line in batch["line"].to_pylist()):
        raise ValueError("I hate bad")
    return columns.pairs(batch["line"], batch["offset"])


def test_an_error_names_the_row_of_the_batch_that_raises_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join("bad\n" if index in (700, 900) else f"{index}\n" for index in range(1000)))
    with pytest.raises(UserCodeError, match="I hate bad") as caught:
        run_inline(Job(map_batch=doubled), [path])
    assert (caught.value.record, caught.value.position) == ("'bad'", 700)
    assert caught.value.offset == len("".join(f"{index}\n" for index in range(700)))


def test_rows_that_raise_are_left_out_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join("bad\n" if index in (7, 90) else f"{index}\n" for index in range(100)))
    result = Job(map_batch=doubled, reduce=Count(), skip_bad_records=2).run(path, inline=True)
    assert sorted(int(key) for key, _ in result) == [index for index in range(100) if index not in (7, 90)]
    assert [(bad.record, bad.position) for bad in result.skipped] == [("bad", 7), ("bad", 90)]
    assert result.counters["minireduce"]["MAP_SKIPPED_RECORDS"] == 2
    assert result.counters["minireduce"]["MAP_INPUT_RECORDS"] == 98
    result.close()


def contents(batch: pa.RecordBatch) -> pa.RecordBatch:
    (name,) = {"line", "key"} & set(batch.schema.names)
    return columns.pairs(batch[name], pa.array([Path(each).read_text() for each in batch[name].to_pylist()]))


@pytest.mark.parametrize("place", ["map", "reduce"])
def test_a_file_that_the_user_does_not_find_is_an_error_of_its_row_alone(place: str, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.part") for number in range(5)]
    for path in paths[:2] + paths[3:]:
        Path(path).write_text(f"that of {path}")
    (tmp_path / "in.txt").write_text("\n".join(paths))
    job: Job[Any, Any] = (
        Job(map_batch=contents) if place == "map" else Job(lambda line: [(line, 1)], reduce_batch=contents, reducers=1)
    )
    with pytest.raises(UserCodeError, match=f"{place} contents raised FileNotFoundError") as caught:
        run_inline(job, [tmp_path / "in.txt"])
    assert (caught.value.record, caught.value.position) == (repr(paths[2]), 2)
    with job.run(tmp_path / "in.txt", inline=True, skip_bad_records=1) as result:
        assert list(result) == [(path, f"that of {path}") for path in paths[:2] + paths[3:]]
        assert [bad.position for bad in result.skipped] == [2]


def test_a_record_that_is_too_long_is_left_out_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text(f"a\n{'x' * 5000}\nb\n")
    job = Job(map_batch=lambda batch: columns.pairs(batch["line"], 1), skip_bad_records=1)
    result = job.run(path, inline=True, record_bytes_max=100)
    assert list(result) == [("a", 1), ("b", 1)]
    result.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "map_batch gave None"),
        (pa.RecordBatch.from_pydict({"key": [1]}), "with the columns"),
        (pa.RecordBatch.from_pydict({"key": [1], "value": [1], "more": [1]}), "with the columns"),
        ([1], "map_batch gave 1 among its batches"),
        (pa.RecordBatch.from_pydict({"key": [float("nan")], "value": [1]}), "NaN cannot be a key"),
        (pa.RecordBatch.from_pydict({"key": [[1]], "value": [1]}), "list cannot be a key"),
    ],
)
def test_what_is_no_batch_of_pairs_is_refused(given: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(JobFailed, match=message):
        Job(map_batch=lambda _: given).run(tmp_path / "in.txt", inline=True)


def test_keys_of_two_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n1\n")

    def mixed(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield columns.pairs(batch["line"], 1)
        yield columns.pairs(batch["offset"], 1)

    with pytest.raises(JobFailed, match="is str in one record and int in another"):
        Job(map_batch=mixed, reduce=Count()).run(tmp_path / "in.txt", inline=True)


def test_a_batch_map_in_every_place_of_a_job(tmp_path: Path) -> None:
    def of_numbers(batch: pa.RecordBatch) -> pa.Table:
        return pa.table({"key": [n % 3 for n in batch["number"].to_pylist()], "value": batch["number"]})

    def swapped(batch: pa.RecordBatch) -> pa.RecordBatch:
        return columns.pairs(batch["value"], batch["key"])

    job = Job(map_batch=of_numbers, reduce=Sum(), input=Numbers(10)).then(map_batch=swapped, reduce=Collect())
    assert job.test(list(range(10))) == [(12, [1]), (15, [2]), (18, [0])]
    result = job.run(inline=True)
    assert sorted(result) == [(12, [1]), (15, [2]), (18, [0])]
    result.close()
    struct = pa.StructArray.from_arrays([pa.array(["b", "a"]), pa.array([1, 2])], names=["x", "y"])
    tuples = Job(map_batch=lambda _: columns.pairs(struct, 1), reduce=Sum(), input=Pairs())
    assert tuples.test([("k", "v")]) == [(("a", 2), 1), (("b", 1), 1)]


@pytest.mark.parametrize(
    ("care", "sizes"), [(Care(), [10] * 10), (Care(is_careful=True), [1] * 100)], ids=["a retry", "a search"]
)
def test_a_run_that_is_to_tell_where_a_process_ends_computes_few_rows_at_once(care: Care, sizes: list[int]) -> None:
    """The mark names the rows in work, also when user code is about to end the process."""
    marks = memoryview(bytearray(16)).cast("q")
    told: list[int] = []
    context = TaskContext(marks=marks, on_each=lambda: told.append(context.records_read))
    seen: list[tuple[int, int, int]] = []

    def watched(batch: pa.RecordBatch) -> pa.RecordBatch:
        in_work = tuple(marks)
        context.mark_last()
        assert tuple(marks) == in_work
        seen.append((*in_work, len(batch)))
        return columns.pairs(batch["number"], 1)

    rows = pa.RecordBatch.from_pydict({"number": range(100)})
    batch = Batch(rows, 100, lambda index: index)
    with ExitStack() as stack:
        given = list(mapped_batches(Job(map_batch=watched).steps[0], [batch], stack, context, care))
    assert [size for _, _, size in seen] == sizes
    assert [(first, together) for first, together, _ in seen] == list(zip(range(0, 100, sizes[0]), sizes, strict=True))
    assert told == (list(range(1, 101)) if sizes[0] == 1 else [])
    assert sum(len(key) for key, _ in given) == 100


def test_a_trial_sees_that_rows_depend_on_each_other() -> None:
    def first_only(batch: pa.RecordBatch) -> pa.RecordBatch:
        return columns.pairs(batch["line"].slice(0, 1), 1)

    with pytest.raises(RequestError, match="for all rows at once"):
        Job(map_batch=first_only).test(["a", "b"])


def test_a_map_and_a_batch_map_exclude_each_other() -> None:
    with pytest.raises(RequestError, match="not both"):
        Job(record_map, Count(), map_batch=doubled)  # type: ignore[call-overload]
