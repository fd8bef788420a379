"""The durable form of the cluster's state: the tables of `core.tables` in one SQLite file.

Everything is read once, at start, but for columns that are read when somebody asks (`read`, on a connection of its
own); afterwards only `write` changes the file, from one thread. A `write` takes as many `Persist` as are waiting and
makes them one transaction (group commit), with the mark (epoch, txid) of the last one and the digests of the whole in
it (`digests`): what is damaged is found at start, and a file that lost its newest commits can be told by a mirror
(`mirror`) and by workers that remember a higher mark. WAL and synchronous=FULL: what `write` has returned from survives
a crash of the machine.

Invariants: one process per data directory (a lock file, held as long as the process lives); each start opens a new
epoch, durably, before anything is served; rows of one key follow one another in the order in which they were made;
nothing is read that SQLite would silently have cut off (`write_ahead_log`).
Not here: when a transaction's consequences may be seen (`loop`), what rows mean (`core`), other schemas (`upgrade`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import sqlalchemy as sa

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.core.tables import TABLES
from minireduce.errors import Corruption, RequestError, Unavailable
from minireduce.failpoints import hit
from minireduce.master import upgrade
from minireduce.master.digests import DIGESTS, WHOLE, Mark, TableSum, check_table, row_digest, whole
from minireduce.master.sql_tables import Keyed, SqlTable
from minireduce.master.write_ahead_log import check_log

FILE_NAME = "metadata.sqlite"
LOG_NAME = "metadata.sqlite-wal"
DRAFT_NAME = "metadata.sqlite.new"
ASIDE_NAME = "metadata.sqlite.replaced"
NAME_FILE = "cluster"
"""Holds the cluster's id from its first epoch on, so that a file that was emptied is not taken for a new cluster."""
_CHECKPOINT_PAGES = 1000  # of 4 KiB in the write-ahead log

Key = tuple[str, tuple[Any, ...]]


