"""The same work on minireduce and on its peers, in one run: whole commands in alternation, then the warm time of each.

`python bench/peers/run.py --write` writes `bench/RESULTS.md` and `bench/results.json`; every run prints beside its own
times those of `results.json`. Every output is compared with the first one's, line by line, whatever their order; a peer
whose output differs ends the run. A peer that is not installed is skipped, and the results say so.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measure import Contender, run_in_turn
from text_input import make_text

SLOTS = 2
OURS = "minireduce"
PAIRS_PER_MIB = 65_536  # lines of `key number`, about 16 bytes each
FILES = 64


@dataclass(frozen=True)
class Work:
    """One kind of work: its input, and our job for it."""

    name: str
    title: str
    make_input: Callable[[Path, int], Path]
    job: Path
    reducers: int = SLOTS


@dataclass(frozen=True)
class Peer:
    """A peer: the package and the commands that it needs, and the work that it has a script for."""

    title: str
    script: str
    package: str
    works: frozenset[str]
    needs: tuple[str, ...] = ()  # commands that must be there


Rows = dict[str, dict[str, float]]
"""Of each contender its medians: "s", "s_min", "s_max", "peak_mib", and "warm_s" where there is one."""

Results = dict[str, Rows]


def text(folder: Path, mebibytes: int) -> Path:
    path = folder / f"text-{mebibytes}.txt"
    make_text(path, mebibytes << 20)
    return path


def text_files(folder: Path, mebibytes: int) -> Path:
    """The text in files of equal numbers of bytes, cut at lines."""
    target = folder / f"files-{mebibytes}"
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        with text(folder, mebibytes).open("rb") as source:
            for number in range(FILES):
                (part / f"{number:03}.txt").write_bytes(b"".join(source.readlines((mebibytes << 20) // FILES)))
        part.rename(target)
    return target


def pairs(folder: Path, mebibytes: int) -> Path:
    """`key number`, one key for every three lines on average, the same lines every time."""
    path = folder / f"pairs-{mebibytes}.txt"
    if not path.exists():
        lines = mebibytes * PAIRS_PER_MIB
        draw = random.Random(7)
        part = path.with_suffix(".part")
        with part.open("w", encoding="ascii") as out:
            out.writelines(f"k{draw.randrange(lines // 3):08} {draw.randrange(10_000)}\n" for _ in range(lines))
        part.rename(path)
    return path


WORKS = (
    Work("wordcount", "count words", text, HERE.parent.parent / "jobs" / "wordcount.py"),
    Work("grep", "find lines", text, HERE / "jobs" / "grep.py", 0),
    Work("inverted_index", "inverted index of 64 files", text_files, HERE / "jobs" / "inverted_index.py"),
    Work("group_by", "sum by many keys", pairs, HERE / "jobs" / "group_by.py"),
)
ALL = frozenset(work.name for work in WORKS)
PEERS = (
    Peer("script by hand", "plain.py", "", ALL),
    Peer("GNU coreutils", "coreutils.py", "", ALL - {"inverted_index"}),
    Peer("DuckDB", "duckdb_sql.py", "duckdb", ALL),
    Peer("Polars", "polars_frames.py", "polars", ALL),
    Peer("PySpark RDD", "pyspark_rdd.py", "pyspark", ALL, ("java",)),
    Peer("Spark DataFrame", "pyspark_dataframe.py", "pyspark", ALL, ("java",)),
    Peer("Ray Data", "ray_data.py", "ray", ALL - {"inverted_index"}),
    Peer("Dask bag", "dask_bag.py", "dask", ALL),
    Peer("mrjob", "mrjob_jobs.py", "mrjob", ALL - {"inverted_index"}),
)


def main() -> None:
    options = _options()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    results: Results = {}
    for work in WORKS:
        if work.name in options.works:
            print(f"── {work.title}", flush=True)
            results[work.name] = _measure(work, folder, options)
    skipped = sorted(peer.title for peer in PEERS if not _is_there(peer))
    for title in skipped:
        print(f"SKIPPED: {title}, which is not installed here")
    report = _report(results, options, skipped)
    print(report)
    _compare(results)
    if options.write:
        (HERE.parent / "RESULTS.md").write_text(report, encoding="utf-8")
        record = {"mebibytes": options.mebibytes, "rounds": options.rounds, "results": results}
        (HERE.parent / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-rounds", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--works", nargs="*", default=[work.name for work in WORKS])
    parser.add_argument("--peers", nargs="*", help="titles; all that are installed unless given")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "minireduce-bench"))
    parser.add_argument("--write", action="store_true", help="write RESULTS.md and results.json")
    return parser.parse_args()


def _is_there(peer: Peer) -> bool:
    has_package = not peer.package or importlib.util.find_spec(peer.package) is not None
    return has_package and all(shutil.which(command) for command in peer.needs)


def _measure(work: Work, folder: Path, options: argparse.Namespace) -> Rows:
    source = work.make_input(folder, options.mebibytes)
    peers = [peer for peer in PEERS if work.name in peer.works and _is_there(peer)]
    if options.peers is not None:
        peers = [peer for peer in peers if peer.title in options.peers]
    digests: dict[str, str] = {}
    contenders = [Contender("python -c pass", [sys.executable, "-c", "pass"])]
    contenders.append(_contender(OURS, _submit(work, source), folder, digests))
    contenders += [_contender(peer.title, _script(peer.script, work, source), folder, digests) for peer in peers]
    run_in_turn(contenders, options.rounds, folder / "log")
    results = {
        one.name: {"s": statistics.median(one.wall_s), "s_min": min(one.wall_s), "s_max": max(one.wall_s)}
        | {"peak_mib": statistics.median(one.peak_bytes) / 2**20}
        for one in contenders
    }
    scripts = {OURS: "ours.py"} | {peer.title: peer.script for peer in peers}
    warm: dict[str, list[float]] = {title: [] for title in scripts}
    for _ in range(options.warm_rounds):
        for title, script in scripts.items():
            warm[title].append(_warm_s([*_script(script, work, source), "--warm"], folder / _folder_of(title)))
    for title, seconds in warm.items():
        if seconds:
            results[title]["warm_s"] = statistics.median(seconds)
    return results


def _submit(work: Work, source: Path) -> list[str]:
    submit = [str(Path(sys.executable).with_name("minireduce")), "submit", str(work.job), str(source), "-o", "OUTPUT"]
    return [*submit, "--slots", str(SLOTS), "-q", *(("--reducers", str(work.reducers)) if work.reducers else ())]


def _script(script: str, work: Work, source: Path) -> list[str]:
    return [sys.executable, str(HERE / script), work.name, str(source), "OUTPUT", str(SLOTS)]


def _folder_of(title: str) -> str:
    return title.replace(" ", "-")


def _contender(title: str, command: list[str], folder: Path, digests: dict[str, str]) -> Contender:
    output = folder / _folder_of(title)

    def check() -> None:
        digests[title] = _digest(output)
        first = next(iter(digests))
        if digests[title] != digests[first]:
            sys.exit(f"the output of {title} in {output} differs from that of {first}")

    return Contender(
        title,
        [argument.replace("OUTPUT", str(output)) for argument in command],
        lambda: shutil.rmtree(output, ignore_errors=True),
        check,
        {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
    )


def _warm_s(command: list[str], output: Path) -> float:
    shutil.rmtree(output, ignore_errors=True)
    command = [argument.replace("OUTPUT", str(output)) for argument in command]
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return float(done.stdout.rsplit("seconds ", 1)[1].split()[0])


def _digest(output: Path) -> str:
    lines = sorted(line for part in _parts(output) for line in part.read_bytes().splitlines())
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _parts(output: Path) -> Iterator[Path]:
    return (path for path in sorted(output.rglob("part-*")) if not path.name.endswith(".crc"))


def _report(results: Results, options: argparse.Namespace, skipped: list[str]) -> str:
    lines = ["# The same work on minireduce and on its peers", ""]
    packages = ", ".join(f"{name} {version(name)}" for name in _packages())
    lines += [
        f"{options.mebibytes} MiB, {SLOTS} slots or threads for everyone, whole commands from a cold start, medians",
        f"of {options.rounds} rounds in alternation. Warm: the second time in one process, median of",
        f"{options.warm_rounds}. Written output is on disk when the time ends, and the same for all. A ratio above",
        "1: minireduce is that many times as fast.",
        "",
        f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB, {platform.system()} {platform.release()}, CPython",
        f"{platform.python_version()}; {packages}.",
        "",
    ]
    for work in WORKS:
        if work.name in results:
            lines += [f"## {work.title.capitalize()}", "", *_table(results[work.name]), ""]
    lines += [f"Skipped, since not installed: {title}." for title in skipped]
    return "\n".join(lines) + "\n"


def _table(rows: Rows) -> Iterator[str]:
    yield "| what | whole command s | min to max | ratio | warm s | ratio | peak MiB |"
    yield "|---|---|---|---|---|---|---|"
    ours = rows[OURS]
    for title, row in sorted(rows.items(), key=lambda entry: entry[1]["s"]):
        warm = f"{row['warm_s']:.2f} | {row['warm_s'] / ours['warm_s']:.2f}" if "warm_s" in row else " | "
        spread = f"{row['s_min']:.2f} to {row['s_max']:.2f}"
        yield f"| {title} | {row['s']:.2f} | {spread} | {row['s'] / ours['s']:.2f} | {warm} | {row['peak_mib']:.0f} |"


def _compare(results: Results) -> None:
    """How our times stand to those of the results that were written last."""
    path = HERE.parent / "results.json"
    if not path.exists():
        return
    last = json.loads(path.read_text(encoding="utf-8"))
    for name, rows in results.items():
        before = last["results"].get(name, {}).get(OURS)
        if before is not None:
            size = f"{last['mebibytes']} MiB"
            print(f"{name}: {rows[OURS]['s']:.2f} s, in the results written last {before['s']:.2f} s with {size}")


def _packages() -> list[str]:
    names = dict.fromkeys(peer.package for peer in PEERS if peer.package and _is_there(peer))
    return ["minireduce", *names]


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    main()
