"""What goes along with a job: what is read, what is refused, and that a task gets it whole or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from minireduce import Job
from minireduce.attempt.load import load_job
from minireduce.attempt.shipped_files import lay_out
from minireduce.client.program import pickle_program
from minireduce.client.shipping import read_files, shipped
from minireduce.errors import Corruption, RequestError


def test_what_a_job_and_its_submitter_name_goes_along_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x00\xff")
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    job = Job(lambda line: [(line, 1)], files=["a.bin", "tool"])
    along = shipped(job, files=[str(tmp_path / "a.bin")])
    assert [(file.name, file.data, file.is_executable) for file in along.files] == [
        ("a.bin", b"\x00\xff", False),
        ("tool", b"#!/bin/sh\n", True),
    ]
    target = tmp_path / "work"
    target.mkdir()
    lay_out(along.files, target)
    assert (target / "a.bin").read_bytes() == b"\x00\xff"
    assert [(target / name).stat().st_mode & 0o777 for name in ("a.bin", "tool")] == [0o600, 0o700]


def test_two_files_of_one_name_directories_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "a.txt").write_text("a")
    with pytest.raises(RequestError, match=r"the file a\.txt comes from .* and from"):
        read_files([tmp_path / "a.txt", tmp_path / "sub" / "a.txt"])
    with pytest.raises(RequestError, match="is a directory"):
        read_files([tmp_path / "sub"])
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        read_files([tmp_path / "none"])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="is no regular file"):
        read_files([tmp_path / "pipe"])


def test_a_file_that_is_damaged_on_its_way_is_found_before_the_job_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    job = Job(lambda line: [(line, 1)], files=[tmp_path / "a.txt"])
    program = shipped(job).beside(pickle_program(job))
    assert load_job(program).files == (str(tmp_path / "a.txt"),)
    damaged = replace(program, files=(replace(program.files[0], data=b"b"),))
    with pytest.raises(Corruption, match=r"the file a\.txt that came along"):
        load_job(damaged)
    for name in ("../a.txt", "/etc/a", "..", ""):
        elsewhere = replace(program, files=(replace(program.files[0], name=name),))
        with pytest.raises(RequestError, match="is called"):
            load_job(elsewhere)


@pytest.mark.parametrize("given", [3, [None], [b"bytes"], [""]])
def test_what_is_no_path_is_refused_when_the_job_is_made(given: object) -> None:
    with pytest.raises(RequestError, match="must be paths"):
        Job(lambda line: [(line, 1)], files=given)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="must be paths"):
        Job(lambda line: [(line, 1)], py_files=given)  # type: ignore[arg-type]


def test_later_steps_keep_what_goes_along() -> None:
    job = Job(lambda line: [(line, 1)], files="a", py_files=["b.py"]).then(lambda key, value: [(key, value)])
    assert (job.files, job.py_files) == (("a",), ("b.py",))
