"""Rank the pages of a graph as `pagerank.py` does, a column at a time:
`python jobs/pagerank_columns.py EDGES OUTPUT [ITERATIONS]`.

A page stands in the results as its name and one string: its rank, and the pages that it links to. A round reads them
twice, as two inputs: of the one each page hands its rank on, of the other it keeps its links. What comes together in
the reduce is a batch of each, with the same pages. After Brin and Page, 1998.
"""

import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from minireduce import Job, JobResult, LocalCluster, Pairs, columns

ONE = 10**9
ITERATIONS = 10


def edge(batch: Any) -> Any:
    return columns.pairs(*columns.fields(batch["line"], " ", 2))


def begin(batch: Any) -> Any:
    """Each page with the rank that all begin with, and its links."""
    starts = columns.group_starts(batch["key"])
    ends = pa.py_buffer(np.append(starts, batch.num_rows).astype(np.int32))
    offsets = pa.Array.from_buffers(pa.int32(), len(starts) + 1, [None, ends])
    links = pc.binary_join(pa.ListArray.from_arrays(offsets, batch["value"]), columns.scalar(" "))
    return columns.pairs(columns.take(batch["key"], starts), state(np.full(len(starts), ONE), links))


def state(ranks: Any, links: Any) -> Any:
    """A string for each page, of its rank and its links."""
    return pc.binary_join_element_wise(columns.array(ranks).cast(pa.string()), links, columns.scalar(" "))


def taken_apart(states: Any) -> tuple[Any, Any]:
    """The rank of each page, and its links."""
    rank, links = columns.fields(states, " ", 2)
    return columns.numbers(rank.cast(pa.int64())), links


def hand_on(batch: Any) -> Any:
    """Of each page an equal share of its rank for every page that it links to."""
    ranks, links = taken_apart(batch["value"])
    counts = columns.numbers(pc.count_substring(links, " ")) + (columns.numbers(pc.binary_length(links)) > 0)
    return columns.pairs(columns.words(links), np.repeat(ranks // np.maximum(counts, 1), counts))


def keep(batch: Any) -> Any:
    return columns.pairs(batch["key"], taken_apart(batch["value"])[1])


def rank(links: Any, shares: Any) -> Any:
    """Each page of either with its new rank and its links."""
    starts = columns.group_starts(shares["key"])
    sums = np.add.reduceat(columns.numbers(shares["value"]), starts) if len(starts) else starts
    found = columns.join(links, columns.pairs(columns.take(shares["key"], starts), sums), how="full")
    handed = columns.numbers(pc.fill_null(found["right"], columns.scalar(0)))
    return columns.pairs(
        found["key"], state(ONE * 15 // 100 + handed * 85 // 100, pc.fill_null(found["left"], columns.scalar("")))
    )


def whole_rank(batch: Any) -> Any:
    return columns.pairs(batch["key"], taken_apart(batch["value"])[0])


def as_number(batch: Any) -> Any:
    return columns.pairs(batch["key"], taken_apart(batch["value"])[0] / ONE)


start = Job(map_batch=edge, reduce_batch=begin)
step = Job(map_batch={"links": keep, "shares": hand_on}, reduce_batch=rank, input={"links": Pairs(), "shares": Pairs()})
whole = Job(map_batch=whole_rank, input=Pairs())
show = Job(map_batch=as_number, input=Pairs())


def rank_pages(edges: str, iterations: int = ITERATIONS, **where: Any) -> JobResult[str, str]:
    """The pages after so many iterations; `where` says where to run, as for `Job.run`."""
    pages = start.run(edges, **where)
    for _ in range(iterations):
        before, pages = pages, step.run({"links": pages, "shares": pages}, **where)
        before.close()
    return pages


if __name__ == "__main__":
    with LocalCluster() as cluster:
        ranks = rank_pages(sys.argv[1], *map(int, sys.argv[3:]), master=cluster)
        show.run(ranks, output=sys.argv[2], master=cluster)
