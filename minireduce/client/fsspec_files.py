"""The block store for everything that speaks fsspec: `mr:///PATH` in pandas, pyarrow, Polars, DuckDB and Dask.

`MinireduceFileSystem` is registered for the protocol `mr` by this package's entry points, so nothing must be imported.
It is a translation: names, modes and errors of fsspec on one side, `client.fs` on the other. Which cluster is meant,
`storage_options` say (`master`, `token_file`), else the settings.

A file that is written appears when it is closed, in a transaction when that ends; one whose writer raised does not.
What is removed goes to the trash.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

from fsspec.spec import AbstractFileSystem

from minireduce.client.connection import connect
from minireduce.client.file_writing import FileWriter
from minireduce.client.fs import FileSystem
from minireduce.client.store_paths import parse_store_path
from minireduce.core.storage.views import FileStatus
from minireduce.errors import AlreadyExists, NotFound, RequestError

PROTOCOL = "mr"


class MinireduceFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of one cluster as fsspec sees them. Paths come without the protocol: `/a/b`."""

    protocol: ClassVar[str] = PROTOCOL
    root_marker: ClassVar[str] = "/"

    def __init__(
        self, *, master: str | None = None, token_file: str | None = None, token: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._connection = connect(master, token=token, token_file=token_file)
        self._files = FileSystem(self._connection)

    @classmethod
    def _strip_protocol(cls, path: str | list[str]) -> str | list[str]:
        if isinstance(path, list):
            return [str(cls._strip_protocol(each)) for each in path]
        text = str(path)
        return parse_store_path(text if text.startswith(("mr://", "/")) else f"/{text}")

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> io.IOBase:
        del block_size  # of fsspec's caches, which are not used
        sizes = {name: options[name] for name in ("replication",) if name in options}
        is_held = mode != "rb" and not options.get("autocommit", True)
        if is_held and mode == "ab":
            raise OSError(f"{path}: what is appended cannot be taken back, so it is part of no transaction")
        is_over = mode == "wb"
        with self._as_os_errors(path, is_over=is_over):
            opened: Any = self._files.open(path, "wb" if mode == "xb" else mode, overwrite=is_over, **sizes)
        return _HeldFile(opened) if is_held else opened

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        del options
        path = str(self._strip_protocol(path))
        with self._as_os_errors(path):
            return _described(self._files.stat(path))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        del options
        path = str(self._strip_protocol(path))
        with self._as_os_errors(path):
            listed = [_described(status) for status in self._files.ls(path)]
        return listed if detail else [each["name"] for each in listed]

    def modified(self, path: str) -> datetime:
        """When what `path` names was written or made."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    created = modified

    # ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        del options
        path = str(self._strip_protocol(path))
        if self.exists(path):
            raise FileExistsError(path)
        with self._as_os_errors(path):
            self._files.mkdir(path, parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        path = str(self._strip_protocol(path))
        if not exist_ok and self.exists(path):
            raise FileExistsError(path)
        with self._as_os_errors(path):
            self._files.mkdir(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory. Raises NotADirectoryError, FileNotFoundError, OSError."""
        if self.info(path)["type"] != "directory":
            raise NotADirectoryError(path)
        path = str(self._strip_protocol(path))
        if self._files.ls(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._remove(path, recursive=False)

    def rm_file(self, path: str) -> None:
        """Remove a file. Raises IsADirectoryError, FileNotFoundError."""
        if self.info(path)["type"] == "directory":
            raise IsADirectoryError(path)
        self._remove(path, recursive=False)

    _rm = rm_file

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        del maxdepth
        for each in self.expand_path(path):
            self._remove(each, recursive=recursive)

    def _remove(self, path: str, *, recursive: bool) -> None:
        path = str(self._strip_protocol(path))
        with self._as_os_errors(path):
            self._files.rm(path, recursive=recursive)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        """Rename, replacing a file; all of it or nothing happens."""
        del options
        source, target = str(self._strip_protocol(path1)), str(self._strip_protocol(path2))
        with self._as_os_errors(source):
            self._files.rename(source, target, replace=self.isfile(target))

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        del options
        source, target = str(self._strip_protocol(path1)), str(self._strip_protocol(path2))
        with self._as_os_errors(source):
            if self._files.stat(source).is_directory:
                self._files.mkdir(target)
            else:
                self._files.copy(source, target, overwrite=True)

    @contextlib.contextmanager
    def _as_os_errors(self, path: str, *, is_over: bool = False) -> Iterator[None]:
        """What libraries expect, in the block store's own words. `is_over`: a file in the way is replaced."""
        try:
            yield
        except NotFound as error:
            raise self._kind_of(path, FileNotFoundError)(f"{path}: {error.message}") from error
        except AlreadyExists as error:
            kind = self._kind_of(path, FileExistsError) if is_over else FileExistsError
            raise kind(f"{path}: {error.message}") from error
        except RequestError as error:
            raise self._kind_of(path, OSError)(f"{path}: {error.message}") from error

    def _kind_of(self, path: str, otherwise: type[OSError]) -> type[OSError]:
        """The error that says what stands in the way, if it is that a file or a directory is no such thing."""
        above = path
        with contextlib.suppress(RequestError):  # no path at all, or gone again
            while above != self.root_marker:
                try:
                    found = self._files.stat(above)
                except NotFound:
                    above = above.rpartition("/")[0] or self.root_marker
                    continue
                if above == path:
                    return IsADirectoryError if found.is_directory else otherwise
                return otherwise if found.is_directory else NotADirectoryError
        return otherwise


class _HeldFile(io.RawIOBase):
    """A new file of a transaction (`with fs.transaction:`): closed, it waits to be committed or discarded."""

    def __init__(self, writer: FileWriter) -> None:
        super().__init__()
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("write to a closed file")
        return self._writer.write(data)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def commit(self) -> None:
        """The file appears, unless its own writer has failed."""
        self._writer.close()

    def discard(self) -> None:
        """What was written is dropped."""
        self._writer.abandon()


def _described(status: FileStatus) -> dict[str, Any]:
    return {
        "name": status.path,
        "size": status.length,
        "type": "directory" if status.is_directory else "file",
        "mtime": status.modified_at,
        "owner": status.owner,
        "mode": status.mode,
        "ino": status.inode,
        "replication": status.replication,
    }
