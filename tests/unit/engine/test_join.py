"""Several inputs: what each key gets of each of them, against plain Python, however splits and memory are cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce import Bytes, Collect, Count, Csv, Job, JobFailed, Numbers, Pairs, Range, Sum, Text
from minireduce.client.inputs import find_inputs, resolve
from minireduce.disk import RealDisk
from minireduce.engine import join as engine_join
from minireduce.engine import sort_values
from minireduce.errors import RequestError
from minireduce.launch.inline import run_inline


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives its test."""
    monkeypatch.setattr(RealDisk, "sync", lambda _, file: file.flush())
    monkeypatch.setattr(RealDisk, "sync_directory", lambda *_: None)


def left(line: str) -> Iterator[tuple[str, Any]]:
    key, _, value = line.partition(" ")
    yield key, (value, len(value))


def middle(line: bytes) -> Iterator[tuple[str, Any]]:
    key, _, value = line.partition(b" ")
    yield key.decode(), value


def right(line: str) -> Iterator[tuple[str, Any]]:
    key, _, value = line.partition(" ")
    yield key, int(value)


def join(
    key: str, lefts: Collection[Any], middles: Collection[Any], rights: Iterator[int]
) -> Iterator[tuple[str, Any]]:
    assert len(lefts) == len(list(lefts))
    yield key, (list(lefts), list(middles), list(rights), list(lefts))


MAPS: dict[str, Callable[[Any], Iterator[tuple[str, Any]]]] = {"left": left, "middle": middle, "right": right}
FORMATS = {"left": Text(), "middle": Bytes(), "right": Text()}
JOB: Job[str, Any] = Job(MAPS, join, input=FORMATS)

Lines = list[tuple[str, int]]
LINES = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 99)), max_size=25)


def oracle(lines: dict[str, Lines], reduce: Callable[..., Any] = join) -> list[tuple[str, Any]]:
    sides: list[dict[str, list[Any]]] = []
    for name, function in MAPS.items():
        side = defaultdict(list)
        for key, number in lines[name]:
            text = f"{key} {number}"
            for mapped, value in function(text.encode() if name == "middle" else text):
                side[mapped].append(value)
        sides.append(side)
    first, second, last = sides
    found = sorted({*first, *second, *last})
    return [pair for key in found for pair in reduce(key, first[key], second[key], iter(last[key]))]


def write(folder: Path, lines: dict[str, Lines]) -> dict[str, Any]:
    for name, each in lines.items():
        (folder / name).write_text("".join(f"{key} {number}\n" for key, number in each))
    return {name: str(folder / name) for name in lines}


def run(job: Job[Any, Any], named: dict[str, Any], **options: Any) -> list[Any]:
    return sorted(run_inline(job, find_inputs(job, (named,), resolve), **options))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries(dict.fromkeys(MAPS, LINES)), st.integers(3, 60), st.integers(1, 3))
def test_each_key_gets_the_values_of_each_input_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, lines: dict[str, Lines], split: int, reducers: int
) -> None:
    named = write(tmp_path_factory.mktemp("join"), lines)
    assert run(JOB, named, split_size_bytes=split, reducers=reducers) == oracle(lines)
    ranged = JOB.replaced(partition=Range())
    assert run(ranged, named, split_size_bytes=split, reducers=reducers) == oracle(lines)
    records: dict[str, list[Any]] = {name: [f"{k} {n}" for k, n in each] for name, each in lines.items()}
    records["middle"] = [line.encode() for line in records["middle"]]
    assert JOB.test(records) == oracle(lines)


def test_values_that_do_not_fit_in_memory_spill_and_can_be_looped_over_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {"left": [("a", n) for n in range(9000)], "middle": [("a", 1), ("b", 2)], "right": [("a", 7), ("c", 8)]}
    spilled = []
    begin = engine_join.SpilledValues.__init__

    def seen(self: engine_join.SpilledValues, path: Path, count: int, disk: Any) -> None:
        spilled.append((path, count))
        begin(self, path, count, disk)

    monkeypatch.setattr(engine_join.SpilledValues, "__init__", seen)
    assert run(JOB, write(tmp_path, lines), memory_limit_bytes=1 << 20, reducers=1) == oracle(lines)
    ((path, count),) = spilled
    assert count == 9000
    assert not path.exists()


def test_the_values_of_each_input_are_sorted_by_themselves(tmp_path: Path) -> None:
    lines = {"left": [("a", 3), ("a", 1)], "middle": [("a", 9), ("a", 2)], "right": [("a", 5), ("a", 4), ("b", 1)]}
    job: Job[str, Any] = Job(MAPS, join, input=FORMATS, sort_values=True)
    found = run(job, write(tmp_path, lines), reducers=1)
    assert found == oracle({name: sorted(each) for name, each in lines.items()})


