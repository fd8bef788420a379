"""How long a job takes that does nothing, on a cluster that is warm: median and 99th of a hundred of `--rounds`.

One line of text, one map, no pairs, a typed result. The time is that of `Job.run`, in one process that stays:
submission, the task in a process of its own, the end, and the result at hand. Beside it Ray, Dask and PySpark doing
nothing once.

    python bench/null_job.py [--rounds N] [--peers PYTHON] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minireduce import Job, LocalCluster

PEERS = {
    "Ray": (
        "import ray; ray.init(num_cpus=2, include_dashboard=False, logging_level='ERROR', log_to_driver=False)\n"
        "f = ray.remote(lambda: None)\n"
        "def once(): ray.get(f.remote())"
    ),
    "Dask": (
        "import distributed\n"
        "c = distributed.Client(n_workers=1, threads_per_worker=2, dashboard_address=None)\n"
        "def once(): c.submit(id, 1, pure=False).result()"
    ),
    "PySpark RDD": (
        "from pyspark.sql import SparkSession\n"
        "s = SparkSession.builder.master('local[2]').config('spark.ui.enabled', 'false').getOrCreate()\n"
        "s.sparkContext.setLogLevel('ERROR')\n"
        "def once(): s.sparkContext.parallelize([1], 1).flatMap(lambda n: []).collect()"
    ),
}
LOOP = """
import sys, time, json
if __name__ == "__main__":
{begin}
    took = []
    for number in range({warm} + {rounds}):
        began_s = time.perf_counter()
        once()
        took.append(time.perf_counter() - began_s)
    print("took", json.dumps(took[{warm}:]))
"""
WARM = 10


def nothing(line: str) -> list[tuple[str, int]]:
    return []


def ours(rounds: int) -> list[float]:
    took = []
    with tempfile.TemporaryDirectory() as folder, LocalCluster(workers=1, slots=2) as cluster:
        line = Path(folder, "line")
        line.write_text("one line\n")
        job = Job(nothing)
        for _ in range(WARM + rounds):
            began_s = time.perf_counter()
            result = job.run(line, master=cluster)
            took.append(time.perf_counter() - began_s)
            result.close()
    return took[WARM:]


def measure(rounds: int, python: str) -> dict[str, tuple[float, float]]:
    """Median and 99th of a hundred, in milliseconds, by name; peers that are not there are told of and left out."""
    found = {"minireduce": _of(ours(rounds))}
    for name, begin in PEERS.items():
        program = LOOP.format(begin="\n".join("    " + line for line in begin.splitlines()), warm=WARM, rounds=rounds)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "program.py")
            path.write_text(program)
            done = subprocess.run([python, str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            print(f"SKIPPED {name}: {said[-1]}", file=sys.stderr)
        else:
            found[name] = _of(json.loads(done.stdout.rsplit("took ", 1)[1]))
    return found


def _of(took: list[float]) -> tuple[float, float]:
    ordered = sorted(took)
    return ordered[len(ordered) // 2] * 1e3, ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="the Python that has the peers")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds, options.peers)
    if options.json:
        print(json.dumps(found))
        return
    for name, (median_ms, high_ms) in found.items():
        print(f"{name:<16} median {median_ms:8.1f} ms, 99th of a hundred {high_ms:8.1f} ms")


if __name__ == "__main__":
    main()
