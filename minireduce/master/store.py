"""The durable form of the cluster's state: the tables of `core.tables` in one SQLite file.

Everything is read once, at start, but for columns that are read when somebody asks (`read`, on a connection of its
own); afterwards only `write` changes the file, from one thread. A `write` takes as many
`Persist` as are waiting and makes them one transaction (group commit), with the mark (epoch, txid) of the last one in
it, so that a file that lost its newest commits can be told by workers that remember a higher mark. WAL and
synchronous=FULL: what `write` has returned from survives a crash of the machine. An embedded cluster dies with its run,
and is not synced.

Invariants: one process per data directory (a lock file, held as long as the process lives); each start opens a new
epoch, durably, before anything is served; rows of one key follow one another in the order in which they were made.
Not here: when a transaction's consequences may be seen (`loop`), what rows mean (`core`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgpack
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.core.tables import TABLES, Table
from minireduce.errors import Corruption, RequestError, Unavailable
from minireduce.failpoints import hit

FILE_NAME = "metadata.sqlite"
SCHEMA = "3"
SCHEMAS_READ = ("1", "2", SCHEMA)
"""What an earlier version wrote is taken over: it lacks columns, and is told from now on by its new number."""
_CHECKPOINT_PAGES = 1000  # of 4 KiB in the write-ahead log

Key = tuple[str, tuple[Any, ...]]


class Store:
    """Open metadata. Made with `open_store`; `write` from one thread at a time, all else before the first write."""

    def __init__(self, connection: sa.Connection, reading: sa.Engine, lock: TextIO) -> None:
        self._connection = connection
        self._reading = reading
        self._lock = lock
        self._tables = {table.name: _SqlTable(table) for table in TABLES}
        self.cluster_id = ""
        self.epoch = 0
        self.txid = 0  # the last one on disk

    def open_epoch(self) -> None:
        """Begin the next epoch of this cluster, and name the cluster if this is its first."""
        with self._connection.begin():
            self._tables["settings"].sql.create(self._connection, checkfirst=True)
            settings = {row.key[0]: row.values for row in self._tables["settings"].rows(self._connection)}
            schema = (settings.get("schema") or (SCHEMA,))[0]
            if schema not in SCHEMAS_READ:
                raise RequestError(
                    f"the metadata is of schema {schema}, this version knows {SCHEMA}",
                    hint="start the version of minireduce that wrote it, or name another --data-dir",
                )
            for table in self._tables.values():
                table.create(self._connection)
            self.cluster_id = (settings.get("cluster_id") or (secrets.token_hex(3),))[0]
            self.epoch = int((settings.get("epoch") or ("0",))[0]) + 1
            self.txid = int((settings.get("committed") or ("0 0",))[0].split()[1])
            current = {"schema": SCHEMA, "cluster_id": self.cluster_id, "epoch": str(self.epoch)}
            self._apply(Row("settings", (name,), (value,)) for name, value in current.items())

    def load(self) -> list[Row]:
        """All rows, by table and key. Raises Corruption."""
        with self._connection.begin():
            return [row for table in self._tables.values() for row in table.rows(self._connection)]

    def read(self, table: str, key: tuple[Any, ...], *, after: int, rows_max: int) -> list[Row]:
        """The first durable rows of a table whose key begins so, in its order, behind the place `after`; whole.

        From any thread.
        """
        with self._reading.connect() as connection:
            return self._tables[table].some(connection, key, after, rows_max)

    def write(self, batch: list[Persist]) -> None:
        """Make these durable, all or none; returns when they are. Raises Unavailable when the disk does not take it."""
        mark = Row("settings", ("committed",), (f"{batch[-1].epoch} {batch[-1].txid}",))
        try:
            with self._connection.begin():
                self._apply([*(row for persist in batch for row in persist.rows), mark])
                hit("store.before_commit")
            hit("store.after_commit")
        except (sa.exc.DBAPIError, OSError) as error:
            cause = getattr(error, "orig", error)
            raise Unavailable(
                f"the metadata cannot be written: {cause}", hint="is the disk full or failing?"
            ) from error

    def _apply(self, rows: Iterable[Row]) -> None:
        for wave in _waves(rows, self._tables):
            by_table: dict[str, list[tuple[tuple[Any, ...], tuple[Any, ...] | None]]] = {}
            for (name, key), values in wave.items():
                by_table.setdefault(name, []).append((key, values))
            for name, table in self._tables.items():
                if name in by_table:
                    table.replace(self._connection, by_table[name])

    def close(self) -> None:
        """Fold the write-ahead log in and let the next master in."""
        self._connection.close()
        self._connection.engine.dispose()
        self._reading.dispose()
        self._lock.close()


def open_store(directory: Path) -> Store:
    """The metadata in `directory`, which is made if need be, in a new epoch. Raises RequestError and Corruption."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(directory)
    except OSError as error:
        raise RequestError(
            f"the data directory {directory} cannot be used: {error.strerror}", hint="name another with --data-dir"
        ) from error
    try:
        connection = _connect(directory / FILE_NAME)
        store = Store(connection, sa.create_engine(f"sqlite:///{directory / FILE_NAME}"), lock)
        store.open_epoch()
    except sa.exc.DatabaseError as error:
        lock.close()
        raise Corruption(
            f"the metadata in {directory} cannot be read: {error.orig}", hint="restore the directory from a copy"
        ) from error
    except BaseException:
        lock.close()
        raise
    return store


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
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _connect(path: Path) -> sa.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # made by us, so that others cannot read it
    engine = sa.create_engine(
        f"sqlite:///{path}", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False}
    )
    connection = engine.connect()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
    ):
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    connection.commit()
    return connection


