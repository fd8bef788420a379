"""Quotas: what would go beyond one is refused and changes nothing; what is there already stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes.storage import StorageKit

from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.requests import (
    AppendFile,
    ChangeAttributes,
    CloseFile,
    CommitBlock,
    MakeDirectory,
    RemovePath,
    RenamePath,
)
from minireduce.errors import RequestError


def kit_with(path="/q", **quota):
    kit = StorageKit(3, settings=ClusterSettings(trash_kept_s=0.0))
    kit.ask(MakeDirectory(path, with_parents=True))
    limit(kit, path, **quota)
    return kit


def limit(kit, path, **quota):
    return kit.ask(ChangeAttributes(path, kit.state.status(path).inode, **quota))


def rename(kit, source, target, **options):
    return kit.ask(RenamePath(source, target, kit.state.status(source).inode, **options))


def remove(kit, path):
    return kit.ask(RemovePath(path, kit.state.status(path).inode, recursive=True))


def test_names_are_counted_with_the_directory_itself_and_missing_ones_above():
    kit = kit_with(names_max=4)
    kit.write("/q/a/f", 10)
    with pytest.raises(RequestError, match="/q may hold 4 names and holds 3: no room for 2 more") as raised:
        kit.create("/q/b/f", "other")
    assert "setquota" in raised.value.hint
    with pytest.raises(RequestError, match="no room for 2 more"):
        kit.ask(MakeDirectory("/q/c/d", with_parents=True))
    kit.ask(MakeDirectory("/q/c"))
    with pytest.raises(RequestError, match="no room for 1 more"):
        kit.ask(MakeDirectory("/q/d"))
    kit.ask(MakeDirectory("/q/c", with_parents=True))  # which is there
    kit.ask(MakeDirectory("/elsewhere"))
    remove(kit, "/q/a")
    kit.write("/q/f", 10, key="new")


def test_bytes_count_once_for_each_replica_and_a_replaced_file_makes_room():
    kit = kit_with(space_bytes_max=60)
    kit.write("/q/f", 10, 10, key="first")
    with pytest.raises(RequestError, match="/q may hold 60 bytes with all replicas and holds 60: no room for 1 more"):
        kit.write("/q/g", 1, key="second", replication=1)
    kit.write("/q/f", 10, key="third", overwrite=True)
    kit.write("/q/g", 30, key="fourth", replication=1)


def test_of_files_that_are_written_at_once_the_last_to_be_closed_is_refused_and_leaves_no_trace():
    kit = kit_with(space_bytes_max=60)
    opened = [kit.create(f"/q/{name}", name) for name in "ab"]
    for each in opened:
        kit.write_block(each.file_id, 0, 15)
    kit.write("/q/first", 10, key="first")
    before = dict(kit.rows)
    with pytest.raises(RequestError, match="no room for 45 more"):
        kit.ask(CloseFile(opened[0].file_id, "lease", 15))
    assert kit.rows == before


def test_small_files_in_a_container_are_all_refused_or_none():
    kit = kit_with(names_max=4, space_bytes_max=30)
    with pytest.raises(RequestError, match="no room for 4 more"):
        kit.pack(("/q/d/a", 1), ("/q/d/b", 1), ("/q/d/c", 1), key="many")
    with pytest.raises(RequestError, match="no room for 33 more"):
        kit.pack(("/q/a", 5), ("/q/b", 6), key="large")
    assert kit.state.summary("/q").files == 0
    kit.pack(("/q/a", 5), ("/q/b", 5), ("/elsewhere", 50), key="fits")
    assert kit.state.summary("/q").files == 2


def test_appending_is_refused_at_the_block_that_does_not_fit():
    kit = kit_with(space_bytes_max=90)
    status = kit.write("/q/f", 20, block_size_bytes=100)
    kit.ask(AppendFile("/q/f", status.inode, "lease"))
    kit.write_block(status.inode, 0, 30)
    assert kit.state.status("/q/f").length == 30
    with pytest.raises(RequestError, match="no room for 3 more"):
        kit.write_block(status.inode, 0, 31)
    assert kit.state.status("/q/f").length == 30


def test_more_replicas_need_room():
    kit = kit_with(space_bytes_max=20)
    kit.write("/q/f", 10, replication=2)
    inode = kit.state.status("/q/f").inode
    with pytest.raises(RequestError, match="no room for 10 more"):
        kit.ask(ChangeAttributes("/q/f", inode, replication=3))
    assert kit.state.status("/q/f").replication == 2
    kit.ask(ChangeAttributes("/q/f", inode, replication=1))


def test_what_is_moved_counts_only_where_it_comes_to_lie_anew():
    kit = kit_with("/q/in", names_max=3)
    limit(kit, "/q", names_max=6)
    kit.write("/q/d/f", 10)
    rename(kit, "/q/d/f", "/q/d/g")
    kit.ask(MakeDirectory("/q/d/e"))
    with pytest.raises(RequestError, match="/q/in may hold 3 names and holds 1: no room for 3 more"):
        rename(kit, "/q/d", "/q/in/d")
    remove(kit, "/q/d/e")
    rename(kit, "/q/d", "/q/in/d")
    kit.write("/f", 10, key="outside")
    with pytest.raises(RequestError, match="/q/in may hold"):
        rename(kit, "/f", "/q/in/f")
    rename(kit, "/f", "/q/in/d/g", replace=True)
    assert kit.state.summary("/q").files == 1


def test_a_quota_goes_with_its_directory_survives_a_restart_and_dies_with_it():
    kit = kit_with(names_max=1, space_bytes_max=5)
    rename(kit, "/q", "/r")
    kit.restart()
    for worker in list(kit.places.all):
        kit.join(worker)
    summary = kit.state.summary("/r")
    assert (summary.names_max, summary.space_bytes_max) == (1, 5)
    with pytest.raises(RequestError, match="/r may hold 1 names"):
        kit.create("/r/f")
    limit(kit, "/r", names_max=0)
    assert kit.state.summary("/r").names_max == 0
    assert kit.state.summary("/r").space_bytes_max == 5
    remove(kit, "/r")
    kit.tick()
    assert not [key for key in kit.rows if key[0] == "quotas"]


def test_a_quota_below_what_is_there_takes_nothing_away():
    kit = kit_with()
    kit.write("/q/f", 10)
    limit(kit, "/q", names_max=1, space_bytes_max=1)
    assert kit.state.status("/q/f").length == 10
    with pytest.raises(RequestError, match="is a file"):
        limit(kit, "/q/f", names_max=5)
    remove(kit, "/q/f")


NAMES = st.sampled_from(["/q/a", "/q/b", "/q/d/a", "/q/d/e/b", "/o/a", "/o/d/b"])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.integers(1, 9)),
    st.tuples(st.just("pack"), NAMES, st.integers(1, 9)),
    st.tuples(st.just("append"), NAMES, st.integers(1, 9)),
    st.tuples(st.just("rename"), st.sampled_from(["/q/d", "/o/d", "/o/a", "/q/a"]), NAMES),
    st.tuples(st.just("remove"), st.sampled_from(["/q/d", "/o/d", "/o/a", "/q/a"]), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_no_sequence_of_requests_goes_beyond_a_quota(steps):
    """Counted here by walking the tree, where the quotas go by sums."""
    kit = kit_with(names_max=6, space_bytes_max=60)
    for number, (what, path, more) in enumerate(steps):
        try:
            if what == "write":
                kit.write(path, more, key=f"{number}", overwrite=True, block_size_bytes=100)
            elif what == "pack":
                kit.pack((path, more), (f"{path}x", 1), key=f"{number}", overwrite=True)
            elif what == "append":
                status = kit.state.status(path)
                kit.ask(AppendFile(path, status.inode, "lease"))
                kit.write_block(status.inode, 0, status.length + more)
            elif what == "rename":
                rename(kit, path, more, replace=True)
            else:
                remove(kit, path)
        except RequestError:
            pass
        names, space = held(kit, "/q")
        assert names <= 6
        assert space <= 60


def held(kit, path):
    status = kit.state.status(path)
    if not status.is_directory:
        return 1, status.length * status.replication
    below = [held(kit, entry.path) for entry in kit.state.page(path).entries]
    return 1 + sum(names for names, _ in below), sum(space for _, space in below)


def test_a_block_that_is_written_again_after_a_refusal_counts_once():
    kit = kit_with(space_bytes_max=90)
    status = kit.write("/q/f", 20, block_size_bytes=100)
    kit.ask(AppendFile("/q/f", status.inode, "lease"))
    for _ in range(2):
        with pytest.raises(RequestError, match="no room for 63 more"):
            kit.write_block(status.inode, 0, 41)
    replica = kit.write_block(status.inode, 0, 30)
    assert kit.ask(CommitBlock(status.inode, "lease", Replica(replica.block_id, replica.generation, 30), ("w1", "w2")))
    assert kit.state.summary("/q").replica_bytes == 90
