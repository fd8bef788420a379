"""A storm: real processes of a cluster are killed with -9 again and again while one job runs.

Which process dies at which point of the job's progress is drawn from a seed. Each is started again at once, on what it
left on its disk. A kill counts only if the job ran at that moment; whether the victim itself had attempts under way is
kept too. All processes carry a mark in their environment, so whatever outlives the storm is found in /proc.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
from scenes.cluster import ProcessCluster
from scenes.gated import await_job, running

from minireduce.client import jobs
from minireduce.client.connection import Connection
from minireduce.ids import TaskKind
from minireduce.wire import methods
from minireduce.wire.questions import ListTasks, WaitJob

MARK = "STORM_MARK"
SHARED_MEMORY = Path("/dev/shm")
LOOK_S = 0.05
CALM_S = 30.0

JOB = '''
"""Counts words by their first letters, slowly, in two steps."""
import time
from minireduce import Job

def linger(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.005)

def words(line):
    linger({line_s})
    for word in line.split():
        yield word, 1

def total(word, counts):
    linger({word_s})
    yield word, sum(counts)

def letters(word, count):
    yield word[:2], count

job = Job(words, total, reducers=4).then(letters, total, reducers=3)
'''


@dataclass
class Storm:
    """A job of so many splits on a cluster of so many workers, and `kills` kills."""

    root: Path
    seed: int
    kills: int
    workers: int
    splits: int
    struck: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.mark = uuid.uuid4().hex
        self.temporary = self.root / "tmp"
        self.temporary.mkdir()
        self.input, self.output, self.job = self.root / "in", self.root / "out", self.root / "job.py"
        self.input.mkdir()
        self.job.write_text(JOB.format(line_s=0.25, word_s=0.02))
        vocabulary = [f"{a}{b}{n}" for a in "abcdef" for b in "xyz" for n in range(6)]
        for split in range(self.splits):
            lines = (" ".join(self.rng.choices(vocabulary, k=12)) for _ in range(8))
            (self.input / f"{split:04d}.txt").write_text("".join(f"{line}\n" for line in lines))

    def settings(self) -> dict[str, str]:
        return {
            "MINIREDUCE_WORKER_LOST_S": "4",
            "MINIREDUCE_SPLIT_SIZE": "500",  # a file each
            "TMPDIR": str(self.temporary),
            MARK: self.mark,
        }

    def expected(self) -> dict[str, int]:
        """What a loop over the input gives."""
        counts: Counter[str] = Counter()
        for path in self.input.iterdir():
            for word in path.read_text().split():
                counts[word[:2]] += 1
        return dict(counts)

    def found(self) -> dict[str, int]:
        assert (self.output / "_SUCCESS").exists()
        lines = [line.split("\t") for part in self.output.glob("part-*") for line in part.read_text().splitlines()]
        assert len(lines) == len(dict(lines)), "a key stands in the output twice"
        return {key: int(count) for key, count in lines}

    # ── the storm ───────────────────────────────────────────────────────────────────────────────────────────────────

    def rage(self) -> None:
        """Run the job through all kills; then its output and what is left are held to what they must be."""
        shared_before = set(SHARED_MEMORY.iterdir())
        with (
            ProcessCluster(self.root, workers=self.workers, slots=2, settings=self.settings()) as cluster,
            cluster.connect() as connection,
        ):
            client = cluster.command("submit", str(self.job), str(self.input), "-o", str(self.output))
            try:
                await_job(client)
                job = jobs.view(connection, "@").job
                for number in range(self.kills):
                    moment = (number + self.rng.uniform(0.2, 0.8)) / self.kills
                    self._strike(cluster, connection, job, moment)
                _, said = client.communicate(timeout=300)
                assert client.returncode == 0, said.decode()
            finally:
                client.kill()
                client.wait()
            assert self.found() == self.expected()
            self._await_no_trace_of(job)
            ports = set(self._listening())
            assert ports
        assert self._await_end() == [], "processes outlive the cluster"
        assert [port for port in ports if _answers(port)] == []
        assert sorted(path.name for path in self.temporary.rglob("*")) == []
        assert sorted(path.name for path in self.root.glob(".out*")) == []
        assert set(SHARED_MEMORY.iterdir()) <= shared_before

    def _strike(self, cluster: ProcessCluster, connection: Connection, job: str, moment: float) -> None:
        """Kill one process when the job has come so far and is under way, and start it again."""
        while True:
            view = jobs.view(connection, job)
            assert not view.state.is_ended, f"the job is {view.state} before the storm is over: {view.reason}"
            tasks = connection.call(methods.LIST_TASKS, ListTasks(job))
            under_way = [*running(tasks, TaskKind.MAP), *running(tasks, TaskKind.REDUCE)]
            if view.fraction >= moment and under_way:
                break
            connection.call(methods.WAIT_JOB, WaitJob(job, view.state, LOOK_S))
        name = self.rng.choice(sorted(cluster.daemons))
        if name == "master":
            self.struck["master killed"] += 1
            cluster.kill(name)
            cluster.start_master()
            return
        is_busy = any(cluster.is_daemon_of(name, attempt.worker) for attempt in under_way)
        self.struck["busy worker killed" if is_busy else "idle worker killed"] += 1
        cluster.kill(name)
        cluster.start_worker(name)
        cluster.await_worker(name)

    # ── what is left ────────────────────────────────────────────────────────────────────────────────────────────────

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _listening(self) -> Iterator[int]:
        for process in self._processes():
            try:
                for connection in process.net_connections(kind="tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        yield connection.laddr.port
            except psutil.Error:
                continue

    def _await_end(self) -> list[str]:
        """What still runs after a bounded wait."""
        deadline = time.monotonic() + CALM_S
        while (left := self._processes()) and time.monotonic() < deadline:
            psutil.wait_procs(left, timeout=1.0)
        return [" ".join(process.cmdline()) for process in left]

    def _await_no_trace_of(self, job: str) -> None:
        """Workers have removed all files of the job."""
        deadline = time.monotonic() + CALM_S
        while left := [str(path) for path in self.root.glob(f"worker-*/jobs/{job}")]:
            assert time.monotonic() < deadline, left


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
