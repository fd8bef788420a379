"""Dask's bags on its own processes."""

from __future__ import annotations

import json
from pathlib import Path

import dask
import dask.bag as db
from common import NEEDLE, files_of, run, write_pairs

BLOCK_BYTES = 16 << 20


def lines(source: Path, *, names: bool = False) -> db.Bag:
    paths = [str(path) for path in files_of(source)]
    return db.read_text(paths, blocksize=None if names else BLOCK_BYTES, include_path=names, linedelimiter="\n")


def compute(bag: db.Bag, slots: int) -> list:
    with dask.config.set(scheduler="processes", num_workers=slots):
        return bag.compute()


def wordcount(source: Path, output: Path, slots: int) -> None:
    counts = compute(lines(source).str.split().flatten().frequencies(), slots)
    write_pairs(output / "part-00000", sorted(counts))


def grep(source: Path, output: Path, slots: int) -> None:
    found = compute(lines(source).filter(has_needle), slots)
    (output / "part-00000").write_text("".join(found), encoding="utf-8", newline="")


def has_needle(line: str) -> bool:
    return NEEDLE in line


def words_of(entry: tuple[str, str]) -> list[tuple[str, str]]:
    line, path = entry
    return [(word, Path(path).name) for word in line.split()]


def first(pair: tuple[str, str]) -> str:
    return pair[0]


def add_name(names: frozenset[str], pair: tuple[str, str]) -> frozenset[str]:
    return names if pair[1] in names else names | {pair[1]}


def inverted_index(source: Path, output: Path, slots: int) -> None:
    pairs = lines(source, names=True).map(words_of).flatten()
    index = compute(pairs.foldby(first, add_name, frozenset(), frozenset.union, frozenset()), slots)
    write_pairs(output / "part-00000", sorted((word, json.dumps(sorted(names))) for word, names in index))


def key_and_number(line: str) -> tuple[str, int]:
    key, _, number = line.partition(" ")
    return key, int(number)


def add_number(total: int, pair: tuple[str, int]) -> int:
    return total + pair[1]


def add(one: int, other: int) -> int:
    return one + other


def group_by(source: Path, output: Path, slots: int) -> None:
    sums = compute(lines(source).map(key_and_number).foldby(first, add_number, 0, add, 0), slots)
    write_pairs(output / "part-00000", sorted(sums))


if __name__ == "__main__":
    run({"wordcount": wordcount, "grep": grep, "inverted_index": inverted_index, "group_by": group_by})
