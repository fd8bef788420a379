"""The writer's thread: in order, many at once, and nothing after a failure."""

from __future__ import annotations

import threading

from minireduce.core.cluster import Persist
from minireduce.master.writer import COMMITS_PER_TRANSACTION_MAX, Writer

DEADLINE_S = 30


class Disk:
    """Takes groups, the first one only when told to."""

    def __init__(self):
        self.groups = []
        self.go_on = threading.Event()
        self.entered = threading.Event()
        self.error = None

    def write(self, group):
        self.entered.set()
        assert self.go_on.wait(DEADLINE_S)
        if self.error is not None:
            raise self.error
        self.groups.append([commit.txid for commit in group])


def commits(*txids):
    return [Persist(1, txid, ()) for txid in txids]


def make(disk):
    durable, failures = [], []
    failed = threading.Event()

    def on_failure(error):
        failures.append(error)
        failed.set()

    return Writer(disk.write, durable.append, on_failure), durable, failures, failed


def test_what_gathers_while_one_group_is_written_goes_together():
    disk = Disk()
    writer, durable, failures, _ = make(disk)
    writer.put(commits(1)[0])
    writer.start()
    assert disk.entered.wait(DEADLINE_S)
    for commit in commits(2, 3, 4):
        writer.put(commit)
    disk.go_on.set()
    writer.stop()
    assert disk.groups == [[1], [2, 3, 4]]
    assert durable == [1, 3]
    assert not failures


def test_a_group_has_a_limit():
    disk = Disk()
    disk.go_on.set()
    writer, durable, _, _ = make(disk)
    txids = list(range(1, COMMITS_PER_TRANSACTION_MAX + 11))
    for commit in commits(*txids):
        writer.put(commit)
    writer.start()
    writer.stop()
    assert [len(group) for group in disk.groups] == [COMMITS_PER_TRANSACTION_MAX, 10]
    assert [txid for group in disk.groups for txid in group] == txids
    assert sum(durable) == len(txids)


def test_after_a_failure_nothing_is_written_any_more():
    disk = Disk()
    disk.error = OSError("no room")
    disk.go_on.set()
    writer, durable, failures, failed = make(disk)
    writer.put(commits(1)[0])
    writer.start()
    assert failed.wait(DEADLINE_S)
    disk.error = None
    writer.put(commits(2)[0])
    writer.stop()
    assert disk.groups == []
    assert durable == []
    assert [str(failure) for failure in failures] == ["no room"]
