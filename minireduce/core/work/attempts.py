"""Decide which attempts on a worker run: those with their input at hand, while slots and memory last.

Attempts run in the order in which they were launched, except that reduces go before maps: a reduce that has all its
input holds disk space and ends a job sooner. One that does not fit in memory holds up those behind it, since a small
one that slips past could keep it waiting for ever; one that is larger than the whole worker runs alone.

Invariants: an attempt holds a slot and its memory from `StartAttempt` to `AttemptEnded`, and at no other time.
Not here: how input comes to hand (fetches.py), and what the master is told (worker.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from minireduce.core.messages import Counters, LargestKey, Place, SkippedRecord, TaskError, TaskInput, TaskOutput
from minireduce.core.spec import StepSpec
from minireduce.core.work.bad_records import PLAIN, Care, Search
from minireduce.errors import InvariantViolation
from minireduce.ids import AttemptId, JobId, TaskKind

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The output is complete and durable under its attempt's name."""

    output: TaskOutput
    counters: Counters
    input_bytes: int = 0
    largest_key: LargestKey | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """User code raised, or its process crashed, exited, or overran a limit.

    `suspects`: the records that a careful run could not compute; `probed`: the record that a probe failed at.
    """

    error: TaskError
    suspects: tuple[TaskError, ...] = ()
    probed: SkippedRecord | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The process ended through no fault of user code."""

    reason: str


@dataclass(frozen=True, slots=True)
class Killed:
    """The process ended because of `StopAttempt`."""


AttemptOutcome = Succeeded | Failed | Lost | Killed


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The process of an attempt is done with it. Exactly one follows each `StartAttempt`, stopped or not."""

    attempt: AttemptId
    outcome: AttemptOutcome


@dataclass(frozen=True, slots=True)
class OutputFoundMissing:
    """A finished output of this worker is not there, or damaged: a process here could not read it."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class CopyFoundDamaged:
    """What was fetched of `source` for `attempt` is damaged, here or already where it came from."""

    attempt: AttemptId
    source: AttemptId


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """How far a running attempt is; the fields are those of `AttemptProgressed`."""

    attempt: AttemptId
    fraction: float
    records: int
    status: str = ""
    input_bytes: int = 0
    largest_key: LargestKey | None = None


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class InputRun:
    """One input of an attempt: the output of `source`, in place when `is_own`, else as fetched for this attempt."""

    source: AttemptId
    is_own: bool


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run this attempt in a task process. `runs`: in the order of the tasks that wrote them; empty for splits.

    `output_text`: this attempt writes the job's final text rather than typed pairs. An attempt may be run several
    times, one after the other, with another `care` each time.
    """

    attempt: AttemptId
    input: TaskInput
    step: StepSpec
    runs: tuple[InputRun, ...]
    output_text: bool
    care: Care = PLAIN


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """End the process of this attempt; `AttemptEnded` follows, with whatever outcome was first."""

    attempt: AttemptId
    reason: str


# ── the life of an attempt on its worker ────────────────────────────────────────────────────────────────────────────


class Phase(StrEnum):
    """Where an attempt stands on its worker."""

    WAITING = "waiting"  # for its input
    READY = "ready"  # for a slot
    RUNNING = "running"
    STOPPING = "stopping"  # it still holds its slot
    ENDED = "ended"


class Change(StrEnum):
    """What can happen to an attempt on its worker."""

    INPUT_COMPLETE = "its input came to hand"
    INPUT_LACKING = "some of its input went away"
    ADMITTED = "it was given a slot"
    UNWANTED = "it was no longer wanted"
    PROCESS_ENDED = "its process ended"


TRANSITIONS: Mapping[tuple[Phase, Change], Phase] = {
    (Phase.WAITING, Change.INPUT_COMPLETE): Phase.READY,
    (Phase.WAITING, Change.UNWANTED): Phase.ENDED,
    (Phase.READY, Change.INPUT_LACKING): Phase.WAITING,
    (Phase.READY, Change.ADMITTED): Phase.RUNNING,
    (Phase.READY, Change.UNWANTED): Phase.ENDED,
    (Phase.RUNNING, Change.UNWANTED): Phase.STOPPING,
    (Phase.RUNNING, Change.PROCESS_ENDED): Phase.ENDED,
    (Phase.STOPPING, Change.UNWANTED): Phase.STOPPING,
    (Phase.STOPPING, Change.PROCESS_ENDED): Phase.ENDED,
}


