"""The one seam to the file system, so that tests can lose, tear and refuse what a real disk loses, tears and refuses.

Everything that must survive a crash is written in this order: `create`, write, `sync`, and `sync_directory` of the
folder that holds the name; a name that replaces another is `rename`d after the `sync` of its file. `RealDisk` does just
that on the operating system. Another disk (see `minireduce.testing`) records the calls and, at a crash, keeps only what
the order above made durable.

SQLite does its own input and output and is outside this seam.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO, Protocol

_SYNC_FILE_RANGE_WRITE = 2  # to begin with what the disk has not begun with yet, and wait for nothing


class Disk(Protocol):
    """What minireduce asks of a file system. Every method may raise OSError."""

    def create(self, path: Path) -> BinaryIO:
        """A new file for writing and reading; FileExistsError when the name is taken."""

    def open(self, path: Path) -> BinaryIO:
        """An existing file for reading."""

    def open_append(self, path: Path) -> BinaryIO:
        """An existing file for writing at its end."""

    def sync(self, file: BinaryIO) -> None:
        """Make what was written to `file` survive a crash; its name needs `sync_directory` too."""

    def begin_sync(self, file: BinaryIO, start: int, length: int) -> None:
        """Have the disk begin with these bytes, so that a later `sync` waits for less. Promises nothing by itself."""

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory survive a crash."""

    def rename(self, old: Path, new: Path) -> None:
        """Replace `new` by `old` at once; durable after `sync_directory`."""

    def link(self, old: Path, new: Path) -> None:
        """A second name for a file; durable after `sync_directory`. Both lead to the same bytes."""

    def remove(self, path: Path) -> None:
        """Remove a file; a missing one is no error, since removing is repeated after a crash."""

    def remove_tree(self, path: Path) -> None:
        """Remove a directory with all that is in it; a missing one is no error."""

    def make_directories(self, path: Path) -> None:
        """Make a directory (mode 0700) and those above it; existing ones are no error."""

    def names(self, path: Path) -> list[str]:
        """The names in a directory, in ascending order; empty when it does not exist."""

    def exists(self, path: Path) -> bool:
        """Whether something has this name."""

    def size_bytes(self, path: Path) -> int:
        """The length of a file."""

    def free_bytes(self, path: Path) -> int:
        """The room left where `path` lies."""

    def capacity_bytes(self, path: Path) -> int:
        """All the room where `path` lies."""

    def device(self, path: Path) -> int:
        """A number for the file system on which `path` lies."""


class RealDisk:
    """The operating system's files."""

    def create(self, path: Path) -> BinaryIO:
        return path.open("x+b")

    def open(self, path: Path) -> BinaryIO:
        return path.open("rb")

    def open_append(self, path: Path) -> BinaryIO:
        file = path.open("r+b")
        file.seek(0, os.SEEK_END)
        return file

    def sync(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())

    def begin_sync(self, file: BinaryIO, start: int, length: int) -> None:
        file.flush()
        _sync_file_range(file.fileno(), start, length)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def link(self, old: Path, new: Path) -> None:
        os.link(old, new)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def make_directories(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self, path: Path) -> list[str]:
        try:
            return sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return []

    def exists(self, path: Path) -> bool:
        return path.exists()

    def size_bytes(self, path: Path) -> int:
        return path.stat().st_size

    def free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free

    def capacity_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).total

    def device(self, path: Path) -> int:
        return path.stat().st_dev


def _sync_file_range(descriptor: int, start: int, length: int) -> None:
    """The call of Linux, where there is one. Whether a file system refuses is no matter: `sync` tells what counts."""
    import ctypes  # only processes that write much need it

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call(ctypes.c_int(descriptor), ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)
