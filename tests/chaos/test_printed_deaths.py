"""What tasks print can be read while they run, when they have ended, and when their worker or master has died."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.core.views import JobState
from minireduce.wire import methods
from minireduce.wire.questions import GetJob, ReadPrinted, WaitJob

JOB = """
import ctypes, fcntl, os, sys
from minireduce import Job

def speak(line):
    print("python says", line)
    print("python complains of", line, file=sys.stderr)
    os.write(1, b"the descriptor says " + line.encode() + b"\\n")
    ctypes.CDLL(None).printf(b"c says %s\\n", line.encode())
    with open({gate!r}) as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    print("after the gate")
    if line == "bad":
        os._exit(7)
    yield line, 1

job = Job(speak)
"""


class Stage:
    def __init__(self, root: Path, line: str) -> None:
        self.gate = root / "gate"
        self.gate.touch()
        self.job = root / "job.py"
        self.job.write_text(JOB.format(gate=str(self.gate)))
        self.input = root / "in.txt"
        self.input.write_text(f"{line}\n")


def command(cluster: ProcessCluster, *arguments: object) -> str:
    running = cluster.command(*map(str, arguments))
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture
def cluster(tmp_path: Path):
    with ProcessCluster(tmp_path, workers=1, settings={"MINIREDUCE_WORKER_LOST_S": "3"}) as started:
        yield started


def await_pieces(cluster: ProcessCluster, job: str, streams: set[str]) -> None:
    """Wait until something of each of these streams is with the master."""
    with cluster.connect() as connection:
        seen = set()
        after = 0
        while not streams <= seen:
            page = connection.call(methods.READ_PRINTED, ReadPrinted(job, after))
            seen |= {piece.stream for piece in page.pieces}
            after = page.last
            connection.call(methods.WAIT_JOB, WaitJob(job, JobState.RUNNING, 0.05))


SAID = ["python says good", "the descriptor says good", "c says good"]


def test_what_a_task_printed_is_readable_when_its_worker_and_its_master_were_killed(cluster, tmp_path):
    stage = Stage(tmp_path, "good")
    with stage.gate.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        job = command(cluster, "submit", stage.job, stage.input, "--detach").strip()
        follower = cluster.command("logs", job, "--follow")
        await_pieces(cluster, job, {"stdout", "stderr"})
        shown = command(cluster, "logs", job)
        assert " running on " in shown.splitlines()[0]
        cluster.kill("worker-1")
        assert [line for line in command(cluster, "logs", job).splitlines() if "says" in line] == SAID
        cluster.kill("master")
        cluster.start_master()
        text = command(cluster, "logs", job)
        assert [line for line in text.splitlines() if "says" in line] == SAID
        assert "python complains of good" in text
        follower.kill()
        out, _ = follower.communicate()
        assert [line for line in out.decode().splitlines() if "says" in line] == SAID


def test_following_ends_with_the_job_and_has_shown_all_that_it_printed(cluster, tmp_path):
    stage = Stage(tmp_path, "good")
    with stage.gate.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        job = command(cluster, "submit", stage.job, stage.input, "--detach").strip()
        follower = cluster.command("logs", job, "--follow")
        first = [follower.stdout.readline().decode() for _ in range(2)]
        assert first[1] == "python says good\n"
    out, _ = follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert out.decode().splitlines()[-1] == "after the gate"


def test_the_text_of_attempts_that_left_by_exit_is_there_once_the_job_has_failed(cluster, tmp_path):
    stage = Stage(tmp_path, "bad")
    submit = cluster.command("submit", str(stage.job), str(stage.input), "-o", str(tmp_path / "out"))
    _, err = submit.communicate(timeout=60)
    assert submit.returncode == 1, err.decode()
    with cluster.connect() as connection:
        job = connection.call(methods.GET_JOB, GetJob("@"))
    assert job.state is JobState.FAILED
    tries = len(job.errors)
    assert tries >= 2
    text = command(cluster, "logs", "@")
    assert text.count("python says bad") == tries
    assert text.count("after the gate") == tries
    task = job.errors[0].attempt.task
    assert command(cluster, "logs", "@", "--task", str(task)).count("c says bad") == tries
    trace = tmp_path / "trace.json"
    cluster.kill("master")
    cluster.start_master()
    command(cluster, "timeline", "@", "-o", trace)
    events = json.loads(trace.read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X" and not event["name"].startswith("waits")]
    assert [event["cat"] for event in slices] == ["failed"] * tries
    assert {event["args"]["message"] for event in slices} == {job.errors[0].error.message}


def test_all_that_a_worker_keeps_of_a_text_is_shown_while_it_lives_and_both_ends_after(cluster, tmp_path):
    lines = [f"line {number} of many" for number in range(20_000)]
    (tmp_path / "loud.py").write_text(
        "from minireduce import Job\n"
        "def loud(line):\n"
        f"    for number in range({len(lines)}):\n"
        "        print('line', number, 'of many')\n"
        "    raise ValueError('enough')\n"
        "job = Job(loud, attempts_max=1)\n"
    )
    (tmp_path / "in.txt").write_text("one\n")
    submit = cluster.command("submit", str(tmp_path / "loud.py"), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out"))
    submit.communicate(timeout=60)
    assert submit.returncode == 1
    with cluster.connect() as connection:
        job = connection.call(methods.GET_JOB, GetJob("@")).job
    kept = command(cluster, "logs", job, "--task", f"{job}_s0_m00000")
    assert "bytes were left out here" in kept
    full = command(cluster, "logs", job, "--task", f"{job}_s0_m00000", "--full")
    assert [line for line in full.splitlines() if line.endswith("of many")] == lines
    assert "ValueError: enough" in full
    cluster.kill("worker-1")
    asked = cluster.command("logs", job, "--task", f"{job}_s0_m00000", "--full")
    out, err = asked.communicate(timeout=60)
    assert asked.returncode == 0
    assert out.decode() == kept
    assert "only what the master keeps is shown" in err.decode()
