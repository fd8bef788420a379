"""Run seeds: `python -m minireduce.testing.sim --seeds 0:300`.

Each seed draws a cluster, jobs, weather and faults, runs them to their end, and is judged. What it prints: how many
seeds held, events and simulated time, how often each fault struck and how often one that was planned found no moment.
A seed that fails is shrunk to the faults and jobs that it needs to fail, and prints the one line that repeats that;
with `--story` that line also prints what happened.

A run proves something only if its faults struck: a seed in which fewer than five did, or of fewer than three kinds, is
invalid, and so is a run of many seeds in which some kind of fault never struck. Neither is green.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import field
from functools import partial

from minireduce.frozen import dataclass
from minireduce.testing.busy import SlotUse
from minireduce.testing.cluster import SimCluster
from minireduce.testing.draw import WHOLE, Cut, build
from minireduce.testing.faults import FaultKind
from minireduce.testing.injector import LATER_S_MAX
from minireduce.testing.shrink import shrink
from minireduce.testing.wrong import Wrong

LIVENESS_S_MAX = 240.0
"""A job must end so soon after the last fault. The jobs of a seed take about 40 s when nothing fails."""

QUIET_S = 30.0
SEEDS_THAT_SHOW_EVERY_FAULT = 75
SEEDS_PER_PROCESS = 100
"""With such a bound the processes of a pool are started afresh, not forked from one that may have threads."""

SHRUNK_MAX = 3
"""So many failing seeds of one run are shrunk; each takes up to a minute."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed. `error` is empty when it held."""

    seed: int
    error: str
    is_invalid: bool
    events: int
    simulated_s: float
    trace: str
    strikes: Counter[str]
    not_struck: Counter[str]
    use: SlotUse
    cut: Cut = WHOLE
    story: str = ""


@dataclass(slots=True)
class Summary:
    """What became of many seeds."""

    seeds: int = 0
    failed: list[Outcome] = field(default_factory=list)
    invalid: list[int] = field(default_factory=list)
    events: int = 0
    simulated_s: float = 0.0
    strikes: Counter[str] = field(default_factory=Counter)
    not_struck: Counter[str] = field(default_factory=Counter)
    use: SlotUse = field(default_factory=SlotUse)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.events += outcome.events
        self.simulated_s += outcome.simulated_s
        self.strikes.update(outcome.strikes)
        self.not_struck.update(outcome.not_struck)
        self.use.add(outcome.use)
        if outcome.error:
            self.failed.append(outcome)
        elif outcome.is_invalid:
            self.invalid.append(outcome.seed)

    @property
    def never_struck(self) -> list[str]:
        """The kinds of faults of which none struck; empty for few seeds, which cannot meet all."""
        if self.seeds < SEEDS_THAT_SHOW_EVERY_FAULT:
            return []
        return [kind for kind in FaultKind if not self.strikes[kind]]

    @property
    def is_green(self) -> bool:
        return not (self.failed or self.invalid or self.never_struck)


def run_seed(seed: int, *, cut: Cut = WHOLE, is_calm: bool = False, is_told: bool = False) -> Outcome:
    """Run one seed to its end and judge it. `is_calm`: as a control, nothing fails but user code."""
    with without_collector():
        return _run_seed(seed, cut, is_calm=is_calm, is_told=is_told)


