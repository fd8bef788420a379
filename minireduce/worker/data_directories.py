"""Which of a worker's data directories take replicas, and why the others do not.

Each directory is thought to be a disk of its own. One on which a write failed is closed to writing until the worker
starts again: a disk that could not keep its word once is not asked to give it again. One that was merely full is opened
again when it has room. What lies in both is still read. One that cannot be opened at all, or from which replica after
replica cannot be read, is given up: what lay there counts as damaged, so that it is made again elsewhere. The worker
goes on with the others, down to the last.

A new replica goes to the open directory with the most room. Safe for several threads.
Elsewhere: what is in the directories (`block_store`), what the master makes of it (`core.storage.repair`).
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from minireduce.core.replica_messages import DataDirectory, DirectoriesMeasured
from minireduce.disk import Disk
from minireduce.errors import Unavailable

REOPEN_BYTES = 256 << 20
"""A directory that was full takes writes again when it has so much room."""
READ_ERRORS_MAX = 3
"""So many replicas of a directory may prove unreadable; with the next it is given up."""
NO_ROOM_BYTES = 1
"""The room that is told where nothing can be written: 0 would mean that it is not known."""


class DataDirectories:
    """The directories `roots`, in which replicas lie; some may be `missing`, for a reason."""

    def __init__(
        self,
        disk: Disk,
        roots: Sequence[Path],
        *,
        missing: Mapping[Path, str] | None = None,
        reopen_bytes: int = REOPEN_BYTES,
    ) -> None:
        self.roots = tuple(roots)
        self.missing = dict(missing or {})
        self._disk = disk
        self._reopen_bytes = reopen_bytes
        self._closed = dict(self.missing)
        self._full: dict[Path, None] = {}  # of those, the ones that may be opened again
        self._unreadable: dict[Path, int] = {}
        self._given_up: dict[Path, None] = {}
        self._durable: dict[Path, None] = {}
        self._lock = threading.Lock()

    @property
    def closed(self) -> dict[Path, str]:
        """The directories that take no more writes, and why."""
        return dict(self._closed)

    @property
    def readable(self) -> tuple[Path, ...]:
        """The directories that are neither missing nor given up."""
        return tuple(root for root in self.roots if root not in self.missing and root not in self._given_up)

    def why_closed(self, root: Path) -> str:
        """Why a directory takes no more writes; empty when it does."""
        return self._closed.get(root, "")

    def roomiest(self) -> Path:
        """Where a new replica goes. Raises Unavailable when no directory takes writes."""
        open_roots = [root for root in self.roots if root not in self._closed]
        if not open_roots:
            reasons = "; ".join(f"{root}: {reason}" for root, reason in self._closed.items())
            raise Unavailable(f"no directory of this worker takes writes any more ({reasons})")
        return max(open_roots, key=self._free_bytes)

    def measure(self) -> DirectoriesMeasured:
        """All directories with their room. Of two on one file system the room counts once in the sum."""
        measured: list[DataDirectory] = []
        free_bytes: dict[int, int] = {}
        for root in self.roots:
            problem, capacity, free = self.why_closed(root), 0, 0
            try:
                capacity, free = self._disk.capacity_bytes(root), self._disk.free_bytes(root)
                if not problem:
                    free_bytes[self._disk.device(root)] = free
            except OSError as error:
                problem = problem or _said(error)
            measured.append(DataDirectory(str(root), capacity, free, problem))
        return DirectoriesMeasured(tuple(measured), max(NO_ROOM_BYTES, sum(free_bytes.values())))

    def capacity_bytes(self) -> int:
        """All that the directories can hold, each file system counted once."""
        capacity: dict[int, int] = {}
        for root in self.roots:
            with contextlib.suppress(OSError):
                capacity[self._disk.device(root)] = self._disk.capacity_bytes(root)
        return sum(capacity.values())

    def _free_bytes(self, root: Path) -> int:
        try:
            return self._disk.free_bytes(root)
        except OSError:
            return 0

    def make_durable(self, root: Path) -> None:
        """The names in `root` shall survive a crash, and so, once in the life of this process, shall its own path."""
        self._disk.sync_directory(root)
        if root not in self._durable:
            for above in root.parents:
                with contextlib.suppress(PermissionError):  # what we may not even look into, we did not make
                    self._disk.sync_directory(above)
            self._durable[root] = None

    # ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────

    def write_failed(self, root: Path, error: OSError) -> None:
        """A write failed there: it takes no more."""
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        with self._lock:
            if is_full and root not in self._closed:
                self._full[root] = None
            elif not is_full:
                self._full.pop(root, None)
                self._closed.pop(root, None)  # what is said of it is the worse of the two
            self._closed.setdefault(root, _said(error))

    def read_failed(self, root: Path, error: OSError) -> bool:
        """A replica there cannot be read. Whether that was one too many, or the disk is gone: give all of it up."""
        if isinstance(error, FileNotFoundError):
            return False  # somebody removed the file; the disk did its work
        self._unreadable[root] = self._unreadable.get(root, 0) + 1
        try:
            self._disk.names(root)
            is_gone = False
        except OSError:
            is_gone = True
        if not is_gone and self._unreadable[root] <= READ_ERRORS_MAX:
            return False
        with self._lock:
            self._full.pop(root, None)
            self._given_up[root] = None
            self._closed[root] = f"it cannot be read: {_said(error)}"
        return True

    def reopen(self) -> bool:
        """Open the directories that were full and have room again; whether there was one."""
        roomy = [root for root in list(self._full) if self._free_bytes(root) >= self._reopen_bytes]
        with self._lock:
            for root in roomy:
                if self._full.pop(root, root) is None:
                    del self._closed[root]
        return bool(roomy)


def _said(error: OSError) -> str:
    return error.strerror or str(error)
