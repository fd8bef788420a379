"""Processes of a real cluster are killed at chosen moments of a job; the output stays that of a sequential run.

The moments are made by gates: a map or reduce of the job waits for a file lock that the test holds, so the test looks
at the cluster while exactly the work it wants is under way.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster, watch

from minireduce.core.views import JobState
from minireduce.ids import TaskKind

SPLITS = 6
LINES_PER_SPLIT = 400
SETTINGS = {"MINIREDUCE_TASK_USER": "root", "MINIREDUCE_WORKER_LOST_S": "3", "MINIREDUCE_SPLIT_SIZE": "16000"}

JOB = '''
"""Counts words; waits at the gates that the test holds."""
import fcntl
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


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, open_splits=2)


def submit(cluster: ProcessCluster, stage: Stage):
    """The command, once it has said which job it runs."""
    client = cluster.command("submit", str(stage.job), str(stage.input), "-o", str(stage.output))
    said = b""
    while b"job-" not in said:
        line = client.stderr.readline()
        assert line, f"submit ended: {said.decode()}"
        said += line
    return client


def done(view, kind):
    return sum(count.done for count in view.tasks if count.kind is kind)


def running(tasks, kind):
    return [a for t in tasks if t.task.kind is kind for a in t.attempts if a.state == "running"]


def finish(client, cluster, stage):
    _, said = client.communicate(timeout=90)
    assert client.returncode == 0, said.decode()
    assert stage.found() == stage.expected()


def test_two_workers_die_one_while_mapping_and_one_while_reducing(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=5, settings=SETTINGS) as cluster, cluster.connect() as connection:
        with closed(stage.reduce_gate):
            with closed(stage.map_gate):
                client = submit(cluster, stage)
                mapping = []

                def some_maps_are_done_and_some_run(view, tasks):
                    mapping[:] = running(tasks, TaskKind.MAP)
                    return done(view, TaskKind.MAP) >= 1 and bool(mapping)

                watch_latest(connection, some_maps_are_done_and_some_run)
                cluster.kill(cluster.daemon_of(mapping[0].worker))
            reducing = []

            def every_map_is_done_and_a_reduce_runs(view, tasks):
                reducing[:] = running(tasks, TaskKind.REDUCE)
                return done(view, TaskKind.MAP) == SPLITS and bool(reducing)

            view = watch_latest(connection, every_map_is_done_and_a_reduce_runs)
            cluster.kill(cluster.daemon_of(reducing[0].worker))
        finish(client, cluster, stage)
        assert watch_latest(connection, lambda view, _: view.state is JobState.SUCCEEDED).job == view.job


def test_the_master_dies_in_the_middle_and_no_finished_map_runs_again(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=3, settings=SETTINGS) as cluster, cluster.connect() as connection:
        with closed(stage.reduce_gate):
            with closed(stage.map_gate):
                client = submit(cluster, stage)
                finished = {}

                def two_maps_are_done_and_some_run(view, tasks):
                    finished.update({t.task: tried(t) for t in tasks if t.state == "done"})
                    return len(finished) == 2 and bool(running(tasks, TaskKind.MAP))

                view = watch_latest(connection, two_maps_are_done_and_some_run)
                cluster.kill("master")
                cluster.start_master()
            again = {}

            def every_map_is_done(view, tasks):
                again.update({t.task: tried(t) for t in tasks})
                return done(view, TaskKind.MAP) == SPLITS

            watch_latest(connection, every_map_is_done)
            # The master that started again shows what was launched since: of a map done before, nothing new.
            assert {task: again[task] - before for task, before in finished.items() if again[task] - before} == {}
        finish(client, cluster, stage)
        ended = watch_latest(connection, lambda view, _: view.state is JobState.SUCCEEDED)
        assert ended.job == view.job


def tried(task):
    return {attempt.attempt for attempt in task.attempts}


def watch_latest(connection, moment):
    return watch(connection, "@", moment)


def test_a_map_output_that_is_damaged_on_disk_is_made_again(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=2, settings=SETTINGS) as cluster, cluster.connect() as connection:
        with closed(stage.map_gate):
            client = submit(cluster, stage)
            watch(connection, "@", lambda view, _: done(view, TaskKind.MAP) >= 2)
            damaged = sorted(tmp_path.glob("worker-*/jobs/*/*_a0/output.data"))[:2]
            assert len(damaged) == 2, "the moment did not come"
            for path in damaged:
                flip_a_bit(path)
        finish(client, cluster, stage)


def flip_a_bit(path: Path) -> None:
    """In the middle of a file, and its length and times are as they were."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
