"""What the zygote has done before it forks."""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import sys
from minireduce.attempt import conversation as said, zygote
from minireduce.attempt.conversation import FromTask, ToTask
from minireduce.core import plain

zygote.prepare_what_tasks_need()
for cls in (said.LoadProgram, said.RunTask, said.MapTask, said.ReduceTask, said.RunFile, said.Ready, said.Finished):
    assert cls.__init__.__name__ == "__init__", cls
    assert cls.__init__.__code__.co_filename == "<string>", cls
before = plain._reader.cache_info().misses
for kind in (ToTask, FromTask):
    plain._reader(kind)
assert plain._reader.cache_info().misses == before
"""


def test_a_task_process_finds_the_common_messages_ready():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
