"""Who a worker is, kept in its data directory: its id, how often it has started, and the master's latest commit it saw.

The file is replaced whole, synced before and after, so that a crash leaves the old one or the new one. A worker whose
directory was wiped is another worker.

Invariant: a directory serves one worker process at a time (`lock`); the kernel gives it free however that one ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import msgpack

from minireduce.disk import Disk
from minireduce.errors import Corruption, RequestError
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

IDENTITY_NAME = "worker.msgpack"
LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a data directory says of its worker. `cluster` is empty until it has joined one; `directories` are the paths
    of all data directories it ever had, and the id of the latest at each.
    """

    worker: WorkerId
    incarnation: int
    highest_epoch: int = 0
    highest_txid: int = 0
    cluster: str = ""
    directories: tuple[tuple[str, str], ...] = ()


class IdentityFile:
    """The identity of the worker that uses `data_dir`, read and counted up when made, written when it changes."""

    def __init__(self, data_dir: Path, disk: Disk) -> None:
        self._path = data_dir / IDENTITY_NAME
        self._disk = disk
        known = self._read()
        self.identity = replace(known, incarnation=known.incarnation + 1)
        self._write()

    def remember(self, epoch: int, txid: int, cluster: str = "") -> None:
        """Keep the master's latest commit, and whose it is. May be called from another thread, one at a time."""
        cluster = cluster or self.identity.cluster
        self.identity = replace(self.identity, highest_epoch=epoch, highest_txid=txid, cluster=cluster)
        self._write()

    def know_directories(self, directories: tuple[tuple[str, str], ...]) -> None:
        """Keep which directory is where."""
        if directories != self.identity.directories:
            self.identity = replace(self.identity, directories=directories)
            self._write()

    def _read(self) -> Identity:
        if not self._disk.exists(self._path):
            return Identity(f"worker-{secrets.token_hex(4)}", 0)
        with contextlib.closing(self._disk.open(self._path)) as file:
            content = file.read()
        try:
            return Identity(*msgpack.unpackb(content, use_list=False))
        except (ValueError, TypeError, msgpack.UnpackException) as cause:
            raise Corruption(
                f"{self._path} is damaged ({cause!r})",
                hint="move the data directory away: this worker's outputs are made again, its blocks are on others",
            ) from cause

    def _write(self) -> None:
        identity = self.identity
        replace_file(
            self._disk,
            self._path,
            msgpack.packb(
                (
                    identity.worker,
                    identity.incarnation,
                    identity.highest_epoch,
                    identity.highest_txid,
                    identity.cluster,
                    identity.directories,
                )
            ),
        )


def replace_file(disk: Disk, path: Path, content: bytes) -> None:
    """Have `path` hold this, durably; a crash leaves what was there or this. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    disk.remove(draft)  # left by a crash
    with contextlib.closing(disk.create(draft)) as file:
        file.write(content)
        disk.sync(file)
    disk.rename(draft, path)
    disk.sync_directory(path.parent)


def lock(data_dir: Path) -> BinaryIO:
    """Take the directory for this process, for as long as the file given back is open. Raises RequestError."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / LOCK_NAME).open("ab")
    except OSError as cause:
        raise RequestError(
            f"the data directory {data_dir} cannot be used: {cause.strerror}", hint="name another with --data-dir"
        ) from cause
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RequestError(
            f"another worker uses the data directory {data_dir}", hint="stop it, or name another with --data-dir"
        ) from None
    return file
