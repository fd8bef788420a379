"""Upload input that no worker can read where it is, for the time of one job.

Files that a worker sees, on the same machine and in the same mounts (`machine_id`), are read in place (`job_spec`
decides that). All others go to the block store first, several at a time, the small ones packed together, below a
directory that is the job's own (`core.storage.staged_paths`). It goes with the job; what was uploaded for a job that
was never submitted is removed here, or by the master where this process was killed.

A file must be the one that was found when the job was planned: it is held against its fingerprint when it is opened and
again when all of it was read, as a task does that reads in place.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from minireduce.client.fs import FileSystem
from minireduce.client.inputs import InputFile, Inputs
from minireduce.client.local_copies import FILES_AT_ONCE
from minireduce.client.packing import PACK_BYTES_MAX, SMALL_FILE_BYTES_MAX
from minireduce.client.stored_inputs import StoredFile
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX
from minireduce.core.storage.staged_paths import staged_path, staging_path
from minireduce.errors import Corruption, MinireduceError, RequestError
from minireduce.machine import fingerprint

OnUpload = Callable[[int, int], None]
"""Told how many bytes of how many were read for the upload."""


def upload(
    files: FileSystem, inputs: Inputs, key: str, *, replication: int, on_upload: OnUpload | None = None
) -> Inputs:
    """The same inputs, with the local ones in the block store; empty files, which have no records, left out.

    `key` is the one that the job will be submitted with. When this raises, nothing of it stays.

    Raises:
        RequestError: a file changed or went since the inputs were found, or has a name that cannot be stored.
    """
    wanted = {file.path: file for file in inputs.local_files}
    told = _Told(sum(file.size_bytes for file in wanted.values()), on_upload)
    try:
        _store(files, list(wanted.values()), key, replication, told)
        stored = {entry.path: entry for entry in files.walk(staging_path(key))}
    except BaseException:
        remove(files, key)
        raise

    def placed(file: InputFile | StoredFile) -> InputFile | StoredFile:
        if isinstance(file, StoredFile):
            return file
        found = stored[staged_path(key, file.path)]
        if found.length != file.size_bytes:
            raise Corruption(f"{file.path} was stored with {found.length} bytes, and has {file.size_bytes}")
        # In no container: what shares a split must not depend on what happened to be packed together.
        return StoredFile(found.path, found.length, found.inode)

    def all_placed(given: Inputs) -> Inputs:
        return replace(
            given,
            files=tuple(placed(file) for file in given.files if file.size_bytes),
            parts=tuple(placed(part) for part in given.parts if part.size_bytes),
            several=tuple(map(all_placed, given.several)),
        )

    return all_placed(inputs)


def remove(files: FileSystem, key: str) -> None:
    """Remove what was uploaded for a job that will not be. What cannot be removed now is left to the master."""
    with contextlib.suppress(MinireduceError):
        files.rm(staging_path(key), recursive=True, skip_trash=True)


def _store(files: FileSystem, wanted: Sequence[InputFile], key: str, replication: int, told: _Told) -> None:
    def store(batch: Sequence[InputFile]) -> None:
        if len(batch) > 1:
            files.put_many(
                ((staged_path(key, file.path), _content(file, told)) for file in batch), replication=replication
            )
            return
        with _open(batch[0], told) as source:
            target = staged_path(key, batch[0].path)
            files.put_stream(cast("BinaryIO", source), target, replication=replication)

    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="upload") as pool:
        try:
            for _ in pool.map(store, _batches(wanted)):
                pass
        except BaseException:
            told.is_given_up = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _batches(wanted: Iterable[InputFile]) -> Iterator[list[InputFile]]:
    """Small files in batches that fit a pack, in order, and each large one by itself."""
    batch: list[InputFile] = []
    size = 0
    for file in wanted:
        if file.size_bytes > SMALL_FILE_BYTES_MAX:
            yield [file]
            continue
        if batch and (len(batch) == FILES_PER_CONTAINER_MAX or size + file.size_bytes > PACK_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size_bytes
    if batch:
        yield batch


def _content(file: InputFile, told: _Told) -> bytes:
    with _open(file, told) as source:
        return b"".join(iter(lambda: source.read(SMALL_FILE_BYTES_MAX), b""))


@contextlib.contextmanager
def _open(file: InputFile, told: _Told) -> Iterator[_Source]:
    try:
        stream = Path(file.path).open("rb")  # noqa: SIM115 - closed below; what the caller raises is not ours to name
    except OSError as cause:
        raise _unreadable(file, cause) from cause
    with stream:
        yield _Source(file, stream, told)


def _unreadable(file: InputFile, cause: OSError) -> RequestError:
    return RequestError(f"input {file.path} cannot be read: {cause.strerror}", hint="see what is there with ls -l")


class _Told:
    """How far all threads have come together; `is_given_up` ends them."""

    def __init__(self, bytes_total: int, on_upload: OnUpload | None) -> None:
        self.is_given_up = False
        self._bytes_total = bytes_total
        self._bytes_done = 0
        self._on_upload = on_upload
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._bytes_done += count
            if self._on_upload is not None:
                self._on_upload(self._bytes_done, self._bytes_total)


class _Source:
    """Reads a file as it was when it was found, and no further: one that grows would have no end."""

    def __init__(self, file: InputFile, stream: BinaryIO, told: _Told) -> None:
        self._file = file
        self._stream = stream
        self._told = told
        self._left = file.size_bytes
        self._check()

    def read(self, size: int = -1) -> bytes:
        if self._told.is_given_up:
            raise RequestError(f"the upload of {self._file.path} was given up")
        try:
            piece = self._stream.read(self._left if size < 0 else min(size, self._left))
        except OSError as cause:
            raise _unreadable(self._file, cause) from cause
        self._left -= len(piece)
        if not self._left or not piece:
            self._check()
        self._told.add(len(piece))
        return piece

    def _check(self) -> None:
        found = fingerprint(os.fstat(self._stream.fileno()))
        if found != self._file.fingerprint:
            raise RequestError(
                f"input {self._file.path} changed while it was uploaded"
                f" (size:inode:mtime was {self._file.fingerprint}, is {found})",
                hint="submit the job again, and leave its input alone until it runs",
            )
