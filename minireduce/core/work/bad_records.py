"""Find out which records of a task are bad: what the next run of an attempt is to do, after one that failed.

Only where a job allows records to be skipped. The attempt stays the same for the master and keeps its slot; on its
worker it is run again and again, each time in a fresh process:

    plain     as fast as it can, or careful from the start where an attempt of the task failed before
    careful   goes on after what user code raises, and so names all suspects; a crash names one
    probe     one suspect alone: if it fails again, it is bad, else the attempt fails with what it was suspected for
    careful   without those that are bad; and so on, until a run goes through

Everything that is a failure makes a probe blame its record: an exception, a crash, an exit, an overrun time or memory.
What is lost (an input that cannot be read, a kill from outside) never does: it ends the attempt, as always, which costs
no more than that another one begins with the records that are known by then.

Invariants: a record is skipped only after a probe of it failed; a probe blames no record twice, so each round leaves
one record more out and the search ends; what a run with suspects leaves is never used.
Not here: how many records may be skipped (compute/bad_records.py), how a run treats its records (the engine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

from minireduce.core.task_data import RecordPlace, SkippedRecord, TaskError
from minireduce.frozen import dataclass

NO_PROBE = -1

TOLD_CHARACTERS_MAX = 4000
"""Of a message or traceback that is kept with a bad record, its end: many may have to be kept."""


@dataclass(frozen=True, slots=True)
class Care:
    """How one run treats its records. `probe`: the position of the one to compute, alone."""

    is_place_exact: bool = False  # note each record before user code sees it, so that it is told whatever happens
    is_careful: bool = False
    skips: tuple[RecordPlace, ...] = ()
    probe: int = NO_PROBE


PLAIN = Care()


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The attempt failed, with this."""

    error: TaskError


@dataclass(slots=True)
class Search:
    """The search of one attempt. `skips` are the records known to be bad when it began."""

    skips: tuple[RecordPlace, ...]
    care: Care
    probes_max: int
    probes: int = 0
    _suspects: list[TaskError] = field(default_factory=list)

    def failed(
        self, error: TaskError, suspects: Sequence[TaskError], probed: SkippedRecord | None
    ) -> tuple[Care | GiveUp, SkippedRecord | None]:
        """What to do after a run failed with `error`, and the record that this shows to be bad.

        `suspects`: those that a careful run found; `probed`: the record that a probe failed at.
        """
        if self.care.probe != NO_PROBE:
            if probed is None:  # it did not come so far as to the record
                return GiveUp(error), None
            bad = replace(probed, error=_shortened(_placed(error, self._suspects[0])))
            self.skips = (*self.skips, bad.place)
            return self._next(), bad
        if not self.care.is_careful:
            return self._set(self._careful()), None
        found = list(suspects)
        if error.position >= 0 and all(error.position != suspect.position for suspect in found):
            found.append(error)
        known = {place.position for place in self.skips}
        self._suspects = [suspect for suspect in found if suspect.position >= 0 and suspect.position not in known]
        if not self._suspects:
            return GiveUp(error), None
        return self._next(), None

    def went_through(self) -> GiveUp | None:
        """What to do after a run that succeeded: nothing, unless it was a probe, whose record then is a good one."""
        return GiveUp(self._suspects[0]) if self.care.probe != NO_PROBE else None

    def _next(self) -> Care | GiveUp:
        """Probe the next suspect; without any, run the task again."""
        if self.care.probe != NO_PROBE:
            del self._suspects[0]
        if not self._suspects:
            return self._set(self._careful())
        if self.probes == self.probes_max:
            return GiveUp(self._suspects[0])
        self.probes += 1
        return self._set(Care(is_place_exact=True, probe=self._suspects[0].position))

    def _careful(self) -> Care:
        return Care(is_place_exact=True, is_careful=True, skips=self.skips)

    def _set(self, care: Care) -> Care:
        self.care = care
        return care


def _placed(error: TaskError, suspect: TaskError) -> TaskError:
    """What a probe came to, at the place of the record that it was about."""
    return replace(
        error,
        path=suspect.path or error.path,
        offset=suspect.offset,
        record=suspect.record or error.record,
        position=suspect.position,
        proof=suspect.proof,
    )


def _shortened(error: TaskError) -> TaskError:
    message, traceback = error.message[-TOLD_CHARACTERS_MAX:], error.traceback[-TOLD_CHARACTERS_MAX:]
    return replace(error, message=message, traceback=traceback)
