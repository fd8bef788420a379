"""Sort four times as many bytes as one attempt may hold, beside the same sort with memory for all of it.

Whole commands in alternation over the same records (`gensort.py`), two slots, two reducers. Each output is checked.
Beside the time stand what all processes of a command read and wrote, as multiples of the input (the kernel's count of
bytes in calls to read and write, page cache or not, less those of the same command over ten records, which are mostly
modules), and the largest anonymous memory of a task process, beside the limit and the smallest that one was seen with
before it had much to do.

    python bench/beyond_memory.py [--rounds 5] [--limit-mib 64]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from gensort import RECORD_BYTES, Checked, check, make

JOB = Path(__file__).resolve().parent.parent / "jobs" / "terasort.py"
SLOTS = 2
TIMES_THE_LIMIT = 4
SAMPLE_INTERVAL_S = 0.01
TASK_NAME = "minireduce-task"


@dataclass
class Sort:
    """A way to run the command, and what its runs took."""

    name: str
    environment: dict[str, str]
    wall_s: list[float] = field(default_factory=list)
    read_bytes: list[int] = field(default_factory=list)
    written_bytes: list[int] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    idle_bytes: list[int] = field(default_factory=list)

    def run(self, source: Path, output: Path) -> None:
        """Run it once, from a cold start."""
        shutil.rmtree(output, ignore_errors=True)
        command = [sys.executable, "-m", "minireduce.cli", "submit", str(JOB), str(source), "-o", str(output), "-q"]
        read, written = _moved_bytes()
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--slots", str(SLOTS), "--reducers", str(SLOTS)], env={**os.environ, **self.environment}
        )
        memory = _TaskMemory(process.pid)
        memory.start()
        if process.wait():
            sys.exit(f"{self.name} ended with {process.returncode}")
        self.wall_s.append(time.perf_counter() - started)
        memory.ended.set()
        memory.join()
        read_after, written_after = _moved_bytes()
        self.read_bytes.append(read_after - read)
        self.written_bytes.append(written_after - written)
        self.peak_bytes.append(memory.bytes_max)
        self.idle_bytes.append(memory.bytes_min)


class _TaskMemory(threading.Thread):
    """Samples the anonymous memory of task processes, each by itself: the most and the least that was seen."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.bytes_max = 0
        self.bytes_min = 1 << 62
        self._root = psutil.Process(pid)

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_INTERVAL_S):
            try:
                family = [process.pid for process in self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for pid in family:
                self._look(pid)

    def _look(self, pid: int) -> None:
        try:
            lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        except OSError:
            return
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if fields["Name"] == TASK_NAME and "RssAnon" in fields:
            held = int(fields["RssAnon"].split()[0]) << 10
            self.bytes_max, self.bytes_min = max(self.bytes_max, held), min(self.bytes_min, held)


def _moved_bytes() -> tuple[int, int]:
    """What this process and all that it has waited for have read and written, by the kernel's count."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    counted = dict(line.split(": ") for line in lines)
    return int(counted["rchar"]), int(counted["wchar"])


def main() -> None:
    """Make the records, run both in turn, check each output, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-mib", type=int, default=64)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    size_mib = TIMES_THE_LIMIT * asked.limit_mib
    source, few = asked.work / f"beyond-{size_mib}.dat", asked.work / "beyond-few.dat"
    records = (size_mib << 20) // RECORD_BYTES
    for path, count in ((source, records), (few, 10)):
        if not path.exists() or path.stat().st_size != count * RECORD_BYTES:
            make(path, count, ascii=True)
    sorts = [
        Sort("in memory", {}),
        Sort(f"limit {asked.limit_mib} MiB", {"MINIREDUCE_MEMORY_LIMIT": f"{asked.limit_mib}MiB"}),
    ]
    output = asked.work / "beyond-sorted"
    base = Sort("ten records", {})
    base.run(few, output)
    expected = check([source])
    for number in range(asked.rounds):
        for sort in sorts:
            sort.run(source, output)
            _must_be_sorted(sort.name, check(sorted(output.glob("part-*"))), expected)
            print(f"  round {number}: {sort.name} {sort.wall_s[-1]:.2f} s", flush=True)
    shutil.rmtree(output, ignore_errors=True)
    _print(sorts, base, records * RECORD_BYTES, asked.limit_mib << 20)


def _must_be_sorted(name: str, found: Checked, expected: Checked) -> None:
    if found.unordered is not None or (found.records, found.checksum) != (expected.records, expected.checksum):
        sys.exit(f"{name} did not sort: {found}, of {expected}")


def _print(sorts: list[Sort], base: Sort, size_bytes: int, limit_bytes: int) -> None:
    print(f"\n{size_bytes >> 20} MiB, {SLOTS} slots, {len(sorts[0].wall_s)} rounds, {os.cpu_count()} cores\n")
    print("| what | median s | min to max s | times in memory | reads a byte | writes a byte | peak of a task, MiB |")
    print("|---|---|---|---|---|---|---|")
    in_memory_s = statistics.median(sorts[0].wall_s)
    for sort in sorts:
        median_s = statistics.median(sort.wall_s)
        reads = (statistics.median(sort.read_bytes) - base.read_bytes[0]) / size_bytes
        writes = (statistics.median(sort.written_bytes) - base.written_bytes[0]) / size_bytes
        print(
            f"| {sort.name} | {median_s:.2f} | {min(sort.wall_s):.2f} to {max(sort.wall_s):.2f} | "
            f"{median_s / in_memory_s:.2f} | {reads:.2f} | {writes:.2f} | {max(sort.peak_bytes) / 2**20:.0f} |"
        )
    idle_bytes = min(sorts[-1].idle_bytes)
    allowed_bytes = 1.1 * limit_bytes + idle_bytes
    print(
        f"\n110 % of the limit and an idle task's {idle_bytes / 2**20:.0f} MiB: {allowed_bytes / 2**20:.0f} MiB; "
        f"peak {max(sorts[-1].peak_bytes) / allowed_bytes:.2f} of it"
    )


if __name__ == "__main__":
    main()
