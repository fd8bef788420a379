"""What a run of the bench found: as Markdown, as a plot, as JSON, and beside the run that was written last.

A ratio is a peer's time over ours in the same run: above 1 we are that many times as fast. A time counts as slower or
faster than that of another run when the spreads of the two, least to most, do not touch; since no two runs find the
same machine, how the bare Python loop did in both is said beside it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import chart_bars
from measure import Contender
from works import COLUMNS, OURS, PEERS, SLOTS

LOOP = "bare loop over lines, MB/s"

Row = dict[str, float]
"""Medians and spread: "s", "s_min", "s_max", "peak_mib", and "warm_s", "warm_s_min", "warm_s_max" where there are."""

Rows = dict[str, Row]


@dataclass
class Run:
    """One run. `works` has by title the size of the input and the rows; `skipped` what was not at hand, and why."""

    scale: float
    rounds: int
    warm_rounds: int
    load: float  # of the machine when the run began, this run not included
    minutes: float = 0.0
    limits: dict[str, float] = field(default_factory=dict)
    works: dict[str, dict[str, Any]] = field(default_factory=dict)
    null: dict[str, tuple[float, float]] = field(default_factory=dict)
    empty: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def row(one: Contender) -> Row:
    """The medians of a contender's runs."""
    return {
        "s": statistics.median(one.wall_s),
        "s_min": min(one.wall_s),
        "s_max": max(one.wall_s),
        "peak_mib": one.peak_bytes / 2**20,
    }


def as_json(run: Run) -> str:
    return json.dumps(asdict(run), indent=1) + "\n"


def plot(run: Run) -> str:
    """Whole commands: how many times as fast we are as each, losses in red."""
    groups = []
    for title, work in run.works.items():
        base = _base(work["rows"])["s"]
        rows = sorted(work["rows"].items(), key=lambda entry: entry[1]["s"])
        groups.append((title, [(name, row["s"] / base) for name, row in rows if name != OURS]))
    return chart_bars.draw("Whole command: time of each, times that of minireduce's record lane", groups)


def markdown(run: Run) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _packages(run))
    median = f"medians of {run.rounds} rounds in alternation" if run.rounds > 1 else "one round, so no medians"
    lines = [
        "# The same work on minireduce and on its peers",
        "",
        f"{SLOTS} slots or threads for everyone, the same input, whole commands from a cold start, {median}. Warm: the",
        f"times after the first in one process, median of {run.warm_rounds}. Written output is on disk when the time",
        "ends, and is checked each time. A ratio above 1: minireduce's record lane (or the columnar one, if alone)",
        "is that many times as fast. Peak memory is that of one more run, which is not timed.",
        "",
        f"{os.cpu_count()} cores ({_processor()}), {_memory_gib():.0f} GiB, {platform.system()} {platform.release()},",
        f"CPython {platform.python_version()}; {packages}. Load at the beginning {run.load:.1f}; the run took",
        f"{run.minutes:.0f} minutes at scale {run.scale:g}.",
        "",
        "![Ratios](RESULTS.svg)",
        "",
        "## Limits of this machine in the same run",
        "",
        "| what | figure |",
        "|---|---|",
        *(f"| {name} | {value:,.1f} |" for name, value in run.limits.items()),
        "",
    ]
    for title, work in run.works.items():
        lines += [f"## {title.capitalize()}", "", f"{work['mebibytes']:g} MiB.", "", *_table(work["rows"]), ""]
    if run.null:
        lines += ["## A job that does nothing, on a warm cluster", "", "| what | median ms | 99th of a hundred ms |"]
        lines += ["|---|---|---|"]
        lines += [f"| {name} | {median_ms:.1f} | {high_ms:.1f} |" for name, (median_ms, high_ms) in run.null.items()]
        lines += [""]
    if run.empty:
        lines += ["## Empty tasks, two workers of one slot", "", "| what | tasks/s |", "|---|---|"]
        lines += [*(f"| {name} | {rate:,.0f} |" for name, rate in run.empty.items()), ""]
    lost = list(_losses(run))
    lines += ["## Where others are faster", "", *(lost or ["Nowhere in this run."]), ""]
    if run.skipped:
        lines += ["## Skipped", "", *(f"- {each}" for each in run.skipped), ""]
    return "\n".join(lines)


