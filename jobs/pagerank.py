"""Rank the pages of a graph by who links to them: `python jobs/pagerank.py EDGES OUTPUT [ITERATIONS]`.

EDGES has one link a line, `from to`. The first job makes of them typed pairs, a page with its rank and the pages that
it links to; each iteration reads the result of the one before. A rank is 0.15 and 0.85 of what comes in; a page hands
its rank on in equal shares, and one without links hands on nothing. After Brin and Page, 1998.

Ranks are whole numbers, `ONE` for 1.0, so that sums are the same however they are grouped.
"""

import sys
from collections.abc import Iterator
from typing import Any

from minireduce import Job, JobResult, LocalCluster, Pairs

ONE = 10**9
ITERATIONS = 10

Page = tuple[int, str]
"""The rank of a page, and the pages that it links to: words of one string, handed on faster than a list."""

Part = int | str
"""What comes to a page: a share of another one's rank, or its own links."""


def edge(line: str) -> Iterator[tuple[str, str]]:
    source, target = line.split()
    yield source, target


def begin(page: str, targets: Iterator[str]) -> Iterator[tuple[str, Page]]:
    yield page, (ONE, " ".join(targets))


def hand_on(page: str, state: Page) -> Iterator[tuple[str, Part]]:
    rank, links = state
    yield page, links
    if targets := links.split():
        share = rank // len(targets)
        for target in targets:
            yield target, share


def add(page: str, parts: Iterator[Part]) -> Iterator[tuple[str, Part]]:
    shares, links = gather(parts)
    yield page, shares
    if links is not None:
        yield page, links


def rank(page: str, parts: Iterator[Part]) -> Iterator[tuple[str, Page]]:
    shares, links = gather(parts)
    yield page, (ONE * 15 // 100 + shares * 85 // 100, links or "")


def gather(parts: Iterator[Part]) -> tuple[int, str | None]:
    shares, links = 0, None
    for part in parts:
        if isinstance(part, int):
            shares += part
        else:
            links = part
    return shares, links


def whole_rank(page: str, state: Page) -> Iterator[tuple[str, int]]:
    yield page, state[0]


def as_number(page: str, state: Page) -> Iterator[tuple[str, float]]:
    yield page, state[0] / ONE


start = Job(edge, begin)
step = Job(hand_on, rank, combine=add, input=Pairs())
whole = Job(whole_rank, input=Pairs())
show = Job(as_number, input=Pairs())


def rank_pages(edges: str, iterations: int = ITERATIONS, **where: Any) -> JobResult[str, Page]:
    """The pages after so many iterations; `where` says where to run, as for `Job.run`."""
    pages = start.run(edges, **where)
    for _ in range(iterations):
        before, pages = pages, step.run(pages, **where)
        before.close()
    return pages


if __name__ == "__main__":
    with LocalCluster() as cluster:
        ranks = rank_pages(sys.argv[1], *map(int, sys.argv[3:]), master=cluster)
        show.run(ranks, output=sys.argv[2], master=cluster)
