"""Estimate pi from points that fill the unit square evenly: `minireduce submit jobs/pi.py -p points=10000000`.

The points are a Halton sequence in the bases 2 and 3, which leaves no gaps and no clusters, so the estimate is nearer
than one from random points, and the same however the points are split.
"""

from collections.abc import Iterator

from minireduce import Job, Numbers, Sum


def radical_inverse(number: int, base: int) -> float:
    """The digits of `number` in `base`, read backwards behind the point: from 0 up to 1."""
    inverse, place = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        place /= base
        inverse += digit * place
    return inverse


def job(points: int = 1_000_000, splits: int = 8) -> Job[str, float]:
    """The job that gives one pair, ("pi", estimate)."""
    weight = 4.0 / points

    def inside(number: int) -> Iterator[tuple[str, float]]:
        x, y = radical_inverse(number, 2), radical_inverse(number, 3)
        if x * x + y * y <= 1.0:
            yield "pi", weight

    return Job(inside, Sum(), input=Numbers(points, splits=splits), name="pi")
