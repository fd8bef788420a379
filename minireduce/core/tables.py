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
)
