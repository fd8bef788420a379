"""Where an attempt writes on its worker: its directory under the data directory, and what it leaves there by name.

What the engine leaves beside these (map outputs and their index) it names itself. Paths are made of ids, never of text
from outside.
"""

from __future__ import annotations

import os
from pathlib import Path

from minireduce.ids import AttemptId, TaskId

JOBS_NAME = "jobs"
PART_NAME = "part"
STDOUT_NAME = "stdout"
STDERR_NAME = "stderr"
META_NAME = "output.meta"
"""What the worker writes last: an output that has one is whole."""


def attempt_directory(data_dir: Path, attempt: AttemptId) -> Path:
    """The one place of an attempt under a data directory."""
    return Path(attempt_place(str(data_dir), attempt))


def attempt_place(data_dir: str, attempt: AttemptId) -> str:
    """The same as text, for whoever finds the outputs of many small tasks: putting a path together takes longer."""
    return os.path.join(data_dir, JOBS_NAME, attempt.task.job, str(attempt))  # noqa: PTH118


def part_origin(task: TaskId) -> str:
    """What user code and errors call the part that this map of a later step reads: `step-0/part-00012`.

    Not where it lies, which differs from attempt to attempt, and what user code gives must not.
    """
    return f"step-{task.step - 1}/part-{task.index:05d}"
