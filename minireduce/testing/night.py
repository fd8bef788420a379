"""Run seeds for a whole night: `python -m minireduce.testing.night --events 300_000_000 --processes 8 --state FILE`.

Ranges of seeds go to several processes. What each range came to is added to the state file, one line a range; started
again with the same file, the run goes on behind the last of them. It ends when enough events have happened. The exit
status is 1 if any seed failed, was invalid, or is in the file as such from before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from minireduce.testing.sim import run_seeds

SEEDS_PER_RANGE = 50
RANGES_PER_PROCESS = 20
"""With such a bound the processes of a pool are started afresh, not forked from one that may have threads."""

Result = dict[str, Any]


def run_range(first: int, seeds: int) -> Result:
    """What came of a range of seeds."""
    summary = run_seeds(range(first, first + seeds))
    failed = [f"seed {outcome.seed}: {outcome.error}" for outcome in summary.failed]
    failed += [f"seed {seed}: invalid" for seed in summary.invalid]
    return {
        "first": first,
        "seeds": seeds,
        "events": summary.events,
        "hours": summary.simulated_s / 3600,
        "failed": failed,
    }


def read_state(path: Path) -> list[Result]:
    """The ranges that are done. A line that an interrupted run left unfinished does not count."""
    results = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            results.append(json.loads(line))
        except ValueError:
            continue
    return results


def ranges_left(done: list[Result], seeds: int) -> Iterator[int]:
    """Where ranges begin that are not done, without end."""
    known = {result["first"] for result in done}
    first = 0
    while True:
        if first not in known:
            yield first
        first += seeds


def run_night(path: Path, *, events_min: int, processes: int, seeds: int = SEEDS_PER_RANGE) -> list[Result]:
    """Go on until `events_min` events are in the state file; gives back all that is in it."""
    done = read_state(path)
    left = ranges_left(done, seeds)
    running: set[Future[Result]] = set()
    with ProcessPoolExecutor(processes, max_tasks_per_child=RANGES_PER_PROCESS) as pool, path.open("a") as state:
        if path.stat().st_size:
            state.write("\n")  # whatever an interrupted run left unfinished ends here
        while sum(result["events"] for result in done) < events_min:
            while len(running) < processes:
                running.add(pool.submit(run_range, next(left), seeds))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done.append(future.result())
                state.write(json.dumps(done[-1]) + "\n")
                state.flush()
        for future in running:
            future.cancel()
    return done


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m minireduce.testing.night", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=300_000_000, help="so many, with those in the state file")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--state", type=Path, default=Path("night.jsonl"), help="where to go on, and what came of it")
    options = parser.parse_args(arguments)
    done = run_night(options.state, events_min=options.events, processes=options.processes)
    events, hours = sum(result["events"] for result in done), sum(result["hours"] for result in done)
    failed = [line for result in done for line in result["failed"]]
    sys.stdout.write(f"{sum(result['seeds'] for result in done)} seeds, {events} events, {hours:.1f} simulated hours\n")
    sys.stdout.writelines(f"{line}\n" for line in failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
