"""A real worker removes files of a job that nobody knows, and keeps those of a job that goes on."""

from __future__ import annotations

from pathlib import Path

from scenes.cluster import ProcessCluster

from minireduce.core.views import JobState
from minireduce.wire import methods
from minireduce.wire.questions import GetJob, WaitJob

WORDCOUNT = Path(__file__).parents[2] / "jobs" / "wordcount.py"
ORPHAN = "job-00ff00-9"


def test_an_orphan_goes_from_a_running_worker_and_a_result_that_is_kept_stays(tmp_path):
    (tmp_path / "in.txt").write_text("a b a\n")
    settings = {"MINIREDUCE_ORPHANS_KEEP_S": "0.2"}
    with ProcessCluster(tmp_path, workers=1, settings=settings) as cluster, cluster.connect() as connection:
        submit = cluster.command("submit", str(WORDCOUNT), str(tmp_path / "in.txt"), "--detach")
        submit.communicate(timeout=60)
        job = connection.call(methods.GET_JOB, GetJob("@"))
        while job.state is JobState.RUNNING:
            job = connection.call(methods.WAIT_JOB, WaitJob(job.job, JobState.RUNNING, 1.0))
        assert job.state is JobState.SUCCEEDED, job
        jobs = tmp_path / "worker-1" / "jobs"
        kept = sorted((jobs / job.job).iterdir())
        planted = jobs / ORPHAN / f"{ORPHAN}_s0_m00000_a0"
        made = tmp_path / "made" / planted.name
        made.mkdir(parents=True)
        (made / "stdout").write_text("left behind")
        made.parent.rename(planted.parent)  # at once: half of it would be an orphan too, and might go in between
        while planted.exists():
            connection.call(methods.WAIT_JOB, WaitJob(job.job, JobState.SUCCEEDED, 0.05))
        assert sorted((jobs / job.job).iterdir()) == kept
