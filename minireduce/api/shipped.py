"""The paths of what goes along with a job: files for its tasks to read, modules for it to import.

A job only names them, as they were given; where it is submitted they are looked for from the directory that its
submitter is in. So a job file that is loaded where a task runs needs none of them.

Elsewhere: reading them (client/shipping.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from minireduce.errors import RequestError

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""One path, or several."""


def paths_of(option: str, given: Paths) -> tuple[str, ...]:
    """The paths given as this option. Raises RequestError for what is none."""
    try:
        paths = (given,) if isinstance(given, str | os.PathLike) else tuple(given)
        found = tuple(os.fspath(path) for path in paths)
    except TypeError as cause:
        raise RequestError(f"{option}={given!r} must be paths", hint=f'such as {option}=["data/a.txt"]') from cause
    if not all(isinstance(path, str) and path for path in found):
        raise RequestError(f"{option}={given!r} must be paths", hint="a path is a str or a Path")
    return found
