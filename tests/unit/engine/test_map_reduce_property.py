"""The engine against a plain sequential run: all kinds of keys and values, any memory limit, any cut into splits."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce import Agg, Collect, Count, Distinct, First, Job, Max, Mean, Min, Sum, TopK
from minireduce.api.formats import Pairs
from minireduce.disk import RealDisk
from minireduce.engine import frames, merge, sort_values
from minireduce.engine import map as map_module
from minireduce.engine.context import TaskContext
from minireduce.engine.disk_rates import DiskRates
from minireduce.engine.frame_compression import FrameCompression
from minireduce.engine.index import read_index
from minireduce.engine.map import DATA_NAME, INDEX_NAME, run_map
from minireduce.engine.merge import RunSlice
from minireduce.engine.read import read_pairs
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace
from minireduce.testing.sequential import run_sequentially

KEYS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    "bytes": st.binary(max_size=3),
    "int": st.one_of(st.integers(-300, 300), st.integers(), st.integers(-(1 << 1200), 1 << 1200)),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "date": st.dates(),
    "naive": st.datetimes(),
    "aware": st.datetimes(timezones=st.just(UTC)),
}
LEAVES = list(KEYS.values())


class QuickDisk(RealDisk):
    """Nothing here outlives its test."""

    def sync(self, file: BinaryIO) -> None:
        file.flush()

    def sync_directory(self, path: Path) -> None:
        del path


def nullable(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy, strategy, strategy)


@st.composite
def key_lists(draw: st.DrawFn) -> list[Any]:
    """Many keys of one kind, repeated often."""
    kinds = draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=3))
    one = nullable(kinds[0]) if len(kinds) == 1 else st.tuples(*map(nullable, kinds))
    distinct = draw(st.lists(one, min_size=1, max_size=12))
    return draw(st.lists(st.sampled_from(distinct), max_size=60))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(),
    st.decimals(allow_nan=False),
    st.complex_numbers(allow_nan=False),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
        st.frozensets(st.integers(), max_size=1),
        st.sets(st.text(max_size=1), max_size=1),
        st.binary(max_size=2).map(bytearray),
    ),
    max_leaves=5,
)


def listing(key: Any, group: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    yield key, list(group)


def first_two(key: Any, group: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """Leaves most of the values where they are."""
    yield key, next(group)
    for value in group:
        yield key, value
        return


def summing(key: Any, group: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    yield key, sum(group)


def typed(pairs: list[tuple[Any, Any]]) -> str:
    """Pairs with their types, since 1 == 1.0 == True."""
    return repr([(key, value, type(value)) for key, value in pairs])


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a few pairs, so that windows and long groups occur in small examples."""
    monkeypatch.setattr(frames, "FRAME_BYTES", 150)
    monkeypatch.setattr(sort_values, "_MEASURED_TOGETHER", 2)


def run(
    job: Job[Any, Any], splits: list[list[Any]], *, limit: int, partitions: int, compresses: bool = False
) -> tuple[list[bytes], list[Any]]:
    """The bytes of each part and all pairs."""
    compression = FrameCompression("always", DiskRates()) if compresses else None
    step = job.steps[0]
    parts, pairs = [], []
    with tempfile.TemporaryDirectory() as name:
        maps = []
        for index, records in enumerate(splits):
            directory = Path(name, f"m{index}")
            directory.mkdir()
            context = TaskContext(compression=compression)
            run_map(
                step,
                context.walk(records),
                partitions,
                Workplace(directory, "part", "pairs", limit, context, QuickDisk()),
            )
            maps.append(directory)
        for partition in range(partitions):
            runs = [
                RunSlice(directory / DATA_NAME, *read_index(directory / INDEX_NAME)[partition], order)
                for order, directory in enumerate(maps)
            ]
            # whatever order they arrive in
            made = run_reduce(
                step,
                runs[::-1],
                Workplace(
                    Path(name), f"part-{partition}", "pairs", limit, TaskContext(compression=compression), QuickDisk()
                ),
            )
            part = Path(name, f"part-{partition}")
            assert part.exists() == (made.records > 0) == (made.bytes_written > 0)
            if not made.records:
                parts.append(b"")
                continue
            parts.append(part.read_bytes())
            with part.open("rb") as stream:
                pairs.extend(read_pairs(stream))
    return parts, pairs


