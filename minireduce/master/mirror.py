"""The metadata twice, on two disks: a master's own directory and its mirror.

Every commit goes to both at once, each synced by itself, and counts when both have it. At the start both are read and
checked; the one with the latest commit among those that are sound leads, and the other, if it is older or damaged, is
made anew from it. What is replaced so stays beside it under another name, until the next time.

While the master runs the two are not alike. Its own directory failing ends it, as without a mirror. A mirror that fails
is left behind, loudly, and the master goes on: the mirror exists so that one failing disk does not stop a cluster, and
what was acknowledged since is still as safe as without one. A mirror left behind is older, which the next start sees;
and so do workers, if only the mirror is left.

Invariants: what leads is never written to by the mending; a copy takes its name only when it is whole, checked and
synced; files of one state of a directory are never read with those of another.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.errors import Corruption, MinireduceError, RequestError
from minireduce.failpoints import hit
from minireduce.master import store as stores
from minireduce.master.store import ASIDE_NAME, DRAFT_NAME, FILE_NAME, NAME_FILE, Store

log = logging.getLogger(__name__)

_SUFFIXES = ("-wal", "-shm", "")
"""What SQLite keeps beside a database, and the database, in the order in which they go: no log meets another's file."""


class MirroredStore:
    """Two open copies in one epoch. Made with `open_mirrored`; used like a `Store`."""

    def __init__(self, own: Store, mirror: Store) -> None:
        self._own = own
        self._mirror = mirror
        self._thread = ThreadPoolExecutor(1, "metadata mirror")
        self.failure: MinireduceError | None = None
        """Why the mirror was left behind, if it was."""

    @property
    def cluster_id(self) -> str:
        return self._own.cluster_id

    @property
    def epoch(self) -> int:
        return self._own.epoch

    @property
    def txid(self) -> int:
        return self._own.txid

    @property
    def problems(self) -> tuple[str, ...]:
        """That the mirror was left behind, if it was."""
        if self.failure is None:
            return ()
        told = (
            f"the mirror of the metadata in {self._mirror.directory} failed and is written no more: "
            f"{self.failure.message}. Mend the disk and start the master again, which brings the mirror up to date"
        )
        return (told,)

    def load(self) -> Iterator[Row]:
        return self._own.load()

    def read(self, table: str, key: tuple[Any, ...], *, after: int, rows_max: int) -> list[Row]:
        return self._own.read(table, key, after=after, rows_max=rows_max)

    def write(self, batch: list[Persist]) -> None:
        """Make these durable in both copies. Raises Unavailable when the own one does not take it."""
        mirrored: Future[None] | None = None
        if self.failure is None:
            mirrored = self._thread.submit(self._mirror.write, batch)
        try:
            self._own.write(batch)
        finally:
            error = mirrored.exception() if mirrored is not None else None
        if error is not None:
            self._leave_behind(error)

    def _leave_behind(self, error: BaseException) -> None:
        if not isinstance(error, MinireduceError):
            raise error
        self.failure = error
        log.critical(
            "THE MIRROR OF THE METADATA FAILED and is written no more: %s. The master goes on with the copy in %s "
            "alone. Mend the disk and start the master again, which brings the mirror up to date",
            error.message,
            self._own.directory,
        )

    def close(self) -> None:
        self._thread.shutdown()
        self._mirror.close()
        self._own.close()


@dataclass
class _Copy:
    """One directory as it was found: a store that is open and sound, or what is wrong."""

    directory: Path
    held: TextIO
    store: Store | None = None
    damage: str = ""

    @property
    def is_blank(self) -> bool:
        return self.store is not None and not self.store.cluster_id

    def look(self) -> None:
        """Open and check what is there. Raises RequestError if this version cannot know."""
        try:
            self.store = stores.examine(self.directory, self.held)
            self.store.verify()
        except Corruption as error:
            self.let_go()
            self.damage = error.message

    def let_go(self) -> None:
        if self.store is not None:
            self.store.let_go()
            self.store = None


