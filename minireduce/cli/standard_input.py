"""The INPUT `-`, or `NAME=-`: what comes on standard input, kept in a file of this command's own while its job runs.

Splits are cut before anything is read, so a stream has to end before a job begins, and an attempt that is tried again
reads the same bytes again. The file is for its owner alone, and workers may run tasks as somebody else: only an
embedded cluster and `--inline` read it in place, any other gets it uploaded.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from minireduce.errors import RequestError

STANDARD_INPUT = "-"
FILE_NAME = "stdin"
COPY_BYTES = 1 << 20


@contextmanager
def spooled(inputs: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The inputs, with the file that holds what came on standard input in place of `-`. Raises RequestError."""
    count = sum(map(_is_standard_input, inputs))
    if not count:
        yield tuple(inputs)
        return
    if count > 1:
        raise RequestError("standard input is named twice, and can be read once", hint="write - once")
    with tempfile.TemporaryDirectory(prefix="minireduce-") as directory:
        path = Path(directory, FILE_NAME)
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, COPY_BYTES)
        except OSError as cause:
            raise RequestError(
                f"standard input cannot be kept in {path}: {cause.strerror}",
                hint="name a directory with more room in TMPDIR",
            ) from cause
        yield tuple(
            each.removesuffix(STANDARD_INPUT) + str(path) if _is_standard_input(each) else each for each in inputs
        )


def _is_standard_input(named: str) -> bool:
    if named == STANDARD_INPUT:
        return True
    name, _, place = named.partition("=")
    return place == STANDARD_INPUT and name.isidentifier() and not Path(named).exists()
