"""What every peer's script does the same: read its arguments, write text durably, and say how long the job took.

A script is called as `PEER.py WORK INPUT OUTPUT SLOTS [--warm]`. INPUT is a file or a folder of files, OUTPUT a folder
to make, with lines `key<TAB>value`. With `--warm` the work is done twice in one process and the second time counts; the
last line of standard output is `seconds S`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

NEEDLE = "warnings.warn"

Work = Callable[[Path, Path, int], None]


def run(works: Mapping[str, Work]) -> None:
    """Do the work that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=sorted(works))
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("slots", type=int)
    parser.add_argument("--warm", action="store_true")
    options = parser.parse_args()
    seconds = 0.0
    for _ in range(2 if options.warm else 1):
        shutil.rmtree(options.output, ignore_errors=True)
        started = time.perf_counter()
        options.output.mkdir(parents=True, exist_ok=True)
        works[options.work](options.input, options.output, options.slots)
        sync(options.output)
        seconds = time.perf_counter() - started
    print(f"seconds {seconds:.4f}")


def files_of(source: Path) -> list[Path]:
    """The files to read, in order of their names."""
    return sorted(source.iterdir()) if source.is_dir() else [source]


def write_pairs(path: Path, pairs: Iterable[tuple[str, object]]) -> None:
    """One line a pair."""
    with path.open("w", encoding="utf-8", newline="") as out:
        out.writelines(f"{key}\t{value}\n" for key, value in pairs)


def sync(folder: Path) -> None:
    """Every file of a folder, and the folder: what a run has written counts when it is on disk."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
