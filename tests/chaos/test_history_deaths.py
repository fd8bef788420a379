"""Of jobs that have ended, what people ask about is there after the master was killed and started again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scenes.cluster import ProcessCluster

JOB = """
from minireduce import Job, Sum

def words(line):
    if line == "bad":
        raise ValueError("I do not take this line")
    for word in line.split():
        yield word, 1

job = Job(words, Sum())
"""

ASKED = (("jobs",), ("status", "{job}", "--attempts"), ("counters", "{job}"))


def submit(cluster: ProcessCluster, root: Path, name: str, text: str) -> tuple[int, bytes]:
    source, given = root / f"{name}.py", root / f"{name}.txt"
    source.write_text(JOB)
    given.write_text(text)
    running = cluster.command("submit", str(source), str(given), "-o", str(root / f"{name}-out"), "--name", name)
    _, said = running.communicate(timeout=60)
    return running.returncode, said


def ask(cluster: ProcessCluster, *words: str) -> Any:
    running = cluster.command(*words, "--json")
    out, said = running.communicate(timeout=60)
    assert running.returncode == 0, said.decode()
    return [json.loads(line) for line in out.decode().splitlines()]


def history(cluster: ProcessCluster, jobs: list[str]) -> dict[str, Any]:
    """What the commands say of these jobs."""
    lines = [[word.format(job=job) for word in words] for job in jobs for words in ASKED]
    return {" ".join(words): ask(cluster, *words) for words in lines}


def test_jobs_that_had_ended_are_shown_as_before_when_the_master_was_killed(tmp_path):
    with ProcessCluster(tmp_path, workers=1) as cluster:
        good, said = submit(cluster, tmp_path, "good", "a b\na\n")
        assert good == 0, said.decode()
        bad, said = submit(cluster, tmp_path, "poor", "a\nbad\n")
        assert bad == 1, said.decode()
        (listed,) = ask(cluster, "jobs")
        jobs = [job["job"] for job in listed]
        assert [(job["name"], job["state"]) for job in listed] == [("poor", "failed"), ("good", "succeeded")]
        before = history(cluster, jobs)
        cluster.kill("master")
        cluster.start_master()
        assert history(cluster, jobs) == before
        told = {job: json.dumps(before[f"status {job} --attempts"]) for job in jobs}
        assert "I do not take this line" in told[jobs[0]]
        assert "_m00000_a0" in told[jobs[1]]
        assert "_r00000_a0" in told[jobs[1]]
