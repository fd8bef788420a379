"""Copies of the metadata for people to keep, and the way back from one.

A backup is made while the master runs: SQLite gives one moment of it, that of a commit, and the copy is checked against
its digests before it gets its name. To restore is to go back in time, on purpose, so what keeps a master from doing
that by mistake must be told: the restored metadata open an epoch far above any that workers have seen, and remember it
as `restored_epoch`; of commits before it nobody is asked any more, and a mirror of before is older. What was given out
since the backup must not be given out again: numbers of inodes, blocks and jobs go on behind a gap that no cluster
fills. Blocks whose numbers lie in the gap are of files that the backup does not know: they stay where they are.

What is missing shows when workers have listed what they hold: `minireduce fs fsck` names the files whose blocks nobody
has. Of blocks that nobody knows only their numbers are left, as names are in the metadata alone.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TextIO

from minireduce.core.effects import Row
from minireduce.core.storage.ids import GAP, SEQUENCES
from minireduce.errors import Corruption, RequestError, Unavailable
from minireduce.master import store as stores
from minireduce.master.mirror import put_in_place
from minireduce.master.store import DRAFT_NAME, FILE_NAME, Store

log = logging.getLogger(__name__)

EPOCHS_PER_RESTORE = 1000
"""A restored epoch is the next multiple but one: so often at least may the master have started since the backup."""
JOBS_PER_RESTORE = 1_000_000


def back_up(data_dir: Path, target: Path) -> str:
    """Copy the metadata in `data_dir`, whose master may run, to the new directory `target`; what that is, in words.

    Raises RequestError and Corruption.
    """
    if not (data_dir / FILE_NAME).exists():
        raise RequestError(f"there are no metadata in {data_dir}", hint="name the master's --data-dir")
    if (target / FILE_NAME).exists():
        raise RequestError(f"there are metadata in {target} already", hint="name another directory for the backup")
    held = stores.lock(target)
    with stores.closing_on_error(held):
        try:
            with closing(sqlite3.connect(data_dir / FILE_NAME)) as source:
                stores.copy_database(source, target / DRAFT_NAME)
            (target / DRAFT_NAME).replace(target / FILE_NAME)
            stores.sync_directory(target)
        except OSError as error:
            raise Unavailable(f"the backup cannot be written: {error.strerror}", hint="is the disk full?") from error
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"the backup cannot be made: {error}", hint="is a disk full or failing?") from error
        store = stores.examine(target, held)
        try:
            store.verify()
            told = _told(store)
        finally:
            store.let_go()
    held.close()
    return told


def restore(backup: Path, data_dir: Path, epoch: int = 0) -> str:
    """Put a backup in the place of what is in `data_dir`, in an epoch of its own; what was done, in words.

    No master may run there. `epoch` is one above any that a worker has seen, if that is not the one that is chosen.
    Raises RequestError and Corruption; then `data_dir` is as it was.
    """
    if not (backup / FILE_NAME).exists():
        raise RequestError(f"there is no backup in {backup}", hint="name the directory that `backup` was given")
    with stores.lock(data_dir) as held, stores.lock(backup) as backup_held:
        before = _epoch_in(data_dir, held)
        source = stores.examine(backup, backup_held)
        try:
            source.verify()
            told = _told(source)
            chosen = _restored_epoch(max(source.epoch, before), epoch)
            aside = put_in_place(source, data_dir)
        finally:
            source.let_go()
        store = stores.examine(data_dir, held)
        try:
            _go_on_behind(store, chosen)
        finally:
            store.let_go()
    kept = f"; what was there is kept as {aside}" if aside else ""
    return f"{told}, restored to {data_dir} in epoch {chosen}{kept}"


def _epoch_in(data_dir: Path, held: TextIO) -> int:
    """The epoch of what is to be replaced, as far as it can be read."""
    try:
        store = stores.examine(data_dir, held)
    except (Corruption, RequestError) as error:
        log.warning("%s", error.message)
        return 0
    store.let_go()
    return store.epoch


def _restored_epoch(highest: int, asked: int) -> int:
    if asked and asked <= highest:
        raise RequestError(f"epoch {asked} is not above {highest}, which was", hint=f"--epoch {highest + 1} is")
    return asked or (highest // EPOCHS_PER_RESTORE + 2) * EPOCHS_PER_RESTORE


def _go_on_behind(store: Store, epoch: int) -> None:
    """Open the epoch, and have nothing named again that may have been named since the backup."""
    settings = {row.key[0]: str((row.values or ("",))[0]) for row in store.load() if row.table == "settings"}
    rows = []
    for name in SEQUENCES:
        reserved = int(settings.get(name, "0"))
        begin = (reserved // GAP + 1) * GAP
        gaps = settings.get(f"{name}_gaps", "").split()
        rows.append(Row("settings", (name,), (str(begin),)))
        rows.append(Row("settings", (f"{name}_gaps",), (" ".join([*gaps, f"{reserved}-{begin}"]),)))
    jobs = (int(settings.get("jobs_seen", "0")) // JOBS_PER_RESTORE + 1) * JOBS_PER_RESTORE
    rows.append(Row("settings", ("jobs_seen",), (str(jobs),)))
    store.open_restored(epoch, rows)


def _told(store: Store) -> str:
    epoch, txid = store.mark
    return f"the metadata of cluster {store.cluster_id} up to commit {txid} of epoch {epoch}"
