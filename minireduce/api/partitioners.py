"""Which partition a key goes to.

`Hash` depends on nothing but the key and the number of partitions. A callable `partition(key, partitions) -> int` may
be given instead; equal keys must get equal answers, on every machine and in every attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minireduce.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Hash:
    """The stable hash of the key (`docs/formats.md`) modulo the number of partitions."""


Partitioner = Hash | Callable[[Any, int], int]
