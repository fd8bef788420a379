"""Recognise slow workers: machines with a failing disk, a busy neighbour, a clock turned down.

A worker's speed is what its attempts needed beside what such tasks usually take, 1 when they are as fast; it is the
median over its latest few, so that one hard record makes no worker slow and one lucky task clears none. Counted are
attempts that finished, those that a backup overtook, and those that are overdue now: a worker at a tenth of its speed
would else be known only after ten times as long.

A slow worker gets a share of its slots, at least one, and that one shows when it has recovered. Evidence grows old, so
a worker that had nothing to do for long is taken for sound again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import field
from statistics import median

from minireduce.core.settings import ClusterSettings
from minireduce.frozen import dataclass

ATTEMPTS_COUNTED_MAX = 8


@dataclass(slots=True)
class WorkerSpeed:
    """What one worker's latest attempts say about it."""

    speed: float = 1.0
    is_slow: bool = False
    _latest: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=ATTEMPTS_COUNTED_MAX))

    def add(self, speed: float, now: float) -> None:
        """One attempt ran at this speed."""
        self._latest.append((now, speed))

    def judge(self, overdue: Sequence[float], now: float, settings: ClusterSettings) -> bool:
        """Decide anew, with the speeds of what is overdue; whether that changed anything."""
        while self._latest and now - self._latest[0][0] > settings.slow_worker_remembered_s:
            self._latest.popleft()
        known = [speed for _, speed in self._latest] + list(overdue)
        before = (self.is_slow, self.speed)
        self.speed = median(known) if len(known) >= settings.slow_worker_attempts_min else 1.0
        self.is_slow = self.speed < settings.slow_worker_speed_max
        return (self.is_slow, self.speed) != before and (self.is_slow or before[0])

    def slots_of(self, slots: int) -> int:
        """How many of so many slots this worker should be given."""
        return max(1, int(slots * self.speed)) if self.is_slow and slots else slots
