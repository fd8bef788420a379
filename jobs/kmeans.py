"""Find the centres of clusters of points: `python jobs/kmeans.py POINTS CENTRES [ITERATIONS]` prints so many centres.

POINTS has one point a line, whole numbers with spaces between them. The first job makes typed points of them; each
iteration reads its result, takes the centres along to the map, and gives the mean of the points that are nearest to
each. The first points are the first centres; a centre that no point is near stays. After Lloyd, 1957.

Coordinates are whole numbers, so that sums are the same however they are grouped.
"""

import operator
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from minireduce import Job, JobResult, LocalCluster

ITERATIONS = 10

Point = tuple[int, ...]
Centre = tuple[float, ...]


def parse(line: str) -> Iterator[tuple[None, Point]]:
    yield None, tuple(map(int, line.split()))


points = Job(parse)


def assign(where: JobResult[None, Point], centres: Sequence[Centre]) -> Job[int, Centre]:
    """The job that gives of each centre's number the mean of the points that are nearest to that centre."""

    def nearest(_: None, point: Point) -> Iterator[tuple[int, Point]]:
        best, best_distance = 0, float("inf")
        for number, centre in enumerate(centres):
            distance = 0.0
            for here, there in zip(point, centre, strict=True):
                distance += (here - there) * (here - there)
            if distance < best_distance:
                best, best_distance = number, distance
        yield best, (1, *point)

    return Job(nearest, mean, combine=add, input=where)


def add(centre: int, members: Iterator[Point]) -> Iterator[tuple[int, Point]]:
    """How many, and the sum of each coordinate."""
    total = next(members)
    for member in members:
        total = tuple(map(operator.add, total, member))
    yield centre, total


def mean(centre: int, members: Iterator[Point]) -> Iterator[tuple[int, Centre]]:
    for _, (count, *sums) in add(centre, members):
        yield centre, tuple(total / count for total in sums)


def find_centres(path: str, count: int, iterations: int = ITERATIONS, **where: Any) -> list[Centre]:
    """The centres after so many iterations; `where` says where to run, as for `Job.run`."""
    typed = points.run(path, **where)
    centres: list[Centre] = [point for _, point in typed.head(count)]
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
