"""Several simulated disks of one machine, each mounted at a directory, so that one can fail while the others go on."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from minireduce.testing.disk import SimDisk, disk_of


class SimDisks:
    """Satisfies `minireduce.disk.Disk`. A path belongs to the disk that is mounted above it."""

    def __init__(self, mounts: Mapping[Path, SimDisk]) -> None:
        self._mounts = dict(mounts)

    def crash(self) -> None:
        """The machine lost power."""
        for disk in self._mounts.values():
            disk.crash()

    def _at(self, path: Path) -> SimDisk:
        for mount, disk in self._mounts.items():
            if path == mount or mount in path.parents:
                return disk
        raise FileNotFoundError(errno.ENOENT, "nothing is mounted there", str(path))

    def create(self, path: Path) -> BinaryIO:
        return self._at(path).create(path)

    def open(self, path: Path) -> BinaryIO:
        return self._at(path).open(path)

    def open_append(self, path: Path) -> BinaryIO:
        return self._at(path).open_append(path)

    def sync(self, file: BinaryIO) -> None:
        disk_of(file).sync(file)

    def begin_sync(self, file: BinaryIO, start: int, length: int) -> None:
        disk_of(file).begin_sync(file, start, length)

    def sync_directory(self, path: Path) -> None:
        below = [disk for mount, disk in self._mounts.items() if path in mount.parents]
        for disk in below or [self._at(path)]:  # each disk has the way to its mount to itself
            disk.sync_directory(path)

    def rename(self, old: Path, new: Path) -> None:
        self._same(old, new).rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        self._same(old, new).link(old, new)

    def _same(self, old: Path, new: Path) -> SimDisk:
        if self._at(old) is not self._at(new):
            raise OSError(errno.EXDEV, "they are on two disks", str(new))
        return self._at(old)

    def remove(self, path: Path) -> None:
        self._at(path).remove(path)

    def remove_tree(self, path: Path) -> None:
        self._at(path).remove_tree(path)

    def make_directories(self, path: Path) -> None:
        self._at(path).make_directories(path)

    def names(self, path: Path) -> list[str]:
        return self._at(path).names(path)

    def exists(self, path: Path) -> bool:
        return self._at(path).exists(path)

    def size_bytes(self, path: Path) -> int:
        return self._at(path).size_bytes(path)

    def free_bytes(self, path: Path) -> int:
        return self._at(path).free_bytes(path)

    def capacity_bytes(self, path: Path) -> int:
        return self._at(path).capacity_bytes(path)

    def device(self, path: Path) -> int:
        return list(self._mounts.values()).index(self._at(path))
