"""What one task costs the master's process: gRPC, decisions, SQLite, under workers that another process plays.

The master is a real one, with its metadata synced. The load generator opens a real stream for each worker, says hello,
takes launches and answers each message of them at once, in one message: every task has succeeded and was busy for
`--busy-ms`, which is what makes the master give short tasks ahead. Heartbeats go as often as the master asks for. One
job without output of so many tasks over splits of numbers is submitted; the time is from its submission until it has
succeeded.

CPU is that of the whole process, of which `advance`, the codec and SQLite are measured by their threads' CPU clocks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

JOIN_S_MAX = 30.0
"""A master that answers no hello for so long is not worth measuring."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--busy-ms", type=float, default=5.0)
    options = parser.parse_args()
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    print(f"python -c pass: {(time.perf_counter() - began_s) * 1000:.0f} ms; load {os.getloadavg()[0]:.1f}")
    for tasks in options.tasks:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
            _measure(Path(folder), tasks, options)


def _measure(folder: Path, tasks: int, options: argparse.Namespace) -> None:
    environment = {**os.environ, "HOME": str(folder)}
    report = folder / "report.json"
    own = [sys.executable, __file__]
    at = [
        "--data-dir",
        str(folder / "master"),
        "--port",
        "0",
        "--http-port",
        "0",
        "--token-file",
        str(folder / "token"),
    ]
    started = subprocess.Popen(
        [*own, "as-master", str(report), *at], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        address = started.stdout.readline().split("listens on ")[1].split(",")[0]
        process = psutil.Process(started.pid)
        play = [str(tasks), str(options.workers), str(options.slots), str(options.busy_ms / 1000), address]
        told = subprocess.run(
            [*own, "as-workers", *play, str(folder / "token"), str(started.pid)],
            env=environment, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        played = json.loads(told.stdout.splitlines()[-1])
        memory = process.memory_info().rss
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait()
    shares: dict[str, float] = json.loads(report.read_text())
    each = played["cpu_s"] / tasks * 1e6
    print(
        f"{tasks:,} tasks, {options.workers} workers: {played['wall_s']:.1f} s, "
        f"{tasks / played['wall_s']:,.0f} tasks/s, "
        f"{played['ups'] / played['wall_s']:,.0f} messages/s of {tasks / played['ups']:.1f} tasks; "
        f"submitted in {played['submit_s']:.1f} s; {memory >> 20} MiB"
    )
    print(f"  master's process: {each:.0f} us a task, of which")
    for name, spent_s in shares.items():
        print(f"    {name:<22} {spent_s / tasks * 1e6:7.1f} us")


# ── the master, with clocks ─────────────────────────────────────────────────────────────────────────────────────────


def as_master(report: str, *arguments: str) -> None:
    """The daemon as it is, but for clocks around what costs time."""
    import gc

    from minireduce.core.cluster import ClusterState
    from minireduce.launch import master_main
    from minireduce.master.store import Store
    from minireduce.wire.codec import Codec

    spent = {"advance": 0.0, "decode": 0.0, "encode": 0.0, "SQLite": 0.0, "garbage (in these)": 0.0}
    began_s = 0.0

    def collecting(phase: str, _: object) -> None:
        nonlocal began_s
        if phase == "start":
            began_s = time.thread_time()
        else:
            spent["garbage (in these)"] += time.thread_time() - began_s

    gc.callbacks.append(collecting)

    def timed(owner: type, name: str, under: str) -> None:
        call = getattr(owner, name)

        def around(*given: Any, **more: Any) -> Any:
            began_s = time.thread_time()
            try:
                return call(*given, **more)
            finally:
                spent[under] += time.thread_time() - began_s

        setattr(owner, name, around)

    timed(ClusterState, "advance", "advance")
    timed(Codec, "decode", "decode")
    timed(Codec, "encode", "encode")
    timed(Store, "write", "SQLite")
    try:
        master_main.main(arguments)
    finally:
        Path(report).write_text(json.dumps(spent))


# ── the workers ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Played:
    """One worker: answers what it is told, as if all of it had been done at once."""

    def __init__(self, name: str, slots: int, busy_s: float, calls: Any) -> None:
        self._name, self._slots, self._busy_s, self._calls = name, slots, busy_s, calls
        self.ups = 0

    async def live(self, joined: asyncio.Event) -> None:
        from minireduce.core.link import Link
        from minireduce.core.messages import AttemptSucceeded, Down, Hello, LaunchAttempt, Up, WorkerProfile
        from minireduce.core.task_data import TaskOutput
        from minireduce.wire.methods import CONNECT

        profile = WorkerProfile(
            self._name, 1, self._name, "/r", self._slots, 64 << 30, "127.0.0.1:1", self._name, "0.1.0"
        )
        stream = self._calls.open_stream(CONNECT)
        await stream.send(Hello(profile, 0, 0, 0, 0))
        welcome = await stream.receive()
        joined.set()
        link: Link[Any] = Link(heartbeat_interval_s=welcome.heartbeat_interval_s)
        output = TaskOutput(b"0" * 16, 0, 0)
        counters = (("minireduce", "MAP_INPUT_RECORDS", 1), ("minireduce", "MAP_OUTPUT_RECORDS", 0))
        now = time.monotonic

        sending = asyncio.Lock()  # a stream takes one message at a time

        async def send_due() -> None:
            async with sending:
                for message in link.due(now()):
                    self.ups += bool(message.items)
                    await stream.send(Up(welcome.session, message.number, message.ack, message.items))

        async def beat() -> None:
            while True:
                await asyncio.sleep(welcome.heartbeat_interval_s / 4)
                await send_due()

        beating = asyncio.create_task(beat())
        try:
            async for down in stream:
                if isinstance(down, Down) and link.received(down.number, down.ack, now()):
                    done = [each for each in down.commands if isinstance(each, LaunchAttempt)]
                    for each in done:
                        link.push(AttemptSucceeded(each.attempt, output, counters, busy_s=self._busy_s))
                    if done:
                        await send_due()
        finally:
            beating.cancel()


async def _play(tasks: int, workers: int, slots: int, busy_s: float, address: str, token_file: str, pid: int) -> None:
    from minireduce.auth import tokens
    from minireduce.core.requests import SubmitJob
    from minireduce.core.spec import JobSpec, NumberRange, OutputKind, Program, StepSpec
    from minireduce.core.views import JobState
    from minireduce.wire import methods
    from minireduce.wire.calls import AsyncCalls, Credentials
    from minireduce.wire.questions import WaitJob

    held = tokens.load(Path(token_file))
    played, living = [], []
    for number in range(workers):
        worker = Played(f"w{number}", slots, busy_s, AsyncCalls(address, Credentials(held.require_worker())))
        joined = asyncio.Event()
        living.append(asyncio.create_task(worker.live(joined)))
        joining = asyncio.create_task(joined.wait())
        await asyncio.wait([joining, living[-1]], timeout=JOIN_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        if living[-1].done():
            living[-1].result()
        if not joined.is_set():
            raise TimeoutError(f"worker {number} got no welcome within {JOIN_S_MAX:g} s")
        played.append(worker)
    client = AsyncCalls(address, Credentials(held.require_client()))
    splits = tuple(NumberRange(number, number + 1) for number in range(tasks))
    step = StepSpec(0, 64 << 20, 60.0)
    spec = JobSpec("empty", Program("source", b"", "0" * 64), (step,), splits, OutputKind.RESULT)
    master = psutil.Process(pid)
    before = master.cpu_times()
    began_s = time.perf_counter()
    job = await client.call(methods.SUBMIT_JOB, SubmitJob("load", spec), timeout_s=120)
    submit_s = time.perf_counter() - began_s
    state = JobState.RUNNING
    while state is JobState.RUNNING:
        view = await client.call(methods.WAIT_JOB, WaitJob(job, state, 30.0), timeout_s=60)
        state = view.state
    wall_s = time.perf_counter() - began_s
    after = master.cpu_times()
    assert state is JobState.SUCCEEDED, view
    cpu_s = after.user + after.system - before.user - before.system
    ups = sum(worker.ups for worker in played)
    print(json.dumps({"wall_s": wall_s, "submit_s": submit_s, "cpu_s": cpu_s, "ups": ups}), flush=True)
    os._exit(0)  # a thousand connections need no goodbye


if __name__ == "__main__":
    if sys.argv[1:2] == ["as-master"]:
        as_master(*sys.argv[2:])
    elif sys.argv[1:2] == ["as-workers"]:
        a = sys.argv[2:]
        asyncio.run(_play(int(a[0]), int(a[1]), int(a[2]), float(a[3]), a[4], a[5], int(a[6])))
    else:
        main()
