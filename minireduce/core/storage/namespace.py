"""The tree of directories and files: names, and what they stand for.

Every file and directory is an inode with a number that is never used twice, so what a job reads or a client renames can
be told apart from a later thing of the same name. A file enters the tree when it is closed; before that it is in
`leases`. Each change writes the rows of the inodes that it touched, and renaming a directory touches one inode.

Paths are absolute, `/a/b`; there is no `.`, no `..` and no empty name. Elsewhere: what the bytes of a file are
(`blocks`), and the `mr://` spelling (the client's).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from minireduce.core.effects import Effects
from minireduce.core.storage.views import DirectoryPage, FileStatus
from minireduce.errors import AlreadyExists, InvariantViolation, NotFound, RequestError

ROOT = 1
NAME_BYTES_MAX = 255
DEPTH_MAX = 128
TABLE = "inodes"

Names = tuple[str, ...]


@dataclass(slots=True)
class Directory:
    """A directory. `entries` maps names to inode numbers."""

    id: int
    parent: int
    name: str
    modified_at: float
    entries: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class File:
    """A closed file; it never changes."""

    id: int
    parent: int
    name: str
    modified_at: float
    length: int
    block_size_bytes: int
    replication: int


Inode = Directory | File


def parse_path(path: str) -> Names:
    """The names in `path`, none for the root. Raises RequestError."""
    if not path.startswith("/"):
        raise RequestError(f"{path!r} is no path of the block store", hint="paths begin with a slash, such as /logs/a")
    names = tuple(name for name in path.split("/") if name)
    if len(names) > DEPTH_MAX:
        raise RequestError(f"{path[:80]!r}… is {len(names)} directories deep, {DEPTH_MAX} are allowed")
    for name in names:
        _check_name(path, name)
    return names


def _check_name(path: str, name: str) -> None:
    if name in {".", ".."}:
        raise RequestError(f"{path!r} holds {name!r}", hint="write the path without it")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise RequestError(f"{path!r} holds a name that is no text", hint="names are UTF-8") from None
    if size > NAME_BYTES_MAX or any(sign < " " or sign == "\x7f" for sign in name):
        raise RequestError(
            f"{path[:80]!r} holds a name that is too long or holds control characters",
            hint=f"a name has at most {NAME_BYTES_MAX} bytes",
        )


class Namespace:
    """All closed files and all directories."""

    def __init__(self) -> None:
        self._root = Directory(ROOT, ROOT, "", 0.0)
        self._inodes: dict[int, Inode] = {ROOT: self._root}
        self.files_total = 0
        self.bytes_total = 0

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return len(self._inodes)

    def get(self, inode: int) -> Inode | None:
        """The file or directory with this number."""
        return self._inodes.get(inode)

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
        found = self._inodes.get(inode)
        if not isinstance(found, File):
            raise NotFound(f"file {inode} has been removed", hint="`minireduce fs ls` shows what is there")
        return found

    def path_of(self, inode: Inode) -> str:
        """The path that leads to `inode` now."""
        names: list[str] = []
        while inode.id != ROOT:
            names.append(inode.name)
            inode = self._inodes[inode.parent]
        return "/" + "/".join(reversed(names))

    def status(self, inode: Inode) -> FileStatus:
        """`inode` as it is shown."""
        path = self.path_of(inode)
        if isinstance(inode, Directory):
            return FileStatus(path, inode.id, True, 0, 0, 0, inode.modified_at)
        return FileStatus(
            path, inode.id, False, inode.length, inode.block_size_bytes, inode.replication, inode.modified_at
        )

    def page(self, path: str, after: str, entries_max: int) -> DirectoryPage:
        """Entries of the directory `path` whose names come after `after`; of a file, the file itself."""
        found = self.look_up(path)
        if isinstance(found, File):
            return DirectoryPage((self.status(found),), has_more=False)
        names = [name for name in sorted(found.entries) if name > after]
        entries = tuple(self.status(self._inodes[found.entries[name]]) for name in names[:entries_max])
        return DirectoryPage(entries, has_more=len(names) > entries_max)

    def below(self, inode: Inode) -> Iterator[Inode]:
        """`inode` and all below it, a directory before what it holds."""
        waiting = [inode]
        while waiting:
            found = waiting.pop()
            yield found
            if isinstance(found, Directory):
                waiting.extend(self._inodes[found.entries[name]] for name in sorted(found.entries, reverse=True))

    def _walk(self, names: Names) -> Inode | None:
        here: Inode = self._root
        for name in names:
            if not isinstance(here, Directory) or name not in here.entries:
                return None
            here = self._inodes[here.entries[name]]
        return here

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

    @staticmethod
    def _check_free(path: str, there: Inode | None, *, overwrite: bool) -> None:
        if isinstance(there, Directory):
            raise AlreadyExists(f"{path} is a directory", hint="give the name of a file in it")
        if there is not None and not overwrite:
            raise AlreadyExists(f"{path} exists", hint="remove it first, or overwrite it")

    def make_directories(self, names: Names, ids: Iterator[int], at: float, effects: Effects) -> Directory:
        """The directory `names`, made with those above it where missing. Raises RequestError where a file is."""
        here: Inode = self._root
        for name in names:
            if not isinstance(here, Directory):
                break
            if name not in here.entries:
                self._enter(Directory(next(ids), here.id, name, at), effects)
            here = self._inodes[here.entries[name]]
        if not isinstance(here, Directory):
            raise RequestError(f"{self.path_of(here)} is a file, so nothing can be below it")
        return here

    def make_directory(self, path: str, ids: Iterator[int], at: float, effects: Effects) -> Directory:
        """The new directory `path`. Raises NotFound when the one above is missing, AlreadyExists when it is there."""
        names = parse_path(path)
        if self._walk(names) is not None:
            raise AlreadyExists(f"{path} exists")
        parent = self._walk(names[:-1])
        if parent is None:
            raise NotFound(f"the directory above {path} does not exist", hint="make those above it too: mkdir -p")
        if not isinstance(parent, Directory):
            raise RequestError(f"{self.path_of(parent)} is a file, so nothing can be below it")
        made = Directory(next(ids), parent.id, names[-1], at)
        self._enter(made, effects)
        return made

    def add_file(self, file: File, effects: Effects) -> None:
        """Enter a closed file under its parent and name, where nothing is."""
        self._enter(file, effects)

    def rename(self, inode: Inode, target: str, at: float, effects: Effects, *, replace: bool) -> list[Inode]:
        """Give `inode` the path `target`, whose directory exists; what was called so before, and is removed."""
        names = parse_path(target)
        parent = self._walk(names[:-1]) if names else None
        if not isinstance(parent, Directory):
            raise NotFound(f"the directory above {target} does not exist", hint="make it first: mkdir -p")
        if self._is_within(parent, inode):
            raise RequestError(f"{self.path_of(inode)} cannot be moved below itself, to {target}")
        gone: list[Inode] = []
        if names[-1] in parent.entries:
            there = self._inodes[parent.entries[names[-1]]]
            if not replace:
                raise AlreadyExists(f"{target} exists", hint="remove it first")
            if self._is_within(self._directory(inode.parent), there):
                raise RequestError(f"{target} cannot be replaced by {self.path_of(inode)}, which is below it")
            gone = self.remove(there, effects)
        del self._directory(inode.parent).entries[inode.name]
        inode.parent, inode.name, inode.modified_at = parent.id, names[-1], at
        parent.entries[inode.name] = inode.id
        self._persist(inode, effects)
        return gone

    def _is_within(self, directory: Directory, inode: Inode) -> bool:
        here: Inode = directory
        while here.id != ROOT:
            if here.id == inode.id:
                return True
            here = self._inodes[here.parent]
        return inode.id == ROOT

    def remove(self, inode: Inode, effects: Effects) -> list[Inode]:
        """Take `inode` and all below it out of the tree; all that went."""
        if inode.id == ROOT:
            raise RequestError("the root directory cannot be removed", hint="remove what it holds")
        gone = list(self.below(inode))
        del self._directory(inode.parent).entries[inode.name]
        for each in gone:
            del self._inodes[each.id]
            effects.forget(TABLE, (each.id,))
            if isinstance(each, File):
                self.files_total -= 1
                self.bytes_total -= each.length
        return gone

    def _enter(self, inode: Inode, effects: Effects) -> None:
        self._link(inode)
        self._persist(inode, effects)

    def _link(self, inode: Inode) -> None:
        parent = self._directory(inode.parent)
        if inode.name in parent.entries or inode.id in self._inodes:
            raise InvariantViolation(
                f"inode {inode.id} cannot be entered as {inode.name!r} into {self.path_of(parent)}"
            )
        self._inodes[inode.id] = inode
        parent.entries[inode.name] = inode.id
        if isinstance(inode, File):
            self.files_total += 1
            self.bytes_total += inode.length

    def _directory(self, inode: int) -> Directory:
        found = self._inodes[inode]
        if not isinstance(found, Directory):
            raise InvariantViolation(f"inode {inode} is a file and has entries")
        return found

    # ── the durable form ────────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _persist(inode: Inode, effects: Effects) -> None:
        if isinstance(inode, Directory):
            values = (inode.parent, inode.name, "directory", inode.modified_at, 0, 0, 0)
        else:
            sizes = (inode.length, inode.block_size_bytes, inode.replication)
            values = (inode.parent, inode.name, "file", inode.modified_at, *sizes)
        effects.persist(TABLE, (inode.id,), values)

    def load(self, rows: list[tuple[int, int, str, str, float, int, int, int]]) -> None:
        """Take in the rows of `inodes` that were persisted, in any order: key, then values."""
        for inode, parent, name, kind, at, *_ in rows:
            if kind == "directory":
                self._inodes[inode] = Directory(inode, parent, name, at)
        for inode, parent, name, kind, at, length, block_size_bytes, replication in rows:
            if kind == "file":
                self._inodes[inode] = File(inode, parent, name, at, length, block_size_bytes, replication)
                self.files_total += 1
                self.bytes_total += length
            self._directory(parent).entries[name] = inode