def open_mirrored(directory: Path, mirror: Path) -> MirroredStore:
    """The metadata in two directories, in a new epoch. Raises RequestError, and Corruption if neither is sound."""
    if directory.resolve() == mirror.resolve():
        raise RequestError(f"the mirror {mirror} is the data directory itself", hint="name a directory on another disk")
    with ExitStack() as locks:
        copies = [
            _Copy(each, locks.enter_context(stores.closing_on_error(stores.lock(each)))) for each in (directory, mirror)
        ]
        try:
            own, other = _bring_together(copies)
        except BaseException:
            for copy in copies:
                copy.let_go()
            raise
        own.open_epoch()
        other.open_epoch(own.epoch, own.cluster_id)
    return MirroredStore(own, other)


def _bring_together(copies: list[_Copy]) -> tuple[Store, Store]:
    """Both copies, open and alike."""
    for copy in copies:
        copy.look()
    sound = [copy for copy in copies if copy.store is not None]
    if not sound:
        raise Corruption(
            "both copies of the metadata are damaged: " + "; ".join(copy.damage for copy in copies),
            hint="restore a backup: minireduce-master restore",
        )
    names = {copy.store.cluster_id for copy in sound if copy.store is not None and copy.store.cluster_id}
    if len(names) > 1:
        raise RequestError(
            f"{copies[0].directory} and {copies[1].directory} hold the metadata of two clusters",
            hint="name another --metadata-mirror",
        )
    best = max(sound, key=_age)  # the master's own where they are alike
    for copy in copies:
        if copy is not best and (copy.store is None or _age(copy) != _age(best)):
            _mend(copy, best)
    first, second = (copy.store for copy in copies)
    assert first is not None
    assert second is not None
    return first, second


def _age(copy: _Copy) -> tuple[tuple[int, int], int]:
    assert copy.store is not None
    return copy.store.mark, copy.store.epoch


def _mend(copy: _Copy, best: _Copy) -> None:
    """Put a copy of the best in the place of what is in a directory, and say so."""
    assert best.store is not None
    epoch, txid = best.store.mark
    was = copy.damage
    if copy.store is not None and not copy.is_blank:
        was = f"the metadata in {copy.directory} ends with commit {copy.store.txid} of epoch {copy.store.mark[0]}"
    copy.let_go()
    aside = put_in_place(best.store, copy.directory)
    if was:
        told = f" What it held before is kept as {aside}." if aside else ""
        log.warning(
            "%s. It has been made anew from %s, up to commit %d of epoch %d.%s",
            was,
            best.directory,
            txid,
            epoch,
            told,
        )
    copy.damage = ""
    copy.look()
    if copy.store is None:
        raise Corruption(f"what was just written to {copy.directory} cannot be read: {copy.damage}")


def put_in_place(source: Store, directory: Path) -> Path | None:
    """Have `directory` hold what `source` does; where what it held before is kept, if it held anything."""
    path = directory / FILE_NAME
    draft = directory / DRAFT_NAME
    try:
        source.copy_to(draft)
        hit("mirror.before_replacing")
        aside = set_aside(directory)
        hit("mirror.before_naming")
        draft.replace(path)
        stores.write_file(directory / NAME_FILE, source.cluster_id)
    except OSError as error:
        raise RequestError(
            f"the metadata cannot be copied to {directory}: {error.strerror}", hint="is the disk full or failing?"
        ) from error
    return aside


def set_aside(directory: Path) -> Path | None:
    """Take a database and what belongs to it away, in place of what was taken away before; its new name."""
    path, aside = directory / FILE_NAME, directory / ASIDE_NAME
    had_any = path.exists() and path.stat().st_size > 0
    for suffix in _SUFFIXES:
        part, kept = (each.with_name(each.name + suffix) for each in (path, aside))
        kept.unlink(missing_ok=True)
        if part.exists():
            part.replace(kept)
    stores.sync_directory(directory)
    return aside if had_any else None
