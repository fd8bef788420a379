"""Where the time of a small job goes: the parts of an embedded run, in wall and CPU time, beside the whole commands.

Imports are those of each process alone, less the start of a Python that does nothing. The parts of a run are taken in
this process, which does what `minireduce submit` does: it starts master and worker, waits until the one serves and the
other has joined (the zygote starts with the worker), runs a job, runs it once more now that a task process is warm, and
ends. CPU time of a whole command is that of all its processes. The budget for each part stands in docs/start.md.

    python bench/start.py [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from minireduce import Job, Sum
from minireduce.launch.embedded import EmbeddedCluster

JOB = Path(__file__).resolve().parent.parent / "jobs" / "wordcount.py"
IMPORTS = {
    "import of the client": "minireduce.cli.submit, minireduce.launch.submission, minireduce.client.publish",
    "import of the master": "minireduce.launch.master_serving, minireduce.master.server",
    "import of the worker": "minireduce.launch.worker_serving, minireduce.worker.whole",
    "import of both, as their one process does": (
        "minireduce.launch.master_serving, minireduce.master.server, "
        "minireduce.launch.worker_serving, minireduce.worker.whole, minireduce.wire.methods"
    ),
    "import of the zygote": "minireduce.attempt.zygote, minireduce.attempt.task, numpy, pyarrow, cloudpickle",
}

Figures = dict[str, list[tuple[float, float | None]]]
"""Wall and CPU milliseconds of each round, by part."""


def words(line: str) -> list[tuple[str, int]]:
    return [(word, 1) for word in line.split()]


def command(arguments: list[str]) -> tuple[float, float]:
    """Wall and CPU milliseconds of a command and of all that it waits for."""
    before, began_s = os.times(), time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - began_s, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s * 1e3, cpu_s * 1e3


def parts_of_a_run(text: Path, figures: Figures) -> None:
    """One embedded run, taken apart."""
    began_s = last_s = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal last_s
        now_s = time.perf_counter()
        figures.setdefault(part, []).append(((now_s - last_s) * 1e3, None))
        last_s = now_s

    cluster = EmbeddedCluster(slots=2)
    lap("processes started")
    assert cluster.address
    lap("master serves, worker has joined")
    job = Job(words, Sum())
    job.run(str(text), master=cluster).close()
    lap("first job")
    job.run(str(text), master=cluster).close()
    lap("second job, all warm")
    cluster.close()
    lap("end")
    figures.setdefault("all of it", []).append(((last_s - began_s) * 1e3, None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds: int = parser.parse_args().rounds
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode; so has a source tree then
    minireduce = str(Path(sys.executable).with_name("minireduce"))
    python = sys.executable
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "kilobyte.txt")
        text.write_bytes((b"the quick brown fox jumps over the lazy dog\n" * 24)[:1024])
        commands: dict[str, list[str]] = {
            "python -c pass": [python, "-c", "pass"],
            **{part: [python, "-c", f"import gc; gc.disable(); import {modules}"] for part, modules in IMPORTS.items()},
            "minireduce --help": [minireduce, "--help"],
            "minireduce submit --inline": [minireduce, "submit", str(JOB), str(text), "-q", "--inline"],
            "minireduce submit": [minireduce, "submit", str(JOB), str(text), "-q"],
        }
        acts: list[Callable[[], None]] = [lambda: parts_of_a_run(text, figures)]
        for name, arguments in commands.items():
            acts.append(lambda name=name, arguments=arguments: figures.setdefault(name, []).append(command(arguments)))  # type: ignore[misc]
        for number in range(rounds + 1):
            if number == 1:
                figures.clear()  # the first round fills caches
            for act in acts:
                act()
    bare_wall, bare_cpu = (
        statistics.median(row[place] or 0.0 for row in figures["python -c pass"]) for place in (0, 1)
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {rounds}\n")
    print("| part | wall ms | CPU ms |\n|---|---|---|")
    for name, rows in figures.items():
        wall = statistics.median(row[0] for row in rows) - (bare_wall if name in IMPORTS else 0)
        cpus = [row[1] for row in rows if row[1] is not None]
        cpu = f"{statistics.median(cpus) - (bare_cpu if name in IMPORTS else 0):.0f}" if cpus else ""
        print(f"| {name} | {wall:.0f} | {cpu} |")


if __name__ == "__main__":
    main()
