"""A job whose maps and reduces wait at gates, and the words in which tests of deaths speak of it.

A gate is a file lock that the test holds, so the test looks at the cluster while exactly the work it wants is under
way.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scenes.cluster import ProcessCluster

SPLITS = 6
LINES_PER_SPLIT = 400
SETTINGS = {"MINIREDUCE_TASK_USER": "root", "MINIREDUCE_WORKER_LOST_S": "3", "MINIREDUCE_SPLIT_SIZE": "16000"}

JOB = '''
"""Counts words; waits at the gates that the test holds."""
import fcntl
import subprocess
from minireduce import Job

def pass_gate(path):
    with open(path) as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)

def words(line):
    if line.startswith("gate "):
        pass_gate(line.split()[1])
    for word in line.split():
        yield word, 1

def total(word, counts):
    if word == "the":
        pass_gate("{reduce_gate}")
    yield word, sum(counts)

job = Job(words, total, reducers=2)
'''


class Stage:
    """A job with a file for each split: the later splits wait at the map gate, one reduce at the reduce gate."""

    def __init__(self, root: Path, open_splits: int) -> None:
        self.map_gate, self.reduce_gate = root / "map.gate", root / "reduce.gate"
        self.map_gate.touch()
        self.reduce_gate.touch()
        self.job = root / "job.py"
        self.job.write_text(JOB.format(reduce_gate=self.reduce_gate))
        self.output = root / "out"
        self.input = root / "in"
        self.input.mkdir()
        for split in range(SPLITS):
            lines = [f"the split {split} line {line} of {SPLITS * LINES_PER_SPLIT}" for line in range(LINES_PER_SPLIT)]
            if split >= open_splits:
                lines.insert(1, f"gate {self.map_gate}")
            (self.input / f"{split}.txt").write_text("\n".join(lines) + "\n")

    def expected(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for path in self.input.iterdir():
            for line in path.read_text().splitlines():
                counts.update(line.split())
        return dict(counts)

    def found(self) -> dict[str, int]:
        parts = sorted(self.output.glob("part-*"))
        assert (self.output / "_SUCCESS").exists()
        pairs = [line.split("\t") for part in parts for line in part.read_text().splitlines()]
        assert len(pairs) == len(dict(pairs)), "a word stands in the output twice"
        return {word: int(count) for word, count in pairs}


@contextmanager
def closed(gate: Path) -> Iterator[None]:
    with gate.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def submit(cluster: ProcessCluster, stage: Stage):
    """The command, once it has said which job it runs."""
    client = cluster.command("submit", str(stage.job), str(stage.input), "-o", str(stage.output))
    await_job(client)
    return client


def await_job(client: subprocess.Popen[bytes]) -> None:
    """Until a command that submits has said which job it runs."""
    assert client.stderr is not None
    said = b""
    while b"job-" not in said:
        line = client.stderr.readline()
        assert line, f"submit ended: {said.decode()}"
        said += line


def done(view, kind):
    return sum(count.done for count in view.tasks if count.kind is kind)


def running(tasks, kind):
    return [a for t in tasks if t.task.kind is kind for a in t.attempts if a.state == "running"]


def finish(client, cluster, stage):
    _, said = client.communicate(timeout=90)
    assert client.returncode == 0, said.decode()
    assert stage.found() == stage.expected()


def tried(task):
    return {attempt.attempt for attempt in task.attempts}
