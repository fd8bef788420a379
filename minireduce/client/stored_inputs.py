"""Find the files that an INPUT of the form `mr:///PATH` means: in the block store, by the rules of local inputs.

A stored file is held on to by its number, which survives renames, so a job reads what it was submitted over. What is
in a directory is taken in ascending order of path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from minireduce.client.store_paths import has_glob, name_of, parse_store_path
from minireduce.core.storage.views import FileStatus
from minireduce.errors import NotFound, RequestError
from minireduce.frozen import dataclass

PASSED_OVER = frozenset({"_SUCCESS", "_temporary", "_quarantine", "_logs", "__pycache__"})


class Store(Protocol):
    """The block store, as far as it is looked at here; `client.fs.FileSystem` is one."""

    def stat(self, path: str) -> FileStatus:
        """What `path` names. Raises NotFound."""

    def ls(self, path: str) -> list[FileStatus]:
        """The entries of a directory, ascending."""

    def glob(self, pattern: str) -> list[FileStatus]:
        """What matches."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the block store to read. Small ones lie in a `container`, a block that they share; 0: in none."""

    path: str
    size_bytes: int
    file_id: int
    container: int = 0


def is_passed_over(name: str) -> bool:
    """Whether a name in a directory is not read unless it is named itself."""
    return name in PASSED_OVER or (name.startswith(".") and name not in {".", ".."})


class StoredWalk:
    """Resolves inputs one after the other, and counts what it passes over."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self.passed_over = 0
        self.directories: list[str] = []

    def resolve(self, named: str) -> Iterator[StoredFile]:
        """The files that `named` means. Raises NotFound, RequestError."""
        if self._store is None:
            raise RequestError(f"input {named} lies in a block store, and there is none here", hint="add --master")
        if not has_glob(named):
            yield from self._named(self._store, self._store.stat(named))
            return
        matches = self._store.glob(named)
        if not matches:
            raise NotFound(
                f"no file matches {named}", hint=f"minireduce fs ls {parse_store_path(named).rpartition('/')[0]}/"
            )
        written = set(parse_store_path(named).split("/"))
        for match in matches:
            if any(is_passed_over(name) and name not in written for name in match.path.split("/")):
                self.passed_over += 1
            else:
                yield from self._named(self._store, match)

    def _named(self, store: Store, found: FileStatus) -> Iterator[StoredFile]:
        if found.is_directory:
            self.directories.append(found.path)
        yield from self._below(store, found)

    def _below(self, store: Store, found: FileStatus) -> Iterator[StoredFile]:
        if not found.is_directory:
            yield StoredFile(found.path, found.length, found.inode, found.container)
            return
        for entry in store.ls(found.path):
            if is_passed_over(name_of(entry.path)):
                self.passed_over += 1
            else:
                yield from self._below(store, entry)
