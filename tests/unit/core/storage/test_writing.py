"""How a writer gets a block onto enough disks."""

from __future__ import annotations

from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.views import BlockTarget, PlacedBlock
from minireduce.core.storage.writing import (
    PAUSES_S_MAX,
    BlockCommitted,
    BlockDone,
    BlockPlaced,
    BlockSent,
    BlockWriting,
    CommitRefused,
    CommitToMaster,
    GiveUp,
    PlaceBlock,
    SendBlock,
    SendingFailed,
)
from minireduce.errors import Unavailable

PLACED = PlacedBlock(7, 3, (BlockTarget("a", "a:1"), BlockTarget("b", "b:1")), "token")


def test_a_block_is_placed_sent_and_committed():
    machine = BlockWriting(10, {})
    assert machine.begin() == PlaceBlock((), 0.0)
    assert machine.advance(BlockPlaced(PLACED)) == SendBlock(PLACED)
    assert machine.advance(BlockSent(("a", "b"), ())) == CommitToMaster(Replica(7, 3, 10), ("a", "b"))
    assert machine.advance(BlockCommitted()) == BlockDone()


def test_a_worker_that_refused_is_excluded_for_this_block_and_the_next():
    excluded = {}
    machine = BlockWriting(10, excluded)
    machine.begin()
    machine.advance(BlockPlaced(PLACED))
    action = machine.advance(SendingFailed(Unavailable("gone")))
    assert isinstance(action, PlaceBlock)
    assert action.excluded == ("a",)
    assert action.pause_s > 0
    assert BlockWriting(10, excluded).begin() == PlaceBlock(("a",), 0.0)


def test_a_worker_that_failed_further_down_does_not_stop_the_block_but_is_excluded_later():
    excluded = {}
    machine = BlockWriting(10, excluded)
    machine.begin()
    machine.advance(BlockPlaced(PLACED))
    assert machine.advance(BlockSent(("a",), ("b",))) == CommitToMaster(Replica(7, 3, 10), ("a",))
    again = machine.advance(CommitRefused())
    assert isinstance(again, PlaceBlock)
    assert again.excluded == ("b",)


def test_a_writer_waits_until_a_dead_worker_is_held_for_lost_and_then_gives_up():
    machine = BlockWriting(10, {})
    action = machine.begin()
    pauses_s = 0.0
    while isinstance(action, PlaceBlock):
        pauses_s += action.pause_s
        machine.advance(BlockPlaced(PLACED))
        action = machine.advance(SendingFailed(Unavailable("gone")))
    assert pauses_s >= PAUSES_S_MAX > 3 * ClusterSettings().worker_lost_s
    assert isinstance(action, GiveUp)
    assert "gone" in action.error.message
