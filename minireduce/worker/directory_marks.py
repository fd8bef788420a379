"""Whose a data directory is, and whether it is the one that was there before.

Each data directory bears a mark: a small file that says to which worker of which cluster it belongs, and the id of this
very directory. The worker keeps which ids it had where, with its own identity in the first directory. So an empty
directory where there was another is not taken for a new one: its disk may not be mounted. It counts as failed, and what
it held is made again elsewhere, until the disk is back or people say that the directory is new. One that belongs to
somebody else is refused, since the numbers of blocks mean nothing in another cluster.

Invariant: nothing is written to a directory that is refused or missing. Marks are replaced whole and synced.
Elsewhere: what the worker makes of a directory that failed (`data_directories`).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import msgpack

from minireduce.disk import Disk
from minireduce.errors import Corruption, RequestError
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId
from minireduce.worker.identity import IDENTITY_NAME, Identity, IdentityFile, replace_file

MARK_NAME = "directory.msgpack"
MISSING = (
    f"it is not the directory that was there before, as it has no {MARK_NAME}: is its disk mounted? Mount it and start "
    "the worker again, with --new-data-dir if it is a new one"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a directory says of itself. `cluster` is empty until its worker has joined one."""

    cluster: str
    worker: WorkerId
    directory: str


class DirectoryMarks:
    """The marks of `data_dirs`, whose first holds the worker's identity. `new_dirs` of them may be new ones.

    Raises RequestError for directories that belong to others, and for a first one that is not the one of the others.
    """

    def __init__(self, disk: Disk, data_dirs: Sequence[Path], new_dirs: Collection[Path] = ()) -> None:
        self._disk = disk
        self._first = data_dirs[0]
        self._marks = {data_dir: mark for data_dir in data_dirs if (mark := self._read(data_dir)) is not None}
        self._check_first()
        self.identity_file = IdentityFile(self._first, disk)
        self.missing: dict[Path, str] = {}
        """The directories that are not the ones of before, and what is to be said of them."""
        known = self.identity_file.identity
        for data_dir, mark in self._marks.items():
            _check_owner(data_dir, mark, known, self._first)
        here = {mark.directory for mark in self._marks.values()}
        if len(here) < len(self._marks):
            raise RequestError(
                "two of the data directories are copies of each other", hint="name each --data-dir once, without copies"
            )
        before = dict(known.directories)
        for data_dir in data_dirs:
            was_there = data_dir != self._first and before.get(str(data_dir), "") not in {"", *here}
            if data_dir not in self._marks and was_there and data_dir not in new_dirs:
                self.missing[data_dir] = MISSING
            else:
                self._put(data_dir, known)
        now = {str(data_dir): mark.directory for data_dir, mark in self._marks.items()}
        self.identity_file.know_directories(tuple(sorted({**before, **now}.items())))

    def remember(self, epoch: int, txid: int, cluster: str) -> None:
        """Keep the master's latest commit, and the cluster to which this worker belongs from now on."""
        self.identity_file.remember(epoch, txid, cluster)
        for data_dir in list(self._marks):
            self._put(data_dir, self.identity_file.identity)

    def _check_first(self) -> None:
        """A worker without an identity is new; its directories must not be those of another."""
        if self._marks and not self._disk.exists(self._first / IDENTITY_NAME):
            data_dir, mark = next(iter(self._marks.items()))
            raise RequestError(
                f"{data_dir} belongs to {_named(mark)}, whose first data directory is not {self._first}: there is no "
                f"{IDENTITY_NAME}",
                hint="mount the disk of the first directory, and name the directories in the order of before",
            )

    def _put(self, data_dir: Path, known: Identity) -> None:
        """Mark a directory, if that changes anything. One that cannot be written is found out when it is opened."""
        held = self._marks.get(data_dir) or Mark("", known.worker, secrets.token_hex(4))
        mark = replace(held, cluster=known.cluster)
        if self._marks.get(data_dir) != mark:
            with contextlib.suppress(OSError):
                fields = (mark.cluster, mark.worker, mark.directory)
                replace_file(self._disk, data_dir / MARK_NAME, msgpack.packb(fields))
                self._marks[data_dir] = mark

    def _read(self, data_dir: Path) -> Mark | None:
        path = data_dir / MARK_NAME
        try:
            if not self._disk.exists(path):
                return None
            with contextlib.closing(self._disk.open(path)) as file:
                content = file.read()
        except OSError:
            return None
        try:
            return Mark(*msgpack.unpackb(content))
        except (ValueError, TypeError, msgpack.UnpackException) as cause:
            raise Corruption(
                f"{path} is damaged ({cause!r})",
                hint="move it away and start the worker with --new-data-dir, if the directory is this worker's",
            ) from cause


def _check_owner(data_dir: Path, mark: Mark, known: Identity, first: Path) -> None:
    ours = Mark(known.cluster, known.worker, "")
    if mark.worker == known.worker and (not mark.cluster or not known.cluster or mark.cluster == known.cluster):
        return
    raise RequestError(
        f"the data directory {data_dir} belongs to {_named(mark)}, but {first} to {_named(ours)}",
        hint="name the directories of one worker, or empty the one that shall change hands",
    )


def _named(mark: Mark) -> str:
    return f"{mark.worker} of cluster {mark.cluster}" if mark.cluster else f"{mark.worker} of no cluster yet"
