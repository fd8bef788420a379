"""The store: what was written is there after a restart, in order, once, and for one master at a time."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.errors import Corruption, RequestError, Unavailable
from minireduce.master import store as store_module
from minireduce.master.digests import TableSum, row_digest, whole
from minireduce.master.store import FILE_NAME, open_store


def worker(name, incarnation):
    return Row("workers", (name,), None if incarnation is None else (incarnation,))


def winner(job, index, attempt=0):
    return Row(
        "winners", (job, 0, "map", index), (attempt, "w1", {"": "TaskOutput", "digest": b"\0"}, (("g", "n", 1),))
    )


def read(directory):
    """What a master that starts on `directory` finds."""
    reopened = open_store(directory)
    try:
        return list(reopened.load())
    finally:
        reopened.close()


def rows_after(directory, table):
    return [row for row in read(directory) if row.table == table]


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def test_rows_come_back_after_a_restart_with_their_types(tmp_path):
    spec = {"": "JobSpec", "name": "lone \udc80", "splits": (1, -2.5, None, b"\xff", True)}
    row = Row("jobs", ("job-00000a-1",), ("key", "running", 12.5, spec, None))
    first = open_store(tmp_path)
    first.write([Persist(first.epoch, 1, (row, winner("job-00000a-1", 0)))])
    first.close()
    assert rows_after(tmp_path, "jobs") == [row]
    assert rows_after(tmp_path, "winners") == [winner("job-00000a-1", 0)]


def test_each_start_opens_the_next_epoch_of_the_same_cluster(tmp_path):
    seen = []
    for _ in range(3):
        opened = open_store(tmp_path)
        seen.append((opened.cluster_id, opened.epoch))
        opened.close()
    assert [epoch for _, epoch in seen] == [1, 2, 3]
    assert len({cluster for cluster, _ in seen}) == 1
    assert len(seen[0][0]) == 6


def test_a_transaction_carries_the_mark_of_its_last_commit(tmp_path):
    first = open_store(tmp_path)
    first.write([Persist(1, 7, (worker("a", 1),)), Persist(1, 8, ())])
    first.close()
    second = open_store(tmp_path)
    assert (second.mark, second.txid, second.epoch) == ((1, 8), 8, 2)
    second.close()


def test_the_last_row_of_a_key_in_a_batch_wins(store):
    store.write([Persist(1, 1, (worker("a", 1), worker("a", 2))), Persist(1, 2, (worker("a", 3),))])
    assert worker("a", 3) in list(store.load())
    store.write([Persist(1, 3, (worker("a", 4), worker("a", None)))])
    assert not [row for row in store.load() if row.table == "workers"]


def test_a_removal_by_the_beginning_of_a_key_reaches_what_was_there_before_it_and_nothing_after(store):
    store.write([Persist(1, 1, (winner("job-00000a-1", 0), winner("job-00000a-2", 0)))])
    removal = Row("winners", ("job-00000a-1",), None)
    store.write([Persist(1, 2, (winner("job-00000a-1", 1), removal, winner("job-00000a-1", 2)))])
    left = [row.key for row in store.load() if row.table == "winners"]
    assert left == [("job-00000a-1", 0, "map", 2), ("job-00000a-2", 0, "map", 0)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, 1, 2])), max_size=6), max_size=5))
def test_a_group_of_commits_leaves_what_they_would_leave_one_by_one(tmp_path_factory, commits):
    expected = {}
    for name, value in (row for commit in commits for row in commit):
        if value is None:
            expected.pop(name, None)
        else:
            expected[name] = value
    opened = open_store(tmp_path_factory.mktemp("store"))
    batch = [Persist(1, number, tuple(worker(*row) for row in commit)) for number, commit in enumerate(commits, 1)]
    if batch:
        opened.write(batch)
    assert {row.key[0]: row.values[0] for row in opened.load() if row.table == "workers"} == expected
    opened.close()


def test_every_commit_is_synced(store):
    assert store._connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    assert store._connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_second_master_on_the_same_directory_is_refused_until_the_first_has_gone(tmp_path):
    first = open_store(tmp_path)
    with pytest.raises(RequestError, match=r"another master \(process \d+\) uses the data directory") as raised:
        open_store(tmp_path)
    assert "--data-dir" in raised.value.hint
    first.close()
    open_store(tmp_path).close()


def test_a_lock_dies_with_its_process(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=open_store, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    open_store(tmp_path).close()


def test_nobody_else_can_read_the_metadata(tmp_path):
    opened = open_store(tmp_path / "data")
    opened.write([Persist(1, 1, (worker("a", 1),))])
    for path in [tmp_path / "data", *(tmp_path / "data").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    opened.close()


def test_a_write_that_fails_says_so_and_leaves_nothing_behind(store, monkeypatch):
    def full(site):
        if site == "store.before_commit":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "hit", full)
    with pytest.raises(Unavailable, match=r"metadata in .* cannot be written"):
        store.write([Persist(1, 1, (worker("a", 1),))])
    assert not [row for row in store.load() if row.table == "workers"]


def test_a_file_that_is_no_database_is_reported(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"this is something else entirely" * 200)
    with pytest.raises(Corruption, match="cannot be read"):
        open_store(tmp_path)


def change(directory, *statements):
    """Do what only damage would: change the file behind the master's back."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.fixture
