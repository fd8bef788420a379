"""The mirror: both copies hold every commit, the better one leads, and one that fails is left behind."""

from __future__ import annotations

import logging

import pytest

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.errors import Corruption, RequestError, Unavailable
from minireduce.master import store as stores
from minireduce.master.mirror import open_mirrored
from minireduce.master.store import FILE_NAME, open_store


def worker(name, incarnation):
    return Row("workers", (name,), (incarnation,))


def commit(store, number):
    store.write([Persist(store.epoch, number, (worker("a", number),))])


def workers_in(directory):
    held = stores.lock(directory)
    store = stores.examine(directory, held)
    found = [row for row in store.load() if row.table == "workers"]
    store.close()
    return found


@pytest.fixture
def places(tmp_path):
    """A directory and its mirror, in which a master left five commits."""
    store = open_mirrored(tmp_path / "own", tmp_path / "mirror")
    for number in range(1, 6):
        commit(store, number)
    store.close()
    return tmp_path / "own", tmp_path / "mirror"


def test_both_copies_hold_every_commit_and_open_the_same_epochs(places):
    assert [workers_in(place) for place in places] == [[worker("a", 5)]] * 2
    for epoch in (2, 3):
        store = open_mirrored(*places)
        assert (store.epoch, store.txid) == (epoch, 5)
        store.close()


@pytest.mark.parametrize("older", [0, 1])
def test_the_newer_copy_leads_and_the_other_is_made_anew_from_it_and_told(places, older, caplog):
    alone = open_store(places[1 - older])
    commit(alone, 6)
    alone.close()
    with caplog.at_level(logging.WARNING):
        store = open_mirrored(*places)
    assert f"{places[older]} ends with commit 5 of epoch 1" in caplog.text
    assert "up to commit 6 of epoch 2" in caplog.text
    assert store.epoch == 3
    store.close()
    assert [workers_in(place) for place in places] == [[worker("a", 6)]] * 2
    assert (places[older] / f"{FILE_NAME}.replaced").exists()


def test_starts_alone_do_not_make_a_copy_newer_than_commits_do(places):
    """Each start opens an epoch, but what was acknowledged is in the commits."""
    for _ in range(5):
        open_store(places[1]).close()
    own = open_store(places[0])
    commit(own, 6)
    own.close()
    store = open_mirrored(*places)
    assert [row for row in store.load() if row.table == "workers"] == [worker("a", 6)]
    assert store.txid == 6
    store.close()


def test_a_new_mirror_is_filled_without_ado(tmp_path, caplog):
    store = open_store(tmp_path / "own")
    commit(store, 1)
    store.close()
    mirrored = open_mirrored(tmp_path / "own", tmp_path / "mirror")
    assert not caplog.records
    mirrored.close()
    assert workers_in(tmp_path / "mirror") == [worker("a", 1)]
    assert (tmp_path / "mirror").stat().st_mode & 0o077 == 0
    assert (tmp_path / "mirror" / FILE_NAME).stat().st_mode & 0o077 == 0


def test_two_damaged_copies_are_told_with_what_is_wrong_with_each(places):
    for place in places:
        (place / FILE_NAME).write_bytes(b"")
    with pytest.raises(Corruption, match=r"both copies .*own.*; .*mirror") as raised:
        open_mirrored(*places)
    assert "restore" in raised.value.hint


def test_a_mirror_of_another_cluster_is_refused_and_left_alone(places, tmp_path):
    open_store(tmp_path / "other").close()
    before = (tmp_path / "other" / FILE_NAME).read_bytes()
    with pytest.raises(RequestError, match="two clusters"):
        open_mirrored(places[0], tmp_path / "other")
    assert (tmp_path / "other" / FILE_NAME).read_bytes() == before


def test_the_data_directory_is_no_mirror_of_itself(places):
    with pytest.raises(RequestError, match="is the data directory itself"):
        open_mirrored(places[0], places[0])


def test_both_directories_are_locked_and_let_go(places):
    store = open_mirrored(*places)
    for place in places:
        with pytest.raises(RequestError, match="another master"):
            open_store(place)
    store.close()
    for place in places:
        open_store(place).close()


def test_a_mirror_that_fails_is_left_behind_loudly_and_made_up_for_at_the_next_start(places, caplog, monkeypatch):
    store = open_mirrored(*places)

    def fail(batch):
        raise Unavailable("the disk is gone")

    monkeypatch.setattr(store._mirror, "write", fail)
    commit(store, 6)
    assert "THE MIRROR OF THE METADATA FAILED" in caplog.text
    monkeypatch.undo()
    commit(store, 7)
    assert caplog.text.count("THE MIRROR") == 1
    (problem,) = store.problems
    assert str(places[1]) in problem
    assert "the disk is gone" in problem
    assert str(store.failure) == "the disk is gone"
    store.close()
    assert [workers_in(place) for place in places] == [[worker("a", 7)], [worker("a", 5)]]
    again = open_mirrored(*places)
    assert again.problems == ()
    again.close()
    assert [workers_in(place) for place in places] == [[worker("a", 7)]] * 2


def test_an_own_directory_that_fails_ends_the_master_whatever_the_mirror_holds(places, monkeypatch):
    store = open_mirrored(*places)

    def fail(batch):
        raise Unavailable("the disk is gone")

    monkeypatch.setattr(store._own, "write", fail)
    with pytest.raises(Unavailable, match="the disk is gone"):
        commit(store, 6)
    store.close()