def cut(records: list[Any], into: int) -> list[list[Any]]:
    size = max(1, -(-len(records) // into))
    return [records[i : i + size] for i in range(0, len(records), size)]


@contextmanager
def as_arrays() -> Iterator[None]:
    """Sort and merge as arrays what is far too little for that."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (map_module, merge):
            patch.setattr(module, "COLUMNAR_LIMIT_BYTES_MIN", 0)
        patch.setattr(map_module, "COLUMNAR_PAIRS_MIN", 0)
        patch.setattr(merge, "COLUMNAR_BYTES_MIN", 0)
        yield


def check(job: Job[Any, Any], records: list[Any]) -> None:
    expected = run_sequentially(job, records)
    whole_parts, whole = run(job, cut(records, 3), limit=1 << 28, partitions=1)
    assert typed(whole) == typed(expected)
    assert run(job, cut(records, 3), limit=1, partitions=1)[0] == whole_parts
    assert run(job, cut(records, 3), limit=1, partitions=1, compresses=True)[0] == whole_parts
    with as_arrays():
        assert run(job, cut(records, 3), limit=1 << 28, partitions=1)[0] == whole_parts
        assert run(job, cut(records, 3), limit=1, partitions=1)[0] == whole_parts
        assert run(job, cut(records, 3), limit=1, partitions=1, compresses=True)[0] == whole_parts
    assert typed(run(job, cut(records, 11), limit=1, partitions=1)[1]) == typed(expected)
    many = run(job, cut(records, 2), limit=1 << 28, partitions=3)
    assert sorted(map(repr, many[1])) == sorted(map(repr, expected))
    assert run(job, cut(records, 2), limit=1, partitions=3)[0] == many[0]
    with as_arrays():
        assert run(job, cut(records, 2), limit=1 << 28, partitions=3)[0] == many[0]


def over_pairs(reduce: Any, **options: Any) -> Job[Any, Any]:
    return Job(None, reduce, input=Pairs(), **options)


modest = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def named(reduce: Any) -> str:
    """The same in every process, which pytest-xdist asks for."""
    return getattr(reduce, "__name__", repr(reduce))


@modest
@given(st.data())
@pytest.mark.parametrize("reduce", [listing, first_two, Collect()], ids=named)
def test_every_kind_of_key_and_value_comes_out_as_in_a_sequential_run(reduce: Any, data: st.DataObject) -> None:
    keys = data.draw(key_lists())
    drawn = data.draw(st.lists(values, min_size=len(keys), max_size=len(keys)))
    plain = [(canonical(key), value) for key, value in zip(keys, drawn, strict=True)]
    check(over_pairs(reduce), plain)


def canonical(key: Any) -> Any:
    """-0.0 is the one key that a dict keeps in two spellings."""
    if isinstance(key, tuple):
        return tuple(map(canonical, key))
    return key + 0.0 if isinstance(key, float) else key.replace(fold=0) if isinstance(key, datetime) else key


numbers = st.one_of(st.integers(), st.integers(-5, 5))
floats = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@modest
@given(st.lists(st.tuples(st.text("abc", max_size=1), numbers), max_size=60))
@pytest.mark.parametrize(
    "reduce",
    [Sum(), Count(), Min(), Max(), Mean(), First(), Distinct(), TopK(2), Agg(n=Count(), top=TopK(1)), summing],
    ids=named,
)
def test_aggregations_of_ints_are_those_of_a_sequential_run(reduce: Any, pairs: list[Any]) -> None:
    check(over_pairs(reduce), pairs)


@modest
@given(st.lists(st.tuples(st.text("ab", max_size=1), st.one_of(floats, floats, numbers, st.none())), max_size=40))
@pytest.mark.parametrize("reduce", [Sum(), Min(), Max(), Mean(), First()], ids=repr)
def test_aggregations_of_mixed_numbers_do_not_show_where_runs_were_cut(reduce: Any, pairs: list[Any]) -> None:
    check(over_pairs(reduce), pairs)


@modest
@given(st.lists(st.tuples(st.text("ab", max_size=1), floats), max_size=40))
def test_a_sum_of_floats_is_that_of_fsum(pairs: list[Any]) -> None:
    _, result = run(over_pairs(Sum()), cut(pairs, 7), limit=1, partitions=1)
    for key, total in result:
        assert total == math.fsum(value for other, value in pairs if other == key)


@modest
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9)), max_size=80))
def test_combine_changes_no_answer(pairs: list[Any]) -> None:
    check(over_pairs(summing, combine=summing), pairs)


@modest
@given(st.lists(st.tuples(st.integers(0, 2), st.text("ab", max_size=2)), max_size=80))
@pytest.mark.parametrize("order", [True, len])
def test_sorted_values_come_in_order_and_equal_ones_in_input_order(order: Any, pairs: list[Any]) -> None:
    check(over_pairs(listing, sort_values=order), pairs)


def test_a_date_and_its_midnight_are_different_kinds() -> None:
    from minireduce.engine.errors import UserCodeError

    with pytest.raises(UserCodeError, match=r"date.*naive datetime"):
        run(
            over_pairs(Count()),
            [[(date(2020, 1, 1), 1), (datetime.fromisoformat("2020-01-01"), 1)]],
            limit=1 << 20,
            partitions=1,
        )
