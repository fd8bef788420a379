"""`Job.test`: a job over a few records, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from minireduce import Aggregation, Collect, Count, Job, Sum, task
from minireduce.engine.errors import UserCodeError
from minireduce.errors import RequestError


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        task.counter("mine", "words").add()
        yield word, 1


def total(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield key, sum(values)


def mean(key: str, values: Iterator[float]) -> Iterator[tuple[str, float]]:
    numbers = list(values)
    yield key, sum(numbers) / len(numbers)


def numbers(line: str) -> Iterator[tuple[str, float]]:
    for number in line.split():
        yield "all", float(number)


def test_a_word_count() -> None:
    assert Job(words, Sum()).test(["a b a"]) == [("a", 2), ("b", 1)]
    assert Job(words, total, combine=total).test(["a b", "a"]) == [("a", 2), ("b", 1)]
    assert Job(words).test(["b a"]) == [("b", 1), ("a", 1)]
    assert Job(words, Sum()).test([]) == []


def test_several_steps_sorted_by_key() -> None:
    job = Job(words, Sum()).then(lambda word, count: [(-count, word)], Collect())
    assert job.test(["a b c a b a"]) == [(-3, ["a"]), (-2, ["b"]), (-1, ["c"])]
    assert Job(words).then(None, Count()).test(["a a"]) == [("a", 2)]


def test_values_arrive_in_input_order_or_sorted() -> None:
    def pairs(line: str) -> Iterator[tuple[int, str]]:
        yield 0, line

    def listing(key: int, values: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
        yield key, list(values)

    assert Job(pairs, listing).test(["b", "aa", "c"]) == [(0, ["b", "aa", "c"])]
    assert Job(pairs, listing, sort_values=True).test(["b", "aa", "c"]) == [(0, ["aa", "b", "c"])]
    assert Job(pairs, listing, sort_values=len).test(["bb", "c", "a"]) == [(0, ["c", "a", "bb"])]


def test_a_combine_that_changes_the_answer_is_found() -> None:
    with pytest.raises(RequestError, match=r"mean gives .* for the key 'all' when it combines each half"):
        Job(numbers, mean, combine=mean).test(["1 2 6"])


class Last(Aggregation[Any, Any, Any]):
    """Wrong: it forgets what the left side saw only when merged."""

    def start(self) -> int:
        return 0

    def add(self, state: int, value: int) -> int:
        return state + value

    def merge(self, left: int, right: int) -> int:
        del left
        return right

    def finish(self, state: int) -> int:
        return state


def test_an_aggregation_that_changes_the_answer_is_found() -> None:
    with pytest.raises(RequestError, match="Last gives"):
        Job(words, Last()).test(["a a a"])
    assert Job(words, Last()).test(["a b"]) == [("a", 1), ("b", 1)]


def mutating(key: str, values: Iterator[list[int]]) -> Iterator[tuple[str, list[int]]]:
    every: list[int] = []
    for value in values:
        value.append(0)
        every += value
    yield key, every


def test_user_code_that_changes_its_values_changes_nothing_else() -> None:
    shared = [1]

    def same(line: str) -> Iterator[tuple[str, list[int]]]:
        for word in line.split():
            yield word, shared

    assert Job(same, mutating).test(["a a"]) == [("a", [1, 0, 1, 0])]
    assert shared == [1]


def test_faults_are_told_as_in_a_real_run() -> None:
    def wrong(line: str) -> Any:
        yield line

    with pytest.raises(UserCodeError, match="map yielded 'x y', which is no"):
        Job(wrong, Sum()).test(["x y"])
    with pytest.raises(UserCodeError, match="lone surrogate"):
        Job(words, Sum()).test(["a\ud800"])
