"""What the master's decisions cost: CPU of `ClusterState.advance` for each task of a map-only job, at several sizes.

A thousand workers are played in this process. Each speaks once in a round and says all that happened to it since: of
each of its attempts that it began, and a round later that it succeeded; and it takes in what it is told. Everything
that one task causes is counted: its part of each message in and out, launch, commit, row. Making and reading messages,
gRPC and SQLite are not. Beside it stands a loop of plain Python, measured before and after, to compare machines by.

    python bench/advance.py [TASKS]...
"""

from __future__ import annotations

import gc
import sys
import time

from played import DIGEST, PlayedWorker, map_only

from minireduce.core.cluster import ClusterState, Event, HelloReceived, RequestReceived, SendDown, SendWelcome, Ticked
from minireduce.core.messages import AttemptStarted, AttemptSucceeded, LaunchAttempt
from minireduce.core.requests import SubmitJob
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import NumberRange
from minireduce.core.task_data import TaskOutput

WORKERS, SLOTS, RACKS = 1000, 2, 20
SIZES = (10_000, 50_000, 200_000)
ROUND_S = 0.1
TICKS_PER_ROUND = 1
COUNTERS = tuple(("minireduce", name, 1) for name in ("MAP_INPUT_RECORDS", "MAP_OUTPUT_RECORDS"))


class Timed:
    """The machine, and the CPU that it has used."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.machine = ClusterState(
            cluster_id="abcdef", epoch=1, txid=0, settings=settings, rows=(), make_read_token=lambda _: "", now=0.0
        )
        self.now = 0.0
        self.cpu_s = 0.0
        self.events = 0
        self.workers: dict[int, PlayedWorker] = {}
        self.launched: dict[int, list[LaunchAttempt]] = {}

    def advance(self, event: Event) -> None:
        began = time.process_time()
        actions = self.machine.advance(event, self.now)
        self.cpu_s += time.process_time() - began
        self.events += 1
        for action in actions:
            if isinstance(action, SendDown):
                worker = self.workers[action.stream]
                worker.heard = max(worker.heard, action.down.number)
                launches = [command for command in action.down.commands if isinstance(command, LaunchAttempt)]
                self.launched.setdefault(action.stream, []).extend(launches)
            elif isinstance(action, SendWelcome):
                self.workers[action.stream].session = action.welcome.session


def play(tasks: int) -> tuple[float, float, int]:
    """CPU seconds of submission and of all else, and the events."""
    timed = Timed(ClusterSettings())
    for number in range(WORKERS):
        worker = PlayedWorker(f"w{number}", f"/rack{number % RACKS}", SLOTS, stream=number + 1)
        timed.workers[worker.stream] = worker
        hello = worker.hello()
        assert isinstance(hello, HelloReceived)
        timed.advance(hello)
    timed.cpu_s, timed.events = 0.0, 0
    timed.advance(RequestReceived(1, SubmitJob("k", map_only("k", [NumberRange(n, n + 1) for n in range(tasks)])), 0.0))
    submit_s, timed.cpu_s, timed.events = timed.cpu_s, 0.0, 0
    done = 0
    while done < tasks:
        timed.now += ROUND_S
        for stream, worker in timed.workers.items():
            for attempt in worker.running:
                worker.says.append(AttemptSucceeded(attempt, TaskOutput(DIGEST, 0, 0), COUNTERS))
                done += 1
            worker.running.clear()
            for launch in timed.launched.pop(stream, ()):
                worker.running[launch.attempt] = None
                worker.says.append(AttemptStarted(launch.attempt))
            timed.advance(worker.up())
        for _ in range(TICKS_PER_ROUND):
            timed.advance(Ticked())
    return submit_s, timed.cpu_s, timed.events


def reference() -> float:
    """Microseconds of a fixed piece of plain Python, about as much as a task should cost."""
    began = time.process_time()
    for _ in range(1000):
        counts: dict[tuple[str, int], int] = {}
        for number in range(200):
            key = ("k", number % 50)
            counts[key] = counts.get(key, 0) + 1
    return (time.process_time() - began) * 1e6 / 1000


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or SIZES
    print(f"{WORKERS} workers of {SLOTS} slots; reference loop {reference():.1f} us")
    print("tasks     submit us/task   advance us/task   events/task")
    for tasks in sizes:
        gc.collect()
        submit_s, cpu_s, events = play(tasks)
        print(f"{tasks:<10,}{submit_s / tasks * 1e6:14.1f}{cpu_s / tasks * 1e6:18.1f}{events / tasks:14.2f}")
    print(f"reference loop {reference():.1f} us")


if __name__ == "__main__":
    main()