def test_the_values_of_each_input_are_sorted_beyond_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {name: [("a", n * 7919 % 9000) for n in range(9000)] for name in MAPS}
    lines["middle"] += [("b", 2), ("b", 1)]
    made: list[Path] = []
    write_run = sort_values._Runs._write

    def seen(self: sort_values._Runs, values: Any) -> Path:
        made.append(write_run(self, values))
        return made[-1]

    monkeypatch.setattr(sort_values._Runs, "_write", seen)
    job: Job[str, Any] = Job(MAPS, join, input=FORMATS, sort_values=True)
    found = run(job, write(tmp_path, lines), memory_limit_bytes=1 << 20, reducers=1)
    (key, (lefts, middles, rights, again)), other = found
    assert (key, lefts) == ("a", sorted(lefts))
    assert lefts == again
    assert middles == sorted(f"{n}".encode() for n in range(9000))
    assert rights == list(range(9000))
    assert other == ("b", ([], [b"1", b"2"], [], []))
    assert {path.parent.name for path in made} == {"input-0", "input-1", "input-2"}
    assert not any(path.exists() for path in made)


@pytest.mark.parametrize("bad", ["users", "orders"])
def test_a_key_whose_values_cannot_be_sorted_is_the_one_to_blame(bad: str, tmp_path: Path) -> None:
    def of_line(line: str) -> Iterator[tuple[str, int | None]]:
        key, _, value = line.partition(" ")
        yield key, None if value == "none" else int(value)

    def both(key: str, users: Collection[Any], orders: Iterator[Any]) -> Iterator[tuple[str, Any]]:
        yield key, (list(users), list(orders))

    lines: dict[str, Any] = {"users": [("a", 1), ("b", 1), ("c", 3)], "orders": [("a", 2), ("b", 1), ("c", 4)]}
    lines[bad].append(("b", "none"))
    named = write(tmp_path, lines)
    job: Job[str, Any] = Job({"users": of_line, "orders": of_line}, both, sort_values=True)
    with pytest.raises(JobFailed, match=r"(?s)TypeError.*at key 'b'"):
        job.run(named, inline=True)
    with job.run(named, inline=True, reducers=1, skip_bad_records=1) as result:
        assert list(result) == [("a", ([1], [2])), ("c", ([3], [4]))]
        assert [skipped.key for skipped in result.skipped] == ["b"]


def test_a_reduce_of_one_iterator_gets_the_values_of_all_inputs_in_their_order(tmp_path: Path) -> None:
    named = write(tmp_path, {"one": [("a", 1), ("b", 2)], "two": [("a", 3)]})

    def listed(key: str, values: Iterator[int]) -> Iterator[tuple[str, list[int]]]:
        yield key, list(values)

    maps = {"two": right, "one": right}
    assert run(Job(maps, listed), named) == [("a", [3, 1]), ("b", [2])]
    assert run(Job(maps, Collect()), named) == [("a", [3, 1]), ("b", [2])]
    assert run(Job(maps, Sum()), named) == [("a", 4), ("b", 2)]
    assert Job(maps, Sum()).test({"one": ["a 1", "b 2"], "two": ["a 3"]}) == [("a", 4), ("b", 2)]
    assert run(Job(maps), named) == [("a", 1), ("a", 3), ("b", 2)]
    assert Job(maps).test({"one": ["a 1"], "two": ["a 3"]}) == [("a", 3), ("a", 1)]


def test_inputs_may_be_numbers_and_earlier_results(tmp_path: Path) -> None:
    first = run_inline(Job(right, Sum()), [write(tmp_path, {"f": [("1", 5), ("2", 6)]})["f"]])
    earlier = Job(right, Sum()).run(tmp_path / "f", inline=True)
    assert sorted(first) == sorted(earlier)

    def of_number(number: int) -> Iterator[tuple[str, int]]:
        yield str(number), -number

    def both(key: str, sums: Collection[int], numbers: Iterator[int]) -> Iterator[tuple[str, Any]]:
        yield key, (list(sums), list(numbers))

    maps = {"sums": None, "numbers": of_number}
    job = Job(maps, both, input={"sums": Pairs(), "numbers": Numbers(3, splits=3)})
    assert sorted(job.run({"sums": earlier}, inline=True)) == [("0", ([], [0])), ("1", ([5], [-1])), ("2", ([6], [-2]))]


