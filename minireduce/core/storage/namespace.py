"""The tree of directories and files: names, and what they stand for.

Every file and directory is an inode with a number that is never used twice, so what a job reads or a client renames can
be told apart from a later thing of the same name. A file enters the tree when it is closed; before that it is in
`leases`. Each change writes the rows of the inodes that it touched: renaming a directory touches one, and so does
removing it. What is removed is detached at once, with all below, and collected later, a few inodes a tick (`collect`),
so that a directory of a million files holds nobody up.

Every directory knows how much is below it, so that sizes are asked for without a walk. These sums are not persisted.

Elsewhere: directories and files themselves (`inodes`), how paths are written (`paths`), what a file's bytes are
(`blocks`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, TypeVar

from minireduce.core.effects import Effects
from minireduce.core.storage.inodes import (
    DIRECTORY_MODE,
    FILE_MODE,
    TABLE,
    Directory,
    File,
    Inode,
    InodeRow,
    persist,
    sums_of,
)
from minireduce.core.storage.paths import Names, parse_path
from minireduce.core.storage.views import DirectoryPage, FileStatus, Summary
from minireduce.errors import AlreadyExists, InvariantViolation, NotFound, RequestError

ROOT = 1
DETACHED = 0
"""The parent of what was removed and waits to be collected."""
V = TypeVar("V")


class Namespace:
    """All closed files and all directories."""

    def __init__(self) -> None:
        self._root = Directory(ROOT, ROOT, "", 0.0)
        self._inodes: dict[int, Inode] = {ROOT: self._root}
        self._detached: list[Inode] = []
        self._common: dict[Any, Any] = {}

    @property
    def inodes_to_collect(self) -> int:
        """Inodes that were removed and wait to be collected."""
        return len(self._inodes) - self._root.files - self._root.directories - 1

    @property
    def files_total(self) -> int:
        """Files that have a name."""
        return self._root.files

    @property
    def directories_total(self) -> int:
        """Directories that can be reached, the root among them."""
        return self._root.directories + 1

    @property
    def bytes_total(self) -> int:
        """The bytes of all files that have a name, each once."""
        return self._root.bytes

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return len(self._inodes)

    def get(self, inode: int) -> Inode | None:
        """The file or directory with this number, unless it has been removed."""
        found = self._inodes.get(inode)
        return found if found is not None and self._is_attached(found) else None

    def peek(self, inode: int) -> Inode | None:
        """The file or directory with this number, also one that is removed and not collected yet."""
        return self._inodes.get(inode)

    def _is_attached(self, inode: Inode) -> bool:
        here = inode
        while here.id != ROOT:
            if here.parent == DETACHED:
                return False
            here = self._inodes[here.parent]
        return True

    def find(self, path: str) -> Inode | None:
        """What `path` names, if anything. Raises RequestError for what is no path."""
        return self._walk(parse_path(path))

    def look_up(self, path: str) -> Inode:
        """What `path` names. Raises NotFound."""
        found = self.find(path)
        if found is None:
            raise NotFound(f"{path} does not exist", hint="`minireduce fs ls` shows what does")
        return found

    def file(self, inode: int) -> File:
        """The file with this number. Raises NotFound."""
        found = self.get(inode)
        if not isinstance(found, File):
            raise NotFound(f"file {inode} has been removed", hint="`minireduce fs ls` shows what is there")
        return found

    def files(self) -> Iterator[File]:
        """All files, those too that are removed and not collected yet."""
        return (inode for inode in self._inodes.values() if isinstance(inode, File))

    def path_of(self, inode: Inode) -> str:
        """The path that leads to `inode` now."""
        names: list[str] = []
        while inode.id != ROOT:
            names.append(inode.name)
            inode = self._inodes[inode.parent]
        return "/" + "/".join(reversed(names))

    def status(self, inode: Inode) -> FileStatus:
        """`inode` as it is shown."""
        path, at, owner, mode = self.path_of(inode), inode.modified_at, inode.owner, inode.mode
        if isinstance(inode, Directory):
            return FileStatus(path, inode.id, True, 0, 0, 0, at, owner, mode)
        sizes = (inode.length, inode.block_size_bytes, inode.replication)
        return FileStatus(path, inode.id, False, *sizes, at, owner, mode, inode.packed_in)

    def page(self, path: str, after: str, entries_max: int) -> DirectoryPage:
        """Entries of the directory `path` whose names come after `after`; of a file, the file itself."""
        found = self.look_up(path)
        if isinstance(found, File):
            return DirectoryPage((self.status(found),), has_more=False)
        names = found.in_order()
        begin = bisect_right(names, after) if after else 0
        end = begin + entries_max
        entries = tuple(self.status(self._inodes[found.entries[name]]) for name in names[begin:end])
        return DirectoryPage(entries, has_more=len(names) > end)

    @staticmethod
    def inodes_in(inode: Inode) -> int:
        """How many files and directories `inode` stands for, itself included."""
        directories, files, *_ = sums_of(inode)
        return directories + files

    @staticmethod
    def weigh(inode: Inode) -> tuple[int, int]:
        """Names, and bytes of replicas, that `inode` stands for, itself included."""
        directories, files, _, replica_bytes = sums_of(inode)
        return directories + files, replica_bytes

    def above(self, inode: Inode) -> list[Directory]:
        """The directories in which `inode` lies, the root last."""
        found: list[Directory] = []
        while inode.id != ROOT:
            inode = self._directory(inode.parent)
            found.append(inode)
        return found

    def on_the_way(self, names: Names) -> list[Inode]:
        """What there is on the way to `names`, from the root on; one more than there are names if that exists."""
        found: list[Inode] = [self._root]
        for name in names:
            here = found[-1]
            if not isinstance(here, Directory) or name not in here.entries:
                break
            found.append(self._inodes[here.entries[name]])
        return found

    def summary(self, path: str) -> Summary:
        """How much `path` holds, itself included."""
        found = self.look_up(path)
        return Summary(self.path_of(found), *sums_of(found))

    def _walk(self, names: Names) -> Inode | None:
        here: Inode = self._root
        for name in names:
            if not isinstance(here, Directory) or name not in here.entries:
                return None
            here = self._inodes[here.entries[name]]
        return here

    def is_free(self, names: Names) -> bool:
        """Whether something can be called `names`: nothing is, and no file is in the way."""
        here: Inode = self._root
        for name in names:
            if not isinstance(here, Directory):
                return False
            if name not in here.entries:
                return True
            here = self._inodes[here.entries[name]]
        return False

    # ── changing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_target(self, path: str, *, overwrite: bool) -> None:
        """Raise if a file could not be closed as `path` now."""
        names = parse_path(path)
        if not names:
            raise AlreadyExists("/ is a directory")
        here: Inode = self._root
        for name in names[:-1]:
            if not isinstance(here, Directory):
                break
            if name not in here.entries:
                return
            here = self._inodes[here.entries[name]]
        if not isinstance(here, Directory):
            raise RequestError(f"{self.path_of(here)} is a file, so nothing can be below it")
        self._check_free(path, self._walk(names), overwrite=overwrite)

    def check_targets(self, paths: list[str], *, overwrite: bool) -> None:
        """Raise if files could not be closed as all of these now."""
        taken: set[Names] = set()
        for path in paths:
            self.check_target(path, overwrite=overwrite)
            names = parse_path(path)
            if names in taken:
                raise RequestError(f"{path} is named twice")
            taken.add(names)
        for names in taken:
            above = next((names[:end] for end in range(1, len(names)) if names[:end] in taken), None)
            if above is not None:
                raise RequestError(f"/{'/'.join(above)} is a file, so nothing can be below it")

    @staticmethod
    def _check_free(path: str, there: Inode | None, *, overwrite: bool) -> None:
        if isinstance(there, Directory):
            raise AlreadyExists(f"{path} is a directory", hint="give the name of a file in it")
        if there is not None and not overwrite:
            raise AlreadyExists(f"{path} exists", hint="remove it first, or overwrite it")

    def make_directories(
        self, names: Names, ids: Iterator[int], at: float, effects: Effects, owner: str = ""
    ) -> Directory:
        """The directory `names`, made with those above it where missing. Raises RequestError where a file is."""
        here: Inode = self._root
        for name in names:
            if not isinstance(here, Directory):
                break
            if name not in here.entries:
                self._enter(Directory(next(ids), here.id, name, at, owner), effects)
            here = self._inodes[here.entries[name]]
        if not isinstance(here, Directory):
            raise RequestError(f"{self.path_of(here)} is a file, so nothing can be below it")
        return here

    def make_directory(self, path: str, ids: Iterator[int], at: float, effects: Effects, owner: str = "") -> Directory:
        """The new directory `path`. Raises NotFound when the one above is missing, AlreadyExists when it is there."""
        names = parse_path(path)
        if self._walk(names) is not None:
            raise AlreadyExists(f"{path} exists")
        parent = self._walk(names[:-1])
        if parent is None:
            raise NotFound(f"the directory above {path} does not exist", hint="make those above it too: mkdir -p")
        if not isinstance(parent, Directory):
            raise RequestError(f"{self.path_of(parent)} is a file, so nothing can be below it")
        made = Directory(next(ids), parent.id, names[-1], at, owner)
        self._enter(made, effects)
        return made

    def add_file(self, file: File, effects: Effects) -> None:
        """Enter a closed file under its parent and name, where nothing is."""
        self._enter(file, effects)

    def change(self, inode: Inode, effects: Effects, *, replication: int = 0, owner: str = "", mode: int = -1) -> None:
        """Change what is said about `inode`; 0, "" and -1 leave things as they are."""
        if replication and isinstance(inode, File):
            self._count(inode, -1)
            inode.replication = replication
            self._count(inode, +1)
        inode.owner = owner or inode.owner
        inode.mode = mode if mode >= 0 else inode.mode
        persist(inode, effects)

    def grow(self, file: File, length: int, at: float, effects: Effects) -> None:
        """A file has become longer, in blocks of its own."""
        self._count(file, -1)
        file.length, file.modified_at = length, at
        file.packed_in = file.packed_at = 0
        self._count(file, +1)
        persist(file, effects)

    def repack(self, file: File, container: int, at: int, effects: Effects) -> None:
        """The bytes of a small file lie in another container now."""
        file.packed_in, file.packed_at = container, at
        persist(file, effects)

    def rename(self, inode: Inode, target: str, effects: Effects, *, replace: bool) -> None:
        """Give `inode` the path `target`, whose directory exists; what was called so before is removed."""
        names = parse_path(target)
        parent = self._walk(names[:-1]) if names else None
        if not isinstance(parent, Directory):
            raise NotFound(f"the directory above {target} does not exist", hint="make it first: mkdir -p")
        if self._is_within(parent, inode):
            raise RequestError(f"{self.path_of(inode)} cannot be moved below itself, to {target}")
        if names[-1] in parent.entries:
            there = self._inodes[parent.entries[names[-1]]]
            if not replace:
                raise AlreadyExists(f"{target} exists", hint="remove it first")
            if self._is_within(self._directory(inode.parent), there):
                raise RequestError(f"{target} cannot be replaced by {self.path_of(inode)}, which is below it")
            self.remove(there, effects)
        self._unlink(inode)
        inode.parent, inode.name = parent.id, names[-1]
        self._link(inode)
        persist(inode, effects)

    def _is_within(self, directory: Directory, inode: Inode) -> bool:
        here: Inode = directory
        while here.id != ROOT:
            if here.id == inode.id:
                return True
            here = self._inodes[here.parent]
        return inode.id == ROOT

    def remove(self, inode: Inode, effects: Effects) -> int:
        """Take `inode` and all below it out of the tree; how many that were. `collect` does the rest."""
        if inode.id == ROOT:
            raise RequestError("the root directory cannot be removed", hint="remove what it holds")
        self._unlink(inode)
        inode.parent = DETACHED
        self._detached.append(inode)
        persist(inode, effects)
        return self.inodes_in(inode)

    def collect(self, inodes_max: int, effects: Effects) -> list[File]:
        """Forget up to `inodes_max` of the inodes that were removed, what is in a directory before it; the files.

        A directory keeps its row until all below it have lost theirs, so a master that starts finds the rest.
        """
        files: list[File] = []
        while self._detached and inodes_max > 0:
            inode = self._detached[-1]
            if isinstance(inode, Directory) and inode.entries:
                _, below = inode.entries.popitem()
                self._detached.append(self._inodes[below])
                continue
            self._detached.pop()
            del self._inodes[inode.id]
            effects.forget(TABLE, (inode.id,))
            inodes_max -= 1
            if isinstance(inode, File):
                files.append(inode)
        return files

    def _enter(self, inode: Inode, effects: Effects) -> None:
        if inode.id in self._inodes:
            raise InvariantViolation(f"inode {inode.id} is to be entered twice, now as {inode.name!r}")
        self._inodes[inode.id] = inode
        self._link(inode)
        persist(inode, effects)

    def _link(self, inode: Inode) -> None:
        parent = self._directory(inode.parent)
        if inode.name in parent.entries:
            raise InvariantViolation(
                f"inode {inode.id} cannot be entered as {inode.name!r} into {self.path_of(parent)}"
            )
        parent.enter(inode.name, inode.id)
        self._count(inode, +1)

    def _unlink(self, inode: Inode) -> None:
        self._count(inode, -1)
        self._directory(inode.parent).leave(inode.name)

    def _count(self, inode: Inode, sign: int) -> None:
        """Add what `inode` holds to the sums of all directories above it, or take it off."""
        directories, files, size, replica_bytes = sums_of(inode)
        above: int = inode.parent
        while True:
            directory = self._directory(above)
            directory.directories += sign * directories
            directory.files += sign * files
            directory.bytes += sign * size
            directory.replica_bytes += sign * replica_bytes
            if directory.id == ROOT or directory.parent == DETACHED:
                return
            above = directory.parent

    def _directory(self, inode: int) -> Directory:
        found = self._inodes[inode]
        if not isinstance(found, Directory):
            raise InvariantViolation(f"inode {inode} is a file and has entries")
        return found

    # ── the durable form ────────────────────────────────────────────────────────────────────────────────────────────

    def restore(self, row: InodeRow) -> None:
        """Take in a row of `inodes` that was persisted, key, then values; in any order, and `restored` at the end.

        What many inodes have in common is one object for all.
        """
        number, parent, name, kind, at, length, block_size_bytes, replication, owner, mode, *packed = row
        parent, owner, mode = self._one(parent), self._one(owner), self._one(mode)
        if kind == "directory":
            self._inodes[number] = Directory(number, parent, name, at, owner, mode or DIRECTORY_MODE)
        else:
            sizes = (length, self._one(block_size_bytes), replication)
            self._inodes[number] = File(number, parent, name, at, *sizes, owner, mode or FILE_MODE, *packed)

    def _one(self, value: V) -> V:
        found: V = self._common.setdefault(value, value)
        return found

    def restored(self) -> None:
        """All rows were taken in."""
        self._common.clear()
        for inode in self._inodes.values():
            if inode.parent == DETACHED:
                self._detached.append(inode)
            elif inode.id != ROOT:
                self._directory(inode.parent).entries[inode.name] = inode.id
        self._add_up()

    def _add_up(self) -> None:
        """Make the sums of all directories, those below before those above."""
        order: list[Directory] = [self._root, *(each for each in self._detached if isinstance(each, Directory))]
        for directory in order:  # it grows while it is walked
            below = (self._inodes[number] for number in directory.entries.values())
            order.extend(each for each in below if isinstance(each, Directory))
        for directory in reversed(order):
            for number in directory.entries.values():
                directories, files, size, replica_bytes = sums_of(self._inodes[number])
                directory.directories += directories
                directory.files += files
                directory.bytes += size
                directory.replica_bytes += replica_bytes
