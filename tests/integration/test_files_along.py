"""Files and modules that go along with a job: its tasks find them wherever they run, and the answer is the same."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from minireduce import Job, LocalCluster, Range, Sum, task

WHERE = pytest.mark.parametrize("where", [["--inline"], []], ids=["inline", "embedded"])

JOB = """
from contextlib import contextmanager
from pathlib import Path

from minireduce import Job, Sum, task

class Words:
    def __enter__(self):
        self._stop = set((task.work_dir / "stop.txt").read_text().split())
        return self

    def __exit__(self, *_):
        (task.work_dir / "stop.txt").write_text("changed by one attempt")

    def __call__(self, line):
        from helper_of_job import label
        return [(label(word), 1) for word in line.split() if word not in self._stop]

job = Job(Words(), Sum()OPTIONS)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a job reads, and what goes along with it in a folder of its own."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("the fox\nthe dog\n")
    (tmp_path / "in" / "b.txt.gz").write_bytes(gzip.compress(b"a fox\n"))
    (tmp_path / "along").mkdir()
    (tmp_path / "along" / "stop.txt").write_text("the a")
    (tmp_path / "along" / "helper_of_job.py").write_text("def label(word):\n    return word.upper()\n")
    return tmp_path


def _submit(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minireduce.cli", "submit", "job.py", "in", "-q", *options]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=100)


@WHERE
def test_tasks_find_what_the_command_names_and_each_attempt_has_its_own(folder: Path, where: list[str]) -> None:
    (folder / "job.py").write_text(JOB.replace("OPTIONS", ""))
    along = ["--files", "along/stop.txt", "--py-files", "along/helper_of_job.py"]
    done = _submit(folder, *along, *where)
    assert (done.returncode, done.stdout) == (0, "DOG\t1\nFOX\t2\n"), done.stderr
    assert (folder / "along" / "stop.txt").read_text() == "the a"
    assert "stop.txt" in _submit(folder, *along[2:], *where).stderr


@WHERE
def test_a_job_file_names_what_goes_along_and_the_command_may_name_it_too(folder: Path, where: list[str]) -> None:
    beside = 'Path(__file__).parent / "along" / '
    options = f', files=[{beside}"stop.txt"], py_files=[{beside}"helper_of_job.py"]'
    (folder / "job.py").write_text(JOB.replace("OPTIONS", options))
    done = _submit(folder, *where)
    assert (done.returncode, done.stdout) == (0, "DOG\t1\nFOX\t2\n"), done.stderr
    again = _submit(folder, "--files", "along/stop.txt", *where)
    assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
    (folder / "stop.txt").write_text("fox")
    clash = _submit(folder, "--files", "stop.txt", *where)
    assert (clash.returncode, "the file stop.txt comes from" in clash.stderr) == (2, True)


def _known(line: str) -> list[tuple[str, int]]:
    assert task.work_dir is not None
    kept = (task.work_dir / "words.txt").read_text().split()
    return [(word, 1) for word in line.split() if word in kept]


def test_a_program_sends_files_along_to_all_modes_and_sampling_finds_them(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("b c d e")
    (tmp_path / "in.txt").write_text("a b c\nd e f\n" * 50)
    expected = [("b", 50), ("c", 50), ("d", 50), ("e", 50)]
    job = Job(_known, Sum(), files=tmp_path / "words.txt", partition=Range(), reducers=2)
    assert job.test(["a b c", "b"]) == [("b", 2), ("c", 1)]
    inline = job.run(tmp_path / "in.txt", inline=True, output=tmp_path / "inline")
    with LocalCluster(workers=1) as cluster:
        assert list(job.run(tmp_path / "in.txt", master=cluster)) == expected
        bare = Job(_known, Sum(), partition=Range(), reducers=2)
        out = tmp_path / "cluster"
        bare.run(tmp_path / "in.txt", files=[tmp_path / "words.txt"], master=cluster, output=out)
    parts = sorted(path.read_text() for path in out.glob("part-*"))
    assert parts == ["b\t50\nc\t50\n", "d\t50\ne\t50\n"]  # the sample was taken with the file at hand
    assert parts == sorted(path.read_text() for path in (tmp_path / "inline").glob("part-*"))
    assert inline.counters["minireduce"]["MAP_INPUT_RECORDS"] == 100


def test_a_failed_task_is_replayed_with_the_files_that_went_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "job.py").write_text(
        "from minireduce import Job, task\n"
        "def fails(line):\n    raise ValueError((task.work_dir / 'stop.txt').read_text())\n"
        "job = Job(fails)\n"
    )
    failed = _submit(folder, "--files", "along/stop.txt")
    told = next(line for line in failed.stderr.splitlines() if "minireduce replay" in line)
    (folder / "along" / "stop.txt").write_text("another text")
    again = [sys.executable, "-m", "minireduce.cli", "replay", told.split("minireduce replay")[1].split()[0]]
    replayed = subprocess.run(again, cwd=folder, check=False, capture_output=True, text=True, timeout=100)
    assert "ValueError: another text" in replayed.stderr
    assert "along/stop.txt" in replayed.stderr  # it is not what it was
