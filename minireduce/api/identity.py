"""A reduce that gives every pair as it is: for sorting, and for bringing pairs of one key together.

The engine knows it and moves the pairs of a partition in columns, without calling it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Identity:
    """`Job(map, Identity())` gives the pairs of the map, in the order of their keys."""

    def __call__(self, key: K, values: Iterator[V]) -> Iterator[tuple[K, V]]:
        for value in values:
            yield key, value

    def __repr__(self) -> str:
        return "Identity()"
