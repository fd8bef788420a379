"""A master on metadata that were restored from a backup: workers forget what they saw since, and their blocks stay."""

from __future__ import annotations

import pytest

from minireduce.core.cluster import ClusterState, HelloReceived, RequestReceived, SendDown, SendWelcome, StopServing
from minireduce.core.effects import Row
from minireduce.core.messages import Hello, WorkerProfile
from minireduce.core.replica_messages import RemoveReplica, Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.ids import GAP
from minireduce.core.storage.requests import CreateFile

RESERVED = 1001


def setting(name, value):
    return Row("settings", (name,), (str(value),))


@pytest.fixture
def master():
    rows = [setting("restored_epoch", 2000)]
    for name in ("inodes_reserved", "blocks_reserved"):
        rows += [setting(name, GAP), setting(f"{name}_gaps", f"{RESERVED}-{GAP}")]
    return ClusterState(
        cluster_id="abcdef",
        epoch=2001,
        txid=50,
        settings=ClusterSettings(),
        rows=rows,
        make_read_token=lambda job: job,
        now=0.0,
    )


def hello(epoch, txid, *replicas):
    profile = WorkerProfile("w1", 1, "h", "/r", 1, 1 << 30, "w1:1", "m1", "0", free_bytes=1 << 40)
    return HelloReceived(1, Hello(profile, 0, 0, epoch, txid, replicas=replicas))


def test_a_worker_that_saw_later_commits_before_the_restore_is_welcome(master):
    actions = master.advance(hello(7, 900), 1.0)
    assert [type(action) for action in actions if isinstance(action, SendWelcome | StopServing)] == [SendWelcome]


@pytest.mark.parametrize(("epoch", "txid"), [(2000, 51), (2001, 51), (2002, 0)])
def test_a_worker_that_saw_later_commits_since_the_restore_stops_the_master(master, epoch, txid):
    assert any(isinstance(action, StopServing) for action in master.advance(hello(epoch, txid), 1.0))


def test_blocks_of_files_that_the_backup_does_not_know_stay_and_those_of_removed_files_go(master):
    actions = master.advance(hello(7, 900, Replica(RESERVED - 1, 1, 7), Replica(RESERVED, 1, 7)), 1.0)
    told = [command for action in actions if isinstance(action, SendDown) for command in action.down.commands]
    assert told == [RemoveReplica(Replica(RESERVED - 1, 1, 7))]


def test_new_files_take_numbers_behind_the_gap(master):
    actions = master.advance(RequestReceived(1, CreateFile("/a", "lease", "key"), 0.0), 1.0)
    assert [action.value.file_id for action in actions if hasattr(action, "value")] == [GAP]