class Store:
    """Open metadata. Made with `open_store`; `write` from one thread at a time, all else before the first write.

    `mark` is that of the last commit, (0, 0) where there is none; `epoch` that of the last start.
    """

    def __init__(self, directory: Path, engine: sa.Engine, lock: TextIO) -> None:
        self.directory = directory
        self._engine = engine
        self._connection = engine.connect()
        self._reading = sa.create_engine(f"sqlite:///{directory / FILE_NAME}")
        self._lock = lock
        self._tables = {table.name: SqlTable(table) for table in TABLES}
        self._digests = SqlTable(DIGESTS)
        self._digest = row_digest()
        self._sums: dict[str, TableSum] = {}
        self.cluster_id = ""
        self.epoch = 0
        self.mark: Mark = (0, 0)

    @property
    def txid(self) -> int:
        """That of the last commit."""
        return self.mark[1]

    @property
    def problems(self) -> tuple[str, ...]:
        """None: a store that something is wrong with ends its master."""
        return ()

    @property
    def _sqlite(self) -> sqlite3.Connection:
        driver: sqlite3.Connection = self._connection.connection.driver_connection  # type: ignore[assignment]
        return driver

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Bring an older schema up to this one, and learn what the metadata says of itself.

        Raises RequestError for a newer schema, and Corruption.
        """
        with self._transaction():
            upgrade.bring_up(self._sqlite, [*self._tables.values()], self._digests)
            self._read_digests()
            settings = {row.key[0]: row.values for row in self._load_table("settings")}
            self.cluster_id = (settings.get("cluster_id") or ("",))[0]
            self.epoch = int((settings.get("epoch") or ("0",))[0])
        named = self._name_file()
        if named and named != self.cluster_id:
            raise Corruption(
                f"{self.directory / FILE_NAME} is empty or of another cluster, but held the metadata of {named}"
            )

    def _read_digests(self) -> None:
        found = {row.key[0]: row.values or () for row in self._digests.rows_unsummed(self._sqlite)}
        count, digest, *mark = found.pop(WHOLE, (0, 0, 0, 0))
        self._sums = {name: TableSum(values[0], values[1], (values[2], values[3])) for name, values in found.items()}
        self.mark = (mark[0], mark[1])
        there = whole(self._sums, self.mark, self._digest)
        check_table(DIGESTS.name, TableSum(count, digest, self.mark), there, None)

    def load(self) -> Iterator[Row]:
        """All rows, by table and key. Raises Corruption, after the last row at the latest."""
        try:
            with self._transaction():
                for name in self._tables:
                    yield from self._load_table(name)
        except Corruption as error:
            raise damaged(self.directory, error.message) from error

    def _load_table(self, name: str) -> Iterator[Row]:
        return self._tables[name].rows(self._sqlite, self._sums.get(name, TableSum()))

    def verify(self) -> None:
        """Raise Corruption unless the file holds what was written."""
        try:
            with self._transaction():
                self._check_pages()
                for name, table in self._tables.items():
                    table.verify(self._sqlite, self._sums.get(name, TableSum()))
        except (Corruption, sqlite3.DatabaseError) as error:
            raise damaged(self.directory, str(error)) from error

    def _check_pages(self) -> None:
        """Raise Corruption where SQLite itself finds that its trees and its list of free pages do not fit."""
        (said,) = self._sqlite.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise Corruption(said)

    def read(self, table: str, key: tuple[Any, ...], *, after: int, rows_max: int) -> list[Row]:
        """The first durable rows of a table whose key begins so, in its order, behind the place `after`; whole.

        From any thread.
        """
        with self._reading.connect() as connection:
            driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
            return self._tables[table].some(driver, key, after, rows_max)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def open_epoch(self, epoch: int = 0, cluster_id: str = "") -> None:
        """Begin this epoch, or the next one, and name the cluster if this is its first."""
        self.cluster_id = self.cluster_id or cluster_id or secrets.token_hex(3)
        self.epoch = epoch or self.epoch + 1
        current = {"schema": upgrade.SCHEMA, "cluster_id": self.cluster_id, "epoch": str(self.epoch)}
        try:
            with self._commit([Row("settings", (name,), (value,)) for name, value in current.items()], self.mark):
                hit("store.before_epoch")
            if not self._name_file():
                write_file(self.directory / NAME_FILE, self.cluster_id)
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
            raise _unwritable(self.directory, error) from error

    def open_restored(self, epoch: int, rows: Iterable[Row]) -> None:
        """Begin an epoch in which what was committed before is the last commit, however late workers saw others."""
        current = (Row("settings", (name,), (str(epoch),)) for name in ("epoch", "restored_epoch"))
        with self._commit([*current, *rows], (epoch, self.txid)):
            pass
        self.epoch = epoch

    def write(self, batch: list[Persist]) -> None:
        """Make these durable, all or none; returns when they are. Raises Unavailable when the disk does not take it."""
        rows = (row for persist in batch for row in persist.rows)
        try:
            hit("store.before_rows")
            with self._commit(rows, (batch[-1].epoch, batch[-1].txid)):
                hit("store.before_commit")
            hit("store.after_commit")
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
            raise _unwritable(self.directory, error) from error

    @contextlib.contextmanager
    def _commit(self, rows: Iterable[Row], mark: Mark) -> Iterator[None]:
        """Write these rows, and what is said of the whole then; durable once the context has been left."""
        with self._transaction():
            sums = dict(self._sums)
            for name, keyed in self._waves(rows):
                count, digest = self._tables[name].replace(self._sqlite, keyed)
                sums[name] = sums.get(name, TableSum()).changed(count, digest, mark)
            said = {name: each for name, each in sums.items() if each is not self._sums.get(name)}
            said[WHOLE] = whole(sums, mark, self._digest)
            self._digests.replace(self._sqlite, [((name,), each.columns) for name, each in said.items()])
            yield
        self._sums, self.mark = sums, mark

    def _waves(self, rows: Iterable[Row]) -> Iterator[tuple[str, list[Keyed]]]:
        """The rows in groups of one table, within which order does not matter: only the last of each key is left.

        A removal by the beginning of a key reaches rows whose names are not known here, so it is a group of its own.
        """
        for wave in _waves(rows, self._tables):
            by_table: dict[str, list[Keyed]] = {}
            for (name, key), values in wave.items():
                by_table.setdefault(name, []).append((key, values))
            yield from by_table.items()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connection.begin():
            yield

    # ── copies and the end ──────────────────────────────────────────────────────────────────────────────────────────

    def copy_to(self, path: Path) -> None:
        """Write what is durable, as of now, to a new file, synced."""
        copy_database(self._sqlite, path)

    def _name_file(self) -> str:
        path = self.directory / NAME_FILE
        return path.read_text(encoding="ascii").strip() if path.exists() else ""

    def let_go(self) -> None:
        """Fold the write-ahead log in; the directory stays locked."""
        self._connection.close()
        self._engine.dispose()
        self._reading.dispose()

    def close(self) -> None:
        """Fold the write-ahead log in and let the next master in."""
        self.let_go()
        self._lock.close()


def open_store(directory: Path) -> Store:
    """The metadata in `directory`, which is made if need be, in a new epoch. Raises RequestError and Corruption."""
    with closing_on_error(lock(directory)) as held:
        store = examine(directory, held)
        try:
            store.open_epoch()
        except BaseException:
            store.let_go()
            raise
    return store


def examine(directory: Path, held: TextIO) -> Store:
    """The metadata in `directory`, whose lock is held, before any epoch. Raises RequestError and Corruption."""
    path = directory / FILE_NAME
    opened: list[Store] = []
    try:
        check_log(directory / LOG_NAME)
        opened.append(Store(directory, _engine(path), held))
        opened[0].prepare()
    except BaseException as error:
        for store in opened:
            store.let_go()
        if isinstance(error, Corruption):
            raise damaged(directory, error.message) from error
        if isinstance(error, sa.exc.DatabaseError | sqlite3.DatabaseError | OSError):
            if _is_of_writing(error):
                raise _unwritable(directory, error) from error
            raise damaged(directory, f"it cannot be read: {getattr(error, 'orig', error)}") from error
        raise
    return opened[0]


def _is_of_writing(error: BaseException) -> bool:
    """Whether a disk did not take something, rather than giving something wrong."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return code not in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
    return isinstance(error, OSError) or code & 0xFF in _DISK_REFUSES


