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
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, cast

import google_crc32c

from minireduce.client.connection import Connection
from minireduce.client.file_reading import BUFFER_BYTES, WINDOW_BYTES, FileReader
from minireduce.client.file_writing import FileWriter, new_file
from minireduce.client.gathering import Gatherer, SmallFile
from minireduce.client.local_tree import local_tree
from minireduce.client.many_files import ManyFiles, NewFiles
from minireduce.client.packing import PACK_BYTES_MAX, SMALL_FILE_BYTES_MAX, Ahead, Pack, PackRoom
from minireduce.client.store_paths import has_glob, join, name_of, parse_store_path
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX
from minireduce.core.storage.paths import Names, parse_path
from minireduce.core.storage.requests import (
    AppendFile,
    ChangeAttributes,
    CreateFile,
    HurryRepair,
    MakeDirectory,
    RemovePath,
    RenamePath,
)
from minireduce.core.storage.trash import TRASH
from minireduce.core.storage.views import FileBlocks, FileHealth, FileStatus, ReadableBlock, Removed, Summary
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

COPY_BYTES = 1 << 20
FILES_AT_ONCE = 8
"""How many files of a directory are copied at a time: each waits for disks and other machines most of its time."""
SMALL_FILES_PER_GET = 64
"""How many small files of a directory are asked about at a time: the question costs more than the answers."""


