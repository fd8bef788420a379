"""Find the centres of clusters of points as `kmeans.py` does, a column at a time, with numpy:
`python jobs/kmeans_columns.py POINTS CENTRES [ITERATIONS]`.

The first job makes rows of numbers of the lines; each iteration takes many of them at once, as one matrix, and hands on
of each batch how many points are nearest to each centre, and the sum of each coordinate. After Lloyd, 1957.
"""

import operator
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from minireduce import Job, JobResult, LocalCluster, columns

ITERATIONS = 10

Row = list[int]
Centre = tuple[float, ...]


def parse(batch: Any) -> Any:
    words = pc.split_pattern(batch["line"], " ")
    numbers = pa.ListArray.from_arrays(words.offsets, words.flatten().cast(pa.int64()))
    return columns.pairs(None, numbers)


points = Job(map_batch=parse)


def nearest(batch: Any, centres: Sequence[Centre]) -> Any:
    """Of each centre that a point is nearest to: its number, how many there are, and the sum of each coordinate."""
    rows = columns.rows(batch["value"])
    distances = np.zeros((len(centres), len(rows)))
    for number, centre in enumerate(centres):
        for coordinate, there in zip(rows.T, centre, strict=True):
            distances[number] += (coordinate - there) ** 2
    best = distances.argmin(axis=0)
    found = np.flatnonzero(np.bincount(best))
    members = [rows[best == number] for number in found]
    return columns.pairs(found, np.array([(len(each), *each.sum(axis=0)) for each in members]))


def add(centre: int, members: Iterator[Row]) -> Iterator[tuple[int, Row]]:
    total = next(members)
    for member in members:
        total = list(map(operator.add, total, member))
    yield centre, total


def mean(centre: int, members: Iterator[Row]) -> Iterator[tuple[int, Centre]]:
    for _, (count, *sums) in add(centre, members):
        yield centre, tuple(total / count for total in sums)


def assign(where: JobResult[None, Row], centres: Sequence[Centre]) -> Job[int, Centre]:
    """The job that gives of each centre's number the mean of the points that are nearest to that centre."""
    return Job(map_batch=partial(nearest, centres=tuple(centres)), reduce=mean, combine=add, input=where)


def find_centres(path: str, count: int, iterations: int = ITERATIONS, **where: Any) -> list[Centre]:
    """The centres after so many iterations; `where` says where to run, as for `Job.run`."""
    typed = points.run(path, **where)
    centres: list[Centre] = [tuple(point) for _, point in typed.head(count)]
    for _ in range(iterations):
        found = assign(typed, centres).run(**where)
        for number, centre in found:
            centres[number] = centre
        found.close()
    typed.close()
    return centres


if __name__ == "__main__":
    with LocalCluster() as cluster:
        for centre in find_centres(sys.argv[1], *map(int, sys.argv[2:]), master=cluster):
            print(*(f"{coordinate:.3f}" for coordinate in centre))
