"""Backups hold one commit of a master that runs; what is restored from one gives nothing out twice."""

from __future__ import annotations

import threading

import pytest

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.core.storage.ids import GAP
from minireduce.errors import Corruption, RequestError
from minireduce.master import store as stores
from minireduce.master.backup import back_up, restore
from minireduce.master.mirror import open_mirrored
from minireduce.master.store import FILE_NAME, open_store


def commit(store, number):
    """A commit of two rows that belong together."""
    rows = (Row("workers", ("a",), (number,)), Row("blocks", (number,), (number, 0, 1, 7, 1)))
    store.write([Persist(store.epoch, number, rows)])


def read(directory):
    """Epoch, commit, and the rows in `directory`, by table and key."""
    held = stores.lock(directory)
    store = stores.examine(directory, held)
    store.verify()
    rows = {(row.table, *row.key): row.values for row in store.load()}
    found = (store.epoch, store.txid, rows)
    store.close()
    return found


@pytest.fixture
def written(tmp_path):
    store = open_store(tmp_path / "data")
    for number in range(1, 6):
        commit(store, number)
    store.write([Persist(1, 6, (Row("settings", ("blocks_reserved",), ("1001",)),))])
    store.close()
    return tmp_path / "data"


def test_a_backup_of_a_master_that_writes_is_one_of_its_commits(tmp_path):
    store = open_store(tmp_path / "data")
    commit(store, 1)
    is_over = threading.Event()

    def write():
        number = 2
        while not is_over.is_set():
            commit(store, number)
            number += 1

    writing = threading.Thread(target=write)
    writing.start()
    try:
        seen = []
        for number in range(3):
            told = back_up(tmp_path / "data", tmp_path / f"backup-{number}")
            _, txid, rows = read(tmp_path / f"backup-{number}")
            assert f"up to commit {txid} of epoch 1" in told
            assert rows["workers", "a"] == (txid,)
            assert len([key for key in rows if key[0] == "blocks"]) == txid
            seen.append(txid)
    finally:
        is_over.set()
        writing.join()
        store.close()
    assert seen == sorted(seen)


def test_what_is_restored_opens_an_epoch_of_its_own_and_goes_on_behind_a_gap(written, tmp_path):
    back_up(written, tmp_path / "backup")
    store = open_store(written)
    commit(store, 7)
    store.close()
    told = restore(tmp_path / "backup", written)
    assert "in epoch 2000" in told
    epoch, txid, rows = read(written)
    assert (epoch, txid) == (2000, 6)
    assert ("blocks", 7) not in rows
    settings = {key[1]: values[0] for key, values in rows.items() if key[0] == "settings"}
    assert settings["restored_epoch"] == "2000"
    assert settings["blocks_reserved"] == str(GAP)
    assert settings["blocks_reserved_gaps"] == f"1001-{GAP}"
    assert settings["jobs_seen"] == "1000000"
    assert (written / f"{FILE_NAME}.replaced").exists()
    assert read(tmp_path / "backup")[:2] == (1, 6), "the backup stays what it was"


def test_a_second_restore_keeps_the_first_gap(written, tmp_path):
    back_up(written, tmp_path / "first")
    restore(tmp_path / "first", written)
    back_up(written, tmp_path / "second")
    assert "in epoch 4000" in restore(tmp_path / "second", written)
    _, _, rows = read(written)
    assert rows["settings", "blocks_reserved_gaps"] == (f"1001-{GAP} {GAP}-{2 * GAP}",)


def test_a_mirror_of_before_does_not_undo_what_was_restored(written, tmp_path):
    back_up(written, tmp_path / "backup")
    both = open_mirrored(written, tmp_path / "mirror")
    commit(both, 7)
    both.close()
    restore(tmp_path / "backup", written)
    both = open_mirrored(written, tmp_path / "mirror")
    assert (both.epoch, both.txid) == (2001, 6)
    both.close()
    assert read(tmp_path / "mirror") == read(written)


def test_a_damaged_backup_restores_nothing(written, tmp_path):
    back_up(written, tmp_path / "backup")
    whole = (tmp_path / "backup" / FILE_NAME).read_bytes()
    (tmp_path / "backup" / FILE_NAME).write_bytes(whole[: len(whole) // 2])
    before = read(written)
    with pytest.raises(Corruption):
        restore(tmp_path / "backup", written)
    assert read(written) == before


def test_damaged_metadata_are_replaced_by_the_backup(written, tmp_path):
    back_up(written, tmp_path / "backup")
    (written / FILE_NAME).write_bytes(b"x" * 5000)
    restore(tmp_path / "backup", written)
    assert read(written)[:2] == (2000, 6)


def test_mistakes_are_told_before_anything_is_touched(written, tmp_path):
    with pytest.raises(RequestError, match="there are metadata in"):
        back_up(written, written)
    with pytest.raises(RequestError, match="there are no metadata in"):
        back_up(tmp_path / "nothing", tmp_path / "backup")
    with pytest.raises(RequestError, match="there is no backup in"):
        restore(tmp_path / "nothing", written)
    back_up(written, tmp_path / "backup")
    with pytest.raises(RequestError, match="epoch 1 is not above 1"):
        restore(tmp_path / "backup", written, 1)
    assert read(written)[:2] == (1, 6)


def test_nothing_is_restored_under_a_master_that_runs(written, tmp_path):
    back_up(written, tmp_path / "backup")
    running = open_store(written)
    with pytest.raises(RequestError, match="another master"):
        restore(tmp_path / "backup", written)
    commit(running, 7)
    running.close()
    assert read(written)[:2] == (2, 7)
