"""How many maps run on a machine of their data: 100 workers in 5 racks, 3 replicas, a busy cluster of several jobs.

The real `ClusterState` decides, on simulated time, so a run is the same each time and takes seconds. Three large jobs
share the slots, and a small one of 5 to 50 maps comes every four seconds. Maps take 5 to 15 s, half as long again away
from their machine. Printed for bounded waits as set, for none, and beside it what fell on small jobs alone.

    python bench/locality.py
"""

from __future__ import annotations

import random
import time

from played import PlayedCluster, PlayedWorker, map_only

from minireduce.core.effects import Row
from minireduce.core.messages import LaunchAttempt
from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import JobSpec, StoredRange

WORKERS, RACKS, SLOTS = 100, 5, 4
LARGE = (2000, 1500, 1000)
SMALL = 40
BLOCK_BYTES = 64 << 20
LEVELS = ("DATA_LOCAL_MAPS", "RACK_LOCAL_MAPS", "OTHER_LOCAL_MAPS")


def main() -> None:
    default = ClusterSettings()
    waits = (default.locality_wait_node_s, default.locality_wait_rack_s)
    print(
        f"{WORKERS} workers of {SLOTS} slots in {RACKS} racks, 3 replicas, {sum(LARGE):,} maps and {SMALL} small jobs"
    )
    for node_s, rack_s in (waits, (0.0, 0.0)):
        play(node_s, rack_s)


def play(node_s: float, rack_s: float) -> None:
    rng = random.Random(7)
    names = [f"w{number}" for number in range(WORKERS)]
    rack_of = {name: f"/rack{number % RACKS}" for number, name in enumerate(names)}
    sizes = [*LARGE, *(rng.randint(5, 50) for _ in range(SMALL))]
    rows: list[Row] = []
    held: dict[str, list[Replica]] = {name: [] for name in names}
    holders: dict[tuple[str, int], set[str]] = {}
    specs: list[JobSpec] = []
    block = 0
    for number, maps in enumerate(sizes):
        inode, path = 100 + number, f"/f{number}"
        values = (1, path[1:], "file", 0.0, maps * BLOCK_BYTES, BLOCK_BYTES, 3, "", 0o644)
        rows.append(Row("inodes", (inode,), values))
        for position in range(maps):
            block += 1
            rows.append(Row("blocks", (block,), (inode, position, 1, BLOCK_BYTES, 1)))
            homes = choose_homes(names, rack_of, rng)
            holders[path, position * BLOCK_BYTES] = set(homes)
            for home in homes:
                held[home].append(Replica(block, 1, BLOCK_BYTES))
        splits = (StoredRange(path, inode, position * BLOCK_BYTES, BLOCK_BYTES) for position in range(maps))
        specs.append(map_only(f"job{number}", splits))
    rows.append(Row("settings", ("block_id",), ("1000000",)))

    slow: dict[object, bool] = {}

    def launched(command: LaunchAttempt, worker: PlayedWorker) -> None:
        stored = command.input
        slow[command.attempt] = worker.name not in holders[stored.path, stored.offset]  # type: ignore[union-attr]

    cluster = PlayedCluster(
        ClusterSettings(locality_wait_node_s=node_s, locality_wait_rack_s=rack_s),
        rows,
        duration_s=lambda attempt, _: rng.uniform(5, 15) * (1.5 if slow[attempt] else 1.0),
        on_launch=launched,
    )
    began = time.process_time()
    cluster.join(
        PlayedWorker(name, rack_of[name], SLOTS, stream + 1, tuple(held[name])) for stream, name in enumerate(names)
    )
    for spec in specs[: len(LARGE)]:
        cluster.submit(spec)
    later = {2.0 + 4.0 * number: spec for number, spec in enumerate(specs[len(LARGE) :])}

    cluster.run(lambda: len(cluster.done) == sum(sizes), later)
    counts = [
        {name: value for _, name, value in view.counters if name in LEVELS}
        for view in cluster.machine.views.jobs(cluster.now)
    ]
    print(
        f"\nwaits {node_s:g} + {rack_s:g} s: {cluster.now:.0f} s simulated, {time.process_time() - began:.1f} s of CPU"
    )
    for title, chosen in (("all jobs", counts), ("small jobs", counts[len(LARGE) :])):
        total = sum(sum(each.values()) for each in chosen)
        shares = {level: sum(each.get(level, 0) for each in chosen) / total for level in LEVELS}
        print(f"  {title:<11}{total:6,} maps:" + "".join(f"  {level} {share:.1%}" for level, share in shares.items()))


def choose_homes(names: list[str], rack_of: dict[str, str], rng: random.Random) -> list[str]:
    """One replica anywhere, two more in one other rack, as the block store places them."""
    first = rng.choice(names)
    second = rng.choice([name for name in names if rack_of[name] != rack_of[first]])
    third = rng.choice([name for name in names if rack_of[name] == rack_of[second] and name != second])
    return [first, second, third]


if __name__ == "__main__":
    main()
