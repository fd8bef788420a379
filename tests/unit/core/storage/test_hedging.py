"""When a reader asks a second worker, and what becomes of both."""

from __future__ import annotations

import math

import pytest

from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.core.storage.reading import (
    HEDGE_S_FIRST,
    HEDGE_S_MIN,
    HEDGE_TIMES,
    BytesRead,
    Fetch,
    LocateAgain,
    Pace,
    RangeDone,
    RangeReading,
    ReplicaAnswered,
    ReplicaFailed,
    ReplicaSlow,
    TellDamage,
)
from minireduce.errors import Corruption, Unavailable

REPLICA = Replica(7, 3, 1000)
SOURCE = BlockSource(REPLICA, 0, ("a", "b", "c"), ("a:1", "b:1", "c:1"))


def reading(pace=None, failing=None, source=SOURCE) -> RangeReading:
    return RangeReading(source, 0, 50, {} if failing is None else failing, pace or Pace(1.0))


def test_the_wait_follows_what_answers_usually_take():
    pace = Pace()
    assert pace.hedge_after_s == HEDGE_S_FIRST
    pace.answered(0.5)
    assert pace.hedge_after_s == HEDGE_TIMES * 0.5
    for _ in range(100):
        pace.answered(0.001)
    assert pace.hedge_after_s == HEDGE_S_MIN


def test_a_worker_is_asked_beside_a_slow_one_and_the_first_answer_is_read():
    failing: dict[str, None] = {}
    pace = Pace(1.0)
    machine = reading(pace, failing)
    (first,) = machine.begin()
    assert first.hedge_after_s == HEDGE_TIMES
    assert machine.advance(ReplicaSlow()) == [Fetch("b", "b:1", REPLICA, 0, 50)]
    assert machine.advance(ReplicaAnswered("b", 0.1)) == []
    assert machine.advance(BytesRead(50)) == [RangeDone()]
    assert (pace.hedged, pace.won_by_second, failing) == (1, 1, {"a": None})


def test_the_slow_one_may_still_answer_first():
    failing: dict[str, None] = {}
    pace = Pace(1.0)
    machine = reading(pace, failing)
    machine.begin()
    machine.advance(ReplicaSlow())
    machine.advance(ReplicaAnswered("a", 6.0))
    assert machine.advance(BytesRead(50)) == [RangeDone()]
    assert (pace.hedged, pace.won_by_second, failing) == (1, 0, {"b": None})


def test_never_more_than_two_are_asked_at_a_time():
    machine = reading()
    machine.begin()
    assert len(machine.advance(ReplicaSlow())) == 1
    assert machine.advance(ReplicaSlow()) == []


def test_one_of_two_that_fails_leaves_the_other_and_both_that_fail_the_third():
    machine = reading()
    machine.begin()
    machine.advance(ReplicaSlow())
    assert machine.advance(ReplicaFailed(Unavailable("gone"), "a")) == []
    assert machine.advance(ReplicaFailed(Corruption("wrong"), "b")) == [
        TellDamage(REPLICA, "b"),
        Fetch("c", "c:1", REPLICA, 0, 50),
    ]


def test_whoever_was_left_as_slow_is_asked_again_when_the_other_breaks_off():
    machine = reading(source=BlockSource(REPLICA, 0, ("a", "b"), ("a:1", "b:1")))
    machine.begin()
    machine.advance(ReplicaSlow())
    machine.advance(ReplicaAnswered("b", 0.1))
    assert machine.advance(BytesRead(20)) == []
    (again,) = machine.advance(ReplicaFailed(Unavailable("gone")))
    assert (again.worker, again.offset, again.length) == ("a", 20, 30)
    assert isinstance(machine.advance(ReplicaFailed(Unavailable("gone")))[0], LocateAgain)


@pytest.mark.parametrize("source", [BlockSource(REPLICA, 0, ("a",), ("a:1",))])
def test_nobody_is_asked_beside_the_only_one(source):
    machine = reading(source=source)
    (first,) = machine.begin()
    assert first.hedge_after_s == math.inf
    assert machine.advance(ReplicaSlow()) == []
