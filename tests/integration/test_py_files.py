"""`submit --py-files`: tasks import what came along, wherever they run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    """A module that does not lie beside the job file."""
    path = tmp_path / "library" / "helper_of_job.py"
    path.parent.mkdir()
    path.write_text("def label(word):\n    return word.upper()\n")
    return path


JOB = """
import helper_of_job
from minireduce import Job, Sum

job = Job(lambda line: [(helper_of_job.label(line), 1)], Sum())
"""


@pytest.mark.parametrize("where", [["--inline"], []], ids=["inline", "embedded"])
def test_a_job_file_imports_what_is_named_beside_it(helper: Path, tmp_path: Path, where: list[str]) -> None:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "in.txt").write_text("a\nb\na\n")
    command = [sys.executable, "-m", "minireduce.cli", "submit", "job.py", "in.txt", "-q", *where]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 100}
    refused = subprocess.run(command, check=False, **options)
    assert (refused.returncode, "No module named 'helper_of_job'" in refused.stderr) == (2, True)
    done = subprocess.run([*command, "--py-files", str(helper)], check=False, **options)
    assert (done.returncode, done.stdout) == (0, "A\t2\nB\t1\n"), done.stderr


def test_a_traceback_shows_the_lines_of_a_module_that_came_along(helper: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "in.txt").write_text("a\n")
    helper.write_text("def label(word):\n    raise KeyError('this very word')\n")
    command = [sys.executable, "-m", "minireduce.cli", "submit", "job.py", "in.txt", "-q", "--py-files", str(helper)]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert f'File "{helper.resolve()}", line 2, in label\n    raise KeyError' in done.stderr
