"""What clients remove is kept for a while, whichever client removed it: under `/.Trash/TIME`, where it was before.

TIME is the minute of the removal, in UTC. `mv` brings a thing back. Each minute's directory is removed for good once
`trash_kept_s` have passed since the whole minute; what is removed within the trash goes at once, and so does what a
client wants gone (`skip_trash`), and what a file or directory of the same name replaces. Clients make nothing there.

What lies in the trash is as safe as any file, and takes as much room.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

from minireduce.core.effects import Effects
from minireduce.core.storage.inodes import Directory, Inode
from minireduce.core.storage.namespace import Namespace
from minireduce.core.storage.paths import DEPTH_MAX, Names, parse_path
from minireduce.errors import RequestError

TRASH = ".Trash"
MINUTE_S = 60.0


class Trash:
    """The trash of one namespace. Times are of the wall clock."""

    def __init__(self, namespace: Namespace, kept_s: float) -> None:
        self._namespace = namespace
        self._kept_s = kept_s
        self._look_at = 0.0

    def takes(self, path: str) -> bool:
        """Whether what is removed as `path` goes to the trash."""
        return self._kept_s > 0 and parse_path(path)[:1] != (TRASH,)

    @staticmethod
    def refuse(path: str) -> None:
        """Nothing is put there by hand: it would go when the trash is emptied, or stand in its way. RequestError."""
        if parse_path(path)[:1] == (TRASH,):
            raise RequestError(
                f"{path} is kept for what is removed", hint="`minireduce fs rm` puts things there; give another path"
            )

    @staticmethod
    def refuse_to_move(path: str) -> None:
        """What is in the trash may be taken out of it, the trash itself may not: it would not expire. RequestError."""
        if parse_path(path) == (TRASH,):
            raise RequestError(
                f"{path} stays where it is", hint="move what is in it, or empty it with `minireduce fs expunge`"
            )

    def put(self, inode: Inode, ids: Iterator[int], at: float, effects: Effects) -> str:
        """Move `inode` to the trash; its path there."""
        target = self._free_path(parse_path(self._namespace.path_of(inode)), at)
        self._namespace.make_directories(target[:-1], ids, at, effects)
        path = "/" + "/".join(target)
        self._namespace.rename(inode, path, effects, replace=False)
        return path

    def _free_path(self, names: Names, at: float) -> Names:
        minute = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%MZ")
        if len(names) + 2 > DEPTH_MAX:
            names = names[-1:]
        for number in count(1):
            top = minute if number == 1 else f"{minute}-{number}"
            if self._namespace.is_free((TRASH, top, *names)):
                return (TRASH, top, *names)
        raise AssertionError("numbers do not end")

    def expire(self, at: float, effects: Effects) -> None:
        """Remove for good what has been in the trash for long enough."""
        if at < self._look_at:
            return
        self._look_at = at + MINUTE_S
        trash = self._namespace.find(f"/{TRASH}")
        if not isinstance(trash, Directory):
            return
        for name in list(trash.in_order()):
            below = self._namespace.look_up(f"/{TRASH}/{name}")
            if below.modified_at + MINUTE_S + self._kept_s <= at:
                self._namespace.remove(below, effects)
