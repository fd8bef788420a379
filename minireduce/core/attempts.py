"""Decide which attempts on a worker run: those with their input at hand, while slots and memory last."""

from __future__ import annotations

from dataclasses import dataclass

from minireduce.core.messages import Counters, TaskError, TaskInput, TaskOutput
from minireduce.core.spec import StepSpec
from minireduce.ids import AttemptId

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The output is complete and durable under its attempt's name."""

    output: TaskOutput
    counters: Counters


@dataclass(frozen=True, slots=True)
class Failed:
    """User code raised, or its process crashed, exited, or overran a limit."""

    error: TaskError


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
class ProgressMade:
    """How far a running attempt is; the fields are those of `AttemptProgressed`."""

    attempt: AttemptId
    fraction: float
    records: int
    status: str = ""


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class InputRun:
    """One input of an attempt: the output of `source`, in place when `is_own`, else as fetched for this attempt."""

    source: AttemptId
    is_own: bool


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run this attempt in a task process. `runs`: in the order of the tasks that wrote them; empty for splits.

    `output_text`: this attempt writes the job's final text rather than typed pairs.
    """

    attempt: AttemptId
    input: TaskInput
    step: StepSpec
    runs: tuple[InputRun, ...]
    output_text: bool


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """End the process of this attempt; `AttemptEnded` follows, with whatever outcome was first."""

    attempt: AttemptId
    reason: str
