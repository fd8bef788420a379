"""Whole situations as text: what was done, and all that followed, on one page that a person can check.

Each file beside this one says in its first lines what it shows; then come the orders, indented, and after `----` the
trace that the real machines must give for them, to the letter. When a change of the machines changes traces on purpose:

    MINIREDUCE_UPDATE_SCENARIOS=1 pytest tests/scenarios

writes the new ones, and the difference is read like any other change. Orders:

    cluster workers=N [slots=N] [task_s=S] [absent=WORKER,...] [queue=NAME:WEIGHT:SLOTS_MAX] [SETTING=NUMBER]...
            [memory_mib_of_WORKER=N] [rack_of_WORKER=RACK]
                                              at the start; every task takes one second, every message 5 ms
    submit NAME splits=N reducers=N[,N...] [failing=TASK:TIMES] [wavering=TASK] [failing_on=WORKER]
            [memory_mib=N] [queue=NAME] [priority=N] [weight=N] [time_limit_s=N] [backups=yes: stragglers get some]
            [result=yes] [bad=TASK:RECORD:raises|crashes|wavers,...: each word is a record then] [skip=N]
    submit NAME again                         another client with the same key
    until SENTENCE                            let things happen until the trace has a new line that ends so
    wait SECONDS
    kill WORKER [disk=lost] | kill master | start WORKER | start master | pause WORKER | resume WORKER
    stop WORKER                               in good order, as SIGTERM does
    drain WORKER | undrain WORKER             as `minireduce cluster drain` asks
    slow WORKER TIMES                         what it starts from now on takes so many times as long
    lose OUTPUT on WORKER                     such as: lose map 1 on worker-2
    cut FROM TO SECONDS                       one way
    look NAME                                 ask how a job is, or how far a draining worker is
    end                                       until each client has seen the end of its job, which is then judged
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import pytest

from minireduce.core.requests import DrainWorker
from minireduce.core.settings import ClusterSettings, QueueSettings
from minireduce.core.spec import DEFAULT_QUEUE
from minireduce.core.worker import StopRequested
from minireduce.testing import tell
from minireduce.testing.cluster import SimCluster
from minireduce.testing.faults import Left, Plan
from minireduce.testing.network import Weather
from minireduce.testing.worker import WorkerShape
from minireduce.testing.workload import BadLine, How, SimJob

HERE = Path(__file__).parent
RULE = "----\n"
QUIET_S = 30.0
TEXTS = ("the map of maps", "the key and the value", "sort and merge", "a map", "of the key", "value")


class Situation:
    """One scenario under way."""

    def __init__(self, options: dict[str, str]) -> None:
        even = Plan(Weather(delay_s=(0.005, 0.005)), (), 0.0)
        names = [f"worker-{number}" for number in range(1, int(options.pop("workers")) + 1)]
        slots, task_s = int(options.pop("slots", 1)), float(options.pop("task_s", 1.0))
        memory_bytes = {name: int(options.pop(f"memory_mib_of_{name}", 1024)) << 20 for name in names}
        racks = {name: options.pop(f"rack_of_{name}", "/default") for name in names}
        absent = options.pop("absent", "").split(",")
        queue = options.pop("queue", "default:1:0").split(":")
        queues = (QueueSettings(DEFAULT_QUEUE), QueueSettings(queue[0], float(queue[1]), int(queue[2])))[-2:]
        self.cluster = SimCluster(
            0,
            workers=[WorkerShape(slots, racks[name], memory_bytes[name]) for name in names],
            plan=even,
            is_told=True,
            map_s=(task_s, task_s),
            cluster_settings=ClusterSettings(queues=queues, **{name: float(text) for name, text in options.items()}),
            absent=absent,
        )
        self.jobs: dict[str, SimJob] = {}

    def obey(self, order: str) -> None:
        verb, _, rest = order.partition(" ")
        orders: dict[str, Callable[[str], None]] = {
            "submit": self.submit,
            "until": self.until,
            "wait": lambda seconds: self.cluster.run_for(float(seconds)),
            "kill": self.kill,
            "start": self.start,
            "pause": lambda name: self.cluster.world.agenda.pause(self.cluster.workers[name].node),
            "resume": lambda name: self.cluster.world.agenda.resume(self.cluster.workers[name].node),
            "stop": lambda name: self.cluster.workers[name].handle(StopRequested()),
            "drain": lambda name: self.drain(name, is_draining=True),
            "undrain": lambda name: self.drain(name, is_draining=False),
            "slow": self.slow,
            "lose": self.lose,
            "cut": self.cut,
            "look": self.look,
            "end": self.end,
        }
        orders[verb](rest)

    def submit(self, rest: str) -> None:
        name, *words = rest.split()
        if words != ["again"]:
            options = options_of(words)
            reducers = tuple(int(count) for count in options["reducers"].split(","))
            task, _, times = options.get("failing", "s0_m0:0").partition(":")
            texts = tuple(islice(cycle(TEXTS), int(options["splits"])))
            bad = [line.split(":") for line in options["bad"].split(",")] if "bad" in options else []
            if bad:
                texts = tuple(text.replace(" ", "\n") for text in texts)
            wavering = tuple(options["wavering"].split(",")) if "wavering" in options else ()
            self.jobs[name] = SimJob(
                name,
                texts,
                reducers,
                ((task, int(times)),),
                wavering=wavering,
                failing_on=options.get("failing_on", ""),
                memory_bytes=int(options.get("memory_mib", 1)) << 20,
                queue=options.get("queue", DEFAULT_QUEUE),
                priority=int(options.get("priority", 0)),
                weight=float(options.get("weight", 1)),
                time_limit_s=float(options.get("time_limit_s", 0)),
                speculation=options.get("backups") == "yes",
                is_result="result" in options,
                bad=tuple(BadLine(task, int(position), How(how)) for task, position, how in bad),
                skipped_max=int(options.get("skip", 0)),
            )
        self.cluster.submit(self.jobs[name])

    def until(self, sentence: str) -> None:
        lines = self.cluster.world.trace.lines
        known = len(lines)
        self.cluster.run_until(lambda: any(line.endswith(sentence) for line in lines[known:]), seconds_max=120.0)

    def kill(self, rest: str) -> None:
        name, *words = rest.split()
        if name == "master":
            self.cluster.master.kill("kill -9")
        else:
            left = Left.NOTHING if options_of(words).get("disk") == "lost" else Left.ALL
            self.cluster.workers[name].kill("kill -9", left=left)

    def start(self, name: str) -> None:
        (self.cluster.master if name == "master" else self.cluster.workers[name]).start()

    def drain(self, name: str, *, is_draining: bool) -> None:
        self.cluster.master.on_request(DrainWorker(name, is_draining), lambda _: None)

    def slow(self, rest: str) -> None:
        name, times = rest.split()
        self.cluster.workers[name].slowness = float(times)
        self.cluster.world.trace.tell(name, f"takes {times} times as long from now on")

    def lose(self, rest: str) -> None:
        task, _, name = rest.partition(" on ")
        outputs = self.cluster.workers[name].disk.outputs
        del outputs[next(attempt for attempt in outputs if tell.attempt(attempt) == task)]
        self.cluster.world.trace.tell(name, f"loses the output of {task}")

    def cut(self, rest: str) -> None:
        source, target, seconds = rest.split()
        self.cluster.world.network.cut(source, target, float(seconds))
        self.cluster.world.trace.tell("network", f"carries nothing from {source} to {target} for {seconds} s")

    def look(self, name: str) -> None:
        """What a person who asks is told of a job or a worker."""
        if name in self.cluster.workers:
            worker = self.cluster.master.state.views.worker(name, self.cluster.master.now())
            why = f": {worker.drain.why}" if worker.drain is not None and worker.drain.why else ""
            self.cluster.world.trace.tell("client", f"asks: {name} is {worker.condition}{why}")
            return
        view = next(
            view for view in self.cluster.master.state.views.jobs(self.cluster.master.now()) if view.name == name
        )
        running = sum(counts.running for counts in view.tasks)
        waiting = f"waits for {view.waiting_for}" if view.waiting_for else f"{running} tasks run"
        self.cluster.world.trace.tell("client", f"asks: {name!r} is {view.state}, {waiting}")

    def end(self, _: str) -> None:
        self.cluster.run_to_end(seconds_max=200.0)
        self.cluster.run_for(QUIET_S)
        self.cluster.judge()


def options_of(words: list[str]) -> dict[str, str]:
    return dict(word.split("=") for word in words)


def play(orders: list[str]) -> str:
    """The trace that the orders give."""
    first, *others = orders
    verb, *words = first.split()
    assert verb == "cluster", "a scenario begins with its cluster"
    situation = Situation(options_of(words))
    for order in others:
        situation.obey(order)
    assert others[-1] == "end", "a scenario is judged at its end"
    return situation.cluster.world.trace.text()


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_the_machines_do_what_the_page_says(path: Path) -> None:
    head, _, expected = path.read_text().partition(RULE)
    trace = play([line.strip() for line in head.splitlines() if line.startswith("    ")])
    if os.environ.get("MINIREDUCE_UPDATE_SCENARIOS"):
        path.write_text(head + RULE + trace)
    else:
        assert trace == expected


def test_there_is_a_page_for_each_situation_that_matters() -> None:
    assert len(list(HERE.glob("*.txt"))) >= 20