def read(written: Path) -> Run | None:
    """The run that was written last, if there is one."""
    return Run(**json.loads(written.read_text(encoding="utf-8"))) if written.exists() else None


def compare(run: Run, last: Run | None) -> Iterator[str]:
    """What became slower or faster beyond the spread since the run that was written last."""
    if last is None:
        yield "no results were written before, so there is nothing to compare with"
        return
    loops = run.limits.get(LOOP, 0.0), last.limits.get(LOOP, 0.0)
    if all(loops):
        yield f"against the results written last (the bare loop then {loops[1]:,.0f} MB/s, now {loops[0]:,.0f}):"
    is_same = True
    for title, work in run.works.items():
        before = last.works.get(title)
        if before is None or before["mebibytes"] != work["mebibytes"]:
            yield f"  {title}: not there, or on another size of input, then"
            continue
        for name, now in work["rows"].items():
            then = before["rows"].get(name)
            for what, label in (("s", "whole command"), ("warm_s", "warm")) if then else ():
                if what not in now or what not in then:
                    continue
                word = _change(now, then, what)
                if word:
                    is_same = False
                    yield f"  {title}, {name}, {label}: {word}, {then[what]:.2f} s then, {now[what]:.2f} s now"
    if is_same:
        yield "  nothing became slower or faster beyond the spread"


def _change(now: Row, then: Row, what: str) -> str:
    if now[f"{what}_min"] > then[f"{what}_max"]:
        return "slower"
    return "faster" if now[f"{what}_max"] < then[f"{what}_min"] else ""


def _table(rows: Rows) -> Iterator[str]:
    yield "| what | whole command s | min to max | ratio | warm s | ratio | peak MiB |"
    yield "|---|---|---|---|---|---|---|"
    ours = _base(rows)
    for title, one in sorted(rows.items(), key=lambda entry: entry[1]["s"]):
        warm = f"{one['warm_s']:.2f}" if "warm_s" in one else ""
        ratio = f"{one['warm_s'] / ours['warm_s']:.2f}" if "warm_s" in one and "warm_s" in ours else ""
        spread = f"{one['s_min']:.2f} to {one['s_max']:.2f}"
        name = f"**{title}**" if title.startswith(OURS) else title
        yield (
            f"| {name} | {one['s']:.2f} | {spread} | {one['s'] / ours['s']:.2f} | {warm} | {ratio} "
            f"| {one['peak_mib']:.0f} |"
        )


def _base(rows: Rows) -> Row:
    """What others are held against: our record lane, else our columnar one, else the fastest."""
    return rows.get(OURS) or rows.get(OURS + COLUMNS) or min(rows.values(), key=lambda one: one["s"])


def _losses(run: Run) -> Iterator[str]:
    for title, work in run.works.items():
        rows = work["rows"]
        for what, label in (("s", "whole command"), ("warm_s", "warm")):
            ours = {name: one[what] for name, one in rows.items() if name.startswith(OURS) and what in one}
            if not ours:
                continue
            name, best = min(ours.items(), key=lambda entry: entry[1])
            faster = sorted(
                (best / one[what], peer)
                for peer, one in rows.items()
                if peer not in ours and what in one and one[what] < best
            )
            if faster:
                lane = "columnar lane" if name.endswith(COLUMNS) else "record lane"
                told = ", ".join(f"{peer} {ratio:.1f} times" for ratio, peer in reversed(faster))
                yield f"- {title}, {label} (our {lane}, {best:.2f} s): {told}"


def _packages(run: Run) -> list[str]:
    """Those of the peers that were at hand; who was not asked for may be absent without a word."""
    missing = {each.partition(":")[0] for each in run.skipped}
    packages = dict.fromkeys(peer.package for peer in PEERS if peer.package and peer.title not in missing)
    return ["minireduce", *(package for package in packages if find_spec(package) is not None)]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
