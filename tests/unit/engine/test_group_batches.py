"""A `reduce_batch` gives what a reduce of single groups gives, to the byte, however its groups are cut into batches."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce import Job, JobFailed, Numbers, Range, Sum, Text, columns, task
from minireduce.disk import RealDisk
from minireduce.engine import group_batches
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import InvalidValue, UserCodeError
from minireduce.engine.keys import sortable_all
from minireduce.engine.merge import LongGroup, Window
from minireduce.errors import RequestError
from minireduce.launch.inline import run_inline

KEYS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "bytes": str.encode,
    "int": lambda text: ord(text) - ord("c"),
    "str or None": lambda text: None if text == "a" else text,
    "None": lambda _: None,
    "(str, int)": lambda text: (text[:0] if text < "d" else text, ord(text)),
    "tuple or None": lambda text: None if text == "a" else (None if text == "b" else 1, (text == "c", b"x")),
}
VALUES: dict[str, Callable[[int], Any]] = {
    "int": lambda number: number - 50,
    "float": lambda number: number / 4,
    "str": lambda number: "ä" * (number % 40) + str(number),
    "row": lambda number: [number, -number],
    "int or None": lambda number: number if number % 3 else None,
}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives its test."""
    monkeypatch.setattr(RealDisk, "sync", lambda _, file: file.flush())
    monkeypatch.setattr(RealDisk, "sync_directory", lambda *_: None)


def each_with_its_number(key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """What a reduce of single groups gives: it shows the order of keys and values, and where groups begin."""
    for number, value in enumerate(values):
        yield key, [number] if value is None else [number, repr(value)]


def each_with_its_number_in_batches(batch: pa.RecordBatch) -> pa.RecordBatch:
    key = batch["key"].to_pylist()
    assert len(key) > 0
    found, number = [], 0
    for index, value in enumerate(batch["value"].to_pylist()):
        number = number + 1 if index and key[index] == key[index - 1] else 0
        found.append(repr([number] if value is None else [number, repr(value)]))
    return columns.pairs(batch["key"], pa.array(found))


def shown(key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, str]]:
    for _, row in each_with_its_number(key, values):
        yield key, repr(row)


def parts(job: Job[Any, Any], path: Any, **options: Any) -> tuple[list[bytes], dict[str, int]]:
    result = job.run(path, inline=True, reducers=2, split_size=60, **options)
    try:
        assert result._parts is not None
        return [result._part(index).read_bytes() for index in range(result._parts.count)], dict(
            result.counters["minireduce"]
        )
    finally:
        result.close()


