"""Time whole commands in alternation, with the peak memory of their process trees."""

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
    peak_bytes: list[int] = field(default_factory=list)


def run_in_turn(contenders: list[Contender], rounds: int, log: Path, *, warm_up: bool = True) -> None:
    """One warm-up round that is not counted, unless that is done already, then `rounds` rounds of A B C A B C."""
    for number in range(0 if warm_up else 1, rounds + 1):
        for contender in contenders:
            contender.prepare()
            wall_s, peak_bytes = _run(contender, log)
            contender.check()
            if number:
                contender.wall_s.append(wall_s)
                contender.peak_bytes.append(peak_bytes)
            print(f"  round {number}: {contender.name} {wall_s:.2f} s, {peak_bytes / 2**20:.0f} MiB", flush=True)


def table(contenders: list[Contender], base: str) -> str:
    """Medians, spread and ratios to `base`, as Markdown."""
    median = {c.name: statistics.median(c.wall_s) for c in contenders}
    lines = ["| what | median s | min to max s | peak MiB | times as long as ours |", "|---|---|---|---|---|"]
    for c in contenders:
        peak = statistics.median(c.peak_bytes) / 2**20
        ratio = median[c.name] / median[base]
        spread = f"{min(c.wall_s):.2f} to {max(c.wall_s):.2f}"
        lines.append(f"| {c.name} | {median[c.name]:.2f} | {spread} | {peak:.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def _run(contender: Contender, log: Path) -> tuple[float, int]:
    with log.open("ab") as out:
        started = time.perf_counter()
        process = subprocess.Popen(contender.command, stdout=out, stderr=out, env=contender.env)
        peak = _PeakMemory(process.pid)
        peak.start()
        status = process.wait()
        wall_s = time.perf_counter() - started
        peak.finished.set()
        peak.join()
    if status:
        raise SystemExit(f"{contender.name} ended with {status}; see {log}")
    return wall_s, peak.bytes_max


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
