"""One table of the durable form in SQL: rows in and out, with the digest of each.

A table is one tree in the order of its key, without an index beside it: to read all of it is to read all that a search
in it relies on. The SQL for each is made once, since thousands of rows are written a second, and goes to the driver
directly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgpack
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert

from minireduce.core.effects import Row
from minireduce.core.tables import Table
from minireduce.errors import Corruption
from minireduce.master.digests import TableSum, check_table, row_digest

ROW_DIGEST = "row_digest"

LOOKED_UP_TOGETHER = (32, 8, 1)
"""Of how many rows one statement asks for the digests. With one for each, a row cost 1 us more."""

_SQL_KINDS: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "text": sa.Text,
    "int": sa.BigInteger,
    "real": sa.Double,
    "plain": sa.LargeBinary,
}

ABSENT: dict[str, Any] = {"text": "", "int": 0, "real": 0.0, "plain": None}
"""What a column holds in rows that were written before it was thought of."""

Keyed = tuple[tuple[Any, ...], tuple[Any, ...] | None]
"""A row's key, or the beginning of some, and its values; None removes."""


class SqlTable:
    """Reads and writes one table on a connection of SQLite."""

    def __init__(self, table: Table) -> None:
        self.name = table.name
        self.key_length = len(table.key)
        self.kinds = [kind for _, kind in (*table.key, *table.columns)]
        self.columns = [name for name, _ in (*table.key, *table.columns)]
        self.key = [name for name, _ in table.key]
        self._values = [name for name, _ in table.columns]
        self._order = table.order
        self._later = self.columns.index(table.read_later) if table.read_later else -1
        self._has_plain = "plain" in self.kinds
        self._digest = row_digest()
        described = self.sql()
        columns = list(described.columns)
        self._upsert = _compiled(self._upsert_into(described))
        self._all = _compiled(sa.select(*columns).order_by(*described.primary_key))
        self._digests_of = {size: self._select_digests(size) for size in LOOKED_UP_TOGETHER}
        self._removals = [
            _compiled(sa.delete(described).where(*self._place(described, length)).returning(columns[-1]))
            for length in range(1, self.key_length + 1)
        ]

    def sql(self, name: str = "") -> sa.Table:
        """The table's description, under another name if one is given."""
        pairs = list(zip(self.columns, self.kinds, strict=True))
        return sa.Table(
            name or self.name,
            sa.MetaData(),
            *(
                sa.Column(column, _SQL_KINDS[kind], primary_key=True, autoincrement=False)
                for column, kind in pairs[: self.key_length]
            ),
            *(sa.Column(column, _SQL_KINDS[kind], nullable=True) for column, kind in pairs[self.key_length :]),
            sa.Column(ROW_DIGEST, sa.BigInteger, nullable=False),
            sqlite_with_rowid=False,
        )

    def _upsert_into(self, described: sa.Table) -> sa.Insert:
        upsert = insert(described)
        return upsert.on_conflict_do_update(
            index_elements=list(described.primary_key),
            set_={name: upsert.excluded[name] for name in (*self._values, ROW_DIGEST)},
        )

    @staticmethod
    def _place(described: sa.Table, length: int) -> list[sa.ColumnElement[bool]]:
        """That the first `length` columns of the key are what is given."""
        return [column == sa.bindparam(column.name) for column in list(described.primary_key)[:length]]

    def definition(self) -> str:
        """The SQL that makes the table."""
        return str(sa.schema.CreateTable(self.sql()).compile(dialect=sqlite.dialect()))

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def rows(self, connection: sqlite3.Connection, wanted: TableSum) -> Iterator[Row]:
        """Every row, in the order of the keys, without what is read later.

        Raises Corruption, after the last row at the latest, if they are not those of `wanted`.
        """
        for columns in self._checked(connection, wanted):
            if self._later >= 0:
                columns = (*columns[: self._later], None, *columns[self._later + 1 :])  # noqa: PLW2901
            yield self._row(columns)

    def verify(self, connection: sqlite3.Connection, wanted: TableSum) -> None:
        """Raise Corruption if the rows are not those of `wanted`."""
        for _ in self._checked(connection, wanted):
            pass

    def _checked(self, connection: sqlite3.Connection, wanted: TableSum) -> Iterator[tuple[Any, ...]]:
        digest, count, total = self._digest, 0, 0
        wrong: tuple[Any, ...] | None = None
        try:
            for found in connection.execute(self._all):
                columns = found[:-1]
                if digest(columns) != found[-1]:
                    wrong = columns[: self.key_length]
                    break
                count += 1
                total += found[-1]
                yield columns
        except (sqlite3.DatabaseError, UnicodeError) as error:
            raise Corruption(f"the table {self.name} cannot be read: {error}") from error
        check_table(self.name, wanted, TableSum().changed(count, total, wanted.mark), wrong)

    def rows_unsummed(self, connection: sqlite3.Connection) -> Iterator[Row]:
        """Every row, each checked alone."""
        for *columns, written in connection.execute(self._all):
            whole = tuple(columns)
            if self._digest(whole) != written:
                check_table(self.name, TableSum(), TableSum(), whole[: self.key_length])
            yield self._row(whole)

    def some(self, connection: sqlite3.Connection, key: tuple[Any, ...], after: int, rows_max: int) -> list[Row]:
        """The first rows whose key begins so, in the table's order, behind the place `after`."""
        described = self.sql()
        order = described.columns[self._order]
        query = sa.select(*list(described.columns)[:-1]).where(*self._place(described, len(key)))
        query = query.where(order > sa.bindparam("after")).order_by(order).limit(sa.bindparam("rows_max"))
        found = connection.execute(_compiled(query), (*key, after, rows_max, 0))
        return [self._row(columns) for columns in found]

    def _row(self, columns: tuple[Any, ...]) -> Row:
        if self._has_plain:
            columns = tuple(_from_sql(kind, value) for kind, value in zip(self.kinds, columns, strict=True))
        return Row(self.name, columns[: self.key_length], columns[self.key_length :])

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def replace(self, connection: sqlite3.Connection, rows: Iterable[Keyed]) -> tuple[int, int]:
        """Insert or replace these rows, each key once; remove those without values.

        Gives back by how much that changed the number of rows and the sum of their digests.
        """
        count = total = 0
        present = []
        packed: dict[int, bytes] = {}  # by identity: tasks that end together leave the same
        for key, values in rows:
            if values is None:
                removed, less = self._remove(connection, key)
                count, total = count - removed, total - less
                continue
            columns = self._in_sql((*key, *values), packed)
            digest = self._digest(columns)
            total += digest
            present.append((*columns, digest))
        replaced = self._digests_there(connection, [row[: self.key_length] for row in present])
        connection.executemany(self._upsert, present)
        return count + len(present) - len(replaced), total - sum(replaced)

    def _digests_there(self, connection: sqlite3.Connection, keys: list[tuple[Any, ...]]) -> list[int]:
        """The digests of those rows among these keys that are there."""
        found: list[int] = []
        begin = 0
        for size in LOOKED_UP_TOGETHER:
            while len(keys) - begin >= size:
                wanted = [column for key in keys[begin : begin + size] for column in key]
                found.extend([digest for (digest,) in connection.execute(self._digests_of[size], wanted)])
                begin += size
        return found

    def _select_digests(self, size: int) -> str:
        """The SQL that asks for the digests of the rows of so many keys. The cross join has SQLite search once for each
        key; of `IN` over rows of values it makes a walk over the whole table.
        """
        key = f"({', '.join('?' * self.key_length)})"
        on = " AND ".join(f'there."{name}" = wanted.column{place}' for place, name in enumerate(self.key, 1))
        wanted = f"(VALUES {', '.join([key] * size)}) AS wanted"
        return f'SELECT there.{ROW_DIGEST} FROM {wanted} CROSS JOIN "{self.name}" AS there ON {on}'  # noqa: S608

    def insert(self, connection: sqlite3.Connection, rows: Iterable[dict[str, Any]]) -> tuple[int, int]:
        """Insert rows, given by the names of their columns as they are in SQL, with what they lack filled in.

        Gives back how many they are, and the sum of their digests.
        """
        present = []
        for row in rows:
            pairs = zip(self.columns, self.kinds, strict=True)
            columns = tuple([row.get(name, ABSENT[kind]) for name, kind in pairs])
            present.append((*columns, self._digest(columns)))
        connection.executemany(self._upsert, present)
        return len(present), sum(row[-1] for row in present)

    def _remove(self, connection: sqlite3.Connection, key: tuple[Any, ...]) -> tuple[int, int]:
        """Remove the rows whose key begins so: how many, and the sum of their digests."""
        removed = [digest for (digest,) in connection.execute(self._removals[len(key) - 1], key)]
        return len(removed), sum(removed)

    def _in_sql(self, values: tuple[Any, ...], packed: dict[int, bytes]) -> tuple[Any, ...]:
        kinds = zip(self.kinds, values, strict=True)
        return tuple([_packed(value, packed) if kind == "plain" else _CONVERT[kind](value) for kind, value in kinds])


def _packed(value: Any, packed: dict[int, bytes]) -> bytes:
    data = packed.get(id(value))
    if data is None:
        # User text may hold lone surrogates, which UTF-8 knows only with this option.
        data = packed[id(value)] = msgpack.packb(value, unicode_errors="surrogatepass")
    return data


_CONVERT: dict[str, Callable[[Any], Any]] = {"text": str, "int": int, "real": float}
"""As the database gives it back, so that its digest is the same before and after: never a bool, nor a whole real."""


def _compiled(statement: sa.Executable) -> str:
    """The SQL of a statement, with its parameters in the order in which they stand there."""
    return str(statement.compile(dialect=sqlite.dialect()))  # type: ignore[attr-defined]


def _from_sql(kind: str, value: Any) -> Any:
    if kind != "plain" or value is None:
        return value
    try:
        return msgpack.unpackb(value, use_list=False, strict_map_key=False, unicode_errors="surrogatepass")
    except (ValueError, TypeError) as error:
        raise Corruption(f"the metadata holds a value that cannot be read: {error}") from error