def written(tmp_path):
    """A directory in which a master left three commits, the third of which changed nothing but `workers`."""
    opened = open_store(tmp_path)
    opened.write([Persist(1, 1, (winner("job-00000a-1", 0), winner("job-00000a-1", 1)))])
    opened.write([Persist(1, 2, (winner("job-00000a-1", 0, attempt=4), worker("a", 1), worker("b", 1)))])
    opened.write([Persist(1, 3, (worker("a", None), worker("b", 2)))])
    opened.close()
    return tmp_path


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE winners SET output = x'c1' WHERE task_index = 1",
            r"row \('job-00000a-1', 0, 'map', 1\) .*winners.* 2 ",
        ),
        ("UPDATE workers SET incarnation = 3", r"row \('b'\) of the table workers, which commit 3 of epoch 1"),
        (
            "DELETE FROM winners WHERE task_index = 0",
            r"winners, which commit 2 .* has 1 rows, but 2 were written",
        ),
        ("INSERT INTO workers SELECT 'c', incarnation, row_digest FROM workers", r"row \('c'\) of the table workers"),
        ("UPDATE digests SET digest = 5 WHERE table_name = 'winners'", r"row \('winners'\) of the table digests"),
        ("DELETE FROM digests WHERE table_name = 'winners'", r"the table digests, which commit 3 of epoch 1"),
        ("DROP TABLE digests", "digests is gone"),
        ("DROP TABLE winners", "table winners, .* has 0 rows, but 2 were written"),
        ("UPDATE settings SET value = '0' WHERE name = 'epoch'", r"row \('epoch'\) of the table settings"),
    ],
)
def test_what_is_not_what_was_written_is_named_with_its_table_and_commit(written, statement, said):
    change(written, statement)
    with pytest.raises(Corruption, match=said):
        read(written)


def test_a_row_that_comes_up_again_as_it_once_was_is_found(written):
    other = written / "other"
    earlier = open_store(other)
    earlier.write([Persist(1, 1, (winner("job-00000a-1", 0),))])
    earlier.close()
    change(
        written,
        f"ATTACH '{other / FILE_NAME}' AS earlier",
        "REPLACE INTO winners SELECT * FROM earlier.winners",
    )
    with pytest.raises(Corruption, match=r"table winners, which commit 2 of epoch 1 .* holds rows that are older"):
        read(written)


def test_a_file_that_was_emptied_is_not_taken_for_a_new_cluster(written):
    (written / FILE_NAME).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(Corruption, match="is empty or of another cluster"):
            open_store(written)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, 1, 2])), max_size=8), min_size=1))
