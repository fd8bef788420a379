"""The durable form of a cluster's state: names of tables, their key columns and their other columns.

The machine writes `Row`s of these tables and reads them all once, at start, but for what is named `read_later`. The
shell turns the same description into SQL tables. Kinds: "text", "int", "real", and "plain": nested tuples, strings,
numbers, bytes and None (`core.plain`), which the shell packs as msgpack, so that the database needs no knowledge of
them.
"""

from __future__ import annotations

from collections.abc import Callable

from minireduce.core.effects import Row
from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """One table: (name, kind) of each key column, then of each other column.

    `read_later` names a column that is None in the rows of the start: it is read when somebody asks, in the order of
    `order`.
    """

    name: str
    key: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    read_later: str = ""
    order: str = ""


TABLES: tuple[Table, ...] = (
    # One row each: "schema", "cluster_id", and as the text of an int "epoch", "jobs_seen", "inodes_reserved" and
    # "blocks_reserved"; where a backup was restored, "restored_epoch" and, with the numbers that were left out then,
    # "inodes_reserved_gaps" and "blocks_reserved_gaps". The mark of the last commit stands elsewhere, with its digest
    # (`master/digests.py`).
    Table("settings", (("name", "text"),), (("value", "text"),)),
    # Workers that are expected back after a restart of the master.
    Table("workers", (("worker", "text"),), (("incarnation", "int"),)),
    # Workers that shall be done without, there or not; since when by the wall clock.
    Table("draining", (("worker", "text"),), (("since", "real"),)),
    # `finished`: reason and errors of an ended job.
    Table(
        "jobs",
        (("job", "text"),),
        (
            ("submit_key", "text"),
            ("state", "text"),
            ("submitted_at", "real"),
            ("spec", "plain"),
            ("finished", "plain"),
        ),
    ),
    # How far a job was when last looked at: since when it runs, and what the scheduler itself counted, by name.
    Table("progress", (("job", "text"),), (("elapsed_s", "real"), ("counted", "plain"))),
    # The winner of each finished task.
    Table(
        "winners",
        (("job", "text"), ("step", "int"), ("kind", "text"), ("task_index", "int")),
        (("attempt_number", "int"), ("worker", "text"), ("output", "plain"), ("counters", "plain")),
    ),
    # Failures that count against a task's attempts.
    Table(
        "failures",
        (("job", "text"), ("step", "int"), ("kind", "text"), ("task_index", "int"), ("attempt_number", "int")),
        (("worker", "text"), ("error", "plain")),
    ),
    # What attempts printed, in pieces: `place` is the offset, or -1 for the end of a long text.
    Table(
        "printed",
        (
            ("job", "text"),
            ("step", "int"),
            ("kind", "text"),
            ("task_index", "int"),
            ("attempt_number", "int"),
            ("stream", "text"),
            ("place", "int"),
        ),
        (
            ("sequence", "int"),
            ("worker", "text"),
            ("bytes", "int"),
            ("offset", "int"),
            ("is_of_failure", "int"),
            ("data", "plain"),
        ),
        read_later="data",
        order="sequence",
    ),
    # Records that were found to be bad; of a job that has ended, those that people may ask about.
    Table(
        "skipped",
        (("job", "text"), ("step", "int"), ("kind", "text"), ("task_index", "int"), ("position", "int")),
        (("attempt_number", "int"), ("worker", "text"), ("record", "plain")),
    ),
    # Attempts that ended, at most a thousand a row; of jobs that run, those that were written early. `total` were made
    # by then.
    Table(
        "history",
        (("job", "text"), ("place", "int")),
        (("attempts", "int"), ("total", "int"), ("data", "plain")),
        read_later="data",
        order="place",
    ),
    # Closed files and directories; sizes are 0 for directories. The root has no row. What was removed has parent 0 and
    # waits to be collected; below it nothing changes. `packed_in` is 0, or the file of `blocks` in whose block the
    # bytes of this one begin at `packed_at`.
    Table(
        "inodes",
        (("inode", "int"),),
        (
            ("parent", "int"),
            ("name", "text"),
            ("kind", "text"),
            ("modified_at", "real"),
            ("length", "int"),
            ("block_size_bytes", "int"),
            ("replication", "int"),
            ("owner", "text"),
            ("mode", "int"),
            ("packed_in", "int"),
            ("packed_at", "int"),
        ),
    ),
    # Directories that may hold only so much, 0 where that is any number.
    Table("quotas", (("inode", "int"),), (("names_max", "int"), ("space_bytes_max", "int"))),
    # Files that are being written.
    Table(
        "open_files",
        (("file", "int"),),
        (
            ("path", "text"),
            ("lease", "text"),
            ("file_key", "text"),
            ("overwrite", "int"),
            ("block_size_bytes", "int"),
            ("replication", "int"),
            ("owner", "text"),
            ("is_append", "int"),
        ),
    ),
    # `tried` is the highest generation under which anybody was told to write it. `length` is -1 until the block is
    # committed. Where its replicas are is not persisted: workers tell.
    Table(
        "blocks",
        (("block", "int"),),
        (("file", "int"), ("position", "int"), ("generation", "int"), ("length", "int"), ("tried", "int")),
    ),
)

TABLES_BY_NAME = {table.name: table for table in TABLES}


def place_of(table: Table) -> Callable[[Row], int]:
    """Where a row of `table` stands in the order in which it is read later."""
    names = [name for name, _ in (*table.key, *table.columns)]
    at = names.index(table.order)

    def place(row: Row) -> int:
        whole = (*row.key, *(row.values or ()))
        found: int = whole[at]
        return found

    return place
