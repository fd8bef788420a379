"""Which files of the block store an INPUT means, and how they are cut beside local ones."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest

from minireduce.client.inputs import InputFile, Inputs, resolve
from minireduce.client.splits import plan_input_splits
from minireduce.client.store_paths import parse_store_path
from minireduce.client.stored_inputs import StoredFile
from minireduce.core.spec import LocalFiles, LocalRange, StoredFiles, StoredRange
from minireduce.core.storage.views import FileStatus
from minireduce.errors import NotFound, RequestError


class Store:
    """A block store of empty files; a file's number is its place in `paths`."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def stat(self, path: str) -> FileStatus:
        path = parse_store_path(path)
        if path in self.paths:
            return FileStatus(path, self.paths.index(path), False, 10, 64, 3, 0.0)
        if not any(each.startswith(f"{path}/") for each in self.paths):
            raise NotFound(f"{path} does not exist")
        return FileStatus(path, -1, True, 0, 0, 0, 0.0)

    def ls(self, path: str) -> list[FileStatus]:
        inner = {each[len(path) :].split("/")[1] for each in self.paths if each.startswith(f"{path}/")}
        return [self.stat(f"{path}/{name}") for name in sorted(inner)]

    def glob(self, pattern: str) -> list[FileStatus]:
        wanted = parse_store_path(pattern).split("/")
        heads = {"/".join(each.split("/")[: len(wanted)]) for each in self.paths}
        return [self.stat(head) for head in sorted(heads) if fnmatch.fnmatch(head, "/".join(wanted))]


STORE = Store("/logs/b", "/logs/a", "/logs/d/c", "/logs/_SUCCESS", "/logs/.part", "/logs/_logs/x", "/other")


def paths(*inputs: str) -> list[str]:
    return [file.path for file in resolve(inputs, STORE).files]


def test_a_stored_directory_is_read_recursively_in_order_of_path() -> None:
    assert paths("mr:///logs") == ["/logs/a", "/logs/b", "/logs/d/c"]
    assert resolve(["mr:///logs"], STORE).passed_over == 3


def test_a_stored_name_that_would_be_passed_over_is_read_when_it_is_named() -> None:
    assert paths("mr:///logs/_SUCCESS", "mr://logs/_logs") == ["/logs/_SUCCESS", "/logs/_logs/x"]


def test_a_glob_over_stored_names_passes_over_what_a_directory_would() -> None:
    assert paths("mr:///logs/*") == ["/logs/a", "/logs/b", "/logs/d/c"]
    assert paths("mr:///logs/_*/x") == []


def test_local_and_stored_inputs_keep_the_order_in_which_they_were_named(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("x")
    assert paths("mr:///other", str(tmp_path / "here"), "mr:///logs/b") == ["/other", f"{tmp_path}/here", "/logs/b"]


def test_a_missing_stored_file_and_a_glob_without_matches_are_errors() -> None:
    with pytest.raises(NotFound):
        paths("mr:///nowhere")
    with pytest.raises(NotFound, match="no file matches"):
        paths("mr:///logs/*.txt")


def test_without_a_cluster_nothing_stored_can_be_read() -> None:
    with pytest.raises(RequestError, match="lies in a block store") as refused:
        resolve(["mr:///logs"])
    assert "--master" in str(refused.value.hint)


def test_stored_files_are_cut_alone_between_local_ones_that_share() -> None:
    files = (
        InputFile("/in/a", 10, "fa"),
        InputFile("/in/b", 10, "fb"),
        StoredFile("/s", 250, 7),
        StoredFile("/t.gz", 250, 8),
        InputFile("/in/c", 10, "fc"),
    )
    assert plan_input_splits(Inputs(files, 0), 100, "m") == (
        LocalFiles("m", (LocalRange("/in/a", 0, 10, "fa"), LocalRange("/in/b", 0, 10, "fb"))),
        StoredRange("/s", 7, 0, 100),
        StoredRange("/s", 7, 100, 100),
        StoredRange("/s", 7, 200, 50),
        StoredRange("/t.gz", 8, 0, 250),
        LocalFiles("m", (LocalRange("/in/c", 0, 10, "fc"),)),
    )


def test_small_stored_files_share_a_split_in_the_order_of_their_paths() -> None:
    files = tuple(StoredFile(f"/s{number}", size, number) for number, size in enumerate((40, 0, 50, 30, 250, 10)))
    assert plan_input_splits(Inputs(files, 0), 100, "m") == (
        StoredFiles((StoredRange("/s0", 0, 0, 40), StoredRange("/s2", 2, 0, 50))),
        StoredRange("/s3", 3, 0, 30),
        StoredRange("/s4", 4, 0, 100),
        StoredRange("/s4", 4, 100, 100),
        StoredRange("/s4", 4, 200, 50),
        StoredRange("/s5", 5, 0, 10),
    )


def test_a_container_is_cut_in_two_only_where_the_split_before_it_would_be_less_than_half_full() -> None:
    sizes = (30, 30, 25, 25, 40, 40, 30)
    containers = (1, 1, 2, 2, 3, 3, 3)
    files = tuple(
        StoredFile(f"/s{number}", size, number, container)
        for number, (size, container) in enumerate(zip(sizes, containers, strict=True))
    )
    splits = plan_input_splits(Inputs(files, 0), 100, "m")
    assert [[part.file_id for part in split.ranges] for split in splits if isinstance(split, StoredFiles)] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    assert splits[-1] == StoredRange("/s6", 6, 0, 30)
    fewer = plan_input_splits(Inputs(files[1:], 0), 100, "m")
    assert [[part.file_id for part in split.ranges] for split in fewer if isinstance(split, StoredFiles)] == [
        [1, 2, 3],
        [4, 5],
    ]


def test_splits_of_small_files_do_not_follow_the_machines_that_hold_them() -> None:
    files = tuple(StoredFile(f"/s{number}", 30, number, 7) for number in range(4))
    alone = tuple(StoredFile(f"/s{number}", 30, number) for number in range(4))
    assert plan_input_splits(Inputs(files, 0), 100, "m") == plan_input_splits(Inputs(alone, 0), 100, "m")
