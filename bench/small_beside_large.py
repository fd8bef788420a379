"""How long jobs of ten tasks wait beside one of ten thousand, on simulated time: the promise is a second or one task.

The real machines of master and workers with the real codec, in the simulator: `--workers` of five slots each. One job
of `--tasks` maps has all the slots from the start; every two seconds somebody submits a job of ten maps. Maps take half
a second to two seconds, drawn for each. For each small job two waits are taken: from its submission until the first of
its tasks runs, and until the last one does. The limit of the first is the longer of a second and the longest task; the
second also depends on how many slots there are.

Simulated time does not depend on the load of this machine. What is looked at every `LOOK_S` is that much too long at
most.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass

from minireduce.errors import NotFound
from minireduce.testing.client import SimClient
from minireduce.testing.cluster import SimCluster
from minireduce.testing.workload import SimJob

SLOTS = 5
TASK_S = (0.5, 2.0)
SMALL_TASKS = 10
EVERY_S = 2.0
LOOK_S = 0.02
WAIT_S_MAX = max(1.0, TASK_S[1])


@dataclass
class Small:
    """A small job and when it was submitted; from then on, when its first and its last task ran."""

    client: SimClient
    submitted_s: float
    first_s: float | None = None
    last_s: float | None = None

    def look(self, cluster: SimCluster, now: float) -> None:
        """See how many of its tasks run or have run."""
        if not self.client.job_id:
            return
        try:
            tasks = cluster.master.state.views.tasks(self.client.job_id, cluster.master.now())
        except NotFound:
            return
        begun = sum(any(attempt.started_at_s >= 0 for attempt in task.attempts) for task in tasks)
        if begun and self.first_s is None:
            self.first_s = now - self.submitted_s
        if begun == SMALL_TASKS and self.last_s is None:
            self.last_s = now - self.submitted_s


def measure(workers: int, tasks: int, jobs: int, seed: int) -> list[Small]:
    """The small jobs, once each has begun all its tasks while the large one still had some waiting."""
    cluster = SimCluster(seed, workers=workers, slots=SLOTS, map_s=TASK_S)
    large = cluster.submit(SimJob("large", ("a b a",) * tasks, (0,)))
    cluster.run_for(EVERY_S)
    smalls: list[Small] = []
    while len(smalls) < jobs or any(small.last_s is None for small in smalls):
        now = cluster.world.clock.now()
        if len(smalls) < jobs and (not smalls or now - smalls[-1].submitted_s >= EVERY_S):
            client = cluster.submit(SimJob(f"small {len(smalls)}", ("a b a",) * SMALL_TASKS, (0,)))
            smalls.append(Small(client, now))
        cluster.run_for(LOOK_S)
        for small in smalls:
            if small.last_s is None:
                small.look(cluster, cluster.world.clock.now())
    shown = cluster.master.state.views.job(large.job_id, cluster.master.now())
    if shown.state.is_ended:
        sys.exit("the large job ended before the small ones had begun: give it more --tasks")
    return smalls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    smalls = measure(options.workers, options.tasks, options.jobs, options.seed)
    print(
        f"{options.jobs} jobs of {SMALL_TASKS} tasks beside one of {options.tasks:,}, "
        f"{options.workers * SLOTS} slots, tasks of {TASK_S[0]:g} to {TASK_S[1]:g} s, simulated seconds"
    )
    print("\n| wait until | median | 90 % | most | limit |\n|---|---|---|---|---|")
    for name, waits, limit in (
        ("its first task runs", [small.first_s or 0.0 for small in smalls], f"{WAIT_S_MAX:g}"),
        ("all ten run", [small.last_s or 0.0 for small in smalls], ""),
    ):
        parts = statistics.quantiles(waits, n=10)
        print(f"| {name} | {statistics.median(waits):.2f} | {parts[-1]:.2f} | {max(waits):.2f} | {limit} |")


if __name__ == "__main__":
    main()
