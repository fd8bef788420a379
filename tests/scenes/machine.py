"""The master's machine with workers that a test speaks for: no sockets, no clock but `now`."""

from __future__ import annotations

from minireduce.core.cluster import (
    ClusterState,
    HelloReceived,
    Persist,
    Refuse,
    Reply,
    RequestReceived,
    SendDown,
    SendWelcome,
    Ticked,
    UpReceived,
)
from minireduce.core.effects import Row
from minireduce.core.messages import AttemptSucceeded, Hello, LaunchAttempt, Up, WorkerProfile
from minireduce.core.replica_messages import Replica
from minireduce.core.requests import SubmitJob
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import JobSpec, LocalFiles, LocalRange, OutputKind, Program, StepSpec, StoredRange
from minireduce.core.task_data import TaskOutput

BLOCK_BYTES = 100


def stored_file(blocks, inode=50, first_block=1):
    """The rows of a stored file with blocks numbered from `first_block`."""
    sizes = (blocks * BLOCK_BYTES, BLOCK_BYTES, 3)
    rows = [Row("inodes", (inode,), (1, f"f{inode}", "file", 0.0, *sizes, "", 0o644))]
    rows += [Row("blocks", (first_block + n,), (inode, n, 1, BLOCK_BYTES, 1)) for n in range(blocks)]
    return {(row.table, row.key): row for row in rows}


def stored_splits(blocks, inode=50):
    """A split for each block of the file."""
    return tuple(StoredRange(f"/f{inode}", inode, n * BLOCK_BYTES, BLOCK_BYTES) for n in range(blocks))


def job_spec(
    *, maps=2, reducers=1, steps=1, output=OutputKind.RESULT, machine_id="m1", memory_bytes=1 << 20, lengths=(),
    splits=(), **settings,
):  # fmt: skip
    lengths = lengths or (10,) * maps
    local = (LocalFiles(machine_id, (LocalRange(f"/in/{n}", 0, size, "f"),)) for n, size in enumerate(lengths))
    splits = splits or tuple(local)
    step = StepSpec(reducers, memory_bytes, 600.0)
    path = "" if output is OutputKind.RESULT else "/out"
    return JobSpec("wc", Program("source", b"", ""), (step,) * steps, splits, output, path, **settings)


class FakeWorker:
    """Speaks for one worker: remembers what it was told, numbers what it says."""

    def __init__(
        self, cluster, name, slots=2, incarnation=1, machine_id="m1", rack="/r", memory_bytes=1 << 30, blocks=()
    ):
        self.cluster, self.name, self.slots, self.incarnation = cluster, name, slots, incarnation
        self.machine_id, self.rack, self.memory_bytes = machine_id, rack, memory_bytes
        self.replicas = tuple(Replica(block, 1, BLOCK_BYTES) for block in blocks)
        self.stream = self.session = self.sent = self.received = 0
        self.told = []

    def hello(self, *, session=0, running=(), outputs=(), epoch=0, txid=0, address=None):
        self.cluster.streams += 1
        self.stream = self.cluster.streams
        self.cluster.workers[self.stream] = self
        profile = WorkerProfile(
            self.name, self.incarnation, "h", self.rack, self.slots, self.memory_bytes, address or f"{self.name}:1",
            self.machine_id, "0",
        )  # fmt: skip
        if not session:
            self.sent = self.received = 0
        hello = Hello(profile, session, self.received, epoch, txid, tuple(running), tuple(outputs), self.replicas)
        return self.cluster.advance(HelloReceived(self.stream, hello))

    def say(self, *reports):
        self.sent += 1
        return self.cluster.advance(UpReceived(self.stream, Up(self.session, self.sent, self.received, reports)))

    def take(self, kind):
        """The commands of one kind so far, forgotten once taken."""
        taken = [command for command in self.told if isinstance(command, kind)]
        self.told = [command for command in self.told if not isinstance(command, kind)]
        return taken

    def attempts(self):
        return [launch.attempt for launch in self.take(LaunchAttempt)]

    def succeed(self, *attempts, digest=b"d"):
        return self.say(*(AttemptSucceeded(a, TaskOutput(digest, 10, 1), (("g", "n", 1),)) for a in attempts))


class FakeCluster:
    """A machine with its clock, its rows and its workers."""

    def __init__(self, rows=(), epoch=1, txid=0, part_copies=1, **settings):
        settings["part_copies"] = part_copies
        self.settings = settings
        self.now, self.streams, self.requests = 100.0, 0, 0
        self.rows = dict(rows)
        self.commits = []
        self.workers = {}
        self.answers = {}
        self.machine = ClusterState(
            cluster_id="abcdef", epoch=epoch, txid=txid, settings=ClusterSettings(**settings),
            rows=list(self.rows.values()), make_read_token=lambda job: f"read {job}", now=self.now,
        )  # fmt: skip

    def advance(self, event):
        actions = self.machine.advance(event, self.now)
        for action in actions:
            match action:
                case SendWelcome():
                    self.workers[action.stream].session = action.welcome.session
                case SendDown():
                    worker = self.workers[action.stream]
                    worker.received = max(worker.received, action.down.number)
                    worker.told.extend(action.down.commands)
                case Reply():
                    self.answers[action.request] = action.value
                case Refuse():
                    self.answers[action.request] = action.error
                case Persist():
                    self._write(action)
        return actions

    def _write(self, action):
        self.commits.append(action)
        for row in action.rows:
            if row.values is None:
                gone = [k for k in self.rows if k[0] == row.table and k[1][: len(row.key)] == row.key]
                for key in gone:
                    del self.rows[key]
            else:
                self.rows[row.table, row.key] = row

    def worker(self, name, **kwargs):
        worker = FakeWorker(self, name, **kwargs)
        worker.hello()
        return worker

    def ask(self, body):
        self.requests += 1
        self.advance(RequestReceived(self.requests, body, 0.0))
        return self.answers[self.requests]

    def submit(self, key="k", **kwargs):
        return self.ask(SubmitJob(key, job_spec(**kwargs)))

    def pass_time(self, seconds, *speaking):
        """Tick through a stretch of time, in which only these workers can be heard."""
        for _ in range(int(seconds)):
            self.now += 1.0
            for worker in speaking:
                worker.cluster.advance(UpReceived(worker.stream, Up(worker.session, 0, worker.received)))
            self.advance(Ticked())

    def restart(self):
        new = FakeCluster(self.rows, epoch=2, txid=1000, **self.settings)
        new.now = self.now
        return new

    def state(self, job):
        return self.machine.views.job(job, self.now).state
