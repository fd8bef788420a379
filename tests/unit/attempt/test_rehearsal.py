"""What the zygote has done before it forks."""

from __future__ import annotations

import subprocess
import sys

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
