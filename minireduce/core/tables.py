"""The durable form of a cluster's state: names of tables, their key columns and their other columns.

The machine writes `Row`s of these tables and reads them all once, at start. The shell turns the same description into
SQL tables. Kinds: "text", "int", "real", and "plain": nested tuples, strings, numbers, bytes and None (`core.plain`),
which the shell packs as msgpack, so that the database needs no knowledge of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """One table: (name, kind) of each key column, then of each other column."""

    name: str
    key: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]


TABLES: tuple[Table, ...] = (
    # One row each: "cluster_id" (text), "epoch", "jobs_seen" (text of an int); "committed", the mark of the last
    # transaction as "EPOCH TXID", which the store writes into each.
    Table("settings", (("name", "text"),), (("value", "text"),)),
    # Workers that are expected back after a restart of the master.
    Table("workers", (("worker", "text"),), (("incarnation", "int"),)),
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
    # Closed files and directories; sizes are 0 for directories. The root has no row.
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
        ),
    ),
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
        ),
    ),
    # `length` is -1 until the block is committed. Where its replicas are is not persisted: workers tell.
    Table(
        "blocks",
        (("block", "int"),),
        (("file", "int"), ("position", "int"), ("generation", "int"), ("length", "int")),
    ),
)
