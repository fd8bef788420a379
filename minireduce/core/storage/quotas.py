"""How much directories may hold: names, and bytes with all their replicas.

A quota counts what a directory stands for, itself included: each file and directory below it is a name, each byte
counts once for each replica that its file asks for. It is checked when something comes to lie below the directory or
grows there, exactly, in the transaction that would do it; what is there already stays, even above a new quota. To
begin a file is refused where its name has no room, to go on where what is written already has none; a file is not
counted before it is closed, so of several that are written at once the last to be closed may be refused.

Not checked are moves to the trash, which free what was there, and compaction, which changes no sums.
"""

from __future__ import annotations

from collections.abc import Iterable

from minireduce.core.effects import Effects
from minireduce.core.storage.inodes import Directory, File, Inode
from minireduce.core.storage.namespace import Namespace
from minireduce.core.storage.paths import Names
from minireduce.errors import RequestError
from minireduce.frozen import dataclass

TABLE = "quotas"


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that a directory may hold; 0: any number."""

    names_max: int
    space_bytes_max: int


class Quotas:
    """All quotas, by the directory's inode."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._quotas: dict[int, Quota] = {}

    def get(self, inode: int) -> Quota:
        """The quota of a directory."""
        return self._quotas.get(inode, Quota(0, 0))

    def change(self, inode: int, names_max: int, space_bytes_max: int, effects: Effects) -> None:
        """Set what is not -1; 0 takes a quota away."""
        old = self.get(inode)
        quota = Quota(
            names_max if names_max >= 0 else old.names_max,
            space_bytes_max if space_bytes_max >= 0 else old.space_bytes_max,
        )
        if quota == Quota(0, 0):
            self.forget(inode, effects)
        else:
            self._quotas[inode] = quota
            effects.persist(TABLE, (inode,), (quota.names_max, quota.space_bytes_max))

    def forget(self, inode: int, effects: Effects) -> None:
        """The directory is gone, or may hold anything."""
        if self._quotas.pop(inode, None) is not None:
            effects.forget(TABLE, (inode,))

    def forget_collected(self, effects: Effects) -> None:
        """What was removed for good has no quota."""
        for inode in [inode for inode in self._quotas if self._namespace.peek(inode) is None]:
            self.forget(inode, effects)

    def load(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Take in the rows of `quotas` that were persisted."""
        self._quotas = {inode: Quota(names_max, space_bytes_max) for inode, names_max, space_bytes_max in rows}

    # ── checks: each raises RequestError and changes nothing ────────────────────────────────────────────────────────

    def check_new(self, files: Iterable[tuple[Names, int]]) -> None:
        """Whether there is room for new files or directories, with the directories that are missing above them.

        Each is given with its bytes of all replicas. What a file replaces makes room.
        """
        if not self._quotas:
            return
        added: dict[int, tuple[int, int]] = {}
        counted: set[Names] = set()
        for names, space_bytes in files:
            above, there = self._existing(names)
            missing = [names[:end] for end in range(len(above), len(names) + 1) if names[:end] not in counted]
            counted.update(missing)
            count = len(missing)
            if isinstance(there, File):
                count, space_bytes = count - 1, space_bytes - there.length * there.replication  # noqa: PLW2901
            for directory in above:
                if directory.id in self._quotas:
                    before = added.get(directory.id, (0, 0))
                    added[directory.id] = (before[0] + count, before[1] + space_bytes)
        for inode, (count, space_bytes) in added.items():
            self._check(inode, count, space_bytes)

    def check_growth(self, file: File, space_bytes: int) -> None:
        """Whether there is room for so many bytes of replicas more of a file."""
        if self._quotas:
            for directory in self._namespace.above(file):
                self._check(directory.id, 0, space_bytes)

    def check_rename(self, inode: Inode, target: Names) -> None:
        """Whether there is room for `inode`, with all below it, where it is to go."""
        if not self._quotas:
            return
        above, there = self._existing(target)
        names, space_bytes = self._namespace.weigh(inode)
        if there is not None:
            names, space_bytes = names - self._namespace.weigh(there)[0], space_bytes - self._namespace.weigh(there)[1]
        left = {directory.id for directory in self._namespace.above(inode)}
        for directory in above:
            if directory.id not in left:
                self._check(directory.id, names, space_bytes)

    def _existing(self, names: Names) -> tuple[list[Directory], Inode | None]:
        """The directories that there are on the way to `names`, the root first, and what is called so, if anything."""
        found = self._namespace.on_the_way(names)
        there = found[-1] if len(found) > len(names) else None
        above = found[:-1] if there is not None else found
        return [each for each in above if isinstance(each, Directory)], there

    def _check(self, inode: int, names: int, space_bytes: int) -> None:
        quota, directory = self.get(inode), self._namespace.peek(inode)
        if not isinstance(directory, Directory):
            return
        held_names, held_bytes = self._namespace.weigh(directory)
        path = self._namespace.path_of(directory)
        hint = "remove something below it for good, or raise the quota: minireduce fs setquota"
        if names > 0 and 0 < quota.names_max < held_names + names:
            raise RequestError(
                f"{path} may hold {quota.names_max:,} names and holds {held_names:,}: no room for {names:,} more",
                hint=hint,
            )
        if space_bytes > 0 and 0 < quota.space_bytes_max < held_bytes + space_bytes:
            raise RequestError(
                f"{path} may hold {quota.space_bytes_max:,} bytes with all replicas and holds {held_bytes:,}: "
                f"no room for {space_bytes:,} more",
                hint=hint,
            )