def test_a_key_for_which_a_join_raises_is_left_out_whole(tmp_path: Path) -> None:
    lines: dict[str, Lines] = {name: [(key, 1) for key in "abc"] * 2 for name in MAPS}

    def picky(key: str, lefts: Any, middles: Any, rights: Any) -> Iterator[tuple[str, Any]]:
        if key == "b":
            raise ValueError(key)
        yield from join(key, lefts, middles, rights)

    job: Job[str, Any] = Job(MAPS, picky, input=FORMATS)
    named = write(tmp_path, lines)
    result = job.run(named, inline=True, skip_bad_records=1)
    assert sorted(result) == [pair for pair in oracle(lines) if pair[0] != "b"]
    assert result.counters["minireduce"]["REDUCE_SKIPPED_RECORDS"] == 6
    assert result.counters["minireduce"]["REDUCE_INPUT_RECORDS"] == 12
    with pytest.raises(JobFailed, match="picky raised ValueError"):
        job.run(named, inline=True)


def test_a_bad_record_is_told_with_the_file_of_its_input(tmp_path: Path) -> None:
    named = write(tmp_path, {"left": [("a", 1)], "middle": [("a", 1)], "right": [("a", 1)]})
    (tmp_path / "right").write_text("a 1\na x\n")
    with pytest.raises(JobFailed, match="right raised ValueError") as failed:
        JOB.run(named, inline=True)
    assert failed.value.errors[0].path == named["right"]
    assert failed.value.errors[0].offset == 4


def test_keys_of_different_kinds_in_two_inputs_are_refused(tmp_path: Path) -> None:
    def number(line: str) -> Iterator[tuple[int, int]]:
        yield 1, 1

    named = write(tmp_path, {"left": [("a", 1)], "right": [("a", 1)]})
    job = Job({"left": left, "right": number}, lambda key, lefts, rights: [(key, 1)])
    with pytest.raises(JobFailed, match="int"):
        job.run(named, inline=True)
    with pytest.raises(RequestError, match="int"):
        job.test({"left": ["a 1"], "right": ["a 1"]})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (({"left": "x", "middle": "x"},), "no input is named for right of join"),
        (({"left": "x", "middle": "x", "wrong": "x"},), "join has no input 'wrong'"),
        (("x",), "join has 3 inputs, each with a name"),
        ((), "no input is named for left of join"),
    ],
)
def test_wrong_and_missing_names_are_refused(tmp_path: Path, given: tuple[Any, ...], said: str) -> None:
    (tmp_path / "x").write_text("a 1\n")
    named = [{name: str(tmp_path / "x") for name in each} if isinstance(each, dict) else each for each in given]
    with pytest.raises(RequestError, match=said):
        JOB.run(*named, inline=True)


def test_names_for_a_job_with_one_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="right has one input, and inputs are named for it: left"):
        Job(right).run({"left": "x"}, inline=True)


def test_inputs_may_be_named_in_a_list(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).write_text(f"{name} 1\n")
    found = Job(right, Count()).run([tmp_path / "x", str(tmp_path / "y")], inline=True)
    assert [key for key, _ in found] == ["x", "y"]
    with pytest.raises(RequestError, match="none is named"):
        Job(right).run([], inline=True)


def test_test_wants_the_records_of_each_input() -> None:
    with pytest.raises(RequestError, match="join has the inputs left, middle, right"):
        JOB.test(["a 1"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Job({"a": left, "b": right}, lambda key: [key]), "cannot reduce 2 inputs"),
        (lambda: Job({"a": left, "b": right}, lambda k, a, b, c: [k]), "cannot reduce 2 inputs"),
        (lambda: Job({"a": left, "b": right}, lambda k, a, b: [k], combine=lambda k, v: [k]), "has no combine"),
        (lambda: Job({"a": left, "b": right}, Count(), input={"a": Bytes()}), "no format for b"),
        (lambda: Job({"a": left}, Count(), input={"a": Bytes(), "b": Bytes()}), "names 'b', for which there is no map"),
        (lambda: Job({"a": left, "b": None}, Count()), "input b needs a map"),
        (lambda: Job({"a": left, "not so": right}, Count()), "cannot be called 'not so'"),
        (lambda: Job({}, Count()), "1 to 100 inputs"),
        (lambda: Job({"a": left}, Count(), map_batch={"a": right}), "a has a map and a map_batch"),
        (lambda: Job({"a": left}, Count(), map_batch=right), "is one function, and the inputs have names"),  # type: ignore[call-overload]
        (lambda: Job(left, Count(), map_batch={"a": right}), "is one function, and the inputs have names"),  # type: ignore[call-overload]
        (lambda: Job(map_batch={"a": right}, reduce=Count(), input=Csv(multiline=True)), "is read record by record"),
    ],
)
def test_jobs_that_cannot_be_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        make()