@dataclass(slots=True)
class Attempt:
    """One attempt. `story` tells its life for the text of an InvariantViolation."""

    id: AttemptId
    input: TaskInput
    step: StepSpec
    output_text: bool
    is_retry: bool = False
    skips: tuple[Place, ...] = ()
    runs: tuple[InputRun, ...] = ()  # known once it has a slot
    search: Search | None = None  # for bad records, from then on, where they may be skipped
    phase: Phase = Phase.WAITING
    story: list[str] = field(default_factory=list)

    @property
    def holds_slot(self) -> bool:
        return self.phase in {Phase.RUNNING, Phase.STOPPING}

    def start(self, care: Care) -> StartAttempt:
        """The order to run it."""
        return StartAttempt(self.id, self.input, self.step, self.runs, self.output_text, care)

    def change(self, change: Change, now: float) -> None:
        """Move on as the table says; anything else is a mistake of ours."""
        self.story.append(f"{now:.3f} s, {self.phase}: {change}")
        following = TRANSITIONS.get((self.phase, change))
        if following is None:
            raise InvariantViolation(
                f"attempt {self.id} cannot be {self.phase} when {change}\n  " + "\n  ".join(self.story)
            )
        self.phase = following


class Attempts:
    """All attempts that have not ended, in the order in which they were launched."""

    def __init__(self, *, slots: int, memory_bytes: int) -> None:
        self._slots = slots
        self._memory_bytes = memory_bytes
        self._attempts: dict[AttemptId, Attempt] = {}

    def __contains__(self, attempt: AttemptId) -> bool:
        return attempt in self._attempts

    def __iter__(self) -> Iterator[Attempt]:
        return iter(tuple(self._attempts.values()))

    def __len__(self) -> int:
        return len(self._attempts)

    def get(self, attempt: AttemptId) -> Attempt | None:
        """The attempt, unless it ended or was never here."""
        return self._attempts.get(attempt)

    def of_job(self, job: JobId) -> list[Attempt]:
        """The attempts of a job that have not ended."""
        return [attempt for attempt in self._attempts.values() if attempt.id.task.job == job]

    def add(self, attempt: Attempt) -> None:
        """Take an attempt in, behind those that are here."""
        self._attempts[attempt.id] = attempt

    def change(self, attempt: Attempt, change: Change, now: float) -> None:
        """Move an attempt on, and forget it when it has ended."""
        attempt.change(change, now)
        if attempt.phase is Phase.ENDED:
            del self._attempts[attempt.id]

    @property
    def exceeding_max(self) -> int:
        """How many reduces may fetch beyond the budget: as many as slots, those that are ready counted."""
        ready = sum(1 for attempt in self._attempts.values() if attempt.phase is Phase.READY and _is_reduce(attempt))
        return max(0, self._slots - ready)

    def admissible(self) -> list[Attempt]:
        """The ready attempts that may start now, in this order."""
        holding = [attempt for attempt in self._attempts.values() if attempt.holds_slot]
        slots = self._slots - len(holding)
        if slots <= 0:
            return []
        memory_bytes = self._memory_bytes - sum(attempt.step.memory_limit_bytes for attempt in holding)
        is_idle = not holding
        admitted: list[Attempt] = []
        for attempt in self._ready():
            fits = attempt.step.memory_limit_bytes <= memory_bytes or (is_idle and not admitted)
            if len(admitted) == slots or not fits:
                break
            memory_bytes -= attempt.step.memory_limit_bytes
            admitted.append(attempt)
        return admitted

    def _ready(self) -> list[Attempt]:
        ready = [attempt for attempt in self._attempts.values() if attempt.phase is Phase.READY]
        return sorted(ready, key=_is_reduce, reverse=True)  # stable: by launch within reduces, then within maps


def _is_reduce(attempt: Attempt) -> bool:
    return attempt.id.task.kind is TaskKind.REDUCE