COUNTED = ("REDUCE_INPUT_GROUPS", "REDUCE_INPUT_RECORDS", "REDUCE_OUTPUT_RECORDS", "MAP_OUTPUT_RECORDS")
LINES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 99)), min_size=1, max_size=60)
ORDERS: dict[str, Any] = {"as they came": False, "in order": True, "by a key": lambda value: str(value)[-1:]}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), lines=LINES)
def test_groups_at_once_write_the_bytes_of_groups_one_by_one(
    data: st.DataObject, lines: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    key_of, kind = KEYS[data.draw(st.sampled_from(list(KEYS)))], data.draw(st.sampled_from(list(VALUES)))
    order = data.draw(st.sampled_from(["as they came", "by a key"] if kind == "int or None" else list(ORDERS)))

    def mapped(line: str) -> Iterator[tuple[Any, Any]]:
        key, number = line.split()
        yield key_of(key), VALUES[kind](int(number))

    path = tmp_path_factory.mktemp("groups") / "lines.txt"
    path.write_text("".join(f"{key} {number}\n" for key, number in lines))
    by_group = Job(mapped, shown, sort_values=ORDERS[order])
    by_batch = Job(mapped, reduce_batch=each_with_its_number_in_batches, sort_values=ORDERS[order])
    expected, counters = parts(by_group, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_batches, "BATCH_BYTES_MAX", data.draw(st.sampled_from([1, 60, 400, 8 << 20])))
        found, batch_counters = parts(by_batch, path)
        patch.setattr(group_batches, "GROUP_SHARE", 1 << 20)
        of_little_memory, _ = parts(by_batch.replaced(memory_limit_bytes=1), path)
    assert found == of_little_memory == expected
    assert [batch_counters[name] for name in COUNTED] == [counters[name] for name in COUNTED]


def as_line(line: str) -> Iterator[tuple[str, int]]:
    key, number = line.split()
    yield key, int(number)


def sums_of_each(key: str, *sides: Any) -> Iterator[tuple[str, str]]:
    yield key, repr([list(side) for side in sides])


def sums_of_each_in_batches(*sides: pa.RecordBatch) -> pa.RecordBatch:
    found: dict[Any, list[list[int]]] = {}
    for index, side in enumerate(sides):
        assert side.schema.names == ["key", "value"]
        assert side["key"].type == pa.string()
        for key, value in zip(side["key"].to_pylist(), side["value"].to_pylist(), strict=True):
            found.setdefault(key, [[] for _ in sides])[index].append(value)
    keys = sorted(found)
    return columns.pairs(pa.array(keys), pa.array([repr(found[key]) for key in keys]))


def join_in_batches(a: pa.RecordBatch, b: pa.RecordBatch, c: pa.RecordBatch) -> pa.RecordBatch:
    return sums_of_each_in_batches(a, b, c)


def join(key: str, a: Any, b: Any, c: Any) -> Iterator[tuple[str, str]]:
    return sums_of_each(key, a, b, c)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_several_inputs_come_as_batches_of_the_same_keys(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sides")
    named = {}
    for name in "abc":
        lines = data.draw(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 99)), max_size=40))
        named[name] = folder / f"{name}.txt"
        named[name].write_text("".join(f"{key} {number}\n" for key, number in lines))
    maps = dict.fromkeys("abc", as_line)
    order = data.draw(st.sampled_from([False, True]))
    expected, counters = parts(Job(maps, join, sort_values=order), named)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_batches, "BATCH_BYTES_MAX", data.draw(st.sampled_from([1, 60, 400, 8 << 20])))
        job: Job[Any, Any] = Job(maps, reduce_batch=join_in_batches, sort_values=order)
        found, batch_counters = parts(job, named)
        patch.setattr(group_batches, "GROUP_SHARE", 1 << 20)
        of_little_memory, _ = parts(job.replaced(memory_limit_bytes=1), named)
    assert found == of_little_memory == expected
    for name in COUNTED:
        assert batch_counters.get(name, 0) == counters.get(name, 0)


