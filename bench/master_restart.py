"""A master dies in the middle of a large job: how long until the next one answers, and until it launches again.

A real master process runs a job of `--tasks` maps over `--workers` workers that this bench plays, each with its share
of what is done and of what runs. When half of the tasks are done and persisted, the master is killed with `kill -9` and
started again on its metadata. Taken is the time from that start to the first answer to a client, to the welcome of the
last worker, which lists all that it holds, and to the first launch. Beside it stand the parts of a start, taken in a
process of their own on a copy of the metadata, and the least that any such process needs: `python -c pass`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minireduce.auth import tokens
from minireduce.auth.tokens import Tokens
from minireduce.core.messages import (
    AttemptStarted,
    AttemptSucceeded,
    Down,
    Hello,
    LaunchAttempt,
    Up,
    Welcome,
    WorkerProfile,
)
from minireduce.core.requests import SubmitJob
from minireduce.core.spec import JobSpec, NumberRange, OutputKind, Program, StepSpec
from minireduce.core.task_data import TaskOutput
from minireduce.errors import MinireduceError
from minireduce.ids import AttemptId
from minireduce.launch import daemon
from minireduce.launch.daemon import MASTER, Daemon
from minireduce.wire import methods
from minireduce.wire.calls import AsyncCalls, Calls, Credentials, Stream
from minireduce.wire.questions import DescribeCluster, ListJobs

COUNTERS = tuple(("minireduce", name, 1000) for name in ("MAP_INPUT_RECORDS", "MAP_OUTPUT_BYTES", "MAP_OUTPUT_RECORDS"))
SLOTS = 16
REDUCERS = 8
PARTS = """
import sys, time
began = time.perf_counter()
import minireduce.launch.master_main, minireduce.master.server, minireduce.web.listen, minireduce.web.pages
imported = time.perf_counter()
from pathlib import Path
from minireduce.core.cluster import ClusterState
from minireduce.core.settings import ClusterSettings
from minireduce.master.store import open_store
store = open_store(Path(sys.argv[1]))
opened = time.perf_counter()
rows = list(store.load())
read = time.perf_counter()
ClusterState(cluster_id="a", epoch=store.epoch, txid=store.txid, settings=ClusterSettings(), rows=rows,
             make_read_token=lambda job: "", now=0.0)
