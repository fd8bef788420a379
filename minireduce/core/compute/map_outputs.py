"""Tell each worker where the map outputs are that its reduce attempts must fetch.

A step logs its finished map outputs in order; a worker is told what it has not heard yet, many in one command, for as
long as a reduce attempt of the step gathers its input there. A worker that gathers for the step anew hears the log from
its beginning. Telling a thing twice is harmless: the latest source of a map task counts.

Every worker must hear of every output, so how often news goes out decides what it costs: while maps still run, all that
finish within `ANNOUNCE_INTERVAL_S` go together; the first and the last of a step go at once, since others wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from minireduce.core.compute.job import Step
from minireduce.core.effects import Effects
from minireduce.core.messages import MapOutputsLost, MapOutputsReady
from minireduce.core.task_data import OutputSource
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, WorkerId

SOURCES_PER_COMMAND_MAX = 1000
ANNOUNCE_INTERVAL_S = 0.1


@dataclass(slots=True)
class _Audience:
    gathering: int = 0  # reduce attempts on this worker that lack some input
    heard: int = 0  # entries of the step's log


@dataclass(slots=True)
class _Hall:
    """All who gather for one step."""

    audiences: dict[WorkerId, _Audience] = field(default_factory=dict)
    told_s: float | None = None
    lost: list[AttemptId] = field(default_factory=list)


class Announcements:
    """Who has heard how much of which step's log."""

    def __init__(self, find_step: Callable[[JobId, int], Step | None]) -> None:
        self._find_step = find_step
        self._halls: dict[tuple[JobId, int], _Hall] = {}
        self._with_news: dict[tuple[JobId, int], None] = {}

    def begin(self, worker: WorkerId, job: JobId, step: int) -> None:
        """A reduce attempt of the step was placed on the worker."""
        hall = self._halls.setdefault((job, step), _Hall())
        if worker not in hall.audiences:
            hall.audiences[worker] = _Audience()
            hall.told_s = None
            self._with_news[job, step] = None
        hall.audiences[worker].gathering += 1

    def end(self, worker: WorkerId, job: JobId, step: int) -> None:
        """It has all its input, or ended."""
        hall = self._halls.get((job, step))
        audience = hall.audiences.get(worker) if hall is not None else None
        if hall is not None and audience is not None:
            audience.gathering -= 1
            if not audience.gathering:
                self._leave(worker, (job, step), hall)

    def forget_worker(self, worker: WorkerId) -> None:
        """A new session: whatever the worker heard counts no more."""
        for key, hall in list(self._halls.items()):
            if worker in hall.audiences:
                self._leave(worker, key, hall)

    def _leave(self, worker: WorkerId, key: tuple[JobId, int], hall: _Hall) -> None:
        del hall.audiences[worker]
        if not hall.audiences:
            del self._halls[key]
            self._with_news.pop(key, None)

    def add(self, job: JobId, step: int) -> None:
        """The step's log has grown."""
        if (job, step) in self._halls:
            self._with_news[job, step] = None

    def retract(self, attempt: AttemptId) -> None:
        """An output is gone: nobody should go on trying to fetch it."""
        key = (attempt.task.job, attempt.task.step)
        if key in self._halls:
            self._halls[key].lost.append(attempt)
            self._with_news[key] = None

    def announce(self, now: float, effects: Effects) -> None:
        """Tell every worker what it has not heard, and should by now."""
        for key in list(self._with_news):
            step = self._find_step(*key)
            hall = self._halls[key]
            if step is None:
                del self._with_news[key]
                continue
            _tell_losses(hall, effects)
            are_maps_done = step.maps_done == len(step.maps)
            if hall.told_s is None or are_maps_done or now - hall.told_s >= ANNOUNCE_INTERVAL_S:
                if _tell_news(key, step, hall, effects):
                    hall.told_s = now
                del self._with_news[key]


def _tell_losses(hall: _Hall, effects: Effects) -> None:
    if hall.lost:
        command = MapOutputsLost(tuple(hall.lost))
        hall.lost = []
        for worker in hall.audiences:
            effects.command(worker, command)


def _tell_news(key: tuple[JobId, int], step: Step, hall: _Hall, effects: Effects) -> bool:
    """Whether there was anything to tell."""
    commands: dict[int, MapOutputsReady] = {}  # by where they begin: most have heard equally much
    for worker, audience in hall.audiences.items():
        while audience.heard < len(step.ready):
            command = commands.get(audience.heard)
            if command is None:
                entries = step.ready[audience.heard : audience.heard + SOURCES_PER_COMMAND_MAX]
                command = commands[audience.heard] = MapOutputsReady(*key, tuple(_current(step, entries)))
            audience.heard = min(audience.heard + SOURCES_PER_COMMAND_MAX, len(step.ready))
            if command.sources:
                effects.command(worker, command)
    return any(command.sources for command in commands.values())


def _current(step: Step, entries: list[OutputSource]) -> list[OutputSource]:
    """Those that still count: the log of a step whose outputs were lost names some that are gone."""
    winners = ((entry, step.maps[entry.attempt.task.index].winner) for entry in entries)
    return [entry for entry, winner in winners if winner is not None and winner.is_output_of(entry)]
