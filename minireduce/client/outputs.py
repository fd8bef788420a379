"""Where the text parts of a job go: a directory on this machine or, as `mr:///PATH`, one in the block store.

Both appear whole or not at all, with the same names in them. A local one is filled beside its place and renamed
(`publish`); a stored one is filled in a private directory of the store and renamed there, which is one transaction of
the master's and with `overwrite` removes what was there before.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minireduce.api.bad_record import BadRecord
from minireduce.client.cut_parts import cut_part
from minireduce.client.inputs import Inputs
from minireduce.client.publish import (
    SUCCESS_NAME,
    Parts,
    check_apart,
    check_output,
    lies_inside,
    part_name,
    publish_directory,
)
from minireduce.client.quarantine import QUARANTINE_NAME, QUARANTINE_PART, to_lines
from minireduce.client.store_paths import is_store_path, join, name_of, parse_store_path
from minireduce.client.stored_inputs import StoredFile
from minireduce.core.storage.drafts import SCHEME, draft_path
from minireduce.errors import AlreadyExists, NotFound, RequestError
from minireduce.frozen import dataclass

if TYPE_CHECKING:
    from minireduce.client.fs import FileSystem


@dataclass(frozen=True, slots=True)
class LocalOutput:
    """A directory on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def check(self, *, overwrite: bool) -> None:
        """Raise RequestError or AlreadyExists where it could not be published."""
        check_output(self.path, overwrite=overwrite)

    def check_apart(self, inputs: Inputs) -> None:
        """Raise RequestError where replacing it would remove what the job reads, or the next run would read it."""
        check_apart(self.path, inputs)

    def publish(
        self,
        parts: Parts,
        job: str,
        *,
        overwrite: bool,
        skipped: Sequence[BadRecord] = (),
        outputs: Sequence[str] = (),
    ) -> None:
        """Make it appear with all parts and named outputs, and what they lack in quarantine. Raises AlreadyExists."""
        publish_directory(parts, job, self.path, overwrite=overwrite, skipped=skipped, outputs=outputs)


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """A directory in the block store of the cluster that runs the job."""

    path: str
    store: FileSystem

    def __str__(self) -> str:
        return f"{SCHEME}{self.path}"

    def check(self, *, overwrite: bool) -> None:
        """Raise RequestError or AlreadyExists where it could not be published."""
        if not name_of(self.path):
            raise RequestError("the root of the block store is no output", hint="name a directory in it")
        self._check_above()
        try:
            found = self.store.stat(self.path)
        except NotFound:
            return
        if not found.is_directory:
            raise AlreadyExists(f"output {self} exists and is no directory", hint="name another")
        if not overwrite:
            raise AlreadyExists(f"output {self} exists", hint="add --overwrite to replace it, or name another")

    def _check_above(self) -> None:
        """What stands above it and is no directory would be noticed only once the job has run."""
        above = self.path.rpartition("/")[0]
        while above:
            try:
                found = self.store.stat(above)
            except NotFound:
                above = above.rpartition("/")[0]
                continue
            if not found.is_directory:
                raise RequestError(f"{above} is a file, so {self} cannot be made below it", hint="name another output")
            return

    def check_apart(self, inputs: Inputs) -> None:
        """Raise RequestError where replacing it would remove what the job reads, or the next run would read it."""
        for file in inputs.files:
            if isinstance(file, StoredFile) and file.path.startswith(f"{self.path}/"):
                raise RequestError(f"output {self} holds the input {file.path}", hint="name another output")
        for directory in inputs.stored_directories:
            if f"{self.path}/".startswith(f"{directory.rstrip('/')}/"):
                raise lies_inside(self, f"{SCHEME}{directory}")

    def publish(
        self,
        parts: Parts,
        job: str,
        *,
        overwrite: bool,
        skipped: Sequence[BadRecord] = (),
        outputs: Sequence[str] = (),
    ) -> None:
        """Make it appear with all parts and named outputs, and what they lack in quarantine. Raises AlreadyExists."""
        draft = draft_path(self.path, job)
        if self.store.exists(draft):
            self.store.rm(draft, recursive=True, skip_trash=True)  # left by a publishing that was cut off
        self.store.mkdir(draft)
        try:
            for name in outputs:
                self.store.mkdir(join(draft, name))
            with tempfile.TemporaryDirectory(prefix="minireduce-") as folder:
                for index in range(parts.count):
                    part = Path(folder, part_name(index))
                    parts.fetch(index, part)
                    for of_output in cut_part(part, is_typed=False) if outputs else ():
                        self.store.put(of_output, join(join(draft, of_output.parent.name), of_output.name))
                        of_output.unlink()
                    self.store.put(part, join(draft, part.name))
                    part.unlink()
            if skipped:
                quarantine = join(draft, QUARANTINE_NAME)
                self.store.mkdir(quarantine)
                self.store.put_stream(io.BytesIO(to_lines(skipped)), join(quarantine, QUARANTINE_PART))
            self.store.put_stream(io.BytesIO(), join(draft, SUCCESS_NAME))
            self.store.rename(draft, self.path, replace=overwrite)
        except BaseException:
            self.store.rm(draft, recursive=True, skip_trash=True)
            raise


Destination = LocalOutput | StoredOutput


def find_output(named: str | os.PathLike[str], store: FileSystem | None) -> Destination:
    """What an OUTPUT means. Raises RequestError for one in a block store where there is none."""
    text = os.fspath(named)
    if not is_store_path(text):
        return LocalOutput(Path(text).absolute())
    if store is None:
        raise RequestError(f"output {text} lies in a block store, and there is none here", hint="add --master")
    return StoredOutput(parse_store_path(text), store)
