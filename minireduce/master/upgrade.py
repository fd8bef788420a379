"""Bring metadata that an earlier version wrote up to the present schema, in one transaction.

A schema is a number in `settings`; it grows whenever tables or columns change. Schemas 1 to 3 knew fewer columns and no
digests, and named the last commit in `settings`. A table that lacks a column is made anew: each row is read, what it
lacks is filled in, and its digest is made. What is not known here is of a newer version, and is refused untouched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from minireduce.errors import Corruption, RequestError
from minireduce.master.digests import WHOLE, Mark, TableSum, check_table, row_digest, whole
from minireduce.master.sql_tables import ROW_DIGEST, SqlTable

SCHEMA = "4"
SCHEMAS_READ = ("1", "2", "3", SCHEMA)
COMMITTED = "committed"
"""In schemas 1 to 3 the setting that names the last commit, as "EPOCH TXID"."""
_ROWS_AT_ONCE = 1000


def bring_up(connection: sqlite3.Connection, tables: Sequence[SqlTable], digests: SqlTable) -> None:
    """Make what is missing. Within a transaction, which is given up on an error. Raises RequestError and Corruption."""
    schema, committed = _said(connection)
    if schema not in SCHEMAS_READ:
        raise RequestError(
            f"the metadata is of schema {schema}, this version knows {SCHEMA}",
            hint="start the version of minireduce that wrote it, or name another --data-dir",
        )
    if not _columns(connection, digests.name):
        if schema == SCHEMA and _columns(connection, "settings"):
            raise Corruption(f"the table {digests.name} is gone")
        connection.execute(digests.definition())
    sums = {
        name: TableSum(count, digest, (epoch, txid))
        for name, count, digest, epoch, txid, _ in connection.execute(f"SELECT * FROM {digests.name}")  # noqa: S608
    }
    mark = sums.pop(WHOLE).mark if WHOLE in sums else committed
    outdated = []
    for table in tables:
        present = _columns(connection, table.name)
        if not present:
            connection.execute(table.definition())
        elif set(present) != {*table.columns, ROW_DIGEST}:
            outdated.append(table)
            sums[table.name] = _make_anew(connection, table, present, sums.get(table.name, TableSum(mark=mark)))
    if outdated:
        said = {**sums, WHOLE: whole(sums, mark, row_digest())}
        digests.replace(connection, [((name,), each.columns) for name, each in said.items()])


def _said(connection: sqlite3.Connection) -> tuple[str, Mark]:
    """The schema, the present one where there is nothing yet, and the last commit that is named beside it."""
    if not _columns(connection, "settings"):
        return SCHEMA, (0, 0)
    settings = dict(connection.execute("SELECT name, value FROM settings"))
    epoch, _, txid = settings.get(COMMITTED, "0 0").partition(" ")
    return settings.get("schema", SCHEMA), (int(epoch), int(txid))


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns that a table has now; none where there is no such table."""
    return [found[1] for found in connection.execute(f"PRAGMA table_info({table})")]


def _make_anew(connection: sqlite3.Connection, table: SqlTable, present: list[str], wanted: TableSum) -> TableSum:
    """Give a table the columns that it has in this version, with the rows that it has, checked if they could be."""
    before = f"{table.name}_before"
    connection.execute(f"ALTER TABLE {table.name} RENAME TO {before}")
    connection.execute(table.definition())
    kept = [name for name in present if name != ROW_DIGEST]
    names = ", ".join(kept)
    digested = f", {ROW_DIGEST}" if ROW_DIGEST in present else ", NULL"
    found = connection.execute(f"SELECT {names}{digested} FROM {before}")  # noqa: S608 - names are ours
    made = TableSum(mark=wanted.mark)
    count = total = 0
    digest = row_digest()
    while rows := found.fetchmany(_ROWS_AT_ONCE):
        for *columns, written in rows:
            if written is not None and digest(tuple(columns)) != written:
                check_table(table.name, wanted, made, tuple(columns[: table.key_length]))
            count, total = count + 1, total + (written or 0)
        changes = table.insert(
            connection, [dict(zip(kept, row[:-1], strict=True)) for row in rows if not _is_old(table, row)]
        )
        made = made.changed(*changes, wanted.mark)
    if ROW_DIGEST in present:
        check_table(table.name, wanted, TableSum().changed(count, total, wanted.mark), None)
    connection.execute(f"DROP TABLE {before}")
    return made


def _is_old(table: SqlTable, row: tuple[Any, ...]) -> bool:
    """Whether a row says what is said elsewhere now."""
    return table.name == "settings" and COMMITTED in row
