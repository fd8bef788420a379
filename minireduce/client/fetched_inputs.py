"""Inputs that lie elsewhere: `https://…`, `s3://…`, whatever fsspec knows. They are copied to this machine before the
job begins, since splits are cut before anything is read and an attempt that is tried again reads the same bytes again.

Workers get them as they get local files. The copies are for their owner alone and go with whatever holds the inputs:
the job's handle, or the run inline. What is read often, or by many, is better stored once (`minireduce fs put`).

A URL is a file, a directory (read recursively) or, except over HTTP, where `?` and `*` mean other things, a glob.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from minireduce.client.stored_inputs import is_passed_over
from minireduce.errors import NotFound, RequestError

COPY_BYTES = 8 << 20


class FetchedInputs:
    """A directory of copies; it goes when this is forgotten."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._count = 0
        self.passed_over = 0

    def fetch(self, url: str) -> Iterator[str]:
        """The paths of copies of all files that this means, in ascending order of their names.

        Raises NotFound where there is none, RequestError where it cannot be read.
        """
        try:
            system, names = self._list(url)
        except FileNotFoundError:
            names = []
        except ImportError as cause:
            raise RequestError(f"input {url} cannot be read: {cause}", hint="install what it names") from cause
        except Exception as cause:  # whatever the library of this kind of address raises
            raise _unreadable(url, cause) from cause
        if not names:
            raise NotFound(f"input {url} does not exist", hint="see the address; it was asked for from this machine")
        for name in names:
            try:
                yield self._copy(system, name)
            except FileNotFoundError:
                raise NotFound(f"input {url} does not exist", hint="see the address") from None
            except Exception as cause:  # the same
                raise _unreadable(url, cause) from cause

    def _list(self, url: str) -> tuple[Any, list[str]]:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        if urlsplit(url).scheme in ("http", "https"):
            return system, [path]
        if glob.has_magic(path):
            found, root = [name for name in system.glob(path) if not system.isdir(name)], ""
        elif system.isdir(path):
            found, root = system.find(path), path
        else:
            return system, [path] if system.exists(path) else []
        kept = [name for name in sorted(found) if not any(map(is_passed_over, _below(name, root)))]
        self.passed_over += len(found) - len(kept)
        return system, kept

    def _copy(self, system: Any, name: str) -> str:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="minireduce-input-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        # The name stays, as it tells how the file is packed, and where an error was.
        target = self._folder / str(self._count) / (PurePosixPath(urlsplit(name).path).name or "input")
        self._count += 1
        target.parent.mkdir()
        with system.open(name, "rb") as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy, COPY_BYTES)
        return os.fspath(target)


def _below(name: str, root: str) -> tuple[str, ...]:
    """The names on the way from a directory that was named to a file in it."""
    return PurePosixPath(name.removeprefix(root).lstrip("/")).parts if root else (PurePosixPath(name).name,)


def _unreadable(url: str, cause: Exception) -> RequestError:
    return RequestError(
        f"input {url} cannot be read: {cause}",
        hint="name a file, a directory or a glob, here, as mr:///PATH, or as any URL that fsspec knows",
    )
