"""What a client that was killed while it published leaves in the block store goes with its job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes.machine import FakeCluster, job_spec

from minireduce.core.requests import ConfirmPublished, KillJob, SubmitJob
from minireduce.core.spec import OutputKind
from minireduce.core.storage.drafts import draft_path
from minireduce.core.storage.requests import MakeDirectory, RenamePath
from minireduce.core.views import JobState
from minireduce.errors import NotFound


def publishing(**settings):
    """A job whose client has begun to fill its output in the store."""
    cluster = FakeCluster(**settings)
    worker = cluster.worker("w1")
    spec = replace(job_spec(maps=1, reducers=0, output=OutputKind.TEXT), output_path="mr:///results/out")
    job = cluster.ask(SubmitJob("k", spec))
    worker.succeed(*worker.attempts())
    assert cluster.state(job) is JobState.PUBLISHING
    draft = cluster.ask(MakeDirectory(draft_path("/results/out", job), with_parents=True))
    return cluster, worker, job, draft


def is_there(cluster, path):
    try:
        cluster.machine.storage.status(path)
    except NotFound:
        return False
    return True


@pytest.mark.parametrize("how", ["killed", "given up"])
def test_a_draft_goes_with_the_job_that_it_was_for(how):
    cluster, worker, job, draft = publishing(results_keep_s=5.0)
    other = cluster.ask(MakeDirectory("/results/.job-abcdef-77", with_parents=True))
    assert is_there(cluster, draft.path)
    if how == "killed":
        cluster.ask(KillJob(job, "enough"))
    else:
        cluster.pass_time(7, worker)
    assert cluster.state(job).is_ended
    assert not is_there(cluster, draft.path)
    assert is_there(cluster, other.path)


def test_what_was_published_stays():
    cluster, _, job, draft = publishing()
    cluster.ask(RenamePath(draft.path, "/results/out", draft.inode))
    assert cluster.ask(ConfirmPublished(job)) is JobState.SUCCEEDED
    assert is_there(cluster, "/results/out")


def test_an_output_elsewhere_or_nowhere_has_no_draft_here():
    cluster = FakeCluster()
    worker = cluster.worker("w1")
    for number, path in enumerate(("/results/out", "mr://relative", "mr:///../out", "-")):
        spec = replace(job_spec(maps=1, reducers=0, output=OutputKind.TEXT), output_path=path)
        job = cluster.ask(SubmitJob(f"k{number}", spec))
        worker.attempts()
        cluster.ask(KillJob(job, "enough"))
        assert cluster.state(job) is JobState.KILLED
