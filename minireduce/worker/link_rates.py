"""Decide for each source whether its answers are worth compressing, by how fast they come.

Compressing pays where the link, or the disk at its other end, is slower than a core compresses, and costs time
elsewhere. Nobody can tell the two apart but by trying. A source whose outputs come faster than
`COMPRESSED_BELOW_BYTES_PER_S` is asked for them as they are. Of a slower one both ways are measured, in bytes of
outputs a second, whatever travels for them, and the better one is used; every `TRY_OTHER_EVERY`th request goes the
other way, as links and data change. A rate is that of one request times the requests that share the link with it; the
latest ones count most. Answers of less than `JUDGED_BYTES_MIN` say more about latency than about rates and are not
judged.

`always` and `never` leave nothing to decide. Not here: compressing itself (wire.compression).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from minireduce.config import Compression

COMPRESSED_BELOW_BYTES_PER_S = 200e6
TRY_OTHER_EVERY = 16
JUDGED_BYTES_MIN = 256 << 10
SOURCES_MAX = 10_000


@dataclass(slots=True)
class _Source:
    """What is known of one address. A rate of 0 was never measured."""

    plain_bytes_per_s: float = 0.0
    compressed_bytes_per_s: float = 0.0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it began: to whom, in which way, and how many were under way to the same source then."""

    address: str
    is_compressed: bool
    under_way: int


class LinkRates:
    """What one worker has seen of all sources."""

    def __init__(self, choice: Compression) -> None:
        self._choice = choice
        self._sources: dict[str, _Source] = {}
        self._under_way: Counter[str] = Counter()

    def begin(self, address: str) -> Asked:
        """A request to this address begins; it says whether to ask for a compressed answer. `end` must follow."""
        self._under_way[address] += 1
        return Asked(address, self._is_worth_compressing(address), self._under_way[address])

    def end(self, asked: Asked, bytes_total: int, seconds: float) -> None:
        """It brought so many bytes of outputs in this time."""
        address = asked.address
        shared_by = (asked.under_way + self._under_way[address]) / 2
        self._under_way[address] -= 1
        if not self._under_way[address]:
            del self._under_way[address]
        if bytes_total < JUDGED_BYTES_MIN or seconds <= 0:
            return
        source = self._sources.setdefault(address, _Source())
        rate = bytes_total / seconds * shared_by
        if asked.is_compressed:
            source.compressed_bytes_per_s = _mean(source.compressed_bytes_per_s, rate)
        else:
            source.plain_bytes_per_s = _mean(source.plain_bytes_per_s, rate)
        if len(self._sources) > SOURCES_MAX:
            del self._sources[next(iter(self._sources))]

    def _is_worth_compressing(self, address: str) -> bool:
        if self._choice != Compression.AUTO:
            return self._choice == Compression.ALWAYS
        source = self._sources.get(address)
        if source is None or not 0 < source.plain_bytes_per_s < COMPRESSED_BELOW_BYTES_PER_S:
            return False
        source.requests += 1
        is_better = source.compressed_bytes_per_s > source.plain_bytes_per_s or not source.compressed_bytes_per_s
        return is_better != (source.requests % TRY_OTHER_EVERY == 0)


def _mean(before: float, now: float) -> float:
    return (before + now) / 2 if before else now
