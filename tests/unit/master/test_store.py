"""The store: what was written is there after a restart, in order, once, and for one master at a time."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.errors import Corruption, RequestError, Unavailable
from minireduce.master import store as store_module
from minireduce.master.store import FILE_NAME, open_store


def worker(name, incarnation):
    return Row("workers", (name,), None if incarnation is None else (incarnation,))


def winner(job, index, attempt=0):
    return Row(
        "winners", (job, 0, "map", index), (attempt, "w1", {"": "TaskOutput", "digest": b"\0"}, (("g", "n", 1),))
    )


def rows_after(directory, table):
    reopened = open_store(directory)
    try:
        return [row for row in reopened.load() if row.table == table]
    finally:
        reopened.close()


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
    assert Row("settings", ("committed",), ("1 8",)) in rows_after(tmp_path, "settings")
    second = open_store(tmp_path)
    assert second.txid == 8
    second.close()


def test_the_last_row_of_a_key_in_a_batch_wins(store):
    store.write([Persist(1, 1, (worker("a", 1), worker("a", 2))), Persist(1, 2, (worker("a", 3),))])
    assert worker("a", 3) in store.load()
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
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "hit", full)
    with pytest.raises(Unavailable, match="metadata cannot be written"):
        store.write([Persist(1, 1, (worker("a", 1),))])
    assert not [row for row in store.load() if row.table == "workers"]


def test_a_file_that_is_no_database_is_reported(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"this is something else entirely" * 200)
    with pytest.raises(Corruption, match="cannot be read"):
        open_store(tmp_path)


def test_a_value_that_is_no_plain_value_is_reported(tmp_path):
    opened = open_store(tmp_path)
    opened.write([Persist(1, 1, (winner("job-00000a-1", 0),))])
    opened.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE winners SET output = x'c1'")
    connection.close()
    opened = open_store(tmp_path)
    with pytest.raises(Corruption, match="cannot be read"):
        opened.load()
    opened.close()


def test_metadata_of_the_first_schema_is_taken_over_with_its_rows(tmp_path):
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("UPDATE settings SET value = '1' WHERE name = 'schema'")
        connection.execute("ALTER TABLE inodes DROP COLUMN owner")
        connection.execute("ALTER TABLE inodes DROP COLUMN mode")
        connection.execute("ALTER TABLE inodes DROP COLUMN packed_in")
        connection.execute("ALTER TABLE inodes DROP COLUMN packed_at")
        connection.execute("INSERT INTO inodes VALUES (2, 1, 'f', 'file', 5.0, 7, 64, 3)")
        connection.commit()
    for _ in range(2):
        store = open_store(tmp_path)
        assert [row for row in store.load() if row.table == "inodes"] == [
            Row("inodes", (2,), (1, "f", "file", 5.0, 7, 64, 3, "", 0, 0, 0))
        ]
        store.close()


def test_metadata_of_another_schema_is_refused(tmp_path):
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE settings SET value = '99' WHERE name = 'schema'")
    connection.close()
    with pytest.raises(RequestError, match="schema 99"):
        open_store(tmp_path)
