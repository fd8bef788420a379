"""What every peer's script does the same: read its arguments, write text durably, and say how long the job took.

A script is called as `PEER.py WORK INPUT OUTPUT SLOTS [--warm N]`. INPUT is a file or a folder of files, OUTPUT a
folder to make, with lines `key<TAB>value`. With `--warm` the work is done once and then N times more in the same
process, which are timed; the last line of standard output is `seconds S...`.

What is the same work for all, beyond what the name says:

- terasort: text records of `gensort`, in ascending order of their keys over all parts.
- join: `users.txt` (key, name) with `orders.txt` (key, amount), a line `name<TAB>amount` for each known user's order.
- kmeans: ROUNDS rounds over points of whole numbers, beginning at the first CENTRES of them; a line `number<TAB>x y`.
- pagerank: ROUNDS rounds over the edges in whole numbers as in `jobs/pagerank.py`; a line `page<TAB>rank`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

NEEDLE = "warnings.warn"
KEY_CHARACTERS = 10
CENTRES = 8
ROUNDS = 10
ONE = 10**9

Work = Callable[[Path, Path, int], None]


def run(works: Mapping[str, Work]) -> None:
    """Do the work that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=sorted(works))
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("slots", type=int)
    parser.add_argument("--warm", type=int, default=0, metavar="N")
    options = parser.parse_args()
    seconds = []
    for _ in range(1 + options.warm):
        shutil.rmtree(options.output, ignore_errors=True)
        started = time.perf_counter()
        options.output.mkdir(parents=True, exist_ok=True)
        works[options.work](options.input, options.output, options.slots)
        sync(options.output)
        seconds.append(time.perf_counter() - started)
    print("seconds", *(f"{each:.4f}" for each in seconds[1:] or seconds))


def files_of(source: Path) -> list[Path]:
    """The files to read, in order of their names."""
    return sorted(source.iterdir()) if source.is_dir() else [source]


def write_pairs(path: Path, pairs: Iterable[tuple[str, object]]) -> None:
    """One line a pair."""
    with path.open("w", encoding="utf-8", newline="") as out:
        out.writelines(f"{key}\t{value}\n" for key, value in pairs)


def write_centres(path: Path, centres: Sequence[Sequence[float]]) -> None:
    """The centres of `kmeans`, rounded as far as different orders of summing agree."""
    rows = (" ".join(f"{coordinate:.3f}" for coordinate in centre) for centre in centres)
    write_pairs(path, ((str(number), row) for number, row in enumerate(rows)))


def rank_of(shares: int) -> int:
    """The rank of a page in `pagerank` for what came in."""
    return ONE * 15 // 100 + shares * 85 // 100


def sync(folder: Path) -> None:
    """Every file of a folder, and the folder: what a run has written counts when it is on disk."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
