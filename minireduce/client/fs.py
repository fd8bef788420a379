"""The block store as a file system: what `connect(...).fs` and `minireduce fs` do.

Paths are absolute, with or without `mr://` before them. Bytes are read and written through `file_reading` and
`file_writing`; everything else is one request. Requests that change a name carry the number of what they mean, so that
repeating one after a lost answer harms nothing.
"""

from __future__ import annotations

import contextlib
import fnmatch
import getpass
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import google_crc32c

from minireduce.client import local_copies
from minireduce.client.connection import Connection
from minireduce.client.file_reading import BUFFER_BYTES, WINDOW_BYTES, FileReader
from minireduce.client.file_writing import FileWriter
from minireduce.client.local_copies import names_below
from minireduce.client.many_files import ManyFiles, NewFiles
from minireduce.client.store_paths import has_glob, join, name_of, parse_store_path
from minireduce.client.storing import Storing, Wishes
from minireduce.core.storage.paths import parse_path
from minireduce.core.storage.requests import (
    AppendFile,
    ChangeAttributes,
    HurryRepair,
    MakeDirectory,
    RemovePath,
    RenamePath,
)
from minireduce.core.storage.trash import TRASH
from minireduce.core.storage.views import FileBlocks, FileHealth, FileStatus, Removed, Summary
from minireduce.errors import AlreadyExists, NotFound, RequestError
from minireduce.machine import machine_id
from minireduce.wire import methods
from minireduce.wire.file_questions import (
    FILES_PER_CALL_MAX,
    GetBlocks,
    GetFiles,
    GetHealth,
    GetStatus,
    GetSummary,
    ListDirectory,
)
from minireduce.wire.questions import DescribeCluster


