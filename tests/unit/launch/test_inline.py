"""A whole job in this process: the same files whatever the limit, the same pairs as a sequential run."""

from __future__ import annotations

import collections
import gzip
import math
import random
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minireduce import Collect, Distinct, Job, JobFailed, Numbers, Sum, task
from minireduce.client.inputs import find_inputs, resolve
from minireduce.engine.errors import UserCodeError
from minireduce.errors import AlreadyExists, RequestError
from minireduce.launch.inline import run_inline
from minireduce.testing.sequential import run_sequentially

JOBS = Path(__file__).parents[3] / "jobs"


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    """Files with invalid bytes, long lines, an empty one, and one without a last newline."""
    contents = [b"", b"a b a\nc\xff " * 300, b"long " * 20_000 + b"\n", b"x y\r\nz", "ä ö\n".encode() * 500]
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"text-{number}.txt")
        paths[-1].write_bytes(content)
    return paths


def lines(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        data = path.read_bytes().decode(errors="replace")
        yield from (line.removesuffix("\r") for line in data.removesuffix("\n").split("\n") if data)


def test_a_job_s_own_reducers_go_before_those_of_the_settings_and_a_call_s_before_both(
    texts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIREDUCE_REDUCERS", "2")
    for job, options, parts in (
        (Job(words, Sum(), reducers=3), {}, 3),
        (Job(words, Sum()), {}, 2),
        (Job(words, Sum(), reducers=3), {"reducers": 4}, 4),
    ):
        out = tmp_path / f"out-{parts}"
        job.run(*texts, output=out, inline=True, **options)
        assert len(list(out.glob("part-*"))) == parts


def test_a_call_inline_takes_what_one_to_a_cluster_takes(texts: list[Path]) -> None:
    assert sorted(Job(words, Sum()).run(*texts, inline=True, name="counting", speculation=False))


def test_a_word_count_over_many_splits_is_that_of_a_counter(texts: list[Path]) -> None:
    job: Job[str, int] = runpy.run_path(str(JOBS / "wordcount.py"))["job"]
    expected = collections.Counter(word for line in lines(texts) for word in line.split())
    whole = run_inline(job, texts, reducers=1)
    assert list(whole) == sorted(expected.items())
    assert whole.counters["minireduce"]["MAP_INPUT_RECORDS"] == sum(1 for _ in lines(texts))
    many = run_inline(job, texts, reducers=3, split_size_bytes=1000, memory_limit_bytes=20_000)
    assert sorted(many) == list(whole)
    assert many.counters["minireduce"]["SPILLED_RECORDS"] > 0
    roomy = run_inline(job, texts, reducers=3, split_size_bytes=1000)
    assert [part.read_bytes() for part in many.parts] == [part.read_bytes() for part in roomy.parts]


def test_steps_read_the_typed_pairs_of_those_before(texts: list[Path]) -> None:
    job = Job(words, Sum()).then(lambda word, count: [(count, word)]).then(None, Collect())
    assert list(run_inline(job, texts, reducers=1)) == run_sequentially(job, lines(texts))
    parts = list(run_inline(job, texts, reducers=2, split_size_bytes=100_000))
    assert sorted((key, sorted(value)) for key, value in parts) == [
        (key, sorted(value)) for key, value in run_sequentially(job, lines(texts))
    ]


def test_an_output_directory_appears_whole(texts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = Job(words, Sum()).run(texts, inline=True, output=out, reducers=2)
    assert sorted(path.name for path in out.iterdir()) == ["_SUCCESS", "part-00000", "part-00001"]
    written = b"".join((out / f"part-0000{number}").read_bytes() for number in (0, 1)).decode()
    counted = {line.split("\t")[0]: int(line.split("\t")[1]) for line in written.splitlines()}
    assert counted == collections.Counter(word for line in lines(texts) for word in line.split())
    with pytest.raises(RequestError, match="text"):
        list(result)
    with pytest.raises(AlreadyExists):
        Job(words, Sum()).run(texts, inline=True, output=out)


def test_a_failed_job_leaves_nothing(texts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(line: str) -> Iterator[tuple[str, int]]:
        yield line, 1 // (line != "z")

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(UserCodeError, match=r"ZeroDivisionError") as caught:
        run_inline(Job(failing, Sum()), texts, output="text")
    assert caught.value.path == str(texts[3])
    assert caught.value.offset == 5
    with pytest.raises(JobFailed, match=r"ZeroDivisionError"):
        Job(failing, Sum()).run(texts, inline=True, output=tmp_path / "out")
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_grep_finds_lines_and_their_places(texts: list[Path]) -> None:
    make: Any = runpy.run_path(str(JOBS / "grep.py"))["job"]
    result = run_inline(make("^z$"), texts)
    assert list(result) == [(f"{texts[3]}:5", "z")]
    assert result.counters["grep"]["lines"] == 1


def test_an_inverted_index_names_files_in_order(texts: list[Path]) -> None:
    job: Job[str, Any] = runpy.run_path(str(JOBS / "inverted_index.py"))["job"]
    index = dict(run_inline(job, texts, reducers=2))
    assert index["ä"] == [str(texts[4])]
    assert index["x"] == [str(texts[3])]


def test_counters_of_user_code_are_added_up_over_tasks(texts: list[Path]) -> None:
    def counting(line: str) -> Iterator[tuple[str, int]]:
        task.counter("mine", "lines").add()
        yield "all", len(line)

    result = run_inline(Job(counting, Sum()), texts, split_size_bytes=500)
    assert result.counters["mine"]["lines"] == sum(1 for _ in lines(texts))
    assert "task" not in result.counters


def test_no_input_gives_empty_parts(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    Job(words, Sum()).run(empty, inline=True, output=tmp_path / "out", reducers=2)
    assert [(tmp_path / "out" / f"part-0000{n}").read_bytes() for n in (0, 1)] == [b"", b""]
    assert list(run_inline(Job(words, Sum()).then(None, Collect()), [empty], reducers=2)) == []


def test_a_record_over_the_limit_is_refused_and_a_greater_limit_lets_it_pass(texts: list[Path]) -> None:
    job = Job(words, Sum())
    with pytest.raises(RequestError, match="longer than 1000 bytes"):
        run_inline(job, texts, record_bytes_max=1000)
    assert dict(run_inline(job, texts, record_bytes_max=1_000_000))["long"] == 20_000


def test_pi_is_estimated_from_numbers_that_no_file_holds() -> None:
    make: Callable[..., Job[str, float]] = runpy.run_path(str(JOBS / "pi.py"))["job"]
    job = make(points=20_000, splits=3)
    inputs = find_inputs(job, (), resolve)
    (pair,) = list(run_inline(job, inputs))
    assert pair == (("pi", pytest.approx(math.pi, abs=0.005)))
    assert [pair] == list(run_inline(make(points=20_000, splits=7), find_inputs(make(points=20_000), (), resolve)))


def test_a_map_over_numbers_that_raises_shows_the_number() -> None:
    job = Job(lambda number: [(number, 1 // (number - 30))], input=Numbers(100, splits=4))
    with pytest.raises(UserCodeError, match="at record 30"):
        run_inline(job, find_inputs(job, (), resolve))


def test_chance_falls_the_same_way_in_every_run_and_the_callers_own_is_left_alone(texts: list[Path]) -> None:
    def draw(_line: str) -> Iterator[tuple[float, float]]:
        yield random.random(), float(np.random.rand())  # noqa: NPY002 - the shared one is meant

    job = Job(draw)
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    first = list(run_inline(job, texts, split_size_bytes=1000))
    own = random.random(), np.random.rand()  # noqa: NPY002
    assert len(set(first)) == len(first) > 10, "tasks draw different numbers"
    assert list(run_inline(job, texts, split_size_bytes=1000)) == first
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert (random.random(), np.random.rand()) == own  # noqa: NPY002


def test_a_key_that_cannot_be_stored_is_left_out_with_its_record(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("a\nb\nc\n")
    jobs: list[Job[Any, Any]] = [
        Job(lambda line: [("\ud800" if line == "b" else line, 1)], Sum()),
        Job(lambda line: [(("\ud800", 1) if line == "b" else (line, 1), 1)]),
    ]
    for job in jobs:
        with pytest.raises(JobFailed, match="lone surrogate"):
            job.run(path, inline=True)
        result = job.run(path, inline=True, skip_bad_records=1)
        assert [bad.record for bad in result.skipped] == ["b"]
        assert len(list(result)) == 2


def test_what_no_record_is_to_blame_for_fails_the_job_as_it_was_raised(tmp_path: Path) -> None:
    """Values that cannot be compared with each other, though each alone is fine."""
    path = tmp_path / "in.txt"
    path.write_text("a\nb\nc\n")
    job: Job[Any, Any] = Job(lambda line: [("key", 1 if line == "b" else line)], Distinct())
    with pytest.raises(JobFailed, match="not supported between"):
        job.run(path, inline=True, skip_bad_records=1)


@pytest.mark.parametrize("reducers", [0, -1, True, "2"])
def test_reducers_are_a_number_of_them(tmp_path: Path, reducers: Any) -> None:
    path = tmp_path / "in.txt"
    path.write_text("a\n")
    for where in ({"inline": True}, {}):
        with pytest.raises(RequestError, match="must be a whole number from 1"):
            Job(lambda line: [(line, 1)], Sum()).run(path, reducers=reducers, **where)


def test_a_file_that_cannot_be_unpacked_fails_the_job_as_on_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"line\n" * 1000)[:-9])
    with pytest.raises(JobFailed, match=r"cut\.gz cannot be unpacked") as failed:
        Job(lambda line: [(line, 1)]).run(path, inline=True)
    assert failed.value.hint == "is the file whole, and of the kind that its name says?"
    assert [error.kind for error in failed.value.errors] == ["unreadable"]
