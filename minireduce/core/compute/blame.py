"""Judge who is at fault when attempts keep failing, or when one worker cannot read what another holds.

A worker on which several tasks of a job failed, more than on the others, gets no more of that job. It is measured
against the others because code that fails everywhere is nobody's fault but its own: then nobody is excluded, and the
job fails with the error of its code. At most a third of the live workers is excluded, so that never the last one is;
among the troubled the most troubled go. After the blacklists of Hadoop, which count each worker alone.

When a fetch does not get through, the two ends are weighed: from how many sources has the reader failed to read, how
many readers has the source failed? A reader that is cut off complains about everybody, and it costs little to let its
attempt be made elsewhere; a source that is cut off is complained about by everybody, and its outputs are made again.
Where both are equal the reader goes first, but only so often for one task, which would else wander for ever. A few
workers that agree are enough; where only one and one are in trouble, it must last.

Not here: what follows (state.py, reports.py), and workers that are silent (membership.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import field

from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

EXCLUDED_SHARE_MAX = 1 / 3
TROUBLE_FACTOR_MIN = 2.0
"""How many times the average of the others' troubles makes a worker the one at fault."""


def choose_excluded(
    troubles: Mapping[WorkerId, Sized], live: Iterable[WorkerId], tasks_min: int
) -> tuple[WorkerId, ...]:
    """The workers that should get no more of a job. `troubles`: the tasks that failed on each worker."""
    counts = {worker: len(troubles.get(worker, ())) for worker in live}
    total = sum(counts.values())
    others = max(1, len(counts) - 1)
    suspects = [
        worker
        for worker, count in counts.items()
        if count >= tasks_min and count >= TROUBLE_FACTOR_MIN * (total - count) / others
    ]
    suspects.sort(key=lambda worker: -counts[worker])
    return tuple(suspects[: int(len(counts) * EXCLUDED_SHARE_MAX)])


@dataclass(slots=True)
class Complaints:
    """Who could not read from whom, and when that was last said. Complaints are forgotten after `kept_s`."""

    kept_s: float
    said_at: dict[tuple[WorkerId, WorkerId], float] = field(default_factory=dict)

    def note(self, reader: WorkerId, source: WorkerId, now: float) -> None:
        """`reader` cannot read what `source` holds."""
        self.said_at.pop((reader, source), None)
        self.said_at[reader, source] = now
        while self.said_at:  # the oldest stand first
            oldest = next(iter(self.said_at))
            if now - self.said_at[oldest] <= self.kept_s:
                break
            del self.said_at[oldest]

    def forget(self, worker: WorkerId) -> None:
        """The worker went, or began anew: what was said of it and by it counts no more."""
        for pair in [pair for pair in self.said_at if worker in pair]:
            del self.said_at[pair]

    def sources_of(self, reader: WorkerId) -> int:
        """From how many workers the reader could not read."""
        return sum(pair[0] == reader for pair in self.said_at)

    def readers_of(self, source: WorkerId) -> int:
        """How many workers could not read from the source."""
        return sum(pair[1] == source for pair in self.said_at)
