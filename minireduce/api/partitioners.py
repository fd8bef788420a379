"""Which partition a key goes to.

`Hash` depends on nothing but the key and the number of partitions, `Range` also on bounds sampled once per job. A
callable `partition(key, partitions) -> int` may
be given instead; equal keys must get equal answers, on every machine and in every attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Hash:
    """The stable hash of the key (`docs/formats.md`) modulo the number of partitions."""


@dataclass(frozen=True, slots=True)
class Range:
    """Ranges of keys, so that the output ascends from part to part.

    The bounds are chosen once per job, when it is submitted: the map is called with records from many places of the
    input, here and not in a task, and the keys that it gives are cut into ranges of the same size. The same input and
    number of partitions give the same bounds.

    Args:
        bounds: the encoded keys with which the second and later partitions begin; None until they are chosen.
    """

    bounds: tuple[bytes, ...] | None = None


Partitioner = Hash | Range | Callable[[Any, int], int]
