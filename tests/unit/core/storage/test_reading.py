"""How a reader gets a range of a block."""

from __future__ import annotations

import pytest

from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.core.storage.reading import (
    ROUNDS_MAX,
    SILENCE_S,
    BlockLocated,
    BytesRead,
    Fetch,
    GiveUp,
    LocateAgain,
    RangeDone,
    RangeReading,
    ReplicaFailed,
    TellDamage,
)
from minireduce.errors import Corruption, Unavailable

REPLICA = Replica(7, 3, 1000)
SOURCE = BlockSource(REPLICA, 0, ("a", "b"), ("a:1", "b:1"))


def test_the_nearest_replica_is_read():
    machine = RangeReading(SOURCE, 100, 50, {})
    assert machine.begin() == [Fetch("a", "a:1", REPLICA, 100, 50)]
    assert machine.advance(BytesRead(20)) == []
    assert machine.advance(BytesRead(30)) == [RangeDone()]


def test_the_next_replica_goes_on_where_the_first_broke_off():
    machine = RangeReading(SOURCE, 100, 50, {})
    machine.begin()
    machine.advance(BytesRead(20))
    assert machine.advance(ReplicaFailed(Unavailable("gone"))) == [Fetch("b", "b:1", REPLICA, 120, 30)]


def test_a_small_file_that_was_moved_to_another_block_is_read_on_there():
    machine = RangeReading(BlockSource(REPLICA, -100, ("a",), ("a:1",)), 130, 50, {})
    machine.begin()
    machine.advance(BytesRead(20))
    assert isinstance(machine.advance(ReplicaFailed(Unavailable("gone")))[0], LocateAgain)
    moved = Replica(8, 1, 90)
    assert machine.advance(BlockLocated(BlockSource(moved, -10, ("b",), ("b:1",)))) == [
        Fetch("b", "b:1", moved, 60, 30, 2 * SILENCE_S)
    ]


def test_a_damaged_replica_is_told_and_never_asked_again():
    machine = RangeReading(SOURCE, 0, 50, {})
    machine.begin()
    assert machine.advance(ReplicaFailed(Corruption("wrong")))[0] == TellDamage(REPLICA, "a")
    assert isinstance(machine.advance(ReplicaFailed(Unavailable("gone")))[0], LocateAgain)
    assert machine.advance(BlockLocated(SOURCE)) == [Fetch("b", "b:1", REPLICA, 0, 50, 2 * SILENCE_S)]


@pytest.mark.parametrize(
    ("first", "expected", "words"),
    [(Unavailable("gone"), Unavailable, "gone"), (Corruption("wrong"), Corruption, "a, b")],
)
def test_after_some_rounds_reading_fails_and_says_why(first, expected, words):
    machine = RangeReading(SOURCE, 0, 50, {})
    actions = machine.begin()
    rounds = 1
    while not isinstance(actions[-1], GiveUp):
        if isinstance(actions[-1], LocateAgain):
            rounds += 1
            actions = machine.advance(BlockLocated(SOURCE))
        else:
            actions = machine.advance(ReplicaFailed(first))
    assert rounds == ROUNDS_MAX
    assert type(actions[-1].error) is expected
    assert words in actions[-1].error.message


def test_a_block_without_any_replica_is_asked_for_again_before_reading_fails():
    machine = RangeReading(BlockSource(REPLICA, 0, (), ()), 0, 50, {})
    assert isinstance(machine.begin()[0], LocateAgain)
    assert machine.advance(BlockLocated(SOURCE)) == [Fetch("a", "a:1", REPLICA, 0, 50, 2 * SILENCE_S)]


def test_who_did_not_answer_is_asked_last_until_it_answers():
    failing: dict[str, None] = {}
    first = RangeReading(SOURCE, 0, 50, failing)
    first.begin()
    first.advance(ReplicaFailed(Unavailable("silent")))
    first.advance(BytesRead(50))
    second = RangeReading(SOURCE, 0, 50, failing)
    assert second.begin() == [Fetch("b", "b:1", REPLICA, 0, 50)]
    assert second.advance(ReplicaFailed(Unavailable("gone"))) == [Fetch("a", "a:1", REPLICA, 0, 50)]
    assert second.advance(BytesRead(50)) == [RangeDone()]
    assert RangeReading(SOURCE, 0, 50, failing).begin() == [Fetch("a", "a:1", REPLICA, 0, 50)]


def test_each_round_bears_twice_the_silence_of_the_one_before():
    machine = RangeReading(BlockSource(REPLICA, 0, ("a",), ("a:1",)), 0, 50, {})
    (action,), borne = machine.begin(), []
    while not isinstance(action, GiveUp):
        if isinstance(action, Fetch):
            borne.append(action.silence_s)
            (action,) = machine.advance(ReplicaFailed(Unavailable("silent")))
        else:
            (action,) = machine.advance(BlockLocated(BlockSource(REPLICA, 0, ("a",), ("a:1",))))
    assert borne == [SILENCE_S * 2**number for number in range(ROUNDS_MAX)]