class FileSystem:
    """The files of one cluster."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._machine_id = machine_id()
        self._owner = _user_name()

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
            return NewFiles(wanted, lambda files: self._put_together(files, _Wishes(overwrite, 0, 0)))
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
        request = self._new_file(parse_store_path(path), _Wishes(overwrite, block_size, replication))
        return FileWriter(self._connection, request, self._machine_id)

    def _new_file(self, path: str, wishes: _Wishes, *, has_bytes: bool = False) -> CreateFile:
        """`has_bytes`: the first ones are at hand."""
        return new_file(
            path,
            overwrite=wishes.overwrite,
            block_size_bytes=wishes.block_size,
            replication=wishes.replication,
            owner=self._owner,
            places_first=has_bytes,
        )

    def put_stream(
        self, source: BinaryIO, path: str, *, overwrite: bool = False, block_size: int = 0, replication: int = 0
    ) -> FileStatus:
        """Store what `source` gives as the file `path`.

        Small files that several threads store at the same time share blocks, as those of `put_many` do.
        """
        head = _up_to(source, SMALL_FILE_BYTES_MAX + 1)
        wishes = _Wishes(overwrite, block_size, replication)
        if len(head) <= SMALL_FILE_BYTES_MAX:
            return self._gatherer(wishes).store([(parse_store_path(path), head)])[0]
        return self._store(path, head, source, wishes)

    def _store(self, path: str, head: bytes, rest: BinaryIO | None, wishes: _Wishes) -> FileStatus:
        request = self._new_file(parse_store_path(path), wishes, has_bytes=bool(head))
        with FileWriter(self._connection, request, self._machine_id) as file:
            file.write(head)
            if rest is not None:
                shutil.copyfileobj(rest, file, COPY_BYTES)
        assert file.status is not None
        return file.status

    def _put_together(self, files: Sequence[SmallFile], wishes: _Wishes) -> None:
        """Store these files with one answer, and with those that other threads store at the same time."""
        are_small = all(len(data) <= SMALL_FILE_BYTES_MAX for _, data in files)
        if files and are_small and _fitting([files], wishes.block_size):
            self._gatherer(wishes, shows=False).store(files)
        else:
            self._put_packs(files, wishes)

    def _gatherer(self, wishes: _Wishes, *, shows: bool = True) -> Gatherer:
        """Where small files with these wishes meet; `shows`: those that want to see what was stored."""

        ahead = Ahead()

        def together(files: Iterable[SmallFile]) -> Sequence[FileStatus]:
            shown: list[FileStatus] = []
            self._put_packs(files, wishes, shown if shows else None, ahead, in_one=True)
            return shown

        def alone(files: Sequence[SmallFile]) -> Sequence[FileStatus]:
            if len(files) > 1:
                shown: list[FileStatus] = []
                self._put_packs(files, wishes, shown if shows else None)
                return shown
            ((path, data),) = files
            return [self._store(path, data, None, wishes)]

        def show(files: Sequence[SmallFile]) -> Sequence[FileStatus]:
            request = GetFiles(tuple(path for path, _ in files), 0, self._machine_id)
            return [each.status for each in self._connection.call(methods.GET_FILES, request)] if shows else []

        return self._connection.gatherers.get(
            (wishes, shows, self._owner),
            lambda: Gatherer(together, alone, show, lambda groups: _fitting(groups, wishes.block_size)),
        )

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
        return self._put_packs(files, _Wishes(overwrite, block_size, replication))

    def _put_packs(
        self,
        files: Iterable[SmallFile],
        wishes: _Wishes,
        shown: list[FileStatus] | None = None,
        ahead: Ahead | None = None,
        *,
        in_one: bool = False,
    ) -> int:
        """The bytes stored. `shown` is what is to hold, in the end, the status of each file.

        `in_one`: in one block, or none of them is stored and RequestError raised.
        """
        total = 0
        pack: Pack | None = None
        try:
            for path, data in files:
                place = parse_store_path(path)
                total += len(data)
                if pack is not None and pack.add(place, data):
                    continue
                if pack is not None and in_one:
                    _refuse_another_block(place)
                if len(data) <= SMALL_FILE_BYTES_MAX:
                    if pack is not None:
                        pack.close()
                    pack = self._pack(wishes, shown, ahead)
                    if pack.add(place, data):
                        continue
                status = self._store(place, data, None, wishes)
                if shown is not None:
                    shown.append(status)
            if pack is not None:
                pack.close()
        except BaseException:
            if pack is not None:
                pack.abandon()
            raise
        return total

    def _pack(self, wishes: _Wishes, shown: list[FileStatus] | None, ahead: Ahead | None) -> Pack:
        return Pack(self._connection, self._new_file("", wishes, has_bytes=True), self._machine_id, shown, ahead)

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
            inner = join(place, "/".join(_names_below(above, entry.path)))
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
        if not source.is_dir():
            return self._put_file(source, target, overwrite, block_size, replication)
        found = list(local_tree(source, target))
        self.mkdir(target)
        for _, place, is_directory in found:
            if is_directory:
                self.mkdir(place)

        def put_batch(batch: list[tuple[Path, str]]) -> int:
            if len(batch) == 1:
                return self._put_file(*batch[0], overwrite, block_size, replication)
            contents = ((place, _content(path)) for path, place in batch)
            return self.put_many(contents, overwrite=overwrite, block_size=block_size, replication=replication)

        batches = list(_batches((path, place) for path, place, is_directory in found if not is_directory))
        with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="put") as pool:
            return sum(pool.map(put_batch, batches))

    def _put_file(self, source: Path, target: str, overwrite: bool, block_size: int, replication: int) -> int:
        with _local(source) as stream:
            done = self.put_stream(stream, target, overwrite=overwrite, block_size=block_size, replication=replication)
        return done.length

    def get(self, path: str, local: str | os.PathLike[str], *, overwrite: bool = False) -> int:
        """Write a file, or a directory with all below, to the local disk; into `local` if that is one. Their bytes."""
        found, target = self.stat(path), Path(local)
        above = parse_path(found.path)
        if target.is_dir():
            target = target.joinpath(*above[-1:])
        if not found.is_directory:
            return self._get_file(found, target, overwrite=overwrite)
        target.mkdir(parents=True, exist_ok=True)
        files: list[tuple[FileStatus, Path]] = []
        for entry in self.walk(found.path):
            place = target.joinpath(*_names_below(above, entry.path))
            if entry.is_directory:
                place.mkdir(exist_ok=True)
            else:
                files.append((entry, place))
        # Small ones are asked about together; a large one is a thread's work by itself, so that threads share them out.
        small = [each for each in files if each[0].length <= SMALL_FILE_BYTES_MAX]
        batches = [[each] for each in files if each[0].length > SMALL_FILE_BYTES_MAX]
        batches.extend(
            small[begin : begin + SMALL_FILES_PER_GET] for begin in range(0, len(small), SMALL_FILES_PER_GET)
        )
        with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="get") as pool:
            return sum(pool.map(lambda batch: self._get_batch(batch, overwrite=overwrite), batches))

    def _get_batch(self, batch: Sequence[tuple[FileStatus, Path]], *, overwrite: bool) -> int:
        request = GetFiles(tuple(status.path for status, _ in batch), WINDOW_BYTES, self._machine_id)
        for (status, target), found in zip(batch, self._connection.call(methods.GET_FILES, request), strict=True):
            if found.status.inode != status.inode:
                raise NotFound(f"{status.path} was replaced while it was read", hint="read it again")
            self._get_file(status, target, found.blocks, overwrite=overwrite)
        return sum(status.length for status, _ in batch)

    def _get_file(
        self, found: FileStatus, target: Path, blocks: tuple[ReadableBlock, ...] = (), *, overwrite: bool
    ) -> int:
        """The file appears whole or not at all. `blocks`: where its first ones are, if that is known."""
        if target.exists() and not overwrite:
            raise AlreadyExists(f"{target} exists", hint="remove it first, or overwrite it")
        try:
            with tempfile.NamedTemporaryFile(prefix=".minireduce-", dir=target.parent, delete=False) as draft:
                place = Path(draft.name)
                try:
                    with FileReader(self._connection, found, self._machine_id, blocks) as reader:
                        for piece in reader.pieces(0, found.length):
                            draft.write(piece)
                    place.chmod(0o666 & ~_umask())
                    place.replace(target)
                except BaseException:
                    place.unlink(missing_ok=True)
                    raise
        except OSError as cause:
            raise RequestError(f"{target} cannot be written: {cause.strerror}") from cause
        return found.length


class _Wishes(NamedTuple):
    """What is asked of new files; 0: the cluster's defaults."""

    overwrite: bool
    block_size: int
    replication: int


