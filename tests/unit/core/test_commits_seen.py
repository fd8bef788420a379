"""A master whose metadata lack commits that a worker has seen stops serving, whatever it has committed since."""

from __future__ import annotations

import pytest

from minireduce.core.cluster import CloseStream, ClusterState, HelloReceived, SendWelcome, StopServing
from minireduce.core.messages import Hello, WorkerProfile
from minireduce.core.settings import ClusterSettings

EPOCH, TXID = 5, 50


@pytest.fixture
def master():
    return ClusterState(
        cluster_id="abcdef",
        epoch=EPOCH,
        txid=TXID,
        settings=ClusterSettings(),
        rows=[],
        make_read_token=lambda job: job,
        now=0.0,
    )


def welcomes(master, epoch, txid, *, worker="w1", stream=1):
    profile = WorkerProfile(worker, 1, "h", "/r", 1, 1 << 30, f"{worker}:1", "m1", "0", free_bytes=1 << 40)
    actions = master.advance(HelloReceived(stream, Hello(profile, 0, 0, epoch, txid)), 1.0)
    [kind] = [type(action) for action in actions if isinstance(action, SendWelcome | StopServing)]
    return kind is SendWelcome


@pytest.mark.parametrize(("epoch", "txid"), [(0, 0), (EPOCH - 1, TXID), (EPOCH - 3, 7)])
def test_who_has_seen_no_more_than_was_there_at_the_start_is_welcome(master, epoch, txid):
    assert welcomes(master, epoch, txid)


def test_commits_of_this_epoch_do_not_stand_in_for_lost_ones_of_the_same_numbers(master):
    assert welcomes(master, 0, 0)
    assert master._txid > TXID, "taking a worker in is a commit"
    assert not welcomes(master, EPOCH - 1, TXID + 1, worker="w2", stream=2)


def test_who_knows_this_epoch_from_us_is_welcome_again(master):
    assert welcomes(master, 0, 0)
    assert welcomes(master, EPOCH, master._txid, stream=2)


def test_who_knows_this_epoch_from_somebody_else_has_followed_another_master(master):
    assert not welcomes(master, EPOCH, TXID)


def test_a_worker_of_another_cluster_is_refused_by_both_names_and_stops_nobody(master):
    profile = WorkerProfile("w1", 1, "h", "/r", 1, 1 << 30, "w1:1", "m1", "0", free_bytes=1 << 40)
    (action,) = master.advance(HelloReceived(1, Hello(profile, 0, 0, EPOCH + 7, TXID, cluster="facade")), 1.0)
    assert isinstance(action, CloseStream)
    assert "w1 belongs to cluster facade" in action.error.message
    assert "master of cluster abcdef" in action.error.message
    (welcome,) = [
        action.welcome
        for action in master.advance(HelloReceived(2, Hello(profile, 0, 0, 0, 0, cluster="abcdef")), 1.0)
        if isinstance(action, SendWelcome)
    ]
    assert welcome.cluster == "abcdef"


def test_a_later_epoch_is_another_masters(master):
    assert not welcomes(master, EPOCH + 1, 0)
