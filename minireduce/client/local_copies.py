"""Copy files and directories between the local disk and the store: several at a time, small ones many at once.

A local file appears whole or not at all; so does a stored one. What a directory held when it was looked at is copied.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minireduce.client.connection import Connection
from minireduce.client.file_reading import WINDOW_BYTES, FileReader
from minireduce.client.local_tree import local_tree
from minireduce.client.packing import PACK_BYTES_MAX, SMALL_FILE_BYTES_MAX
from minireduce.client.storing import Wishes
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX
from minireduce.core.storage.paths import Names, parse_path
from minireduce.core.storage.views import FileStatus, ReadableBlock
from minireduce.errors import AlreadyExists, NotFound, RequestError
from minireduce.wire import methods
from minireduce.wire.file_questions import GetFiles

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem

FILES_AT_ONCE = 8
"""How many files of a directory are copied at a time: each waits for disks and other machines most of its time."""
SMALL_FILES_PER_GET = 64
"""How many small files of a directory are asked about at a time: the question costs more than the answers."""


def put_tree(files: FileSystem, source: Path, target: str, wishes: Wishes) -> int:
    """Store a local directory as `target`; how many bytes."""
    found = list(local_tree(source, target))
    files.mkdir(target)
    for _, place, is_directory in found:
        if is_directory:
            files.mkdir(place)

    def put_batch(batch: list[tuple[Path, str]]) -> int:
        if len(batch) == 1:
            return put_file(files, *batch[0], wishes)
        return files.put_many(((place, _content(path)) for path, place in batch), **wishes._asdict())

    batches = list(_batches((path, place) for path, place, is_directory in found if not is_directory))
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="put") as pool:
        return sum(pool.map(put_batch, batches))


def put_file(files: FileSystem, source: Path, target: str, wishes: Wishes) -> int:
    """Store a local file as `target`; how many bytes."""
    with _local(source) as stream:
        return files.put_stream(stream, target, **wishes._asdict()).length


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


class Getting:
    """Stored files that are written to the local disk; those that are there are replaced only with `overwrite`."""

    def __init__(self, connection: Connection, machine_id: str, *, overwrite: bool) -> None:
        self._connection = connection
        self._machine_id = machine_id
        self._overwrite = overwrite

    def tree(self, found: FileStatus, below: Iterable[FileStatus], target: Path) -> int:
        """Write a directory, of which all is `below`; how many bytes."""
        above = parse_path(found.path)
        target.mkdir(parents=True, exist_ok=True)
        files: list[tuple[FileStatus, Path]] = []
        for entry in below:
            place = target.joinpath(*names_below(above, entry.path))
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
            return sum(pool.map(self._batch, batches))

    def _batch(self, batch: Sequence[tuple[FileStatus, Path]]) -> int:
        request = GetFiles(tuple(status.path for status, _ in batch), WINDOW_BYTES, self._machine_id)
        for (status, target), found in zip(batch, self._connection.call(methods.GET_FILES, request), strict=True):
            if found.status.inode != status.inode:
                raise NotFound(f"{status.path} was replaced while it was read", hint="read it again")
            self.file(status, target, found.blocks)
        return sum(status.length for status, _ in batch)

    def file(self, found: FileStatus, target: Path, blocks: tuple[ReadableBlock, ...] = ()) -> int:
        """The file appears whole or not at all. `blocks`: where its first ones are, if that is known."""
        if target.exists() and not self._overwrite:
            raise AlreadyExists(f"{target} exists", hint="remove it first, or overwrite it")
        try:
            place = target.with_name(f".minireduce-{secrets.token_hex(8)}")
            with place.open("xb") as draft:
                try:
                    with FileReader(self._connection, found, self._machine_id, blocks) as reader:
                        for piece in reader.pieces(0, found.length):
                            draft.write(piece)
                    place.replace(target)
                except BaseException:
                    place.unlink(missing_ok=True)
                    raise
        except OSError as cause:
            raise RequestError(f"{target} cannot be written: {cause.strerror}") from cause
        return found.length


def names_below(above: Names, path: str) -> Names:
    """The names of `path` below a directory, fit for a local path whoever answered. Raises RequestError."""
    names = parse_path(path)
    if names[: len(above)] != above or len(names) == len(above):
        raise RequestError(f"{path!r} was listed, which is not below /{'/'.join(above)}")
    return names[len(above) :]
