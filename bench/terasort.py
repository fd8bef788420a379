"""Sort records of 100 bytes by their first ten, beside GNU sort: CPU and wall time of whole commands, in alternation.

    python bench/terasort.py [--rounds 5] [--megabytes 500]

Everyone sorts the same ASCII records (`gensort.py`), with two slots or threads and the same memory. The parts of each
run are checked: keys ascend through all of them, and they hold the records of the input. CPU time is that of the
command and all its children, so it can be compared on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from gensort import RECORD_BYTES, Checked, check, make

HERE = Path(__file__).resolve().parent
SLOTS = 2


@dataclass
class Sorter:
    """A command that leaves sorted files in `output`, and what its runs took."""

    name: str
    command: list[str]
    output: Path
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Run it once, from a cold start."""
        shutil.rmtree(self.output, ignore_errors=True)
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(self.command, check=True, env={**os.environ, "LC_ALL": "C"})
        self.wall_s.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def found(self) -> Checked:
        """What the output holds."""
        return check(sorted(self.output.glob("part-*")))


def main() -> None:
    """Make the records, run everyone in turn, check each output, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    source = asked.work / f"records-{asked.megabytes}.dat"
    count = asked.megabytes * 1_000_000 // RECORD_BYTES
    if not source.exists() or source.stat().st_size != count * RECORD_BYTES:
        make(source, count, ascii=True)
    expected = check([source])
    sorters = _sorters(asked.work, source)
    for number in range(asked.rounds):
        for sorter in sorters:
            sorter.run()
            found = sorter.found()
            if found.unordered is not None or (found.records, found.checksum) != (expected.records, expected.checksum):
                sys.exit(f"{sorter.name} did not sort: {found}, of {expected}")
            print(
                f"  round {number}: {sorter.name} {sorter.wall_s[-1]:.2f} s, CPU {sorter.cpu_s[-1]:.2f} s", flush=True
            )
    print(f"\n{asked.megabytes} MB, {SLOTS} slots, {asked.rounds} rounds, {os.cpu_count()} cores\n")
    print("| what | median s | median CPU s | CPU as a multiple of ours |\n|---|---|---|---|")
    base = statistics.median(sorters[0].cpu_s)
    for sorter in sorters:
        wall_s, cpu_s = statistics.median(sorter.wall_s), statistics.median(sorter.cpu_s)
        print(f"| {sorter.name} | {wall_s:.2f} | {cpu_s:.2f} | {cpu_s / base:.2f} |")


def _sorters(work: Path, source: Path) -> list[Sorter]:
    ours, theirs = work / "minireduce-sorted", work / "gnu-sorted"
    job = HERE.parent / "jobs" / "terasort.py"
    command = [sys.executable, "-m", "minireduce.cli", "submit", str(job), str(source), "-o", str(ours), "-q"]
    gnu = (
        f"mkdir {theirs} && sort -k1.1,1.10 -s -t $'\\001' --parallel={SLOTS} -S 4G {source} -o {theirs}/part-00000"
        f" && sync {theirs}/part-00000"
    )
    return [
        Sorter("minireduce", [*command, "--slots", str(SLOTS)], ours),
        Sorter("GNU sort", ["bash", "-c", gnu], theirs),
    ]


if __name__ == "__main__":
    main()
