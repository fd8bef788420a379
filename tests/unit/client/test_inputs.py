"""Which files an INPUT means, in which order, and how they are cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minireduce import Job, Numbers, Sum
from minireduce.client.inputs import InputFile, Inputs, find_inputs, resolve
from minireduce.client.splits import RANGES_PER_SPLIT_MAX, plan_input_splits
from minireduce.core.spec import NumberRange
from minireduce.errors import NotFound, RequestError


def write(path: Path, content: str = "x\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return str(path)


def names(inputs: Inputs, root: Path) -> list[str]:
    return [os.path.relpath(file.path, root) for file in inputs.files]


def sizes(*lengths: int, suffix: str = ".txt") -> Inputs:
    return Inputs(tuple(InputFile(f"/in/{n:05d}{suffix}", length, f"f{n}") for n, length in enumerate(lengths)), 0)


def cut(inputs: Inputs, size: int = 100) -> list[list[tuple[int, int]]]:
    return [[(part.offset, part.length) for part in split.ranges] for split in plan_input_splits(inputs, size, "m")]


def test_a_directory_is_read_recursively_in_order_of_path(tmp_path: Path) -> None:
    for name in ("b.txt", "a/2.txt", "a/1.txt", "c/d/e.txt"):
        write(tmp_path / name)
    assert names(resolve([tmp_path]), tmp_path) == ["a/1.txt", "a/2.txt", "b.txt", "c/d/e.txt"]


def test_inputs_keep_the_order_in_which_they_were_named(tmp_path: Path) -> None:
    second, first = write(tmp_path / "a"), write(tmp_path / "b")
    assert names(resolve([first, second]), tmp_path) == ["b", "a"]


def test_what_other_jobs_leave_is_passed_over_and_counted(tmp_path: Path) -> None:
    for name in ("part-00000", "_SUCCESS", ".part.crc", "_logs/x", "__pycache__/y.pyc", "_temporary/z", "_mine"):
        write(tmp_path / name)
    found = resolve([tmp_path])
    assert names(found, tmp_path) == ["_mine", "part-00000"]
    assert found.passed_over == 5


def test_a_name_that_would_be_passed_over_is_read_when_it_is_named(tmp_path: Path) -> None:
    hidden = write(tmp_path / ".hidden")
    write(tmp_path / "_logs" / "job.log")
    assert names(resolve([hidden, tmp_path / "_logs", str(tmp_path / "_logs" / "*.log")]), tmp_path) == [
        ".hidden",
        "_logs/job.log",
        "_logs/job.log",
    ]


def test_a_glob_passes_over_what_a_directory_would(tmp_path: Path) -> None:
    for name in ("part-1", "part-0", "_SUCCESS", ".x"):
        write(tmp_path / name)
    found = resolve([str(tmp_path / "*")])
    assert names(found, tmp_path) == ["part-0", "part-1"]
    assert found.passed_over == 2


def test_two_stars_reach_every_depth_and_read_no_file_twice(tmp_path: Path) -> None:
    for name in ("a.py", "d/b.py", "d/e/c.py", "d/e/c.txt"):
        write(tmp_path / name)
    assert names(resolve([str(tmp_path / "**" / "*.py")]), tmp_path) == ["a.py", "d/b.py", "d/e/c.py"]
    assert len(resolve([str(tmp_path / "**")]).files) == 4


def test_a_file_whose_name_holds_glob_characters_is_read_as_it_is_named(tmp_path: Path) -> None:
    odd = write(tmp_path / "a[1].txt")
    assert [file.path for file in resolve([odd]).files] == [odd]


def test_a_missing_input_names_the_nearest_file(tmp_path: Path) -> None:
    write(tmp_path / "books.txt")
    with pytest.raises(NotFound) as missing:
        resolve([tmp_path / "book.txt"])
    assert f"{tmp_path}/book.txt does not exist" in missing.value.message
    assert missing.value.hint == f"did you mean {tmp_path}/books.txt?"


def test_a_glob_without_matches_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file matches"):
        resolve([str(tmp_path / "*.txt")])


def test_a_link_that_leads_nowhere_is_an_error_and_not_a_shorter_answer(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"gone\.txt cannot be read"):
        resolve([tmp_path])


def test_a_directory_linked_into_itself_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    (tmp_path / "again").symlink_to(tmp_path)
    found = resolve([tmp_path])
    assert names(found, tmp_path) == ["a.txt"]
    assert found.passed_over == 1


def test_a_pipe_is_no_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="neither a file nor a directory"):
        resolve([tmp_path / "pipe"])


def test_an_address_of_a_kind_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nosuch://bucket/x cannot be read"):
        resolve(["nosuch://bucket/x"])


def test_small_neighbours_share_a_split_up_to_its_size() -> None:
    assert cut(sizes(40, 40, 40, 20)) == [[(0, 40), (0, 40)], [(0, 40), (0, 20)]]


def test_a_large_file_stands_alone_and_keeps_the_order() -> None:
    assert cut(sizes(30, 250, 30)) == [[(0, 30)], [(0, 100)], [(100, 100)], [(200, 50)], [(0, 30)]]


def test_empty_files_add_no_split_and_separate_nothing() -> None:
    assert cut(sizes(0)) == []
    assert cut(sizes(30, 0, 30)) == [[(0, 30), (0, 30)]]


def test_a_compressed_file_comes_whole() -> None:
    assert cut(sizes(250, suffix=".txt.gz")) == [[(0, 250)]]


def test_a_split_holds_a_bounded_number_of_files() -> None:
    splits = cut(sizes(*[1] * (RANGES_PER_SPLIT_MAX + 1)), size=1 << 30)
    assert [len(ranges) for ranges in splits] == [RANGES_PER_SPLIT_MAX, 1]


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "one\n")
    before = resolve([path]).files[0].fingerprint
    os.utime(path, ns=(1, 1))
    assert resolve([path]).files[0].fingerprint != before


def pairs(record: object) -> list[tuple[object, int]]:
    return [(record, 1)]


def test_a_job_over_numbers_needs_no_file_and_takes_none(tmp_path: Path) -> None:
    job = Job(pairs, Sum(), input=Numbers(10, splits=3))
    inputs = find_inputs(job, (), resolve)
    assert plan_input_splits(inputs, 1, "m") == (NumberRange(0, 3), NumberRange(3, 6), NumberRange(6, 10))
    assert inputs.bytes_total == 80
    with pytest.raises(RequestError, match=r"reads Numbers\(count=10, splits=3\), and .*/a is named besides"):
        find_inputs(job, (write(tmp_path / "a"),), resolve)


def test_numbers_make_one_split_for_each_million_unless_told() -> None:
    def splits(numbers: Numbers) -> int:
        return len(plan_input_splits(Inputs((), 0, numbers), 64 << 20, "m"))

    assert [splits(Numbers(count)) for count in (0, 1, 1_000_000, 1_000_001)] == [0, 1, 1, 2]
    assert splits(Numbers(0, splits=4)) == 4


def test_a_job_that_names_no_input_needs_one() -> None:
    with pytest.raises(RequestError, match="pairs names no input of its own"):
        find_inputs(Job(pairs, Sum()), (), resolve)