class FileSystem:
    """The files of one cluster."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._machine_id = machine_id()
        self._owner = _user_name()
        self._storing = Storing(connection, self._machine_id, self._owner)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def stat(self, path: str) -> FileStatus:
        """What `path` names. Raises NotFound."""
        return self._connection.call(methods.GET_STATUS, GetStatus(parse_store_path(path)))

    def exists(self, path: str) -> bool:
        """Whether `path` names anything."""
        try:
            self.stat(path)
        except NotFound:
            return False
        return True

    def ls(self, path: str) -> list[FileStatus]:
        """The entries of a directory in ascending order of name; of a file, the file. Raises NotFound."""
        path = parse_store_path(path)
        entries: list[FileStatus] = []
        while True:
            after = name_of(entries[-1].path) if entries else ""
            page = self._connection.call(methods.LIST_DIRECTORY, ListDirectory(path, after))
            entries.extend(page.entries)
            if not page.has_more:
                return entries

    def walk(self, path: str) -> Iterator[FileStatus]:
        """All below a directory in ascending order of path, a directory before what it holds."""
        for entry in self.ls(path):
            yield entry
            if entry.is_directory:
                yield from self.walk(entry.path)

    def glob(self, pattern: str) -> list[FileStatus]:
        """What matches `pattern`, in which `*`, `?` and `[…]` stand for parts of one name; a leading dot is written.

        A name that is spelled exactly so comes before all that it would match.
        """
        found = [self.stat("/")]
        for name in parse_store_path(pattern).split("/")[1:]:
            found = [
                below for directory in found if directory.is_directory for below in self._matching(directory, name)
            ]
        return found

    def _matching(self, directory: FileStatus, name: str) -> list[FileStatus]:
        if not has_glob(name):
            path = join(directory.path, name)
            return [self.stat(path)] if self.exists(path) else []
        entries = [(name_of(entry.path), entry) for entry in self.ls(directory.path)]
        return [entry for entry_name, entry in entries if entry_name == name] or [
            entry
            for entry_name, entry in entries
            if fnmatch.fnmatchcase(entry_name, name) and (name.startswith(".") or not entry_name.startswith("."))
        ]

    def summary(self, path: str) -> Summary:
        """How much `path` holds, itself included. Raises NotFound."""
        return self._connection.call(methods.GET_SUMMARY, GetSummary(parse_store_path(path)))

    def du(self, path: str) -> list[Summary]:
        """How much each thing in a directory holds, or the file that `path` is. Raises NotFound."""
        found = self.stat(path)
        return [self.summary(each.path) for each in (self.ls(found.path) if found.is_directory else [found])]

    def health(self, path: str) -> FileHealth:
        """How the blocks of a file are, and why. Raises NotFound."""
        return self._connection.call(methods.GET_HEALTH, GetHealth(parse_store_path(path)))

    def hurry_repair(self, status: FileStatus) -> int:
        """Have a file repaired now, whoever may come back; how many of its blocks need it."""
        return self._connection.call(methods.HURRY_REPAIR, HurryRepair(status.path, status.inode))

    def workers_live(self) -> int:
        """How many workers can hold replicas now."""
        return self._connection.call(methods.DESCRIBE_CLUSTER, DescribeCluster()).workers_live

    def blocks(self, path: str) -> FileBlocks:
        """A file's blocks and the workers that hold them."""
        path = parse_store_path(path)
        return self._connection.call(methods.GET_BLOCKS, GetBlocks(path, 0, 1 << 62, self._machine_id))

    # ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def mkdir(self, path: str, *, parents: bool = True) -> FileStatus:
        """Make a directory. With `parents`, those above it too, and one that exists is fine."""
        request = MakeDirectory(parse_store_path(path), parents, self._owner)
        return self._connection.call(methods.MAKE_DIRECTORY, request)

    def rm(self, path: str, *, recursive: bool = False, skip_trash: bool = False) -> Removed:
        """Remove a file, or with `recursive` a directory; how many went, and where they are kept for now.

        Raises NotFound.
        """
        found = self.stat(path)
        request = RemovePath(found.path, found.inode, recursive, skip_trash)
        return self._connection.call(methods.REMOVE_PATH, request)

    def expunge(self) -> int:
        """Empty the trash; how many files and directories went."""
        try:
            return self.rm(f"/{TRASH}", recursive=True, skip_trash=True).inodes
        except NotFound:
            return 0

    def change(self, path: str, *, replication: int = 0, owner: str = "", mode: int = -1) -> FileStatus:
        """Change what is said about a file or directory; 0, "" and -1 leave things as they are. Raises NotFound."""
        found = self.stat(path)
        request = ChangeAttributes(found.path, found.inode, replication, owner, mode)
        return self._connection.call(methods.CHANGE_ATTRIBUTES, request)

    def setquota(self, path: str, *, names: int = -1, space: int = -1) -> FileStatus:
        """Let a directory hold so many names at most, itself included, and so many bytes with all their replicas.

        0: any number; -1 leaves things as they are. Raises NotFound.
        """
        found = self.stat(path)
        request = ChangeAttributes(found.path, found.inode, names_max=names, space_bytes_max=space)
        return self._connection.call(methods.CHANGE_ATTRIBUTES, request)

    def setrep(self, path: str, replication: int) -> FileStatus:
        """Have so many replicas of a file's blocks from now on: copies are made and removed after this returns."""
        return self.change(path, replication=replication)

    def rename(self, source: str, target: str, *, replace: bool = False) -> FileStatus:
        """Give `source` exactly this name. Raises AlreadyExists for a taken one, unless it is to be replaced."""
        found = self.stat(source)
        request = RenamePath(found.path, parse_store_path(target), found.inode, replace)
        return self._connection.call(methods.RENAME_PATH, request)

    def mv(self, source: str, target: str, *, replace: bool = False) -> FileStatus:
        """Rename; into `target` if that is a directory and not to be replaced. All of it or nothing happens."""
        found = self.stat(source)
        path = parse_store_path(target)
        if not replace:
            path = self._within(path, name_of(found.path))
        return self._connection.call(methods.RENAME_PATH, RenamePath(found.path, path, found.inode, replace))

    def _within(self, target: str, name: str) -> str:
        """`target`, or `name` in it if it is a directory."""
        try:
            return join(target, name) if self.stat(target).is_directory else target
        except NotFound:
            return target

    # ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(
        self, path: str, mode: str = "rb", *, overwrite: bool = False, block_size: int = 0, replication: int = 0
    ) -> BinaryIO:
        """A file for reading ("rb"), a new one for writing ("wb"), which appears when it is closed, or its end ("ab").

        "ab" makes an empty file where there is none; what is appended is there after `flush`, and after `close`.
        Raises NotFound, AlreadyExists, RequestError.
        """
        if mode == "rb":
            return cast("BinaryIO", _buffered(self.read(path)))
        if mode == "wb":
            return cast(
                "BinaryIO", self.write(path, overwrite=overwrite, block_size=block_size, replication=replication)
            )
        if mode == "ab":
            return cast("BinaryIO", self.append(path, block_size=block_size, replication=replication))
        raise RequestError(f"files are opened with mode 'rb', 'wb' or 'ab', not {mode!r}")

    def append(self, path: str, *, block_size: int = 0, replication: int = 0) -> FileWriter:
        """A file for writing at its end, made where there is none. Raises RequestError while another appends."""
        try:
            found = self.stat(path)
        except NotFound:  # it is made before anything is appended, or what `flush` promises would go with its writer
            with contextlib.suppress(AlreadyExists):  # somebody else makes it at the same time
                self.write(path, block_size=block_size, replication=replication).close()
            found = self.stat(path)
        request = AppendFile(found.path, found.inode, secrets.token_hex(16))
        return FileWriter(self._connection, request, self._machine_id)

    def open_many(self, paths: Sequence[str], mode: str = "rb", *, overwrite: bool = False) -> ManyFiles:
        """Files for reading ("rb"), with one question for many of them, or new small ones ("wb"), in this order.

        The new ones are stored together when the last of them is closed, or the `with` over all of them ends; see
        `put_many`. Raises NotFound if one to be read is missing.
        """
        wanted = [parse_store_path(path) for path in paths]
        if mode == "wb":
            return NewFiles(wanted, lambda files: self._storing.put_together(files, Wishes(overwrite, 0, 0)))
        if mode != "rb":
            raise RequestError(f"several files are opened with mode 'rb' or 'wb', not {mode!r}")
        found: list[FileBlocks] = []
        for begin in range(0, len(wanted), FILES_PER_CALL_MAX):
            request = GetFiles(tuple(wanted[begin : begin + FILES_PER_CALL_MAX]), WINDOW_BYTES, self._machine_id)
            found.extend(self._connection.call(methods.GET_FILES, request))
        readers = (FileReader(self._connection, each.status, self._machine_id, each.blocks) for each in found)
        return ManyFiles(cast("BinaryIO", _buffered(reader)) for reader in readers)

    def read(self, path: str) -> FileReader:
        """A file for reading."""
        found = self.stat(path)
        if found.is_directory:
            raise RequestError(f"{found.path} is a directory", hint="`minireduce fs ls` shows what it holds")
        return FileReader(self._connection, found, self._machine_id)

    def write(self, path: str, *, overwrite: bool = False, block_size: int = 0, replication: int = 0) -> FileWriter:
        """A new file for writing. Sizes and counts of 0 take the cluster's defaults."""
        request = self._storing.new_file(parse_store_path(path), Wishes(overwrite, block_size, replication))
        return FileWriter(self._connection, request, self._machine_id)

    def put_stream(
        self, source: BinaryIO, path: str, *, overwrite: bool = False, block_size: int = 0, replication: int = 0
    ) -> FileStatus:
        """Store what `source` gives as the file `path`.

        Small files that several threads store at the same time share blocks, as those of `put_many` do.
        """
        return self._storing.put_stream(source, parse_store_path(path), Wishes(overwrite, block_size, replication))

    def put_many(
        self,
        files: Iterable[tuple[str, bytes]],
        *,
        overwrite: bool = False,
        block_size: int = 0,
        replication: int = 0,
    ) -> int:
        """Store these files, small ones up to a thousand at a time in a block that they share. Bytes stored.

        Each appears whole or not at all, those of one block together: the first that is refused ends it, and what went
        before in other blocks stays. Raises AlreadyExists, RequestError.
        """
        return self._storing.put_packs(files, Wishes(overwrite, block_size, replication))

    def touch(self, path: str) -> FileStatus:
        """A new empty file. Raises AlreadyExists."""
        return self.put_stream(io.BytesIO(), path)

    def copy(self, source: str, target: str, *, overwrite: bool = False) -> int:
        """Copy a file, or a directory with all below, within the store; into `target` if that is a directory. Bytes.

        A copy has the replication and the block size of what it is made from.
        """
        found = self.stat(source)
        above, place = parse_path(found.path), self._within(parse_store_path(target), name_of(found.path))
        if not found.is_directory:
            return self._copy_file(found, place, overwrite=overwrite)
        if parse_path(place)[: len(above)] == above:
            raise RequestError(f"{found.path} cannot be copied below itself, to {place}")
        self.mkdir(place)
        total = 0
        for entry in self.walk(found.path):
            inner = join(place, "/".join(names_below(above, entry.path)))
            if entry.is_directory:
                self.mkdir(inner)
            else:
                total += self._copy_file(entry, inner, overwrite=overwrite)
        return total

    def _copy_file(self, found: FileStatus, target: str, *, overwrite: bool) -> int:
        with self.open(found.path) as reader:
            sizes = {"block_size": found.block_size_bytes, "replication": found.replication}
            return self.put_stream(reader, target, overwrite=overwrite, **sizes).length

    def checksum(self, path: str) -> int:
        """The CRC32C of a file's bytes. All of them are read and verified for it."""
        with self.read(path) as reader:
            value = 0
            for piece in reader.pieces(0, reader.status.length):
                value = google_crc32c.extend(value, piece)
        return value

    def put(
        self,
        local: str | os.PathLike[str],
        path: str,
        *,
        overwrite: bool = False,
        block_size: int = 0,
        replication: int = 0,
    ) -> int:
        """Store a local file, or a directory with all files below; into `path` if that is a directory. Bytes stored.

        The small files of a directory share blocks, see `put_many`.
        """
        source = Path(local)
        target = self._within(parse_store_path(path), source.name or source.resolve().name)
        wishes = Wishes(overwrite, block_size, replication)
        if source.is_dir():
            return local_copies.put_tree(self, source, target, wishes)
        return local_copies.put_file(self, source, target, wishes)

    def get(self, path: str, local: str | os.PathLike[str], *, overwrite: bool = False) -> int:
        """Write a file, or a directory with all below, to the local disk; into `local` if that is one. Their bytes."""
        found, target = self.stat(path), Path(local)
        if target.is_dir():
            target = target.joinpath(*parse_path(found.path)[-1:])
        getting = local_copies.Getting(self._connection, self._machine_id, overwrite=overwrite)
        if found.is_directory:
            return getting.tree(found, self.walk(found.path), target)
        return getting.file(found, target)


def _buffered(reader: FileReader) -> io.BufferedReader:
    """With a buffer no larger than the file: one of its full size is mapped anew for every small file."""
    return io.BufferedReader(reader, max(1, min(BUFFER_BYTES, reader.status.length)))


def _user_name() -> str:
    """Who runs this process; a number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
