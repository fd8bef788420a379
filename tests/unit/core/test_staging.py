"""Input that was uploaded for a job goes with the job, and never before it."""

from __future__ import annotations

import pytest
from scenes.machine import FakeCluster, job_spec

from minireduce.core.cluster import Ticked
from minireduce.core.requests import CloseResult, KillJob, SubmitJob
from minireduce.core.storage.paths import parse_path
from minireduce.core.storage.requests import MakeDirectory
from minireduce.core.storage.staged_paths import origin_of, staged_path, staging_path
from minireduce.errors import NotFound

KEY = "0a1b"


def is_there(cluster, key=KEY):
    try:
        cluster.machine.storage.status(staging_path(key))
    except NotFound:
        return False
    return True


def staged(**settings):
    """Something is uploaded under `KEY`; the cluster, a worker of it, and when that was by the wall clock."""
    cluster = FakeCluster(staging_keep_s=100.0, **settings)
    worker = cluster.worker("w1")
    cluster.ask(MakeDirectory(staging_path(KEY), with_parents=True))
    began = cluster.machine.storage.status(staging_path(KEY)).modified_at
    return cluster, worker, began


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_it_goes_with_its_job_and_what_is_of_others_stays(how):
    cluster, worker, _ = staged()
    cluster.ask(MakeDirectory(staging_path("0a1c"), with_parents=True))
    job = cluster.ask(SubmitJob(KEY, job_spec(maps=1, reducers=0)))
    if how == "killed":
        cluster.ask(KillJob(job, "enough"))
    else:
        worker.succeed(*worker.attempts())
        assert is_there(cluster), "a part that is lost now would have to be made again"
        cluster.ask(CloseResult(job))
    assert cluster.state(job).is_ended
    assert not is_there(cluster)
    assert is_there(cluster, "0a1c")


def test_what_no_job_came_for_goes_when_its_time_has_passed_and_not_before():
    cluster, _, began = staged()
    cluster.advance(Ticked(began + 99.0))
    assert is_there(cluster)
    cluster.advance(Ticked(began + 161.0))
    assert not is_there(cluster)


def test_a_job_that_runs_for_long_keeps_its_own_over_a_restart_too():
    cluster, _, began = staged()
    job = cluster.ask(SubmitJob(KEY, job_spec(maps=1, reducers=0)))
    cluster.advance(Ticked(began + 10_000.0))
    assert is_there(cluster)
    again = FakeCluster(rows=cluster.rows, epoch=2, txid=10_000, staging_keep_s=100.0)
    again.advance(Ticked(began + 20_000.0))
    assert is_there(again)
    again.ask(KillJob(job, "enough"))
    assert not is_there(again)


def test_what_a_killed_client_left_is_collected_by_a_master_that_restarted():
    cluster, _, began = staged()
    again = FakeCluster(rows=cluster.rows, epoch=2, txid=10_000, staging_keep_s=100.0)
    again.advance(Ticked(began + 50.0))
    assert is_there(again)
    again.advance(Ticked(began + 161.0))
    assert not is_there(again)


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "../results", "ä"])
def test_a_key_that_names_no_directory_removes_nothing(key):
    cluster, _, _ = staged()
    job = cluster.ask(SubmitJob(key or "k", job_spec(maps=1, reducers=0)))
    cluster.ask(KillJob(job, "enough"))
    assert is_there(cluster)
    assert staging_path(key) == ""


@pytest.mark.parametrize(
    "origin",
    ["/a", "/home/me/my books/ä*[1]?.txt.gz", "/100%/%41", "/tab\there/new\nline", "/not\udcfftext", "/x/.hidden/mr:"],
)
def test_the_local_path_comes_back_whatever_signs_are_in_it(origin):
    path = staged_path(KEY, origin)
    assert parse_path(path)[:2] == (".staging", KEY)
    assert origin_of(path) == origin


@pytest.mark.parametrize(
    "path", ["/logs/a%41", "/.staging", "/.staging/0a1b", "/staging/0a1b/x", "/x/.staging/0a1b/y", ""]
)
def test_any_other_path_is_left_as_it_is(path):
    assert origin_of(path) == path
