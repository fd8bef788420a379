"""The same work on minireduce and on its peers, in one run: whole commands in alternation, then the warm time of each.

`python bench/peers/run.py --write` writes `bench/RESULTS.md`, `bench/RESULTS.svg` and `bench/results.json`. Every run
holds its times against those of `results.json` and says what became slower or faster beyond the spread of both.

Before they are timed, all do their work once while their memory is watched. Each output is compared: line by line with
the first one's, whatever their order; a sorted one for itself, as `valsort` does. A wrong output ends the run. What is
not at hand is skipped, loudly, and the results say so. Warm times are taken of those whose whole command is short: what
is long does not become another by the start that it saves.

A run of hours that was broken off goes on with `--resume`, which keeps what `results.json` has of the same scale.

`--quick` does all of it once, on small inputs, to see that it works; `--scale` makes inputs larger or smaller.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import gensort
import hadoop
import report
from measure import Contender, run_in_turn
from report import Rows, Run
from works import OURS, PEERS, SLOTS, WORKS, Peer, Work, text

WARM_COMMAND_S_MAX = 20.0
EMPTY_TASKS = 20_000


def main() -> None:
    options = _options()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode; so have our sources then
    os.environ |= {
        hadoop.FOLDER: str(folder),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    began_s = time.monotonic()
    written_last = report.read(HERE.parent / "results.json")
    run = _begun(options, written_last)
    minutes_before = run.minutes
    wanted = [peer for peer in PEERS if options.peers is None or peer.title in options.peers]
    missing = {peer.title: peer.missing(folder) for peer in wanted}
    run.skipped = [f"{title}: {why}" for title, why in missing.items() if why]
    run.skipped += _missing_jobs(options.works)
    for each in run.skipped:
        print(f"SKIPPED {each}", flush=True)
    peers = [peer for peer in wanted if not missing[peer.title]]
    print("── limits of this machine", flush=True)
    run.limits = run.limits or _limits(folder, options.scale, options.rounds)
    wished = [work for work in WORKS if work.name in options.works]
    for place, work in enumerate(wished):
        if work.title in run.works:
            continue
        _measure(run, work, peers, folder, options)
        run.minutes = minutes_before + (time.monotonic() - began_s) / 60
        _write(run, options, [*(later.title for later in wished[place + 1 :]), "null job", "empty tasks"])
    if "null" in options.works:
        run.null = _null(options)
    if "empty" in options.works:
        run.empty = _empty(options)
    run.minutes = minutes_before + (time.monotonic() - began_s) / 60
    written = report.markdown(run)
    print(written)
    for line in report.compare(run, written_last):
        print(line)
    _write(run, options, [])


def _begun(options: argparse.Namespace, written_last: Run | None) -> Run:
    """A new run, or the one that was broken off."""
    if not options.resume or written_last is None:
        return Run(options.scale, options.rounds, options.warm_rounds, load=os.getloadavg()[0])
    if (written_last.scale, written_last.rounds) != (options.scale, options.rounds):
        sys.exit(f"the last run was of scale {written_last.scale:g} and {written_last.rounds} rounds: go on with these")
    return copy.deepcopy(written_last)


def _write(run: Run, options: argparse.Namespace, missing: list[str]) -> None:
    """Write down what is known so far, so that a run of hours that is broken off leaves what it has measured."""
    if not options.write:
        return
    so_far = replace(
        run, skipped=[*run.skipped, *(f"{title}: not reached before this was written" for title in missing)]
    )
    (HERE.parent / "RESULTS.md").write_text(report.markdown(so_far), encoding="utf-8")
    (HERE.parent / "RESULTS.svg").write_text(report.plot(so_far), encoding="utf-8")
    (HERE.parent / "results.json").write_text(report.as_json(so_far), encoding="utf-8")


def _options() -> argparse.Namespace:
    names = [*(work.name for work in WORKS), "null", "empty"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--works", nargs="*", default=names, choices=names)
    parser.add_argument("--peers", nargs="*", help="titles; all that are installed unless given")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    parser.add_argument("--resume", action="store_true", help="go on with what results.json has")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md, RESULTS.svg and results.json")
    parser.add_argument("--quick", action="store_true", help="one round at a sixteenth of the size")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.warm_rounds, options.scale = 1, 1, 1 / 16
    return options


def _missing_jobs(works: list[str]) -> list[str]:
    lanes = [(work, lane, path) for work in WORKS if work.name in works for lane, path in work.lanes.items()]
    return [f"{OURS}{lane}, {work.title}: there is no {path.name}" for work, lane, path in lanes if not path.exists()]


def _limits(folder: Path, scale: float, rounds: int) -> dict[str, float]:
    source = text(folder, 256 * scale)
    command = [sys.executable, str(HERE.parent / "limits.py"), str(source), "--json", "--rounds", str(rounds)]
    limits: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return limits


def _measure(run: Run, work: Work, peers: list[Peer], folder: Path, options: argparse.Namespace) -> None:
    """All who can do this work, in alternation."""
    peers = [peer for peer in peers if work.name in peer.works]
    mebibytes = work.mebibytes * options.scale
    print(f"── {work.title}, {mebibytes:g} MiB", flush=True)
    lanes = [lane for lane, path in work.lanes.items() if path.exists()]
    source = work.make_input(folder, mebibytes)
    checked = _Checked(work, source)
    timed = [_contender(OURS + lane, _ours(work, lane, source), folder, checked) for lane in lanes]
    timed += [_contender(peer.title, _script(peer.script, work.name, source), folder, checked) for peer in peers]
    run_in_turn(timed, options.rounds, folder / "log")
    rows: Rows = {one.name: report.row(one) for one in timed}
    scripts = {OURS + lane: ("ours.py", work.name + lane) for lane in lanes}
    scripts |= {peer.title: (peer.script, work.name) for peer in peers if peer.has_warm}
    for name, (script, named) in scripts.items():
        if options.warm_rounds and rows[name]["s"] <= WARM_COMMAND_S_MAX * max(options.scale, 1):
            command = [*_script(script, named, source), "--warm", str(options.warm_rounds)]
            took = _warm_s(command, folder / _folder_of(name))
            if not took:
                run.skipped.append(f"{name}, {work.title}: its warm time, since it failed")
                continue
            rows[name] |= {"warm_s": statistics.median(took), "warm_s_min": min(took), "warm_s_max": max(took)}
            print(f"  warm: {name} {rows[name]['warm_s']:.2f} s", flush=True)
    run.works[work.title] = {"mebibytes": mebibytes, "rows": rows}


def _ours(work: Work, lane: str, source: Path) -> list[str]:
    if work.is_program:
        return _script("ours.py", work.name + lane, source)
    submit = [str(Path(sys.executable).with_name("minireduce")), "submit", str(work.lanes[lane])]
    submit += [f"{name}={source / name}.txt" for name in work.inputs] or [str(source)]
    reducers = ("--reducers", str(work.reducers)) if work.reducers else ()
    return [*submit, "-o", "OUTPUT", "--slots", str(SLOTS), "-q", *reducers]


def _script(script: str, work: str, source: Path) -> list[str]:
    return [sys.executable, str(HERE / script), work, str(source), "OUTPUT", str(SLOTS)]


def _folder_of(title: str) -> str:
    return title.replace(" ", "-")


def _contender(title: str, command: list[str], folder: Path, checked: _Checked) -> Contender:
    output = folder / _folder_of(title)
    return Contender(
        title,
        [argument.replace("OUTPUT", str(output)) for argument in command],
        lambda: shutil.rmtree(output, ignore_errors=True),
        lambda: checked.check(title, output),
        dict(os.environ),
    )


class _Checked:
    """Holds each output against the first one, or a sorted one against its input."""

    def __init__(self, work: Work, source: Path) -> None:
        self._first: tuple[str, str] | None = None
        self._input = gensort.check([source]) if work.is_sorted else None

    def check(self, title: str, output: Path) -> None:
        if self._input is not None:
            found = gensort.check(_parts(output))
            if found.unordered is not None:
                sys.exit(f"record {found.unordered} of {title} in {output} is not in order")
            if (found.records, found.checksum) != (self._input.records, self._input.checksum):
                sys.exit(f"the records of {title} in {output} are not those of the input")
            return
        digest = _digest(output)
        self._first = self._first or (title, digest)
        if digest != self._first[1]:
            sys.exit(f"the output of {title} in {output} differs from that of {self._first[0]}")


def _digest(output: Path) -> str:
    lines = sorted(line for part in _parts(output) for line in part.read_bytes().splitlines())
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _parts(output: Path) -> Iterator[Path]:
    return (path for path in sorted(output.rglob("part-*")) if not path.name.endswith(".crc"))


def _warm_s(command: list[str], output: Path) -> list[float]:
    shutil.rmtree(output, ignore_errors=True)
    command = [argument.replace("OUTPUT", str(output)) for argument in command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}", flush=True)
        return []  # the hours before are not thrown away for it
    return [float(seconds) for seconds in done.stdout.rsplit("seconds ", 1)[1].split()]


def _null(options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    print("── a job that does nothing", flush=True)
    rounds = "20" if options.quick else "200"
    command = [sys.executable, str(HERE.parent / "null_job.py"), "--json", "--rounds", rounds]
    found: dict[str, tuple[float, float]] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return found


def _empty(options: argparse.Namespace) -> dict[str, float]:
    print("── empty tasks", flush=True)
    tasks = str(int(EMPTY_TASKS * (0.1 if options.quick else 1)))
    command = [sys.executable, str(HERE.parent / "empty_tasks.py"), "--tasks", tasks, "--rounds", str(options.rounds)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rates = re.findall(r"^(\w+)[ \d.]*: ([\d,]+) tasks/s", said, re.MULTILINE)
    return {name: float(rate.replace(",", "")) for name, rate in rates}


if __name__ == "__main__":
    main()
