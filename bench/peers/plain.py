"""The script that one would write by hand: ranges of input to a pool of processes, dictionaries merged in the end."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

from common import CENTRES, NEEDLE, ONE, ROUNDS, files_of, rank_of, run, write_centres, write_pairs

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


def sort_range(task: tuple[Path, int, int, Path]) -> None:
    """The records whose first character lies in a range, sorted into a file of their own."""
    source, least, most, target = task
    with source.open("rb") as file:
        found = [line for line in file if least <= line[0] < most]
    found.sort()  # whole records: the key stands first
    with target.open("wb") as out:
        out.writelines(found)


def terasort(source: Path, output: Path, slots: int) -> None:
    borders = [32 + 95 * number // slots for number in range(slots + 1)]
    tasks = [
        (source, least, most, output / f"part-{number:05d}")
        for number, (least, most) in enumerate(itertools.pairwise(borders))
    ]
    with Pool(slots) as pool:
        pool.map(sort_range, tasks)


_names: dict[str, str] = {}


def read_users(source: Path) -> None:
    with (source / "users.txt").open(encoding="utf-8") as file:
        _names.update(line.split() for line in file)


def join_orders(part: Range) -> list[str]:
    found = []
    for line in lines(part):
        key, amount = line.decode().split()
        if key in _names:
            found.append(f"{_names[key]}\t{amount}\n")
    return found


def join(source: Path, output: Path, slots: int) -> None:
    orders = ranges(source / "orders.txt", slots)
    with Pool(slots, read_users, (source,)) as pool, (output / "part-00000").open("w", encoding="utf-8") as out:
        for found in pool.imap(join_orders, orders):
            out.writelines(found)


Points = list[tuple[int, ...]]


def read_points(part: Range) -> Points:
    return [tuple(map(int, line.split())) for line in lines(part)]


def nearest_sums(task: tuple[Points, list[tuple[float, ...]]]) -> dict[int, list[int]]:
    share, centres = task
    sums: dict[int, list[int]] = {}
    for point in share:
        best, best_distance = 0, float("inf")
        for number, centre in enumerate(centres):
            distance = 0.0
            for here, there in zip(point, centre, strict=True):
                distance += (here - there) * (here - there)
            if distance < best_distance:
                best, best_distance = number, distance
        total = sums.setdefault(best, [0] * (1 + len(point)))
        total[0] += 1
        for place, coordinate in enumerate(point, 1):
            total[place] += coordinate
    return sums


def kmeans(source: Path, output: Path, slots: int) -> None:
    with Pool(slots) as pool:
        shares = pool.map(read_points, ranges(source, slots))
        centres: list[tuple[float, ...]] = list(itertools.chain.from_iterable(shares))[:CENTRES]
        for _ in range(ROUNDS):
            totals: dict[int, list[int]] = {}
            for sums in pool.imap_unordered(nearest_sums, [(share, centres) for share in shares]):
                for number, total in sums.items():
                    known = totals.setdefault(number, [0] * len(total))
                    totals[number] = [one + other for one, other in zip(known, total, strict=True)]
            for number, (count, *coordinates) in totals.items():
                centres[number] = tuple(coordinate / count for coordinate in coordinates)
    write_centres(output / "part-00000", centres)


def pagerank(source: Path, output: Path, slots: int) -> None:
    """In one process: handing dictionaries to others costs more than the sums do."""
    links: defaultdict[str, list[str]] = defaultdict(list)
    with source.open(encoding="utf-8") as file:
        for line in file:
            page, target = line.split()
            links[page].append(target)
    ranks = dict.fromkeys(links, ONE)
    for _ in range(ROUNDS):
        shares = dict.fromkeys(ranks, 0)
        for page, targets in links.items():
            share = ranks[page] // len(targets)
            for target in targets:
                shares[target] = shares.get(target, 0) + share
        ranks = {page: rank_of(share) for page, share in shares.items()}
    write_pairs(output / "part-00000", sorted(ranks.items()))


if __name__ == "__main__":
    works = (wordcount, grep, inverted_index, group_by, terasort, join, kmeans, pagerank)
    run({body.__name__: body for body in works})