restored = time.perf_counter()
store.close()
parts = {"imports": imported - began, "open": opened - imported, "read": read - opened, "restore": restored - read}
print(" ".join(f"{name} {1000 * seconds:.0f} ms," for name, seconds in parts.items()), len(rows), "rows")
"""


class PlayedWorker:
    """A worker without tasks: it holds what it is told to run, and says that it is done when the bench wants it."""

    def __init__(self, number: int, slots: int) -> None:
        self.profile = WorkerProfile(
            f"worker-{number}", 1, f"host-{number}", "/default-rack", slots, 1 << 40, f"host-{number}:1", "", "0"
        )
        self.running: dict[AttemptId, None] = {}
        self.outputs: dict[AttemptId, AttemptSucceeded] = {}
        self.welcomed = asyncio.Event()
        self.launched = asyncio.Event()
        self._stream: Stream[Hello | Up, Welcome | Down] | None = None
        self._task: asyncio.Task[None] | None = None
        self._session = self._sent = self._received = 0
        self._sending = asyncio.Lock()

    def join(self, address: str, credentials: Credentials) -> None:
        self.welcomed.clear()
        self.launched.clear()
        self._task = asyncio.create_task(self._live(address, credentials))

    async def leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def finish(self, most: int) -> int:
        """Say that up to so many attempts are done."""
        done = list(self.running)[:most]
        reports: list[AttemptStarted | AttemptSucceeded] = []
        for attempt in done:
            del self.running[attempt]
            sizes = bytes([20] * REDUCERS)
            self.outputs[attempt] = AttemptSucceeded(
                attempt, TaskOutput(os.urandom(16), 1 << 20, 1000, sizes), COUNTERS
            )
            reports += [AttemptStarted(attempt), self.outputs[attempt]]
        if reports:
            await self._say(*reports)
        return len(done)

    async def _say(self, *reports: AttemptStarted | AttemptSucceeded) -> None:
        assert self._stream is not None
        async with self._sending:
            self._sent += bool(reports)
            number = self._sent if reports else 0
            await self._stream.send(Up(self._session, number, self._received, reports, 1 << 40))

    async def _live(self, address: str, credentials: Credentials) -> None:
        calls = AsyncCalls(address, credentials)
        self._session = self._sent = self._received = 0
        try:
            self._stream = calls.open_stream(methods.CONNECT)
            await self._stream.send(Hello(self.profile, 0, 0, 0, 0, tuple(self.running), tuple(self.outputs.values())))
            async for message in self._stream:
                await self._take(message)
        except (MinireduceError, asyncio.CancelledError):
            pass
        finally:
            await calls.close()

    async def _take(self, message: Welcome | Down) -> None:
        if isinstance(message, Welcome):
            self._session = message.session
            self.welcomed.set()
            return
        if message.number == self._received + 1:
            self._received = message.number
            for command in message.commands:
                if isinstance(command, LaunchAttempt) and command.attempt.task.kind == "map":
                    self.running[command.attempt] = None
                    self.launched.set()
        await self._say()


def spec(tasks: int) -> JobSpec:
    splits = tuple(NumberRange(number, number + 1) for number in range(tasks))
    program = Program("source", b"no code", "")
    return JobSpec("half done", program, (StepSpec(REDUCERS, 1 << 20, 600.0),), splits, OutputKind.RESULT)


async def bench(options: argparse.Namespace, root: Path, held: Tokens) -> None:
    worker_credentials, client = Credentials(held.require_worker()), Credentials(held.require_client())
    master = start(root, 0)
    address = str(master.ready()["address"])
    workers = [PlayedWorker(number, SLOTS) for number in range(options.workers)]
    for worker in workers:
        worker.join(address, worker_credentials)
    await asyncio.gather(*(worker.welcomed.wait() for worker in workers))
    calls = Calls(address, client)
    await asyncio.to_thread(calls.call, methods.SUBMIT_JOB, SubmitJob("half", spec(options.tasks)), timeout_s=60.0)
    done = 0
    while done < options.tasks // 2:
        finished = [await worker.finish(min(SLOTS, options.tasks // 2 - done)) for worker in workers[:1]]
        finished += [await worker.finish(SLOTS) for worker in workers[1:]]
        done += sum(finished)
        await asyncio.sleep(0.01)  # the played workers take in what was launched meanwhile
    await asyncio.to_thread(await_done, calls, done)
    running = sum(len(worker.running) for worker in workers)
    print(f"{options.tasks:,} tasks: {done:,} done, {running:,} running on {len(workers)} workers")
    calls.close()
    for number in range(options.rounds):
        shutil.rmtree(root / "copy", ignore_errors=True)
        master.process.send_signal(signal.SIGKILL)
        master.process.wait()
        master.close_pipes()
        for worker in workers:
            await worker.leave()
        if not number:
            shutil.copytree(root / "master", root / "copy")
            if options.keep:
                shutil.copytree(root / "master", options.keep)
            print(f"  the parts of a start: {await asyncio.to_thread(parts_of_a_start, root / 'copy')}")
        began_s = time.perf_counter()
        master = start(root, int(address.rpartition(":")[2]))
        await asyncio.to_thread(master.ready)
        calls = Calls(address, client)
        await asyncio.to_thread(calls.call, methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=30.0)
        answered_s = time.perf_counter() - began_s
        for worker in workers:
            worker.join(address, worker_credentials)
        await asyncio.gather(*(worker.welcomed.wait() for worker in workers))
        welcomed_s = time.perf_counter() - began_s
        await workers[0].finish(1)
        await asyncio.wait_for(workers[0].launched.wait(), 30.0)
        launched_s = time.perf_counter() - began_s
        print(f"  first answer {answered_s:.2f} s, all workers in {welcomed_s:.2f} s, first launch {launched_s:.2f} s")
        calls.close()
    for worker in workers:
        await worker.leave()
    daemon.stop([master])


def start(root: Path, port: int) -> Daemon:
    arguments = ["--data-dir", str(root / "master"), "--token-file", str(root / "token"), "--port", str(port)]
    arguments += ["--http-port", "0"]
    return daemon.start(MASTER, arguments, name="master", log=root / "master.log", environment=dict(os.environ))


def await_done(calls: Calls, done: int) -> None:
    while (
        sum(count.done for view in calls.call(methods.LIST_JOBS, ListJobs(), timeout_s=30.0) for count in view.tasks)
        < done
    ):
        time.sleep(0.05)


def parts_of_a_start(directory: Path) -> str:
    command = [sys.executable, "-c", PARTS, str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def python_s() -> float:
    taken = []
    for _ in range(5):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        taken.append(time.perf_counter() - began_s)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="leave a copy of the metadata here, for a profile")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"python -c pass: {python_s():.2f} s; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        held = tokens.generate()
        tokens.store(root / "token", held)
        asyncio.run(bench(options, root, held))


if __name__ == "__main__":
    main()
