"""What the zygote has done before it forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from minireduce import task
from minireduce.attempt.rehearsal import make_program, rehearse_task

CHILD = """
import sys
from minireduce.attempt import zygote
from minireduce.attempt.conversation import FromTask, ToTask
from minireduce.core import plain

zygote.prepare_what_tasks_need()
before = plain._reader.cache_info().misses
for kind in (ToTask, FromTask):
    plain._reader(kind)
assert plain._reader.cache_info().misses == before
"""


def test_a_task_process_finds_the_common_messages_ready():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_rehearsed_task_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = make_program()
    opened: list[object] = []
    monkeypatch.setattr("builtins.open", lambda *arguments, **_: opened.append(arguments))
    rehearse_task(program)
    monkeypatch.undo()
    assert opened == []
    assert list(tmp_path.iterdir()) == []
    assert task.input_path is None
