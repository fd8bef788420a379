"""Tell each worker where the map outputs are that its reduce attempts must fetch.

A step logs its finished map outputs in order; a worker is told what it has not heard yet, many in one command, for as
long as a reduce attempt of the step gathers its input there. A worker that gathers for the step anew hears the log from
its beginning. Telling a thing twice is harmless: the latest source of a map task counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minireduce.core.compute.job import Step
from minireduce.core.effects import Effects
from minireduce.core.messages import MapOutputsLost, MapOutputsReady
from minireduce.ids import AttemptId, JobId, WorkerId

SOURCES_PER_COMMAND_MAX = 1000


@dataclass(slots=True)
class _Audience:
    gathering: int = 0  # reduce attempts on this worker that lack some input
    heard: int = 0  # entries of the step's log


class Announcements:
    """Who has heard how much of which step's log."""

    def __init__(self, find_step: Callable[[JobId, int], Step | None]) -> None:
        self._find_step = find_step
        self._audiences: dict[tuple[WorkerId, JobId, int], _Audience] = {}

    def begin(self, worker: WorkerId, job: JobId, step: int) -> None:
        """A reduce attempt of the step was placed on the worker."""
        self._audiences.setdefault((worker, job, step), _Audience()).gathering += 1

    def end(self, worker: WorkerId, job: JobId, step: int) -> None:
        """It has all its input, or ended."""
        audience = self._audiences.get((worker, job, step))
        if audience is not None:
            audience.gathering -= 1
            if not audience.gathering:
                del self._audiences[worker, job, step]

    def forget_worker(self, worker: WorkerId) -> None:
        """A new session: whatever the worker heard counts no more."""
        for key in [key for key in self._audiences if key[0] == worker]:
            del self._audiences[key]

    def retract(self, attempt: AttemptId, effects: Effects) -> None:
        """An output is gone: nobody should go on trying to fetch it."""
        for worker, job, step in self._audiences:
            if job == attempt.task.job and step == attempt.task.step:
                effects.command(worker, MapOutputsLost((attempt,)))

    def announce(self, effects: Effects) -> None:
        """Tell every worker what it has not heard."""
        for (worker, job, index), audience in self._audiences.items():
            step = self._find_step(job, index)
            if step is None:
                continue
            while audience.heard < len(step.ready):
                sources = step.ready[audience.heard : audience.heard + SOURCES_PER_COMMAND_MAX]
                audience.heard += len(sources)
                effects.command(worker, MapOutputsReady(job, index, tuple(sources)))
