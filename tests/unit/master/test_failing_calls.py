"""Each call by which SQLite changes a file fails in turn: that is told, and what was acknowledged is there."""

from __future__ import annotations

import pytest
from scenes.commits import found, write_all
from scenes.sqlite_faults import faults

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.master.store import open_store

COMMITS = 4


def commit(number):
    rows = [Row("blocks", (number * 1000 + n,), (1, 0, 1, 7, 1)) for n in range(200 if number == 3 else 3)]
    return Persist(1, number, (Row("workers", ("a",), (number,)), *rows))


HISTORY = [commit(number) for number in range(1, COMMITS + 1)]


def history(directory, **how):
    """The scripted history with one call of it failing: what the faults saw, and what was acknowledged."""
    with faults(**how) as told:
        store = open_store(directory)
        told.begin()
        count, error = write_all(store, HISTORY)
        told.end()
        store.close()
    return told, count, error


def test_the_history_writes_syncs_and_grows(tmp_path):
    told, count, error = history(tmp_path)
    assert (count, error) == (COMMITS, None)
    assert told.made["write"] > COMMITS
    assert told.made["sync"] >= COMMITS


@pytest.mark.parametrize("how", [{"forever": True}, {"full": True}], ids=["failing", "full"])
def test_whichever_call_fails_is_told_and_nothing_acknowledged_is_lost(tmp_path, how):
    whole, _, _ = history(tmp_path / "whole")
    struck = set()
    acknowledged = set()
    for nth in range(1, whole.made.total() + 1):
        told, count, error = history(tmp_path / str(nth), nth=nth, **how)
        assert told.struck, "the fault did not fire"
        struck.add(told.struck)
        acknowledged.add(count)
        if error is None:
            assert told.struck not in {"write", "sync"}, "a write or sync that failed went unnoticed"
        else:
            assert "cannot be written" in error.message
            assert "is the disk full or failing?" in error.hint
        assert found(tmp_path / str(nth), HISTORY) in {count, min(count + 1, COMMITS)}, (
            f"after call {nth}, a {told.struck}"
        )
    assert {"write", "sync"} <= struck
    assert set(range(COMMITS)) <= acknowledged, "each commit was hit"
