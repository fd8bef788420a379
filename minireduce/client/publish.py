"""Put the text parts of a finished job where the user wants them: a local directory, whole or not at all, or a stream.

The directory is filled beside its place as `.OUT.JOB`: part-00000…, for each named output a directory with what the
parts held of it, then an empty `_SUCCESS`. Files and directories are synced, one
rename makes all of it visible, and only then the master hears that the job has succeeded. Doing this again after a
crash at any point ends in the same state, since a half-filled directory is begun anew and a finished one is recognised
by what the master says.

With `overwrite` the old directory and the new one are exchanged in one call, so that there is no moment without an
output; where the system cannot, the old one is moved aside first. What was there is removed last.

What a client that was killed left of an output with the same name goes with the next that is published there, once it
is older than `DRAFT_KEPT_S`: by then the master has given its job up.

`check_output` runs before a job exists: what would keep the output from appearing must not cost a whole run.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from minireduce.api.bad_record import BadRecord
from minireduce.client.cut_parts import cut_part
from minireduce.client.inputs import InputFile, Inputs
from minireduce.client.quarantine import QUARANTINE_NAME, QUARANTINE_PART, to_lines
from minireduce.errors import AlreadyExists, RequestError
from minireduce.ids import is_job_id

SUCCESS_NAME = "_SUCCESS"
DRAFT_KEPT_S = 86_400.0
"""How long a draft of another job is left alone."""

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


class Parts(Protocol):
    """The parts of one job, as `client.parts` fetches them."""

    @property
    def count(self) -> int:
        """How many there are."""

    def fetch(self, index: int, target: Path) -> None:
        """Write one to `target`, verified."""


def part_name(index: int) -> str:
    """What a part is called in an output directory."""
    return f"part-{index:05d}"


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise RequestError or AlreadyExists where `output` could not be published."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise AlreadyExists(f"output {output} exists and is no directory", hint="name a directory that does not exist")
    if output.exists() and not overwrite:
        raise AlreadyExists(f"output {output} exists", hint="add --overwrite to replace it, or name another directory")
    place = output.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        # Asking for permission tells less than trying: think of root, read-only mounts and full quotas.
        os.rmdir(tempfile.mkdtemp(prefix=f".{output.name}.", dir=place))  # noqa: PTH106 - mkdtemp gives text
    except OSError as cause:
        raise RequestError(
            f"output {output} cannot be written: {cause.strerror}", hint=f"see who may write in {place}"
        ) from cause


def check_apart(output: Path, inputs: Inputs) -> None:
    """Raise RequestError where replacing `output` would remove what the job reads, or where the job, run again, would
    read what it wrote.
    """
    place = str(output.resolve()) + os.sep
    for file in inputs.files:
        if isinstance(file, InputFile) and os.path.realpath(file.path).startswith(place):
            raise RequestError(f"output {output} holds the input {file.path}", hint="name another output")
    for directory in inputs.directories:
        if place.startswith(os.path.realpath(directory).rstrip(os.sep) + os.sep):
            raise lies_inside(output, directory)


def lies_inside(output: object, directory: str) -> RequestError:
    """The error of an output in a directory that is read as input."""
    return RequestError(
        f"output {output} lies inside the input {directory}: the next run would read it as input",
        hint="name an output beside the input",
    )


def publish_directory(
    parts: Parts,
    job: str,
    output: Path,
    *,
    overwrite: bool,
    skipped: Sequence[BadRecord] = (),
    outputs: Sequence[str] = (),
) -> None:
    """Make `output` appear with all parts and named outputs, and what they lack in quarantine. Raises AlreadyExists."""
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.name}.{job}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        for index in range(parts.count):
            target = draft / part_name(index)
            parts.fetch(index, target)
            for of_output in cut_part(target, is_typed=False) if outputs else ():
                _sync(of_output)
            _sync(target)
        for name in outputs:
            (draft / name).mkdir(exist_ok=True)
            _sync(draft / name)
        if skipped:
            quarantine = draft / QUARANTINE_NAME
            quarantine.mkdir()
            (quarantine / QUARANTINE_PART).write_bytes(to_lines(skipped))
            _sync(quarantine / QUARANTINE_PART)
            _sync(quarantine)
        (draft / SUCCESS_NAME).touch()
        _sync(draft / SUCCESS_NAME)
        _sync(draft)
        _swap_in(draft, output, overwrite=overwrite)
        _sync(output.parent)
        _collect_drafts(output)
    finally:
        # After an exchange the old output lies here, after a failure what was fetched.
        shutil.rmtree(draft, ignore_errors=True)


def _collect_drafts(output: Path) -> None:
    """Remove what killed clients left of this output. An old output that was moved aside has another name."""
    prefix = f".{output.name}."
    with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile: no reason to fail
        for place in output.parent.iterdir():
            is_draft = place.name.startswith(prefix) and is_job_id(place.name.removeprefix(prefix))
            if is_draft and time.time() - place.lstat().st_mtime > DRAFT_KEPT_S:
                shutil.rmtree(place, ignore_errors=True)


def publish_stream(parts: Parts, stream: BinaryIO) -> None:
    """Write all parts to `stream` in order; each one only after it was verified whole."""
    with tempfile.TemporaryDirectory(prefix="minireduce-") as folder:
        part = Path(folder, "part")
        for index in range(parts.count):
            parts.fetch(index, part)
            with part.open("rb") as file:
                shutil.copyfileobj(file, stream, 1 << 20)
    stream.flush()


def _swap_in(draft: Path, output: Path, *, overwrite: bool) -> None:
    """Make `draft` be `output`, replacing what is there only if told to."""
    flags = _RENAME_EXCHANGE if overwrite and output.exists() else _RENAME_NOREPLACE
    try:
        _rename_at_once(draft, output, flags)
    except FileExistsError:
        raise AlreadyExists(
            f"output {output} appeared while the job ran", hint="add --overwrite to replace it, or name another"
        ) from None
    except OSError as cause:
        if cause.errno not in _NOT_SUPPORTED:
            raise
        _swap_in_two_moves(draft, output, overwrite=overwrite)


def _swap_in_two_moves(draft: Path, output: Path, *, overwrite: bool) -> None:
    """The same for file systems that know no exchange."""
    if not output.exists():
        draft.rename(output)
        return
    if not overwrite:
        raise AlreadyExists(f"output {output} appeared while the job ran", hint="add --overwrite to replace it")
    aside = draft.with_name(f"{draft.name}.old")
    output.rename(aside)
    draft.rename(output)
    shutil.rmtree(aside, ignore_errors=True)


def _rename_at_once(source: Path, target: Path, flags: int) -> None:
    """renameat2(2), which Python does not offer. Raises OSError."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