def _waves(rows: Iterable[Row], tables: dict[str, _SqlTable]) -> Iterator[dict[Key, tuple[Any, ...] | None]]:
    """The rows in groups within which order does not matter: only the last row of each key is left.

    A removal by the beginning of a key reaches rows whose names are not known here, so it is a group of its own.
    """
    wave: dict[Key, tuple[Any, ...] | None] = {}
    for row in rows:
        if len(row.key) == tables[row.table].key_length:
            wave[row.table, row.key] = row.values
            continue
        yield wave
        yield {(row.table, row.key): None}
        wave = {}
    yield wave


_SQL_KINDS: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "text": sa.Text,
    "int": sa.BigInteger,
    "real": sa.Double,
    "plain": sa.LargeBinary,
}


_ABSENT: dict[str, Any] = {"text": "", "int": 0, "real": 0.0, "plain": None}
"""What a column holds in rows that were written before it was thought of."""


class _SqlTable:
    """One table of the durable form in SQL."""

    def __init__(self, table: Table) -> None:
        self.key_length = len(table.key)
        self._kinds = [kind for _, kind in (*table.key, *table.columns)]
        self.sql = sa.Table(
            table.name,
            sa.MetaData(),
            *(sa.Column(name, _SQL_KINDS[kind], primary_key=True, autoincrement=False) for name, kind in table.key),
            *(sa.Column(name, _SQL_KINDS[kind], nullable=True) for name, kind in table.columns),
        )
        self._order = table.order
        self._at_start = [
            sa.null().label(column.name) if column.name == table.read_later else column for column in self.sql.columns
        ]
        upsert = insert(self.sql)
        upsert = upsert.on_conflict_do_update(
            index_elements=list(self.sql.primary_key),
            set_={name: upsert.excluded[name] for name, _ in table.columns},
        )
        self._upsert = str(upsert.compile(dialect=sqlite.dialect()))

    def create(self, connection: sa.Connection) -> None:
        """Make the table, or add the columns that it lacks since an earlier version made it."""
        self.sql.create(connection, checkfirst=True)
        present = {column["name"] for column in sa.inspect(connection).get_columns(self.sql.name)}
        for column, kind in zip(self.sql.columns, self._kinds, strict=True):
            if column.name not in present:
                default = _ABSENT[kind]
                spelled = sa.schema.CreateColumn(column).compile(connection.engine)
                connection.exec_driver_sql(f"ALTER TABLE {self.sql.name} ADD COLUMN {spelled}")
                if default is not None:
                    connection.execute(sa.update(self.sql).values({column.name: default}))

    def rows(self, connection: sa.Connection) -> Iterator[Row]:
        """Every row, in the order of the keys, without what is read later."""
        for found in connection.execute(sa.select(*self._at_start).order_by(*self.sql.primary_key)):
            yield self._row(found)

    def some(self, connection: sa.Connection, key: tuple[Any, ...], after: int, rows_max: int) -> list[Row]:
        """The first rows whose key begins so, in the table's order, behind the place `after`."""
        place = self.sql.columns[self._order]
        begins = (column == value for column, value in zip(self.sql.primary_key, key, strict=False))
        query = sa.select(self.sql).where(*begins, place > after).order_by(place).limit(rows_max)
        return [self._row(found) for found in connection.execute(query)]

    def _row(self, found: Any) -> Row:
        values = tuple(_from_sql(kind, value) for kind, value in zip(self._kinds, found, strict=True))
        return Row(self.sql.name, values[: self.key_length], values[self.key_length :])

    def replace(self, connection: sa.Connection, rows: list[tuple[tuple[Any, ...], tuple[Any, ...] | None]]) -> None:
        """Insert or replace these rows; remove those without values."""
        packed: dict[int, bytes] = {}  # by identity: tasks that end together leave the same
        present = [self._in_sql((*key, *values), packed) for key, values in rows if values is not None]
        if present:
            connection.exec_driver_sql(self._upsert, present)  # thousands a second: SQL is made once, not for each
        for key in [key for key, values in rows if values is None]:
            columns = list(self.sql.primary_key)[: len(key)]
            condition = sa.and_(*(column == value for column, value in zip(columns, key, strict=True)))
            connection.execute(sa.delete(self.sql).where(condition))

    def _in_sql(self, values: tuple[Any, ...], packed: dict[int, bytes]) -> tuple[Any, ...]:
        kinds = zip(self._kinds, values, strict=True)
        return tuple([_packed(value, packed) if kind == "plain" else value for kind, value in kinds])


def _packed(value: Any, packed: dict[int, bytes]) -> bytes:
    data = packed.get(id(value))
    if data is None:
        # User text may hold lone surrogates, which UTF-8 knows only with this option.
        data = packed[id(value)] = msgpack.packb(value, unicode_errors="surrogatepass")
    return data


def _from_sql(kind: str, value: Any) -> Any:
    if kind != "plain" or value is None:
        return value
    try:
        return msgpack.unpackb(value, use_list=False, strict_map_key=False, unicode_errors="surrogatepass")
    except (ValueError, TypeError) as error:
        raise Corruption(f"the metadata holds a value that cannot be read: {error}") from error
