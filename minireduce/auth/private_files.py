"""Files that hold secrets: made for their owner alone, and refused where others could have read or replaced them.

A file appears whole or not at all, and never replaces another: of two processes that make the same one, one does and
the other is told. A directory that is made on the way is the owner's alone too; in one that exists others must not be
able to write, unless, as in /tmp, they cannot replace what is not theirs.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from minireduce.errors import Refused

FILE_BYTES_MAX = 64 << 10


def create(path: Path, content: bytes) -> None:
    """Make a file with mode 0600, durably. Raises FileExistsError and other OSErrors."""
    draft = _write_draft(path, content)
    try:
        os.link(draft, path)  # unlike rename, refuses to replace
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Make a file with mode 0600, or put it in the place of the old one at once. Raises OSError."""
    _write_draft(path, content).replace(path)
    _sync_directory(path.parent)


def read(path: Path) -> bytes:
    """What a private file holds. Raises Refused where it is not private, and OSError."""
    with path.open("rb") as file:
        refuse_loose(path, os.fstat(file.fileno()), forbidden=0o077, wanted="600")
        refuse_loose(path.parent, path.parent.stat(), forbidden=0o022, wanted="700")
        return file.read(FILE_BYTES_MAX)


def refuse_loose(path: Path, status: os.stat_result, *, forbidden: int, wanted: str) -> None:
    """Return if `path` is in its owner's hands alone. Raises Refused."""
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in {os.geteuid(), 0} and os.geteuid() != 0:
        raise Refused(f"{path} belongs to another user", hint="a file with secrets must be one's own")
    if mode & forbidden and not (stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX):
        raise Refused(f"{path} has mode {mode:04o}, so others could have it", hint=f"chmod {wanted} {path}")


def _write_draft(path: Path, content: bytes) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