_DISK_REFUSES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def _unwritable(directory: Path, error: BaseException) -> Unavailable:
    cause = getattr(error, "orig", error)
    return Unavailable(f"the metadata in {directory} cannot be written: {cause}", hint="is the disk full or failing?")


def damaged(directory: Path, what: str) -> Corruption:
    """That the metadata in `directory` is not what was written."""
    return Corruption(
        f"the metadata in {directory} is damaged: {what}",
        hint="start with --metadata-mirror if there is one, else restore a backup: minireduce-master restore",
    )


@contextlib.contextmanager
def closing_on_error(file: TextIO) -> Iterator[TextIO]:
    """Close `file` if what is done with it fails."""
    try:
        yield file
    except BaseException:
        file.close()
        raise


def lock(directory: Path) -> TextIO:
    """Make `directory` if need be and take it for this process. Raises RequestError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _lock(directory)
    except OSError as error:
        raise RequestError(
            f"the data directory {directory} cannot be used: {error.strerror}", hint="name another with --data-dir"
        ) from error


def _lock(directory: Path) -> TextIO:
    """The open lock file. Raises RequestError when another master holds it."""
    file = os.fdopen(os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read().strip()
        file.close()
        raise RequestError(
            f"another master (process {holder or 'unknown'}) uses the data directory {directory}",
            hint="stop it first, or name another --data-dir",
        ) from None
    with closing_on_error(file):
        file.truncate(0)
        os.pwrite(file.fileno(), f"{os.getpid()}\n".encode(), 0)  # unbuffered, so that closing writes nothing
    return file


def copy_database(source: sqlite3.Connection, path: Path) -> None:
    """Write a database as it is at one moment to a new file, synced. It may be written to meanwhile."""
    path.unlink(missing_ok=True)
    make_private(path)
    source.execute("VACUUM INTO ?", (str(path),))
    with path.open("rb") as file:
        os.fsync(file.fileno())


def make_private(path: Path) -> None:
    """Make the file if it is not there, so that others cannot read it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def write_file(path: Path, text: str) -> None:
    """Have a small file hold `text`, whole or not at all, on disk when this returns."""
    draft = path.with_name(f"{path.name}.new")
    make_private(draft)
    with draft.open("w", encoding="ascii") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on disk when this returns."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _engine(path: Path) -> sa.Engine:
    make_private(path)
    engine = sa.create_engine(
        f"sqlite:///{path}", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(driver: sqlite3.Connection, _record: object) -> None:
        driver.isolation_level = None  # a transaction begins where we say so, before tables are changed, too
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            "wal_checkpoint(TRUNCATE)",
        ):
            driver.execute(f"PRAGMA {pragma}").fetchall()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _waves(rows: Iterable[Row], tables: dict[str, SqlTable]) -> Iterator[dict[Key, tuple[Any, ...] | None]]:
    wave: dict[Key, tuple[Any, ...] | None] = {}
    for row in rows:
        if len(row.key) == tables[row.table].key_length:
            wave[row.table, row.key] = row.values
            continue
        yield wave
        yield {(row.table, row.key): None}
        wave = {}
    yield wave
