"""A job that reads stored files and, after them, files of one machine's disk."""

from __future__ import annotations

from scenes.machine import FakeCluster, job_spec, stored_file, stored_splits

from minireduce.core.requests import SubmitJob
from minireduce.core.spec import LocalFiles, LocalRange


def test_local_files_are_read_on_their_own_machine_though_stored_ones_come_first():
    cluster = FakeCluster(stored_file(1))
    far = cluster.worker("w1", machine_id="m2", blocks=(1,))
    local = LocalFiles("m1", (LocalRange("/in/0", 0, 10, "f"),))
    cluster.ask(SubmitJob("k", job_spec(reducers=0, splits=(*stored_splits(1), local))))
    near = cluster.worker("w2", machine_id="m1")
    cluster.pass_time(5, far, near)
    assert far.attempts() == []
    assert sorted(attempt.task.index for attempt in near.attempts()) == [0, 1]
