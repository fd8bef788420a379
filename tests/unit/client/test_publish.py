"""How an output appears: whole, once, and never in place of something that must stay."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from minireduce.client import publish
from minireduce.client.inputs import resolve
from minireduce.errors import AlreadyExists, RequestError, Unavailable

JOB = "job-3f9a01-1"


class Parts:
    """Parts with this content. `fails_at`: the part that cannot be had."""

    def __init__(self, *contents: bytes, fails_at: int = -1) -> None:
        self.contents = contents
        self.fails_at = fails_at

    @property
    def count(self) -> int:
        return len(self.contents)

    def fetch(self, index: int, target: Path) -> None:
        target.write_bytes(self.contents[index][:1])
        if index == self.fails_at:
            raise Unavailable("the worker is gone")
        target.write_bytes(self.contents[index])


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_output_holds_its_parts_and_a_mark_of_success(tmp_path: Path) -> None:
    publish.publish_directory(Parts(b"a\n", b""), JOB, tmp_path / "new" / "out", overwrite=False)
    assert listing(tmp_path) == {"new/out/part-00000": b"a\n", "new/out/part-00001": b"", "new/out/_SUCCESS": b""}


def test_a_part_that_cannot_be_had_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        publish.publish_directory(Parts(b"a", b"b", fails_at=1), JOB, tmp_path / "out", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_publishing_left_is_begun_anew(tmp_path: Path) -> None:
    draft = tmp_path / f".out.{JOB}"
    draft.mkdir()
    (draft / "part-00007").write_text("stale")
    publish.publish_directory(Parts(b"a"), JOB, tmp_path / "out", overwrite=False)
    assert listing(tmp_path) == {"out/part-00000": b"a", "out/_SUCCESS": b""}


def test_old_drafts_of_the_same_output_go_with_the_next_one_and_nothing_else_does(tmp_path: Path) -> None:
    old, names = 1.0, [".out.job-3f9a01-7", ".out.job-3f9a01-7.old", ".out.notes", ".other.job-3f9a01-7"]
    for name in (*names, ".out.job-3f9a01-8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-00000").write_text("left")
        if name in names:
            os.utime(tmp_path / name, (old, old))
    publish.publish_directory(Parts(b"a"), JOB, tmp_path / "out", overwrite=False)
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], ".out.job-3f9a01-8", "out"}


@pytest.mark.parametrize("lacking", [None, errno.EINVAL])
def test_overwriting_replaces_all_of_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: int | None
) -> None:
    if lacking is not None:
        monkeypatch.setattr(publish, "_rename_at_once", refuses(lacking))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00009").write_text("old")
    publish.publish_directory(Parts(b"new"), JOB, tmp_path / "out", overwrite=True)
    assert listing(tmp_path) == {"out/part-00000": b"new", "out/_SUCCESS": b""}


@pytest.mark.parametrize("lacking", [None, errno.ENOSYS])
def test_an_output_that_appeared_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: int | None
) -> None:
    if lacking is not None:
        monkeypatch.setattr(publish, "_rename_at_once", refuses(lacking))
    (tmp_path / "out").mkdir()
    with pytest.raises(AlreadyExists, match="appeared while the job ran"):
        publish.publish_directory(Parts(b"new"), JOB, tmp_path / "out", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []


def refuses(number: int):
    def rename(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return rename


def test_everything_is_synced_before_it_becomes_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(publish, "_sync", lambda path: order.append(path.name))
    monkeypatch.setattr(publish, "_rename_at_once", lambda draft, output, _flags: order.append("rename"))
    publish.publish_directory(Parts(b"a"), JOB, tmp_path / "out", overwrite=False)
    assert order == ["part-00000", "_SUCCESS", f".out.{JOB}", "rename", tmp_path.name]


def test_a_stream_gets_the_parts_in_order_and_none_that_is_not_whole() -> None:
    stream = io.BytesIO()
    with pytest.raises(Unavailable):
        publish.publish_stream(Parts(b"one\n", b"two\n", fails_at=1), stream)
    assert stream.getvalue() == b"one\n"


def test_an_existing_output_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(AlreadyExists) as refused:
        publish.check_output(tmp_path, overwrite=False)
    assert "--overwrite" in str(refused.value.hint)
    publish.check_output(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_output_even_to_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(AlreadyExists, match="is no directory"):
        publish.check_output(tmp_path / "out", overwrite=True)


def test_an_output_in_a_place_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot be written"):
        publish.check_output(Path("/proc/1/out"), overwrite=False)


def test_an_output_that_holds_its_own_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("a")
    (tmp_path / "outer.txt").write_text("a")
    with pytest.raises(RequestError, match="holds the input"):
        publish.check_apart(tmp_path / "out", resolve([tmp_path / "out"]))
    publish.check_apart(tmp_path / "out", resolve([tmp_path / "outer.txt"]))


@pytest.mark.parametrize("output", ["in/out", "in/deep/out", "link/out", "in"])
def test_an_output_inside_an_input_directory_is_refused(tmp_path: Path, output: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    (tmp_path / "link").symlink_to("in")
    with pytest.raises(RequestError, match=r"lies inside the input|holds the input"):
        publish.check_apart(tmp_path / output, resolve([tmp_path / "in"]))


@pytest.mark.parametrize("output", ["out", "inner", "in-out"])
def test_an_output_beside_an_input_directory_is_not_refused(tmp_path: Path, output: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    publish.check_apart(tmp_path / output, resolve([tmp_path / "in"]))
    publish.check_apart(tmp_path / "in" / "out", resolve([tmp_path / "in" / "a.txt"]))
