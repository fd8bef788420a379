from __future__ import annotations

import random

from minireduce.core.cluster import Persist
from minireduce.core.effects import Row
from minireduce.testing import log
from minireduce.testing.agenda import Agenda, Node
from minireduce.testing.clock import ManualClock
from minireduce.testing.disk import SimDisk


class Bench:
    def __init__(self, seed: int = 0) -> None:
        self.disk = SimDisk(random.Random(seed))
        self.agenda = Agenda(ManualClock())
        self.node = Node("master")
        self.durable = 0
        self.failures: list[OSError] = []
        self.start()

    def start(self) -> log.Stored:
        self.node.start()
        stored = log.read(self.disk)
        self.durable = 0
        self.log = log.SimLog(
            self.disk,
            self.agenda,
            self.node,
            random.Random(1),
            on_durable=lambda count: setattr(self, "durable", count),
            on_failure=self.failures.append,
        )
        return stored

    def append(self, txid: int) -> None:
        self.log.append(Persist(1, txid, (Row("jobs", (f"job-{txid}",), (txid,)),)))

    def settle(self) -> None:
        while self.agenda.next_time() is not None:
            self.agenda.happen()


def jobs(stored: log.Stored) -> list[str]:
    return [row.key[0] for row in stored.rows]


def test_what_was_durable_is_read_back_after_a_crash():
    bench = Bench()
    bench.append(1)
    bench.append(2)
    bench.settle()
    assert bench.durable == 2
    bench.disk.crash()
    stored = bench.start()
    assert jobs(stored) == ["job-1", "job-2"]
    assert (stored.epoch, stored.txid) == (1, 2)


def test_appends_behind_a_write_under_way_are_one_group():
    bench = Bench()
    for txid in range(1, 10):
        bench.append(txid)
    bench.settle()
    syncs_at_start = 1
    assert bench.disk.calls["sync"] - syncs_at_start == 2


def test_a_crash_before_the_sync_leaves_whole_transactions_from_the_first_on():
    left = set()
    for seed in range(60):
        bench = Bench(seed)
        bench.append(1)
        bench.settle()
        bench.append(2)
        bench.node.end()
        bench.disk.crash()
        left.add(tuple(jobs(bench.start())))
    assert left == {("job-1",), ("job-1", "job-2")}


def test_writing_goes_on_behind_a_torn_tail_that_was_cut_off():
    for seed in range(30):
        bench = Bench(seed)
        bench.append(1)
        bench.settle()
        bench.append(2)
        bench.disk.crash()
        bench.start()
        bench.append(3)
        bench.settle()
        bench.disk.crash()
        assert jobs(bench.start())[-1] == "job-3"


def test_rows_are_replaced_and_removed_by_the_beginning_of_their_key():
    bench = Bench()
    rows = (Row("winners", ("a", 1), (1,)), Row("winners", ("a", 2), (2,)), Row("winners", ("b", 1), (3,)))
    bench.log.append(Persist(1, 1, rows))
    bench.log.append(Persist(1, 2, (Row("winners", ("b", 1), (4,)), Row("winners", ("a",), None))))
    bench.settle()
    assert bench.start().rows == (Row("winners", ("b", 1), (4,)),)


def test_a_write_or_sync_that_fails_is_told_and_nothing_becomes_durable():
    for operation in ("write", "sync"):
        bench = Bench()
        bench.disk.fail_next(operation)
        bench.append(1)
        bench.settle()
        assert len(bench.failures) == 1
        assert bench.durable == 0