def _buffered(reader: FileReader) -> io.BufferedReader:
    """With a buffer no larger than the file: one of its full size is mapped anew for every small file."""
    return io.BufferedReader(reader, max(1, min(BUFFER_BYTES, reader.status.length)))


def _up_to(source: BinaryIO, count: int) -> bytes:
    """The next `count` bytes, fewer only at the end; some sources give less than they are asked for."""
    pieces: list[bytes] = []
    while count and (piece := source.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _refuse_another_block(path: str) -> NoReturn:
    raise RequestError(f"{path} does not fit the block of the files before it", hint="store it by itself")


def _fitting(groups: Sequence[Sequence[SmallFile]], block_size: int) -> int:
    """How many of these groups of files, from the first on, go in one pack; a block that is smaller shows later."""
    room = PackRoom(min(PACK_BYTES_MAX, block_size or PACK_BYTES_MAX))
    fit = itertools.takewhile(lambda group: all(room.take(path, len(data)) for path, data in group), groups)
    return sum(1 for _ in fit)


def _local(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except FileNotFoundError:
        raise NotFound(f"{source} does not exist") from None
    except OSError as cause:
        raise RequestError(f"{source} cannot be read: {cause.strerror}") from cause


def _content(source: Path) -> bytes:
    with _local(source) as stream:
        return stream.read()


def _batches(files: Iterable[tuple[Path, str]]) -> Iterator[list[tuple[Path, str]]]:
    """Small files in batches that fit a pack, in order, and each large one by itself."""
    batch: list[tuple[Path, str]] = []
    size = 0
    for path, place in files:
        try:
            own = path.stat().st_size
        except OSError as cause:
            raise RequestError(f"{path} cannot be read: {cause.strerror}") from cause
        if own > SMALL_FILE_BYTES_MAX:
            yield [(path, place)]
            continue
        if len(batch) == FILES_PER_CONTAINER_MAX or size + own > PACK_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append((path, place))
        size += own
    if batch:
        yield batch


def _names_below(above: Names, path: str) -> Names:
    """The names of `path` below a directory, fit for a local path whoever answered. Raises RequestError."""
    names = parse_path(path)
    if names[: len(above)] != above or len(names) == len(above):
        raise RequestError(f"{path!r} was listed, which is not below /{'/'.join(above)}")
    return names[len(above) :]


def _user_name() -> str:
    """Who runs this process; a number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
