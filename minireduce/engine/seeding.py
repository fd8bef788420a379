"""Let chance fall the same way in every attempt of a task.

A mapper that draws random numbers would give another output each time it is tried, and which try wins is chance too.
So the generators that modules share, Python's and numpy's legacy one, are seeded by the task's place in its job: all
attempts of a task draw the same numbers, tasks draw different ones, and another run of the job over the same splits
draws them again. The order of a set of strings, which the hash seed decides, is fixed where task processes begin; a run
inline has the order of the process that it runs in.

Not reached: generators that user code makes for itself without a seed, `os.urandom`, `uuid`, clocks.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = "program"
"""What stands for a task while a job's program is loaded: every process that loads it draws the same."""


def seed_text(step: int, kind: str, index: int) -> str:
    """What names a task within its job."""
    return f"{step} {kind} {index}"


def seed(text: str) -> None:
    """Seed the shared generators; numpy's only where it was imported."""
    number = zlib.crc32(text.encode())
    random.seed(number)
    numpy_random = sys.modules.get("numpy.random")  # numpy itself imports it only when it is used
    if numpy_random is not None:
        numpy_random.seed(number)


@contextmanager
def seeded(text: str) -> Iterator[None]:
    """Seed for the time of a block, in a process that has other things to do as well."""
    state = random.getstate()
    import numpy as np

    numpy_state = np.random.get_state()  # noqa: NPY002 - it is this very generator that others share
    seed(text)
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
