"""What a local directory holds that is to be stored, found and checked before any of it is stored.

Links are followed, so what they name is stored and not an empty directory in its place. What could not be stored as it
is stops everything at the start: a name that is no text, a link that leads nowhere or back to a directory above it,
and what is neither a file nor a directory, such as a pipe, which might never end.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from os import stat_result
from pathlib import Path

from minireduce.client.store_paths import join
from minireduce.core.storage.paths import parse_path
from minireduce.errors import RequestError

Identity = tuple[int, int]
"""What tells a directory from all others of this machine: its device and its inode."""


def local_tree(source: Path, target: str) -> Iterator[tuple[Path, str, bool]]:
    """All below `source`, a directory before what it holds: its path, where it goes below `target`, whether it is one.

    Raises RequestError.
    """
    status = _status(source)
    yield from _below(source, target, (_identity(status),))


def _below(source: Path, target: str, above: tuple[Identity, ...]) -> Iterator[tuple[Path, str, bool]]:
    try:
        paths = sorted(source.iterdir())
    except OSError as cause:
        raise _unreadable(source, cause) from cause
    for path in paths:
        place = join(target, path.name)
        parse_path(place)
        status = _status(path)
        if stat.S_ISDIR(status.st_mode):
            if _identity(status) in above:
                raise RequestError(f"{path} leads back to a directory above it", hint="remove the link")
            yield path, place, True
            yield from _below(path, place, (*above, _identity(status)))
        elif stat.S_ISREG(status.st_mode):
            yield path, place, False
        else:
            raise RequestError(f"{path} is neither a file nor a directory", hint="put what stands beside it by name")


def _status(path: Path) -> stat_result:
    try:
        return path.stat()
    except OSError as cause:
        raise _unreadable(path, cause) from cause


def _identity(status: stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _unreadable(path: Path, cause: OSError) -> RequestError:
    return RequestError(f"{path} cannot be read: {cause.strerror}", hint="see what is there with ls -l")
