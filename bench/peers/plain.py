"""The script that one would write by hand: ranges of input to a pool of processes, dictionaries merged in the end."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

from common import NEEDLE, files_of, run, write_pairs

RANGES_PER_SLOT = 2

Range = tuple[Path, int, int]


def ranges(source: Path, slots: int) -> list[Range]:
    """Equal ranges of each file; a line belongs to the range in which it begins."""
    files = files_of(source)
    if len(files) > 1:
        return [(path, 0, path.stat().st_size) for path in files]
    size = files[0].stat().st_size
    cuts = [size * number // (slots * RANGES_PER_SLOT) for number in range(slots * RANGES_PER_SLOT + 1)]
    return [(files[0], first, end) for first, end in itertools.pairwise(cuts)]


def lines(part: Range) -> Iterator[bytes]:
    path, first, end = part
    with path.open("rb") as file:
        if first:
            file.seek(first - 1)
            file.readline()
        at = file.tell()
        while at < end and (line := file.readline()):
            at += len(line)
            yield line


def count_words(part: Range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in lines(part):
        counts.update(line.decode().split())
    return counts


def wordcount(source: Path, output: Path, slots: int) -> None:
    total: Counter[str] = Counter()
    with Pool(slots) as pool:
        for counts in pool.imap_unordered(count_words, ranges(source, slots)):
            total.update(counts)
    write_pairs(output / "part-00000", sorted(total.items()))


def find_lines(part: Range) -> list[bytes]:
    needle = NEEDLE.encode()
    return [line for line in lines(part) if needle in line]


def grep(source: Path, output: Path, slots: int) -> None:
    with Pool(slots) as pool, (output / "part-00000").open("wb") as out:
        for found in pool.imap(find_lines, ranges(source, slots)):
            out.writelines(found)


def index_words(part: Range) -> tuple[str, set[str]]:
    return part[0].name, {word for line in lines(part) for word in line.decode().split()}


def inverted_index(source: Path, output: Path, slots: int) -> None:
    index: defaultdict[str, set[str]] = defaultdict(set)
    with Pool(slots) as pool:
        for name, words in pool.imap_unordered(index_words, ranges(source, slots)):
            for word in words:
                index[word].add(name)
    write_pairs(output / "part-00000", ((word, json.dumps(sorted(index[word]))) for word in sorted(index)))


def sum_by_key(part: Range) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for line in lines(part):
        key, _, number = line.decode().partition(" ")
        sums[key] += int(number)
    return sums


def group_by(source: Path, output: Path, slots: int) -> None:
    total: defaultdict[str, int] = defaultdict(int)
    with Pool(slots) as pool:
        for sums in pool.imap_unordered(sum_by_key, ranges(source, slots)):
            for key, number in sums.items():
                total[key] += number
    write_pairs(output / "part-00000", sorted(total.items()))


if __name__ == "__main__":
    run({"wordcount": wordcount, "grep": grep, "inverted_index": inverted_index, "group_by": group_by})
