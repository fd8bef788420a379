"""Workers and the master are killed while a job reads stored files: the output is right, and every block gets back to
three replicas on the workers that remain.

As in `test_deaths`, moments are made by gates that the test holds.
"""

from __future__ import annotations

import fcntl
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster, watch

from minireduce.client.fs import FileSystem
from minireduce.ids import TaskKind

SETTINGS = {
    "MINIREDUCE_TASK_USER": "root",
    "MINIREDUCE_WORKER_LOST_S": "3",
    "MINIREDUCE_REPAIR_DELAY_S": "4",
    "MINIREDUCE_SPLIT_SIZE": "1MiB",
    "MINIREDUCE_BLOCK_SIZE": "1MiB",
}
BLOCKS = 10
WAIT_S = 60.0

JOB = '''
"""Counts words; waits at the gates that the test holds."""
import fcntl
from minireduce import Job

def pass_gate(path):
    with open(path) as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)

def words(line):
    if line.startswith("gate "):
        pass_gate("{map_gate}")
    for word in line.split():
        yield word, 1

def total(word, counts):
    if word == "gate":
        pass_gate("{reduce_gate}")
    yield word, sum(counts)

job = Job(words, total, reducers=2)
'''


@contextmanager
def closed(gate: Path) -> Iterator[None]:
    with gate.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Stage:
    """A stored file of ten blocks, all but the first two of which hold a line that waits at the map gate."""

    def __init__(self, root: Path) -> None:
        self.map_gate, self.reduce_gate, self.output = root / "map.gate", root / "reduce.gate", root / "out"
        self.map_gate.touch()
        self.reduce_gate.touch()
        self.job = root / "job.py"
        self.job.write_text(JOB.format(map_gate=self.map_gate, reduce_gate=self.reduce_gate))
        rng = random.Random(5)
        text: list[str] = []
        size = 0
        while size < BLOCKS << 20:
            line = " ".join(f"w{rng.randint(0, 999)}" for _ in range(2000))
            if size > 2 << 20 and rng.random() < 0.05:
                line = f"gate {line}"
            text.append(line)
            size += len(line) + 1
        self.text = "\n".join(text)

    def submit(self, cluster: ProcessCluster):
        client = cluster.command("submit", str(self.job), "mr:///input", "-o", str(self.output))
        said = b""
        while b"job-" not in said:
            line = client.stderr.readline()
            assert line, f"submit ended: {said.decode()}"
            said += line
        return client

    def check(self, client) -> None:
        _, said = client.communicate(timeout=WAIT_S)
        assert client.returncode == 0, said.decode()
        pairs = [
            line.split("\t") for part in sorted(self.output.glob("part-*")) for line in part.read_text().splitlines()
        ]
        assert {word: int(count) for word, count in pairs} == Counter(self.text.split())


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def done(view, kind):
    return sum(count.done for count in view.tasks if count.kind is kind)


def is_every_map_done(view):
    return all(count.done == count.total for count in view.tasks if count.kind is TaskKind.MAP)


def running(tasks, kind):
    return [a for t in tasks if t.task.kind is kind for a in t.attempts if a.state == "running"]


def put(files: FileSystem, stage: Stage) -> None:
    with files.open("/input", "wb") as stream:
        stream.write(stage.text.encode())
    assert [len(block.source.workers) for block in files.blocks("/input").blocks] == [3] * (BLOCKS + 1)


def await_three_replicas(files: FileSystem, dead: set[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        held = [set(block.source.workers) - dead for block in files.blocks("/input").blocks]
        if all(len(workers) == 3 for workers in held):
            return
        assert time.monotonic() < deadline, held


def test_two_of_five_workers_die_and_every_block_has_three_replicas_on_the_others(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=5, settings=SETTINGS) as cluster, cluster.connect() as connection:
        files = FileSystem(connection)
        put(files, stage)
        dead = set()
        with closed(stage.reduce_gate):
            with closed(stage.map_gate):
                client = stage.submit(cluster)
                seen = []

                def some_maps_are_done_and_some_run(view, tasks):
                    seen[:] = running(tasks, TaskKind.MAP)
                    return done(view, TaskKind.MAP) >= 1 and bool(seen)

                watch(connection, "@", some_maps_are_done_and_some_run)
                dead.add(seen[0].worker)
                cluster.kill(cluster.daemon_of(seen[0].worker))

            def every_map_is_done_and_a_reduce_runs(view, tasks):
                seen[:] = running(tasks, TaskKind.REDUCE)
                return is_every_map_done(view) and bool(seen)

            watch(connection, "@", every_map_is_done_and_a_reduce_runs)
            dead.add(seen[0].worker)
            cluster.kill(cluster.daemon_of(seen[0].worker))
        stage.check(client)
        await_three_replicas(files, dead)
        assert len(dead) == 2
        with files.open("/input") as stream:
            assert stream.read() == stage.text.encode()


def test_the_master_dies_in_the_middle_and_no_finished_map_runs_again(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=3, settings=SETTINGS) as cluster, cluster.connect() as connection:
        files = FileSystem(connection)
        put(files, stage)
        finished = {}
        with closed(stage.reduce_gate):
            with closed(stage.map_gate):
                client = stage.submit(cluster)

                def some_maps_are_done_and_some_run(view, tasks):
                    finished.update({t.task: t.attempts for t in tasks if t.state == "done"})
                    return bool(finished) and bool(running(tasks, TaskKind.MAP))

                watch(connection, "@", some_maps_are_done_and_some_run)
                cluster.kill("master")
                cluster.start_master()
            again = {}

            def the_maps_are_done(view, tasks):
                again.update({t.task: t.attempts for t in tasks})
                return is_every_map_done(view)

            watch(connection, "@", the_maps_are_done)
        stage.check(client)
        for task, attempts in finished.items():  # a task that was done before shows no attempts any more
            assert {each.attempt for each in again[task]} <= {each.attempt for each in attempts}
        await_three_replicas(files, set())
