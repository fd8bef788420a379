"""How many short tasks a worker is given beyond its slots, so that it need not wait for the master between two.

A round trip to the master, its commit included, takes longer than a short task does. So a worker gets as much work
ahead as is expected to last `ahead_s`, no more: a worker that joins, or a job that comes, waits no longer than that.
What was expected to be short and is not comes back: the worker returns what it could not begin (`AttemptReturned`).

Only tasks whose input lies nowhere in particular go ahead; any other may yet get a better place.
"""

from __future__ import annotations

from minireduce.core.settings import ClusterSettings
from minireduce.frozen import dataclass

_NEWEST_WEIGHT = 0.125


@dataclass(slots=True)
class Brevity:
    """How long the tasks of one step keep their process busy, the latest counting most; as their workers tell."""

    mean_s: float | None = None

    def add(self, busy_s: float) -> None:
        """A task took so long. Nothing is known of one that says 0."""
        if busy_s > 0.0:
            self.mean_s = busy_s if self.mean_s is None else self.mean_s + _NEWEST_WEIGHT * (busy_s - self.mean_s)

    def was_wrong(self, busy_s: float) -> None:
        """A task was kept waiting so long behind others."""
        self.mean_s = max(busy_s, self.mean_s or 0.0)

    def tasks_ahead(self, settings: ClusterSettings) -> int:
        """How many of these a slot is given ahead."""
        if self.mean_s is None:
            return 0
        return min(int(settings.ahead_s / max(self.mean_s, 1e-6)), settings.ahead_tasks_max)
