"""A disk in memory that forgets at a crash whatever was not made durable, names in directories included.

A real disk promises little: data survives once its file was synced, a name once its directory was, and of the rest any
part may survive too. `SimDisk` keeps both layers apart. `crash` takes away what was not durable: of each file the
unsynced tail, cut anywhere (torn) and perhaps with bytes that never arrived, of each directory some of its changes: a
last run of them, as with a journal, or any. All is drawn by chance. So code that leaves a sync out loses data here,
which no kill of a real process shows, since the page cache survives it.

Faults are ordered by `fail_next`: an operation raises OSError, ENOSPC or EIO. After a `sync` that failed, what it was
to make durable stays volatile, and a later successful sync of the same file does not bring it back, as on Linux.

A rename within a directory is one change. Those that survive take effect in their order; across directories they are
independent. A file may have several names. Not here: permissions, and damage to what was durable (done on request:
`flip_bit`, `cut_short`, `misdirect`).
"""

from __future__ import annotations

import copy
import errno
import io
import random
from collections import Counter
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, cast

from minireduce.frozen import dataclass


@dataclass(eq=False, slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    lost_ranges: list[tuple[int, int]] = field(default_factory=list)  # a failed sync dropped these for good

    def sync(self) -> None:
        kept = bytearray(self.data)
        for start, end in self.lost_ranges:
            kept[start:end] = bytes(len(kept[start:end]))
        self.durable = bytes(kept)

    def sync_failed(self) -> None:
        common = min(len(self.data), len(self.durable))
        start = next((at for at in range(common) if self.data[at] != self.durable[at]), common)
        self.lost_ranges.append((start, len(self.data)))

    def crash(self, rng: random.Random) -> None:
        """Keep what was synced, and of what was written behind it a part that chance decides."""
        tail = bytes(self.data[len(self.durable) :])
        kept = tail[: rng.choice((0, len(tail), rng.randint(0, len(tail))))]
        if kept and rng.random() < 0.3:  # the length reached the disk, the bytes did not
            kept = bytes(len(kept))
        self.data = bytearray(self.durable + kept)
        self.durable = bytes(self.data)
        self.lost_ranges.clear()


_Names = dict[str, "_File | _Directory"]


@dataclass(eq=False, slots=True)
class _Directory:
    names: _Names = field(default_factory=dict)
    durable: _Names = field(default_factory=dict)
    changes: list[tuple[tuple[str, _File | _Directory | None], ...]] = field(default_factory=list)

    def change(self, *entries: tuple[str, _File | _Directory | None]) -> None:
        """Set or remove names, all of them or none after a crash."""
        _apply(self.names, entries)
        self.changes.append(entries)

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.changes.clear()

    def crash(self, rng: random.Random) -> None:
        kept = self.changes[: rng.randint(0, len(self.changes))]
        if len(self.changes) > 1 and rng.random() < 0.5:  # no journal promises their order
            kept = [entries for entries in self.changes if rng.random() < 0.5]
        for entries in kept:
            _apply(self.durable, entries)
        self.changes.clear()
        self.names = dict(self.durable)
        for below in self.names.values():
            below.crash(rng)


def _apply(names: _Names, entries: tuple[tuple[str, _File | _Directory | None], ...]) -> None:
    for name, target in entries:
        if target is None:
            names.pop(name, None)
        else:
            names[name] = target


class _OpenFile(io.RawIOBase):
    """An open file: reads and writes go to the volatile layer at once."""

    def __init__(self, disk: SimDisk, file: _File, *, is_writable: bool, position: int = 0) -> None:
        super().__init__()
        self.file = file
        self.disk = disk
        self._is_writable = is_writable
        self._position = position

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._is_writable

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self.file.data)}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        self.disk.check("read")
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        piece = self.file.data[self._position : self._position + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def write(self, buffer: object) -> int:
        if not self._is_writable:
            raise io.UnsupportedOperation("not open for writing")
        piece = bytes(memoryview(buffer).cast("B"))  # type: ignore[arg-type]
        self.disk.check("write")
        gap = self._position - len(self.file.data)
        if gap > 0:
            self.file.data.extend(bytes(gap))
        self.file.data[self._position : self._position + len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        del self.file.data[size:]
        self.file.durable = self.file.durable[:size]
        return size


class SimDisk:
    """Satisfies `minireduce.disk.Disk`. `rng` decides what a crash leaves of what was not durable."""

    def __init__(self, rng: random.Random, *, free_bytes: int = 1 << 40) -> None:
        self._rng = rng
        self.space_bytes = free_bytes
        self._root = _Directory()
        self._failures: dict[str, list[int]] = {}
        self._is_broken = False
        self.calls: Counter[str] = Counter()

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def fail_next(self, operation: str, error_number: int = errno.EIO) -> None:
        """Let the next call of `operation`, such as "sync", "write" or "rename", raise OSError."""
        self._failures.setdefault(operation, []).append(error_number)

    def break_down(self) -> None:
        """Let every call fail from now on, as those of a disk that has died."""
        self._is_broken = True

    def crash(self) -> None:
        """The machine lost power: keep what was durable, and of the rest what chance decides."""
        self._root.crash(self._rng)
        self._failures.clear()

    def copy(self) -> SimDisk:
        """Another disk with the same contents, as a backup makes one."""
        other = SimDisk(self._rng, free_bytes=self.space_bytes)
        other._root = copy.deepcopy(self._root)
        return other

    def flip_bit(self, path: Path, bit: int) -> None:
        """Damage a durable file, as a decaying disk does."""
        file = self._file(path)
        file.data[bit // 8] ^= 1 << bit % 8
        file.durable = bytes(file.data)

    def cut_short(self, path: Path, size: int) -> None:
        """Lose the end of a durable file."""
        file = self._file(path)
        del file.data[size:]
        file.durable = bytes(file.data)

    def misdirect(self, source: Path, target: Path) -> None:
        """Let what was written to `source` have hit `target` instead, from its beginning."""
        data = bytes(self._file(source).data)
        file = self._file(target)
        file.data[: len(data)] = data[: len(file.data)]
        file.durable = bytes(file.data)

    def check(self, operation: str) -> None:
        """Count a call, and raise if it was ordered to fail."""
        self.calls[operation] += 1
        if self._is_broken:
            raise OSError(errno.EIO, "a simulated disk that has died")
        ordered = self._failures.get(operation)
        if ordered:
            number = ordered.pop(0)
            raise OSError(number, f"a simulated fault of {operation}: {errno.errorcode[number]}")

    # ── what `Disk` asks for ────────────────────────────────────────────────────────────────────────────────────────

    def create(self, path: Path) -> BinaryIO:
        self.check("create")
        parent = self._directory(path.parent)
        if path.name in parent.names:
            raise FileExistsError(errno.EEXIST, "the name is taken", str(path))
        file = _File()
        parent.change((path.name, file))
        return cast("BinaryIO", _OpenFile(self, file, is_writable=True))

    def open(self, path: Path) -> BinaryIO:
        self.check("open")
        return cast("BinaryIO", _OpenFile(self, self._file(path), is_writable=False))

    def open_append(self, path: Path) -> BinaryIO:
        self.check("open_append")
        file = self._file(path)
        return cast("BinaryIO", _OpenFile(self, file, is_writable=True, position=len(file.data)))

    def sync(self, file: BinaryIO) -> None:
        opened = cast("_OpenFile", file)
        try:
            self.check("sync")
        except OSError:
            opened.file.sync_failed()
            raise
        opened.file.sync()

    def begin_sync(self, file: BinaryIO, start: int, length: int) -> None:
        """Nothing: what was only begun may be lost in a crash."""

    def sync_directory(self, path: Path) -> None:
        self.check("sync_directory")
        self._directory(path).sync()

    def rename(self, old: Path, new: Path) -> None:
        self.check("rename")
        before, after = self._directory(old.parent), self._directory(new.parent)
        target = before.names.get(old.name)
        if target is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(old))
        if before is after:
            before.change((old.name, None), (new.name, target))
        else:
            after.change((new.name, target))
            before.change((old.name, None))

    def link(self, old: Path, new: Path) -> None:
        self.check("link")
        file, parent = self._file(old), self._directory(new.parent)
        if new.name in parent.names:
            raise FileExistsError(errno.EEXIST, "the name is taken", str(new))
        parent.change((new.name, file))

    def remove(self, path: Path) -> None:
        self.check("remove")
        self._forget(path)

    def remove_tree(self, path: Path) -> None:
        self.check("remove_tree")
        self._forget(path)

    def make_directories(self, path: Path) -> None:
        self.check("make_directories")
        here = self._root
        for name in _parts(path):
            below = here.names.get(name)
            if below is None:
                below = _Directory()
                here.change((name, below))
            if not isinstance(below, _Directory):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(path))
            here = below

    def names(self, path: Path) -> list[str]:
        self.check("names")
        found = self._find(path)
        return sorted(found.names) if isinstance(found, _Directory) else []

    def exists(self, path: Path) -> bool:
        return self._find(path) is not None

    def size_bytes(self, path: Path) -> int:
        return len(self._file(path).data)

    def free_bytes(self, path: Path) -> int:  # noqa: ARG002 - one disk, whatever the path
        self.check("free_bytes")
        return self.space_bytes

    def capacity_bytes(self, path: Path) -> int:
        return self.free_bytes(path)

    def device(self, path: Path) -> int:  # noqa: ARG002 - one disk, whatever the path
        return 0

    # ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _find(self, path: Path) -> _File | _Directory | None:
        here: _File | _Directory | None = self._root
        for name in _parts(path):
            if not isinstance(here, _Directory):
                return None
            here = here.names.get(name)
        return here

    def _file(self, path: Path) -> _File:
        found = self._find(path)
        if not isinstance(found, _File):
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return found

    def _directory(self, path: Path) -> _Directory:
        found = self._find(path)
        if not isinstance(found, _Directory):
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path))
        return found

    def _forget(self, path: Path) -> None:
        parent = self._find(path.parent)
        if isinstance(parent, _Directory) and path.name in parent.names:
            parent.change((path.name, None))


def disk_of(file: BinaryIO) -> SimDisk:
    """The disk on which an open file lies."""
    return cast("_OpenFile", file).disk


def _parts(path: Path) -> tuple[str, ...]:
    return path.parts[1:] if path.is_absolute() else path.parts
