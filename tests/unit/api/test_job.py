"""What a job file may say, and what is refused at once."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import minireduce
from minireduce import Bytes, Collect, Job, Numbers, Sum, Text
from minireduce.api.formats import FORMATS, InputFormat
from minireduce.api.sizes import parse_size_bytes
from minireduce.errors import RequestError


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def total(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield key, sum(values)


def test_a_job_says_what_it_does() -> None:
    job = Job(
        words,
        total,
        combine=total,
        memory_limit="64MiB",
        reducers=3,
        task_timeout_s=5,
        attempts_max=2,
        speculation=False,
    )
    (step,) = job.steps
    assert (step.memory_limit_bytes, step.reducers, step.task_timeout_s) == (64 << 20, 3, 5)
    assert (job.name, job.attempts_max, job.speculation) == ("words", 2, False)
    assert repr(job) == "<Job 'words', 1 step>"
    assert step.input == Text()
    assert not step.takes_pairs
    assert step.aggregation is None


def test_then_gives_a_longer_job_and_leaves_the_first_as_it_is() -> None:
    first = Job(words, Sum(), name="counts")
    longer = first.then(lambda word, count: [(count, word)], Collect(), reducers=1)
    assert len(first.steps) == 1
    assert len(longer.steps) == 2
    assert longer.name == "counts"
    assert longer.steps[1].takes_pairs
    assert longer.replaced(reducers=7).steps[1].reducers == 7


def test_a_job_never_changes() -> None:
    job = Job(words, Sum())
    with pytest.raises(AttributeError, match="never changes"):
        job.name = "other"
    with pytest.raises(AttributeError, match="never changes"):
        del job.steps


def test_a_job_survives_pickling() -> None:
    job = Job(words, total, name="counts", reducers=2)
    back = pickle.loads(pickle.dumps(job))
    assert back.steps == job.steps
    assert back.name == "counts"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "a job needs a map"),
        ((3,), {}, "map=3 cannot be called"),
        ((words, Sum), {}, "reduce=Sum is the class"),
        ((words, "sum"), {}, "reduce='sum' cannot be called"),
        ((words,), {"combine": total}, "combine needs a reduce"),
        ((words, Sum()), {"combine": total}, "combines by itself"),
        ((words, Sum()), {"reducers": 0}, "reducers=0"),
        ((words, Sum()), {"reducers": True}, "reducers=True"),
        ((words, Sum()), {"memory_limit": "many"}, "'many' is no size"),
        ((words, Sum()), {"memory_limit": 0}, "at least one byte"),
        ((words, Sum()), {"task_timeout_s": 0}, "task_timeout_s=0"),
        ((words, Sum()), {"sort": 1}, "sort=1"),
        ((words, Sum()), {"sort_values": "yes"}, "sort_values='yes'"),
        ((words, Sum()), {"partition": 3}, "partition=3"),
        ((words, Sum()), {"partition": minireduce.Hash}, "partition="),
        ((words, Sum()), {"input": "a.txt"}, "input='a.txt' is no format"),
        ((words, Sum()), {"attempts_max": 0}, "attempts_max=0"),
        ((words, Sum()), {"name": 3}, "name=3"),
        ((words, Sum()), {"speculation": "no"}, "speculation='no'"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Job(*arguments, **options)


def test_options_that_do_not_exist_are_no_options() -> None:
    with pytest.raises(TypeError, match="speculate"):
        Job(words, Sum(), speculate=False)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="input"):
        Job(words, Sum()).then(None, Sum(), input=Bytes())  # type: ignore[call-overload]
    with pytest.raises(RequestError, match="does nothing"):
        Job(words, Sum()).then(None)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("512MB", 512_000_000), ("1.5GiB", 3 << 29), (" 10 kb ", 10_000), ("7", 7), (7, 7)]
)
def test_sizes_are_read_as_people_write_them(text: Any, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


def test_every_public_name_exists_and_no_other() -> None:
    for name in minireduce.__all__:
        assert getattr(minireduce, name) is not None
    assert set(minireduce.__all__) <= set(dir(minireduce))
    with pytest.raises(AttributeError, match="no attribute 'Avro'"):
        _ = minireduce.Avro  # type: ignore[attr-defined]


def test_importing_minireduce_and_a_job_loads_nothing_heavy() -> None:
    code = (
        "import sys, minireduce; from minireduce import Job, Sum;"
        "print([m for m in ('numpy', 'pyarrow', 'grpc', 'msgpack', 'sqlalchemy', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("count", "splits"), [(-1, 1), (1, 0), (True, 1), (1.0, 1), (1 << 63, 1), (1, "2")])
def test_numbers_are_whole_and_bounded(count: Any, splits: Any) -> None:
    with pytest.raises(RequestError, match="must be a whole number from"):
        Numbers(count, splits=splits)


def test_the_list_of_formats_in_hints_has_all_of_them() -> None:
    named = {kind.__name__ for kind in InputFormat.__subclasses__() if kind.__module__.startswith("minireduce.")}
    assert named == {each.partition("(")[0] for each in re.split(", | or ", FORMATS)}
    with pytest.raises(RequestError, match="is no format") as refused:
        Job(lambda _: [], input="a.csv")  # type: ignore[arg-type]
    assert FORMATS in str(refused.value)
