"""`minireduce replay`: the failed map task of a job once more, alone and in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minireduce.core.spec import JobSpec, NumberRange, OutputKind, Program, StepSpec, StoredRange
from minireduce.ids import TaskId, TaskKind
from minireduce.launch.replaying import keep

JOB = """
import os, sys
from minireduce import Job, Range, Sum

def length(line, least):
    if len(line) < least:
        raise ValueError(f"{line} is too short, in {os.getpid()}")
    return [(line, 1)]

def job(least: int = 0):
    return Job(lambda line: length(line, least), Sum(), partition=Range())
"""


class Place:
    """A home with a job file in it, and two files to read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "job.py").write_text(JOB)
        (folder / "a.txt").write_text("long enough\n" * 3)
        (folder / "b.txt").write_text("long enough\nno\n")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "minireduce.cli", *arguments]
        environment = {**os.environ, "HOME": str(self.folder), "MINIREDUCE_SPLIT_SIZE": "36B"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True, timeout=100
        )
        return done.returncode, done.stdout, done.stderr

    def failed_task(self) -> str:
        status, _, said = self.run("submit", "job.py", "a.txt", "b.txt", "-q", "-p", "least=5", "--reducers", "2")
        assert status == 1, said
        return said.split("minireduce replay ")[1].split()[0]


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str]:
    """Where a job failed, and its task."""
    place = Place(tmp_path_factory.mktemp("home"))
    return place, place.failed_task()


@pytest.fixture
def place(failed: tuple[Place, str]) -> Place:
    place, _ = failed
    (place.folder / "job.py").write_text(JOB)
    (place.folder / "b.txt").write_text("long enough\nno\n")
    return place


@pytest.fixture
def task(failed: tuple[Place, str]) -> str:
    return failed[1]


def test_a_task_fails_again_here_and_goes_through_once_the_job_file_is_mended(place: Place, task: str) -> None:
    assert task.endswith("_s0_m00001")
    status, _, said = place.run("replay", task)
    assert status == 1
    assert "in length\n    raise ValueError" in said
    assert "at record 'no' of" in said
    assert "job.py is not as it was" not in said
    (place.folder / "job.py").write_text(JOB.replace("len(line) < least", "False"))
    status, out, said = place.run("replay", task, "--json")
    assert (status, json.loads(out)) == (0, {"task": task, "records_in": 2, "records_out": 2}), said
    assert f"note: {place.folder / 'job.py'} is not as it was" in said


def test_a_changed_input_is_told_and_read_as_it_is(place: Place, task: str) -> None:
    (place.folder / "b.txt").write_text("long enough\n")
    status, out, said = place.run("replay", task)
    assert (status, out) == (0, f"{task} went through: 1 record in, 1 record out\n")
    assert "b.txt is not as it was" in said


def test_what_was_not_kept_is_refused_with_what_to_do(place: Place, task: str) -> None:
    for other, told in (
        (task.replace("_m00001", "_m00000"), "cannot be run again by itself"),
        (task.replace("_m00001", "_r00001"), "cannot be run again by itself"),
        ("job-000000-1_s0_m00000", "nothing is kept here of job-000000-1"),
        ("anything", "is no task id"),
    ):
        status, _, said = place.run("replay", other)
        assert (status, told in said) == (2, True), said


def test_only_the_latest_jobs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = JobSpec("job", Program("source", b"", ""), (StepSpec(1, 1, 1.0),), (NumberRange(0, 9),), OutputKind.TEXT)
    folder = tmp_path / ".cache" / "minireduce" / "replay"
    for number in range(25):
        task = TaskId(f"job-000000-{number}", 0, TaskKind.MAP, 0)
        assert keep(task.job, spec, [task, replace(task, kind=TaskKind.REDUCE)]) == task
        os.utime(folder / f"job-000000-{number}.replay", (number, number))
    assert {path.name for path in folder.iterdir()} == {f"job-000000-{number}.replay" for number in range(5, 25)}


def test_what_cannot_be_run_here_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = Program("source", b"", "")
    stored = JobSpec("job", program, (StepSpec(1, 1, 1.0),), (StoredRange("/a", 1, 0, 9),), OutputKind.TEXT)
    task = TaskId("job-000000-1", 0, TaskKind.MAP, 0)
    assert keep(task.job, stored, [task]) is None
    numbers = replace(stored, splits=(NumberRange(0, 9),))
    assert keep(task.job, replace(numbers, program=replace(program, kind="pickle")), [task]) is None
    assert keep(task.job, numbers, [replace(task, step=1), replace(task, kind=TaskKind.REDUCE)]) is None
    (tmp_path / ".cache").touch()  # a home that takes nothing
    assert keep(task.job, numbers, [task]) is None