def test_digests_follow_every_change(tmp_path_factory, commits):
    opened = open_store(tmp_path_factory.mktemp("store"))
    for number, commit in enumerate(commits, 1):
        rows = [worker(str(name), value) for name, value in commit]
        rows += [winner("job-00000a-1", name, value or 0) for name, value in commit]
        removals = [Row("winners", ("job-00000a-1", 0), None)] if number % 3 == 0 else []
        opened.write([Persist(1, number, (*rows, *removals))])
        opened.verify()
    opened.close()


def test_metadata_of_the_third_schema_is_taken_over_with_its_rows(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript((Path(__file__).parent / "schema_3.sql").read_text(encoding="utf-8"))
    for start in range(2):
        store = open_store(tmp_path)
        assert (store.cluster_id, store.epoch, store.txid) == ("f65882", 2 + start, 41)
        rows = list(store.load())
        assert [row for row in rows if row.table not in {"settings", "winners"}] == [
            Row("workers", ("worker-1",), (3,)),
            Row("inodes", (2,), (1, "books", "directory", 12.5, 0, 0, 0, "ada", 0o755, 0, 0)),
            Row("inodes", (3,), (2, "é.txt", "file", 13.0, 7, 64, 3, "ada", 0o644, 0, 0)),
            Row("blocks", (1,), (3, 0, 1, 7, 1)),
        ]
        assert winner("job-00000a-1", 0) in rows
        store.write([Persist(store.epoch, 41, ())])
        store.close()
    change(tmp_path, "DELETE FROM inodes WHERE inode = 3")
    with pytest.raises(Corruption, match="table inodes, which commit 41 of epoch 1"):
        read(tmp_path)


def test_metadata_of_the_first_schema_is_taken_over_with_its_rows(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript((Path(__file__).parent / "schema_3.sql").read_text(encoding="utf-8"))
        connection.execute("UPDATE settings SET value = '1' WHERE name = 'schema'")
        for column in ("owner", "mode", "packed_in", "packed_at"):
            connection.execute(f"ALTER TABLE inodes DROP COLUMN {column}")
        connection.commit()
    for _ in range(2):
        store = open_store(tmp_path)
        assert [row for row in store.load() if row.table == "inodes"][1] == Row(
            "inodes", (3,), (2, "é.txt", "file", 13.0, 7, 64, 3, "", 0, 0, 0)
        )
        store.close()


def test_a_column_that_a_table_lacks_is_added_to_what_is_there(written):
    change(
        written,
        "CREATE TABLE made (worker TEXT PRIMARY KEY, row_digest BIGINT) WITHOUT ROWID",
        "DROP TABLE workers",
        "ALTER TABLE made RENAME TO workers",
    )
    digest = row_digest()
    old = TableSum().changed(1, digest(("b",)), (1, 3))
    change(written, f"INSERT INTO workers VALUES ('b', {digest(('b',))})")
    with closing(sqlite3.connect(written / FILE_NAME)) as connection:
        found = connection.execute("SELECT * FROM digests WHERE table_name != ''")
        sums = {name: TableSum(count, total, mark) for name, count, total, *mark, _ in found}
        sums["workers"] = old
        for name, each in (("workers", old), ("", whole(sums, (1, 3), digest))):
            row = (name, *each.columns)
            connection.execute("REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", (*row, digest(row)))
        connection.commit()
    store = open_store(written)
    assert [row for row in store.load() if row.table == "workers"] == [worker("b", 0)]
    store.close()
    change(written, "UPDATE workers SET worker = 'c'")
    with pytest.raises(Corruption, match=r"row \('c'\)"):
        read(written)


def test_metadata_of_another_schema_is_refused(tmp_path):
    open_store(tmp_path).close()
    change(tmp_path, "UPDATE settings SET value = '99' WHERE name = 'schema'", "CREATE TABLE of_later (a)")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(RequestError, match="schema 99"):
        open_store(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before, "what is newer is not touched"