def test_a_function_of_one_batch_gets_the_pairs_of_all_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x 1\ny 2\n")
    (tmp_path / "b.txt").write_text("y 3\n")

    def added(batch: pa.RecordBatch) -> pa.RecordBatch:
        return columns.pairs(batch["key"], pc.add(batch["value"], 0))

    job: Job[str, int] = Job({"a": as_line, "b": as_line}, reduce_batch=added)
    found = job.run({"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}, inline=True, reducers=1)
    assert list(found) == [("x", 1), ("y", 2), ("y", 3)]
    assert job.test({"a": ["x 1", "y 2"], "b": ["y 3"]}) == [("x", 1), ("y", 2), ("y", 3)]
    found.close()


def test_an_input_without_any_values_has_no_numbers_and_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x 1\ny 2\n")
    (tmp_path / "b.txt").write_text("")

    def counted(a: pa.RecordBatch, b: pa.RecordBatch) -> pa.RecordBatch:
        missing = len(columns.numbers(b["value"])) + len(columns.rows(b["value"]))
        return columns.pairs(a["key"], columns.numbers(a["value"]) + missing)

    job: Job[str, int] = Job({"a": as_line, "b": as_line}, reduce_batch=counted)
    with job.run({"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}, inline=True, reducers=1) as found:
        assert list(found) == [("x", 1), ("y", 2)]
    assert job.test({"a": ["x 1", "y 2"], "b": []}) == [("x", 1), ("y", 2)]


def no_seven(batch: pa.RecordBatch) -> pa.RecordBatch:
    if 7 in batch["value"].to_pylist():
        raise ValueError("I hate seven")
    task.counter("mine", "batches").add(1)
    return batch


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"k{number % 50:02} {7 if number in (113, 170) else 0}\n" for number in range(500)))
    return path


def test_an_error_names_the_key_that_raises_alone(many: Path) -> None:
    with pytest.raises(UserCodeError, match="reduce no_seven raised ValueError: I hate seven") as caught:
        run_inline(Job(as_line, reduce_batch=no_seven, reducers=1), [many])
    assert (caught.value.record, caught.value.position) == ("'k13'", 13)


def test_groups_that_raise_are_left_out_where_that_is_allowed(many: Path) -> None:
    result = Job(as_line, reduce_batch=no_seven, reducers=1, skip_bad_records=2).run(many, inline=True)
    assert sorted({key for key, _ in result}) == [f"k{number:02}" for number in range(50) if number not in (13, 20)]
    assert [(bad.position, bad.key) for bad in result.skipped] == [(13, "k13"), (20, "k20")]
    counters = result.counters["minireduce"]
    assert counters["REDUCE_SKIPPED_GROUPS"] == 2
    assert counters["REDUCE_SKIPPED_RECORDS"] == 20
    assert (counters["REDUCE_INPUT_GROUPS"], counters["REDUCE_INPUT_RECORDS"]) == (48, 480)
    result.close()


def test_a_batch_of_which_no_group_raises_alone_is_told(many: Path) -> None:
    def only_one(batch: pa.RecordBatch) -> pa.RecordBatch:
        if len(set(batch["key"].to_pylist())) > 1:
            raise ValueError("too many")
        return batch

    with pytest.raises(JobFailed, match="over 2 groups, but over none alone: too many"):
        Job(as_line, reduce_batch=only_one, reducers=1).run(many, inline=True)


def as_number(line: str) -> Iterator[tuple[str, Any]]:
    key, number = line.split()
    yield key, float(number) if "." in number else int(number)


def as_fields(line: str) -> Iterator[tuple[str, Any]]:
    key, name = line.split()
    yield key, {name: 1}


def unchanged(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


MIXED: dict[str, tuple[Any, list[str], str]] = {
    "numbers": (as_number, ["a 1", "b 2.5"], "1 of the key 'a' is int, and 2.5 of the key 'b' is float"),
    "fields": (as_fields, ["a x", "b y"], "{'x': 1} of the key 'a' is dict of x: int, and {'y': 1} of the key 'b' is"),
}


@pytest.mark.parametrize("batch_bytes", [1, 8 << 20])
@pytest.mark.parametrize("name", list(MIXED))
def test_values_of_two_kinds_are_refused_by_their_keys_wherever_groups_are_cut(
    name: str, batch_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_batches, "BATCH_BYTES_MAX", batch_bytes)
    mapped, lines, told = MIXED[name]
    (tmp_path / "in.txt").write_text("\n".join(lines))
    job: Job[Any, Any] = Job(mapped, reduce_batch=unchanged, reducers=1)
    for allowed in (None, "100%"):
        with pytest.raises(JobFailed, match=re.escape(told)) as failed:
            job.run(tmp_path / "in.txt", inline=True, skip_bad_records=allowed)
        assert "raised InvalidValue" not in str(failed.value)
        assert "of one kind" in str(failed.value.hint)
    with pytest.raises(RequestError, match=re.escape(told)):
        job.test(lines)
    assert job.test(lines[:1]) == list(mapped(lines[0]))


@pytest.mark.parametrize("name", list(MIXED))
def test_results_of_two_kinds_are_refused_by_a_map_in_columns(name: str, tmp_path: Path) -> None:
    mapped, lines, told = MIXED[name]
    (tmp_path / "in.txt").write_text("\n".join(lines))
    with Job(mapped).run(tmp_path / "in.txt", inline=True) as found:
        over_result: Job[Any, Any] = Job(map_batch=unchanged, input=found)
        for allowed in (None, "100%"):
            with pytest.raises(JobFailed, match=f"cannot be read in batches: .*{re.escape(told)}"):
                over_result.run(inline=True, skip_bad_records=allowed)


def test_what_it_gives_for_no_group_alone_is_told_as_what_it_is(many: Path) -> None:
    def nothing_for_several(batch: pa.RecordBatch) -> Any:
        return batch if len(set(batch["key"].to_pylist())) == 1 else None

    with pytest.raises(JobFailed, match="reduce_batch gave None; so over 2 groups, but over none alone"):
        Job(as_line, reduce_batch=nothing_for_several, reducers=1).run(many, inline=True)


def test_a_trial_sees_that_an_int_becomes_a_float_beside_others() -> None:
    def halves(batch: pa.RecordBatch) -> pa.RecordBatch:
        found = [number / 2 if number % 2 else number // 2 for number in batch["value"].to_pylist()]
        return columns.pairs(batch["key"], pa.array(found))

    assert Job(as_line, reduce_batch=halves).test(["a 2", "b 4"]) == [("a", 1), ("b", 2)]
    with pytest.raises(RequestError, match="for all groups at once"):
        Job(as_line, reduce_batch=halves).test(["a 2", "b 3"])


def one_large(batch: pa.RecordBatch) -> pa.RecordBatch:
    number = batch["number"].to_numpy()
    return columns.pairs(np.where(number % 4 == 0, 500, number % 1000), number)


def counts(batch: pa.RecordBatch) -> pa.RecordBatch:
    key, count = np.unique(batch["key"].to_numpy(), return_counts=True)
    return columns.pairs(key, count)


def test_a_group_that_does_not_fit_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_batches, "GROUP_SHARE", 1 / 1000)
    job = Job(map_batch=one_large, reduce_batch=counts, input=Numbers(300_000), memory_limit="64MB", reducers=1)
    with pytest.raises(JobFailed, match=r"values of the key 500 take \d+ bytes.*\n(.|\n)*which streams them"):
        job.run(inline=True)
    left_out = job.run(inline=True, skip_bad_records=1)
    found = dict(left_out)
    assert [bad.key for bad in left_out.skipped] == ["500"]
    assert left_out.counters["minireduce"]["REDUCE_SKIPPED_RECORDS"] == 75_000
    assert sorted(found) == [number for number in range(1000) if number % 4 and number != 500]
    assert sum(found.values()) == 225_000
    left_out.close()


def pairs_of(texts: str) -> Window:
    return Window(sortable_all(list(texts)), np.arange(len(texts)), float(len(texts)))


def test_of_several_inputs_a_group_that_does_not_fit_comes_without_the_others() -> None:
    large = LongGroup(sortable_all(["m"])[0])

    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(4):
            large.size_bytes += 1000
            yield np.arange(5)

    large.pieces = pieces()
    sides = [iter([pairs_of("bccd"), large, pairs_of("z")]), iter([pairs_of("aacmmz")])]
    batches = group_batches.group_batches(
        sides, sort_values=False, memory_limit_bytes=16_000, context=TaskContext(path="<test>")
    )
    found = []
    for batch in batches:
        keys = [batch.record_of(index) for index in range(batch.count)]
        try:
            found.append((keys, [side["value"].to_pylist() for side in batch.arguments(0, batch.count)]))
        except InvalidValue as error:
            found.append((keys, error.message[:47]))
    assert found == [
        (["a", "b", "c", "d"], [[0, 1, 2, 3], [0, 1, 2]]),
        (["m"], "the 20 values of the key 'm' take 4000 bytes, a"),
        (["z"], [[0], [5]]),
    ]


def test_a_combine_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a 1\nb 2\na 3\n" * 50)

    def added(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield key, sum(values)

    def totals(batch: pa.RecordBatch) -> pa.RecordBatch:
        total: defaultdict[str, int] = defaultdict(int)
        for key, value in zip(batch["key"].to_pylist(), batch["value"].to_pylist(), strict=True):
            total[key] += value
        return columns.pairs(pa.array(list(total)), pa.array(list(total.values())))

    job = Job(as_line, reduce_batch=totals, combine=added)
    found = job.run(tmp_path / "in.txt", inline=True, split_size=100, reducers=1)
    assert dict(found) == {"a": 200, "b": 100}
    assert found.counters["minireduce"]["REDUCE_INPUT_RECORDS"] < 20
    assert job.test(["a 1", "a 3", "b 2"]) == [("a", 4), ("b", 2)]
    found.close()


def test_it_stands_in_a_later_step_and_feeds_one(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a 1\nb 2\na 3\n")

    def keep(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch

    job = Job(as_line, reduce_batch=keep).then(map_batch=keep, reduce_batch=keep).then(None, Sum())
    assert job.test(["a 1", "b 2", "a 3"]) == [("a", 4), ("b", 2)]
    found = job.run(tmp_path / "in.txt", inline=True)
    assert sorted(found) == [("a", 4), ("b", 2)]
    found.close()


def test_keys_that_are_tuples_are_given_back_as_they_came(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a 1\nb 2\na 3\n")

    def by_pair(line: str) -> Iterator[tuple[tuple[str, int], int]]:
        key, number = line.split()
        yield (key, len(line)), int(number)

    job = Job(by_pair, reduce_batch=unchanged).then(map_batch=unchanged, reduce=Sum())
    assert job.test(["a 1", "b 2", "a 3"]) == [(("a", 3), 4), (("b", 3), 2)]
    with job.run(tmp_path / "in.txt", inline=True, reducers=1) as found:
        assert list(found) == [(("a", 3), 4), (("b", 3), 2)]


def test_a_trial_sees_that_groups_depend_on_each_other() -> None:
    def first_only(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.slice(0, 1)

    with pytest.raises(RequestError, match="for all groups at once"):
        Job(as_line, reduce_batch=first_only).test(["a 1", "b 2"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "reduce_batch gave None"),
        (pa.RecordBatch.from_pydict({"key": [1]}), "reduce_batch gave a batch with the columns"),
        (pa.RecordBatch.from_pydict({"key": [float("nan")], "value": [1]}), "NaN cannot be a key"),
    ],
)
def test_what_is_no_batch_of_pairs_is_refused(given: Any, message: str, many: Path) -> None:
    with pytest.raises(JobFailed, match=message):
        Job(as_line, reduce_batch=lambda _: given).run(many, inline=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Job(as_line, Sum(), reduce_batch=no_seven), "a reduce or a reduce_batch, not both"),  # type: ignore[call-overload]
        (lambda: Job(as_line, reduce_batch=Sum()), r"write reduce=Sum\(\)"),
        (lambda: Job(as_line, reduce_batch=3), "cannot be called"),  # type: ignore[call-overload]
        (lambda: Job(dict.fromkeys("ab", as_line), reduce_batch=lambda a, b, c: a), r"\(a, b\), or <lambda>\(batch\)"),
        (
            lambda: Job(dict.fromkeys("ab", as_line), reduce_batch=lambda a, b: a, combine=sums_of_each),
            "has no combine",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Job[Any, Any]], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        make()
    assert re.search(message, f"{refused.value.message} {refused.value.hint}")


def test_ranges_of_keys_are_sampled_from_its_map(many: Path) -> None:
    job = Job(as_line, reduce_batch=no_nothing, partition=Range(), input=Text())
    found = [key for key, _ in job.run(many, inline=True, reducers=3)]
    assert found == sorted(found)
    assert len(found) == 500


def no_nothing(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
