"""Files that are being written, and how long their writers are believed to live.

A lease is a writer's promise to come back within `lease_s`; it covers all files that the writer has open, and each of
its requests renews it. What was opened under a lease that ran out is dropped with its blocks: it was never closed, so
nobody was told that it would last. Of a file that is appended to, what was committed stays, and of the rest what
`recovery` finds to be safe.

An open file is persisted, so that a writer goes on after the master was started again; leases are not, and count anew
from then.
"""

from __future__ import annotations

import itertools

from minireduce.core.effects import Effects
from minireduce.errors import NotFound
from minireduce.frozen import dataclass

TABLE = "open_files"


@dataclass(slots=True)
class WritingFile:
    """A file without a name yet, which will be called `path`; or, if `is_append`, one that is made longer.

    A container has no path.
    """

    id: int
    path: str
    lease: str
    file_key: str
    overwrite: bool
    block_size_bytes: int
    replication: int
    owner: str = ""
    is_append: bool = False


class Leases:
    """All open files, by id and by lease."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._files: dict[int, WritingFile] = {}
        self._expires_s: dict[str, float] = {}  # in this order, since every lease lasts as long

    def __len__(self) -> int:
        return len(self._files)

    def open(self, file: WritingFile, now: float, effects: Effects) -> None:
        """Begin to write `file`."""
        self._files[file.id] = file
        self.renew(file.lease, now)
        sizes = (file.block_size_bytes, file.replication)
        values = (file.path, file.lease, file.file_key, int(file.overwrite), *sizes, file.owner, int(file.is_append))
        effects.persist(TABLE, (file.id,), values)

    def find(self, lease: str, file_key: str) -> WritingFile | None:
        """The open file that was asked for with this key before."""
        return next((file for file in self._files.values() if (file.lease, file.file_key) == (lease, file_key)), None)

    def get(self, file_id: int, lease: str, now: float) -> WritingFile:
        """The open file, its lease renewed. Raises NotFound when it is closed, was dropped, or is another writer's."""
        file = self._files.get(file_id)
        if file is None or file.lease != lease:
            raise NotFound(
                f"file {file_id} is not open for this writer: its lease ran out, or it was closed",
                hint="write the file again",
            )
        self.renew(lease, now)
        return file

    def appended(self) -> list[int]:
        """The files that are made longer now."""
        return [file.id for file in self._files.values() if file.is_append]

    def peek(self, file_id: int) -> WritingFile | None:
        """The open file, whoever writes it."""
        return self._files.get(file_id)

    def renew(self, lease: str, now: float) -> None:
        """The writer was heard."""
        self._expires_s.pop(lease, None)  # it comes behind all others
        self._expires_s[lease] = now + self._lease_s

    def end(self, file: WritingFile, effects: Effects) -> None:
        """The file is closed or dropped."""
        del self._files[file.id]
        effects.forget(TABLE, (file.id,))

    def expired(self, now: float) -> list[WritingFile]:
        """Open files whose writers have not been heard for too long. Leases without files are forgotten."""
        over = dict(itertools.takewhile(lambda lease: lease[1] < now, self._expires_s.items()))
        if not over:
            return []
        for lease in over:
            del self._expires_s[lease]
        return [file for file in self._files.values() if file.lease in over]

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`: nobody's silence in that time counts."""
        self._expires_s = {lease: at + jump_s for lease, at in self._expires_s.items()}

    def load(self, rows: list[tuple[int, str, str, str, int, int, int, str, int]], now: float) -> None:
        """Take in the rows of `open_files` that were persisted; their leases begin now."""
        for file_id, path, lease, file_key, overwrite, block_size_bytes, replication, owner, is_append in rows:
            sizes = (block_size_bytes, replication)
            file = WritingFile(file_id, path, lease, file_key, bool(overwrite), *sizes, owner, bool(is_append))
            self._files[file_id] = file
            self.renew(lease, now)
