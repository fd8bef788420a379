"""Remove from a worker's disk what nobody will ask it to remove.

The master tells a worker to drop a job, and the worker does. What is left all the same: what attempts printed, which
people look for when a job has just failed, and which may become much; the directory of a job that ended while the
worker was away and of which it had no output to list, so that the master was never reminded of it; and what a removal
that was cut off by the end of the process had set aside.

A job's directory is an orphan when the worker's machine knows nothing of the job: it is not open here, and none of its
attempts or outputs is. It goes once it has been one for `orphans_keep_s`, in which the master may name the job again.
Of what attempts printed the oldest goes first, beyond `logs_bytes_max`; what goes to the master is not touched by that.

What is no job of ours is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from minireduce.clock import Clock
from minireduce.frozen import dataclass
from minireduce.ids import JobId
from minireduce.worker.outputs import Outputs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CollectionLimits:
    """How often is looked, how long an orphan is kept, and how much all attempts together may have printed."""

    interval_s: float = 60.0
    orphans_keep_s: float = 600.0
    logs_bytes_max: int = 1 << 30


class Collector:
    """One data directory. `is_known` says whether the worker's machine knows a job."""

    def __init__(
        self, outputs: Outputs, clock: Clock, limits: CollectionLimits, is_known: Callable[[JobId], bool]
    ) -> None:
        self._outputs = outputs
        self._clock = clock
        self._limits = limits
        self._is_known = is_known
        self._orphaned_at: dict[JobId, float] = {}

    async def run(self) -> None:
        """Look again and again; never ends by itself."""
        while True:
            try:
                await self.collect()
            except OSError as error:  # a failing disk shows itself to those who need it
                log.warning("the disk of this worker cannot be tidied: %s", error)
            await asyncio.sleep(self._limits.interval_s)

    async def collect(self) -> None:
        """Look once."""
        found = await asyncio.to_thread(self._outputs.jobs)
        now = self._clock.now()
        orphans = [job for job in found if not self._is_known(job)]
        self._orphaned_at = {job: self._orphaned_at.get(job, now) for job in orphans}
        for job, since_s in self._orphaned_at.items():
            if now - since_s >= self._limits.orphans_keep_s:
                log.info("%s is not known here any more, and its files go", job)
                self._outputs.set_aside(job)  # at once, so that the job may come back and find its place free
        await asyncio.to_thread(self._outputs.remove_set_aside)
        await asyncio.to_thread(self._outputs.trim_logs, self._limits.logs_bytes_max)
