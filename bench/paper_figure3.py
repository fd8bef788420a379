"""Figure 3 of the MapReduce paper (OSDI 2004): rates of input, shuffle and output over the time of a large sort.

The master's machine is the real one, `ClusterState`, on simulated time; 1,700 workers are played. The job has the
paper's shape: 10^10 records of 100 bytes, 15,000 maps of 64 MB, 4,000 reduces. Three runs: normal; without backup
attempts; and with 200 workers killed at once and restarted empty, several minutes in.

What is modelled. Each worker has two slots and one disk. A map reads its split and writes as much; a reduce first
gathers its 250 MB, then sorts and writes them. Fetches are modelled for each host and reducer, not for each pair of map
and reduce: a reducer may have fetched of its input as large a share as maps are done, and the reducers of a host share
what the host can fetch. Tasks differ by up to a tenth in speed. Time goes in steps of one second.

The stragglers: some machines fall ill during the run (the paper names disks whose correctable errors bring them from 30
MB/s down to 1). Ten of the 1,700, at random times in the first six minutes, do everything at three tenths of their
speed from then on. The master is told of none of that.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from chart import Curve, Panel, draw

from minireduce.core import cluster as machine
from minireduce.core.compute import map_outputs
from minireduce.core.messages import (
    AttemptKilled,
    AttemptProgressed,
    AttemptStarted,
    AttemptSucceeded,
    DropOutputs,
    Hello,
    KillAttempt,
    LaunchAttempt,
    Report,
    Up,
    WorkerProfile,
)
from minireduce.core.requests import SubmitJob
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import JobSpec, NumberRange, OutputKind, Program, StepSpec
from minireduce.core.task_data import TaskOutput
from minireduce.ids import AttemptId, TaskKind

WORKERS, SLOTS, MAPS, REDUCES = 1700, 2, 15_000, 4000
SPLIT_MB, PARTITION_MB = 64, 250
MAP_MB_PER_S = 3.0  # read by a slot, and as much written
FETCH_MB_PER_S = 6.0  # of a host
WRITE_MB_PER_S = 2.5  # of a host, shared by its reduces
WRITE_MB_PER_S_MAX = 1.75  # of one reduce
ILL, ILL_UNTIL_S, ILL_SPEED = 10, 360, 0.3
KILLED, KILLED_AT_S = 200, 300
HEARTBEAT_S = 5
SETTINGS = ClusterSettings(heartbeat_interval_s=HEARTBEAT_S, worker_lost_s=30.0, resend_after_s=60.0)
map_outputs.ANNOUNCE_INTERVAL_S = 5.0  # seldom, as time goes in whole seconds


@dataclass(slots=True)
class Try:
    """An attempt on its host. `fetched` counts what a reduce has gathered, `done` what it has worked off."""

    attempt: AttemptId
    skill: float
    fetched: float = 0.0
    done: float = 0.0
    is_running: bool = False
    slot_s: int = 0


@dataclass(slots=True)
class Host:
    """A played worker."""

    name: str
    ill_at_s: float
    stream: int = 0
    incarnation: int = 0
    session: int = 0
    sent: int = 0
    heard: int = 0
    running: dict[AttemptId, Try] = field(default_factory=dict)
    gathering: dict[AttemptId, Try] = field(default_factory=dict)
    ready: list[Try] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def speed(self, now: int) -> float:
        return ILL_SPEED if now >= self.ill_at_s else 1.0


@dataclass
class Rates:
    """MB a second, second by second."""

    input: list[float] = field(default_factory=list)
    shuffle: list[float] = field(default_factory=list)
    output: list[float] = field(default_factory=list)


class Run:
    """One run of the sort."""

    def __init__(self, name: str, *, speculation: bool = True, kills: bool = False, seed: int = 7) -> None:
        self.name = name
        self.rates = Rates()
        self.now = 0
        self._kills = kills
        self._rng = random.Random(seed)
        self._streams = 0
        self._by_stream: dict[int, Host] = {}
        ill = set(self._rng.sample(range(WORKERS), ILL))
        self.hosts = [
            Host(f"w{n:04}", self._rng.uniform(0, ILL_UNTIL_S) if n in ill else float("inf")) for n in range(WORKERS)
        ]
        self._maps_done: dict[AttemptId, None] = {}
        self.slot_s_useful = self.slot_s_all = 0
        self.is_over = False
        self.master_cpu_s = 0.0
        self._cluster = machine.ClusterState(
            cluster_id="figure", epoch=1, txid=0, settings=SETTINGS, rows=[], make_read_token=str, now=0.0
        )
        for host in self.hosts:
            self._enter(host)
        spec = JobSpec(
            "sort",
            Program("source", b"", ""),
            (StepSpec(REDUCES, 1 << 20, 600.0),),
            tuple(NumberRange(n * SPLIT_MB << 20, (n + 1) * SPLIT_MB << 20) for n in range(MAPS)),
            OutputKind.RESULT,
            speculation=speculation,
        )
        self._advance(machine.RequestReceived(1, SubmitJob("figure", spec), 0.0))
        while not self.is_over:
            self._second()
        self.counters = {name: value for _, name, value in self._view.counters}

    # ── the master ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, event: machine.Event) -> None:
        began = time.process_time()
        actions = self._cluster.advance(event, float(self.now))
        self.master_cpu_s += time.process_time() - began
        for action in actions:
            match action:
                case machine.SendWelcome(stream, welcome):
                    self._by_stream[stream].session = welcome.session
                case machine.SendDown(stream, down):
                    self._hear(self._by_stream[stream], down)
                case machine.JobChanged(job):
                    self._view = self._cluster.views.job(job, float(self.now))
                    self.is_over = self._view.state.is_ended

    def _enter(self, host: Host) -> None:
        self._streams += 1
        host.stream, host.incarnation = self._streams, host.incarnation + 1
        host.sent = host.heard = 0
        self._by_stream[host.stream] = host
        profile = WorkerProfile(
            host.name, host.incarnation, host.name, "/r", SLOTS, 1 << 40, f"{host.name}:1", host.name, ""
        )
        self._advance(machine.HelloReceived(host.stream, Hello(profile, 0, 0, 0, 0, (), ())))

    def _say(self, host: Host) -> None:
        number = 0
        if host.reports:
            host.sent += 1
            number = host.sent
        reports, host.reports = tuple(host.reports), []
        self._advance(machine.UpReceived(host.stream, Up(host.session, number, host.heard, reports)))

    def _hear(self, host: Host, down: machine.Down) -> None:
        if down.number <= host.heard:
            return
        host.heard = down.number
        for command in down.commands:
            match command:
                case LaunchAttempt(attempt, _):
                    made = Try(attempt, self._rng.uniform(0.9, 1.1))
                    if attempt.task.kind is TaskKind.REDUCE:
                        host.gathering[attempt] = made
                    else:
                        host.ready.append(made)
                case KillAttempt(attempt, _):
                    self._kill(host, attempt)
                case DropOutputs(attempts):
                    for attempt in attempts:
                        self._maps_done.pop(attempt, None)

    def _kill(self, host: Host, attempt: AttemptId) -> None:
        host.gathering.pop(attempt, None)
        host.ready = [each for each in host.ready if each.attempt != attempt]
        ended = host.running.pop(attempt, None)
        if ended is not None:
            self.slot_s_all += ended.slot_s
        host.reports.append(AttemptKilled(attempt))

    # ── the workers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _second(self) -> None:
        self.now += 1
        if self._kills and self.now == KILLED_AT_S:
            self._kill_workers()
        done = [0.0, 0.0, 0.0]
        share_done = len(self._maps_done) / MAPS
        for number, host in enumerate(self.hosts):
            if host.gathering:
                done[1] += self._gather(host, share_done)
            while host.ready and len(host.running) < SLOTS:
                host.ready.sort(key=lambda each: each.attempt.task.kind is TaskKind.MAP)
                started = host.ready.pop(0)
                started.is_running = True
                host.running[started.attempt] = started
                host.reports.append(AttemptStarted(started.attempt))
            if host.running:
                self._work(host, done)
            if host.reports or (self.now + number) % HEARTBEAT_S == 0:
                if (self.now + number) % HEARTBEAT_S == 0:
                    self._report_progress(host)
                self._say(host)
                if self.is_over:
                    break
        self._advance(machine.Ticked())
        for rates, mb in zip((self.rates.input, self.rates.shuffle, self.rates.output), done, strict=True):
            rates.append(mb)

    def _gather(self, host: Host, share_done: float) -> float:
        each_mb = FETCH_MB_PER_S * host.speed(self.now) / len(host.gathering)
        fetched = 0.0
        for each in list(host.gathering.values()):
            mb = max(0.0, min(each_mb, share_done * PARTITION_MB - each.fetched))
            each.fetched += mb
            fetched += mb
            if share_done == 1.0 and each.fetched >= PARTITION_MB - 1e-6:
                del host.gathering[each.attempt]
                host.ready.append(each)
        return fetched

    def _work(self, host: Host, done: list[float]) -> None:
        speed = host.speed(self.now)
        reduces = sum(each.attempt.task.kind is TaskKind.REDUCE for each in host.running.values())
        write_mb = min(WRITE_MB_PER_S / max(reduces, 1), WRITE_MB_PER_S_MAX)
        for each in list(host.running.values()):
            each.slot_s += 1
            is_map = each.attempt.task.kind is TaskKind.MAP
            size = SPLIT_MB if is_map else PARTITION_MB
            rate = (MAP_MB_PER_S / 2 if is_map else write_mb) * speed * each.skill
            mb = min(rate, size - each.done)
            each.done += mb
            done[0 if is_map else 2] += mb
            if each.done >= size - 1e-6:
                self._succeed(host, each, is_map=is_map)

    def _succeed(self, host: Host, each: Try, *, is_map: bool) -> None:
        del host.running[each.attempt]
        self.slot_s_all += each.slot_s
        self.slot_s_useful += each.slot_s
        if is_map:
            self._maps_done[each.attempt] = None
        size_bytes = (SPLIT_MB if is_map else PARTITION_MB) << 20
        output = TaskOutput(b"d", size_bytes, 1)
        host.reports.append(AttemptSucceeded(each.attempt, output, (), size_bytes))

    def _report_progress(self, host: Host) -> None:
        for each in host.running.values():
            size = SPLIT_MB if each.attempt.task.kind is TaskKind.MAP else PARTITION_MB
            host.reports.append(AttemptProgressed(each.attempt, each.done / size, 1, "", size << 20))

    def _kill_workers(self) -> None:
        """All at once, and at once new ones in their place, which have nothing."""
        for host in self._rng.sample(self.hosts, KILLED):
            self.slot_s_all += sum(each.slot_s for each in host.running.values())
            host.running.clear()
            host.gathering.clear()
            host.ready.clear()
            host.reports.clear()
            held = self._cluster._compute.loads[host.name].outputs  # noqa: SLF001 - what its disk held
            for task in list(held.values()):
                if task.winner is not None and task.id.kind is TaskKind.MAP:
                    self._maps_done.pop(task.winner.attempt, None)
            self._enter(host)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/figures/paper_figure3.svg"))
    options = parser.parse_args()
    runs = []
    for name, wishes in (
        ("normal", {}),
        ("without backup attempts", {"speculation": False}),
        (f"{KILLED} workers killed", {"kills": True}),
    ):
        began = time.perf_counter()
        runs.append(Run(name, **wishes))
        sys.stderr.write(f"{name}: {runs[-1].now} s simulated in {time.perf_counter() - began:.0f} s\n")
    print(report(runs))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(plot(runs), encoding="utf-8")
    print(f"\n{options.output}")


def report(runs: list[Run]) -> str:
    """The table and the three figures."""
    normal, without, killed = runs
    lines = [
        "| run | s | backups | of which won | slot time that did not count | CPU of the master s |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        backups = run.counters.get("NUM_BACKUP_MAPS", 0) + run.counters.get("NUM_BACKUP_REDUCES", 0)
        extra = 1 - run.slot_s_useful / run.slot_s_all
        won = run.counters.get("NUM_BACKUPS_WON", 0)
        lines.append(f"| {run.name} | {run.now} | {backups} | {won} | {extra:.1%} | {run.master_cpu_s:.0f} |")
    extra = (normal.slot_s_all - normal.slot_s_useful) / normal.slot_s_useful
    lines += [
        "",
        f"time saved by backups: {1 - normal.now / without.now:.1%}, {without.now / normal.now - 1:.0%} longer without",
        f"cost of {KILLED} of {WORKERS} workers killed at once and restarted empty: {killed.now / normal.now - 1:.1%}",
        f"extra work by backups: {extra:.1%}",
    ]
    return "\n".join(lines)


def plot(runs: list[Run]) -> str:
    """Three panels for each run, as in the paper."""
    until_s = max(run.now for run in runs)
    columns = []
    for run in runs:
        rates = (("input", run.rates.input), ("shuffle", run.rates.shuffle), ("output", run.rates.output))
        columns.append(
            (
                f"{run.name}: {run.now} s",
                [Panel(f"{what}, GB/s", Curve([mb / 1024 for mb in each]), run.now) for what, each in rates],
            )
        )
    return draw(columns, until_s)


if __name__ == "__main__":
    main()
