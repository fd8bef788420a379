"""A map over all records of a split gives what one over each record gives, and is told of in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minireduce import Bytes, Count, Csv, FixedWidth, Identity, Job, Json, Numbers, Range, Sum, Text, task
from minireduce.engine import read
from minireduce.engine.errors import UserCodeError
from minireduce.errors import RequestError
from minireduce.launch.inline import run_inline
from minireduce.testing.sequential import run_sequentially

GROUP = "minireduce"
Ran = tuple[list[bytes], dict[str, int]]


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def over(function: Callable[..., Iterable[Any]]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The same map over all records."""

    def all_of_them(records: Iterator[Any]) -> Iterator[Any]:
        for record in records:
            yield from function(record)

    return all_of_them


def ran(job: Job[Any, Any], *inputs: Any, **options: Any) -> Ran:
    """The parts of a job that ran here, and what it counted."""
    with job.run(*inputs, inline=True, **options) as result:
        assert result._parts is not None
        parts = [result._part(index) for index in range(result._parts.count)]
        counters = {name: value for name, value in result.counters[GROUP].items() if "BYTES" not in name}
        return [part.read_bytes() if part.exists() else b"" for part in parts], counters


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(
        st.one_of(
            st.binary(max_size=6), st.sampled_from([b"a b a", b"", b"\r", b"b\r", b"\xef\xbb\xbfx", "ü ß".encode()])
        ),
        max_size=40,
    ),
    is_ended=st.booleans(),
    split_size=st.sampled_from([1, 7, 1 << 20]),
    block=st.sampled_from([3, 16, 1 << 16]),
    reduce=st.sampled_from([None, Sum(), Count()]),
)
def test_any_text_cut_anywhere_gives_the_bytes_and_counts_of_a_map_over_each_record(
    tmp_path_factory: pytest.TempPathFactory,
    data: list[bytes],
    is_ended: bool,
    split_size: int,
    block: int,
    reduce: Any,
) -> None:
    path = tmp_path_factory.mktemp("text") / "in.txt"
    path.write_bytes(b"\n".join(data) + (b"\n" if is_ended else b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "LINES_BYTES", block)
        options = {} if reduce is None else {"reducers": 2}
        each = ran(Job(words, reduce), path, split_size=split_size, **options)
        assert ran(Job(map_records=over(words), reduce=reduce), path, split_size=split_size, **options) == each


@pytest.mark.parametrize(
    ("form", "content"),
    [
        (Text(), b"a b\nc\r\n"),
        (Bytes(), b"a\xff\nc\r\n"),
        (FixedWidth(2), b"abcd"),
        (Json(), b'{"a": 1}\n[2]\n'),
        (Csv(), b"id,name\n1,x\n2,y\n"),
    ],
)
def test_records_of_every_format_come_as_to_a_map_over_each(form: Any, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(content)

    def shown(record: Any) -> Iterator[tuple[str, None]]:
        yield repr(record), None

    assert ran(Job(map_records=over(shown), input=form), path) == ran(Job(shown, input=form), path)


def test_numbers_pairs_and_later_steps_come_as_iterators_over_them() -> None:
    def odd(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
        return ((number % 3, number) for number in numbers if number % 2)

    def swapped(pairs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        return ((total, key) for key, total in pairs)

    job = Job(map_records=odd, reduce=Sum(), input=Numbers(100)).then(map_records=swapped, reduce=Identity())
    expected = sorted((sum(n for n in range(1, 100, 2) if n % 3 == key), key) for key in range(3))
    assert job.test(range(100)) == expected == run_sequentially(job, range(100))
    with job.run(inline=True, reducers=1) as result:
        assert list(result) == expected
        with Job(map_records=swapped, input=result).run(inline=True) as again:
            assert list(again) == [(key, total) for total, key in expected]


def test_each_of_several_inputs_may_be_mapped_whole(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("1 ann\n2 bob\n")
    (tmp_path / "orders").write_text("1 5\n1 6\n3 7\n")

    def halves(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
        return ((key, value) for key, value in map(str.split, lines))

    def half(line: str) -> Iterator[tuple[str, str]]:
        yield from halves(iter([line]))

    def joined(key: str, users: Any, orders: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
        yield key, [*users, *orders]

    inputs = {"users": tmp_path / "users", "orders": tmp_path / "orders"}
    whole = ran(Job(map_records={"users": halves, "orders": halves}, reduce=joined), inputs, reducers=1)
    assert whole == ran(Job({"users": half, "orders": half}, joined), inputs, reducers=1)
    assert whole == ran(Job({"users": half}, joined, map_records={"orders": halves}), inputs, reducers=1)
    for other in ("map", "map_batch"):
        with pytest.raises(RequestError, match="input users has a map"):
            Job(map_records={"users": halves}, **{other: {"users": half}}, reduce=joined)


def test_a_range_is_sampled_from_what_the_map_gives(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("".join(f"{number:05}\n" for number in range(9999, -1, -1)))

    def keyed(lines: Iterator[str]) -> Iterator[tuple[str, None]]:
        return ((line, None) for line in lines)

    parts, _ = ran(Job(map_records=keyed, reduce=Identity(), partition=Range()), tmp_path / "in", reducers=4)
    assert all(len(part) > 1000 for part in parts)


def failing(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    for line in lines:
        yield line, 12 // int(line)


def test_an_exception_is_told_with_the_users_line_and_the_record_that_was_drawn_last(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1\n2\n0\n4\n")
    with pytest.raises(UserCodeError) as raised:
        run_inline(Job(map_records=failing, reduce=Sum()), [tmp_path / "in"])
    assert "map failing raised ZeroDivisionError" in str(raised.value)
    assert (raised.value.offset, raised.value.record, raised.value.position) == (4, "'0'", 2)
    assert "yield line, 12 // int(line)" in raised.value.traceback_text
    assert "minireduce/engine/" not in raised.value.traceback_text


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda lines: None, "map_records returned None"),
        (lambda lines: "text", "map_records returned 'text'"),
        (lambda lines: (line for line in lines), "yielded 'a', which is no (key, value) pair"),
        (lambda: None, "takes 0 positional arguments"),
    ],
)
def test_what_gives_no_pairs_is_told(function: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a\n")
    with pytest.raises(UserCodeError) as raised:
        run_inline(Job(map_records=function), [tmp_path / "in"])
    assert said in str(raised.value)


def test_bad_records_are_left_out_one_by_one_as_with_a_map_over_each(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("".join(f"{number % 4}\n" for number in range(40)))

    def each(line: str) -> Iterator[tuple[str, int]]:
        yield from failing(iter([line]))

    told = []
    for job in (Job(each, Sum(), skip_bad_records=20), Job(map_records=failing, reduce=Sum(), skip_bad_records=20)):
        with job.run(tmp_path / "in", inline=True, reducers=1) as result:
            told.append((list(result), [(bad.record, bad.offset) for bad in result.skipped], result.counters[GROUP]))
    assert told[0] == told[1]
    assert [offset for _, offset in told[0][1]] == list(range(0, 80, 8))
    assert told[0][2]["MAP_SKIPPED_RECORDS"] == 10


def test_the_place_of_the_record_in_work_is_known_to_user_code(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a\nbb\nc\n")

    def places(lines: Iterator[str]) -> Iterator[tuple[str, int | None]]:
        for line in lines:
            yield line, task.offset

    with Job(map_records=places).run(tmp_path / "in", inline=True) as result:
        assert list(result) == [("a", 0), ("bb", 2), ("c", 5)]


def test_a_test_refuses_a_map_for_which_it_matters_what_comes_together() -> None:
    def numbered(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
        return ((line, number) for number, line in enumerate(lines))

    with pytest.raises(RequestError, match=r"numbered gives .* for all records at once, but .* one by one") as told:
        Job(map_records=numbered).test(["a", "b"])
    assert "map_records" in (told.value.hint or "")
    assert Job(map_records=over(words), reduce=Sum()).test(["a b a", ""]) == [("a", 2), ("b", 1)]


class Opened:
    """A map with something to open once."""

    def __init__(self) -> None:
        self.entered: list[str] = []

    def __enter__(self) -> Callable[[Iterator[str]], Iterator[tuple[str, int]]]:
        self.entered.append("entered")
        return over(words)

    def __exit__(self, *_: object) -> None:
        self.entered.append("left")

    def __call__(self, lines: Iterator[str]) -> Iterator[tuple[str, int]]:
        raise AssertionError("what __enter__ gave is called")

    def __len__(self) -> int:
        return 0  # false, and a map all the same


def test_a_map_that_is_a_context_manager_is_entered_once_an_attempt(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a\nb\n")
    opened = Opened()
    with Job(map_records=opened).run(tmp_path / "in", inline=True) as result:
        assert list(result) == [("a", 1), ("b", 1)]
    assert opened.entered == ["entered", "left"]


def test_a_step_is_mapped_in_one_way() -> None:
    for options in ({"map": words}, {"map_batch": words}):
        with pytest.raises(RequestError, match="not both"):
            Job(map_records=over(words), **options)
        with pytest.raises(RequestError, match="not both"):
            Job(words).then(map_records=over(words), **options)
    with pytest.raises(RequestError, match=r"map_records=3 cannot be called"):
        Job(map_records=3)
    assert Job(map_records=failing).name == "failing"