@contextmanager
def without_collector() -> Iterator[None]:
    """While a seed runs. It makes many objects and little garbage in circles: to look for that costs more than it
    frees.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run_seed(seed: int, cut: Cut, *, is_calm: bool, is_told: bool) -> Outcome:
    cluster, plan = build(seed, cut=cut, is_calm=is_calm, is_told=is_told)
    error = where = ""
    try:
        cluster.run_to_end(seconds_max=plan.heal_s + LATER_S_MAX + LIVENESS_S_MAX)
        if not cluster.injector.is_healed:
            cluster.injector.heal()
        cluster.run_for(QUIET_S)
        cluster.repair()
        cluster.judge()
        if is_calm:
            judge_calm(cluster)
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
        where = traceback.format_exc() if not isinstance(failure, Wrong) else ""
    world = cluster.world
    return Outcome(
        seed=seed,
        error=error,
        is_invalid=cut.is_whole and not is_calm and plan.lacks_strikes,
        events=world.agenda.happened,
        simulated_s=world.clock.now(),
        trace=world.trace.digest,
        strikes=world.strikes,
        not_struck=Counter(str(fault.kind) for fault in plan.faults if not fault.has_struck),
        use=cluster.checker.use,
        cut=cut,
        story=world.trace.text() + where,
    )


def judge_calm(cluster: SimCluster) -> None:
    """When nothing fails but user code, every attempt that was begun counts. Raises Wrong."""
    jobs = [client.job for client in cluster.clients]
    if any(job.is_doomed for job in jobs) or any(client.has_asked_to_kill for client in cluster.clients):
        return
    most = sum(job.tasks_total + sum(times for _, times in job.failing) for job in jobs)
    perhaps = sum(times for job in jobs for task, times in job.failing if task in {line.task for line in job.bad})
    begun = cluster.checker.attempts_begun  # an attempt that looks for bad records goes on where another would fail
    if not most - perhaps <= begun <= most:
        raise Wrong(f"nothing failed but user code, yet {begun} attempts were begun for {most}")


def shrunk(outcome: Outcome) -> Outcome:
    """A failed outcome again, with as little as it needs to fail."""
    cluster, plan = build(outcome.seed)
    cut = shrink(len(plan.faults), cluster.jobs_drawn, lambda cut: bool(run_seed(outcome.seed, cut=cut).error))
    again = run_seed(outcome.seed, cut=cut)
    return again if again.error else outcome


def command_for(seed: int, cut: Cut = WHOLE) -> str:
    """The line that repeats a seed."""
    return f"python -m minireduce.testing.sim --seeds {seed}:{seed + 1}{''.join(_flags(cut))} --story"


def _flags(cut: Cut) -> Iterator[str]:
    for name, kept in (("faults", cut.faults), ("jobs", cut.jobs)):
        if kept is not None:
            yield f" --only-{name} {','.join(map(str, sorted(kept))) or 'none'}"
    if not cut.has_weather:
        yield " --calm-weather"


def report(summary: Summary, wall_s: float) -> str:
    """The end of a run, for people."""
    failed, invalid = len(summary.failed), len(summary.invalid)
    use = summary.use
    given = f"{use.assigned_fraction:.1%} of the slots of live workers were given away"
    lines = [
        f"{summary.seeds} seeds: {summary.seeds - failed - invalid} held, {failed} failed, {invalid} invalid",
        f"{summary.events} events, {summary.simulated_s / 3600:.2f} simulated hours, {wall_s:.1f} s",
        f"while tasks waited, {given}, and in {use.running_fraction:.1%} a process ran",
        "",
        f"{'fault':<46}{'struck':>9}{'found no moment':>18}",
    ]
    kinds = [*FaultKind, *sorted(name for name in summary.strikes if name not in set(FaultKind))]
    lines += [f"{kind:<46}{summary.strikes[kind]:>9}{summary.not_struck[kind] or '':>18}" for kind in kinds]
    lines += [f"never struck, so this run proves nothing about it: {kind}" for kind in summary.never_struck]
    lines += [f"seed {seed} is invalid: too few of its faults struck" for seed in summary.invalid]
    for outcome in summary.failed:
        repeat = command_for(outcome.seed, outcome.cut)
        lines += ["", f"seed {outcome.seed} failed: {outcome.error}", f"  repeat: {repeat}"]
    return "\n".join(lines) + "\n"


def run_seeds(seeds: range, *, cut: Cut = WHOLE, is_told: bool = False, processes: int = 1) -> Summary:
    """Run many seeds, in so many processes. The first that fail are shrunk, unless they are cut down already."""
    summary = Summary()
    for outcome in _outcomes(seeds, cut, processes, is_told=is_told):
        if is_told:
            sys.stdout.write(outcome.story)
        if outcome.error and cut.is_whole and not is_told and len(summary.failed) < SHRUNK_MAX:
            summary.add(shrunk(outcome))
        else:
            summary.add(outcome)
    return summary


def _outcomes(seeds: range, cut: Cut, processes: int, *, is_told: bool) -> Iterator[Outcome]:
    """In the order of the seeds, however many processes share them: a seed's run depends on nothing but the seed."""
    run = partial(run_seed, cut=cut, is_told=is_told)
    if processes == 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(processes, max_tasks_per_child=SEEDS_PER_PROCESS) as pool:
        yield from pool.map(run, seeds)


def parse_numbers(text: str) -> frozenset[int]:
    """`3,7` or `none`."""
    return frozenset() if text == "none" else frozenset(map(int, text.split(",")))


def parse_seeds(text: str) -> range:
    """`A:B`, from A to before B, or one seed."""
    first, _, end = text.partition(":")
    return range(int(first), int(end) if end else int(first) + 1)


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m minireduce.testing.sim", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=parse_seeds, default=range(300), metavar="A:B", help="from A to before B")
    parser.add_argument("--only-faults", type=parse_numbers, metavar="N,N", help="of those planned; or none")
    parser.add_argument("--only-jobs", type=parse_numbers, metavar="N,N", help="of those drawn")
    parser.add_argument("--calm-weather", action="store_true", help="lose, repeat and reorder no message")
    parser.add_argument("--story", action="store_true", help="print what happened")
    parser.add_argument("--hashes", action="store_true", help="print the hash of each seed's trace")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="run so many seeds at a time")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    if options.hashes:
        for seed in options.seeds:
            sys.stdout.write(f"{seed} {run_seed(seed).trace}\n")
        return 0
    cut = Cut(options.only_faults, options.only_jobs, has_weather=not options.calm_weather)
    summary = run_seeds(options.seeds, cut=cut, is_told=options.story, processes=options.processes)
    sys.stdout.write(report(summary, time.perf_counter() - started))
    if not cut.is_whole:
        return 1 if summary.failed else 0
    return 0 if summary.is_green else 1


if __name__ == "__main__":
    sys.exit(main())
