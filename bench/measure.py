"""Time whole commands in alternation, and take the peak memory of their process trees.

The memory of a tree is the sum over its processes, each of which the kernel walks through page by page for it. Twenty
looks a second took 16 % of a core that the command wanted (0.9 s in 6, five processes of 470 MiB), the more the more
processes it has. So each command runs once to be watched and not timed, and then to be timed and not watched.
"""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_INTERVAL_S = 0.05


@dataclass
class Contender:
    """A command and its runs. `check` is called after each run and raises when the output is wrong."""

    name: str
    command: list[str]
    prepare: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None
    env: dict[str, str] | None = None
    wall_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def run_in_turn(contenders: list[Contender], rounds: int, log: Path) -> None:
    """A round that warms caches and is watched, then `rounds` rounds of A B C A B C that are timed."""
    for number in range(rounds + 1):
        for contender in contenders:
            contender.prepare()
            if number:
                contender.wall_s.append(_timed_s(contender, log))
                said = f"{contender.wall_s[-1]:.2f} s"
            else:
                contender.peak_bytes = _watched_bytes(contender, log)
                said = f"{contender.peak_bytes / 2**20:.0f} MiB"
            contender.check()
            print(f"  round {number}: {contender.name} {said}", flush=True)


def table(contenders: list[Contender], base: str) -> str:
    """Medians, spread and ratios to `base`, as Markdown."""
    median = {c.name: statistics.median(c.wall_s) for c in contenders}
    lines = ["| what | median s | min to max s | peak MiB | times as long as ours |", "|---|---|---|---|---|"]
    for c in contenders:
        ratio = median[c.name] / median[base]
        spread = f"{min(c.wall_s):.2f} to {max(c.wall_s):.2f}"
        lines.append(f"| {c.name} | {median[c.name]:.2f} | {spread} | {c.peak_bytes / 2**20:.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def _timed_s(contender: Contender, log: Path) -> float:
    """The seconds that the command takes while nobody looks."""
    with log.open("ab") as out:
        started = time.perf_counter()
        status = subprocess.run(contender.command, stdout=out, stderr=out, env=contender.env, check=False).returncode
        wall_s = time.perf_counter() - started
    _must_be_well(contender, status, log)
    return wall_s


def _watched_bytes(contender: Contender, log: Path) -> int:
    """The most memory that the command and all its processes held together."""
    with log.open("ab") as out:
        process = subprocess.Popen(contender.command, stdout=out, stderr=out, env=contender.env)
        peak = _PeakMemory(process.pid)
        peak.start()
        status = process.wait()
        peak.finished.set()
        peak.join()
    _must_be_well(contender, status, log)
    return peak.bytes_max


def _must_be_well(contender: Contender, status: int, log: Path) -> None:
    if status:
        raise SystemExit(f"{contender.name} ended with {status}; see {log}")


class _PeakMemory(threading.Thread):
    """Samples the sum of proportional set sizes over the tree, so that shared pages count once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.finished = threading.Event()
        self.bytes_max = 0
        self._pid = pid

    def run(self) -> None:
        while not self.finished.wait(SAMPLE_INTERVAL_S):
            self.bytes_max = max(self.bytes_max, _tree_bytes(self._pid))


def _tree_bytes(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(_pss_bytes(process.pid) for process in family)


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return 0
