"""Decide which attempts on a worker run: those with their input at hand, while slots and memory last.

Attempts run in the order in which they were launched, except that reduces go before maps: a reduce that has all its
input holds disk space and ends a job sooner. One that does not fit in memory holds up those behind it, since a small
one that slips past could keep it waiting for ever; one that is larger than the whole worker runs alone.

Short maps of one step go to a task process many at a time, a batch (`pace.py` says how many), since handing over one
costs as much as a small one takes. The first of a batch holds the slot; when it ends the next one moves up. What a
process has not begun when another takes long, or when it dies, is given back and is ready again, as if nothing had
been.

Invariants: an attempt holds a slot and its memory from when it starts or moves up until it has ended or is given back.
Not here: how input comes to hand (fetches.py), and what the master is told (worker.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import StrEnum
from itertools import chain, islice

from minireduce.core.spec import LocalFiles, NumberRange, StepSpec
from minireduce.core.task_data import Counters, LargestKey, RecordPlace, SkippedRecord, TaskError, TaskInput, TaskOutput
from minireduce.core.work.bad_records import PLAIN, Care, Search
from minireduce.errors import InvariantViolation
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskKind

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The output is complete and durable under its attempt's name."""

    output: TaskOutput
    counters: Counters
    input_bytes: int = 0
    largest_key: LargestKey | None = None
    busy_s: float = 0.0  # how long the process worked for it; 0: not known


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
class AttemptsEnded:
    """Attempts of a batch have ended, in this order. `has_printed`: some of what they printed came meanwhile, and of
    which of them it was is not known.
    """

    ends: tuple[AttemptEnded, ...]
    has_printed: bool = False


@dataclass(frozen=True, slots=True)
class AttemptsGivenBack:
    """Attempts of a batch will not be ended by the process that has them: it died, or another takes long. Those that
    were not begun, and those whose end nobody heard of.
    """

    attempts: tuple[AttemptId, ...]


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
class MergedGroup:
    """Runs of a waiting attempt that were brought together: `count` of them from the place `first` on, the empty ones
    among them too. `pairs` were written.
    """

    first: int
    count: int
    bytes_total: int
    pairs: int


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run this attempt in a task process. `runs`: in the order of the tasks that wrote them; empty for splits.

    `output_text`: the job writes text in the end rather than typed pairs. An attempt may be run several
    times, one after the other, with another `care` each time. `ahead`: what was merged of these very runs.
    """

    attempt: AttemptId
    input: TaskInput
    step: StepSpec
    runs: tuple[InputRun, ...]
    output_text: bool
    care: Care = PLAIN
    ahead: tuple[MergedGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class StartBatch:
    """Run these one after the other in one task process. For each follows its end, or that it is given back."""

    orders: tuple[StartAttempt, ...]


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
    BEHIND = "behind others of its batch"
    UNWANTED = "behind others of its batch, and not wanted"
    RUNNING = "running"
    STOPPING = "stopping"  # it still holds its slot
    ENDED = "ended"

    __hash__ = str.__hash__


class Change(StrEnum):
    """What can happen to an attempt on its worker."""

    INPUT_COMPLETE = "its input came to hand"
    INPUT_LACKING = "some of its input went away"
    ADMITTED = "it was given a slot"
    HANDED_OVER = "it was given to a process behind others"
    MOVED_UP = "those before it ended"
    GIVEN_BACK = "its process gave it back"
    UNWANTED = "it was no longer wanted"
    PROCESS_ENDED = "its process ended"

    __hash__ = str.__hash__


TRANSITIONS: Mapping[tuple[Phase, Change], Phase] = {
    (Phase.WAITING, Change.INPUT_COMPLETE): Phase.READY,
    (Phase.WAITING, Change.UNWANTED): Phase.ENDED,
    (Phase.READY, Change.INPUT_LACKING): Phase.WAITING,
    (Phase.READY, Change.ADMITTED): Phase.RUNNING,
    (Phase.READY, Change.UNWANTED): Phase.ENDED,
    (Phase.READY, Change.HANDED_OVER): Phase.BEHIND,
    (Phase.BEHIND, Change.MOVED_UP): Phase.RUNNING,
    (Phase.BEHIND, Change.GIVEN_BACK): Phase.READY,
    (Phase.BEHIND, Change.UNWANTED): Phase.UNWANTED,
    (Phase.UNWANTED, Change.UNWANTED): Phase.UNWANTED,
    (Phase.UNWANTED, Change.MOVED_UP): Phase.STOPPING,
    (Phase.UNWANTED, Change.GIVEN_BACK): Phase.ENDED,
    (Phase.RUNNING, Change.GIVEN_BACK): Phase.READY,
    (Phase.STOPPING, Change.GIVEN_BACK): Phase.ENDED,
    (Phase.RUNNING, Change.UNWANTED): Phase.STOPPING,
    (Phase.RUNNING, Change.PROCESS_ENDED): Phase.ENDED,
    (Phase.STOPPING, Change.UNWANTED): Phase.STOPPING,
    (Phase.STOPPING, Change.PROCESS_ENDED): Phase.ENDED,
}


@dataclass(slots=True)
class Attempt:
    """One attempt. `story` tells its life for the text of an InvariantViolation.

    `batch` is shared by all that a process was given at once, in order, less those that have ended; `is_told`: the
    master has heard that it started.
    """

    id: AttemptId
    input: TaskInput
    step: StepSpec
    output_text: bool
    is_retry: bool = False
    skips: tuple[RecordPlace, ...] = ()
    runs: tuple[InputRun, ...] = ()  # known once it has a slot
    search: Search | None = None  # for bad records, from then on, where they may be skipped
    phase: Phase = Phase.WAITING
    ready_at: float = 0.0
    order: int = 0  # among all that were launched here
    is_told: bool = False
    batch: deque[Attempt] | None = None
    changes: list[tuple[float, Phase, Change]] = field(default_factory=list)

    @property
    def holds_slot(self) -> bool:
        return self.phase is Phase.RUNNING or self.phase is Phase.STOPPING

    @property
    def story(self) -> list[str]:
        return [f"{now:.3f} s, {phase}: {change}" for now, phase, change in self.changes]

    @property
    def may_be_batched(self) -> bool:
        """Whether it needs nothing but a process, and will be run only once."""
        return isinstance(self.input, _AT_HAND) and not (self.is_retry or self.skips or self.step.skips_bad_records)

    def start(self, care: Care) -> StartAttempt:
        """The order to run it."""
        return StartAttempt(self.id, self.input, self.step, self.runs, self.output_text, care)

    def change(self, change: Change, now: float) -> None:
        """Move on as the table says; anything else is a mistake of ours."""
        self.changes.append((now, self.phase, change))
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
        self._ready: dict[TaskKind, dict[int, Attempt]] = {TaskKind.REDUCE: {}, TaskKind.MAP: {}}
        self._is_in_order = True  # whether those that are ready stand in the order in which they were launched
        self._holding: dict[int, Attempt] = {}  # by their order, whose hash costs nothing, as are the ready ones
        self._merging: dict[AttemptId, int] = {}  # what waits and holds a slot for merging ahead, and its memory
        self._launched = 0

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

    def has_job(self, job: JobId) -> bool:
        """Whether any attempt of a job has not ended, or anything of one is being merged."""
        return any(attempt.task.job == job for attempt in chain(self._attempts, self._merging))

    def add(self, attempt: Attempt) -> None:
        """Take an attempt in, behind those that are here."""
        self._launched += 1
        self._attempts[attempt.id] = attempt
        attempt.order = self._launched

    def change(self, attempt: Attempt, change: Change, now: float) -> None:
        """Move an attempt on, and forget it when it has ended."""
        former = attempt.phase
        attempt.change(change, now)
        phase = attempt.phase
        if phase is Phase.READY:
            self._note_ready(attempt, now)
        elif former is Phase.READY:
            del self._ready[attempt.id.task.kind][attempt.order]
        if attempt.holds_slot:
            self._holding[attempt.order] = attempt
        elif former is Phase.RUNNING or former is Phase.STOPPING:
            del self._holding[attempt.order]
        if phase is Phase.ENDED:
            del self._attempts[attempt.id]
        if change is Change.PROCESS_ENDED or change is Change.GIVEN_BACK:
            self._leave_batch(attempt, now)

    def _note_ready(self, attempt: Attempt, now: float) -> None:
        ready = self._ready[attempt.id.task.kind]
        if self._is_in_order and ready:
            self._is_in_order = next(reversed(ready)) < attempt.order
        ready[attempt.order] = attempt
        attempt.ready_at = now

    def _leave_batch(self, attempt: Attempt, now: float) -> None:
        """The first of those that are left in a batch holds its slot."""
        batch, attempt.batch = attempt.batch, None
        if batch is None:
            return
        if batch[0] is not attempt:
            batch.remove(attempt)
            return
        batch.popleft()
        if batch:
            self.change(batch[0], Change.MOVED_UP, now)

    @property
    def exceeding_max(self) -> int:
        """How many reduces may fetch beyond the budget: as many as slots, those that are ready counted."""
        return max(0, self._slots - len(self._ready[TaskKind.REDUCE]))

    def admissible(self) -> list[Attempt]:
        """The ready attempts that may start now, in this order."""
        slots = self.free_slots
        if slots <= 0 or not any(self._ready.values()):
            return []
        memory_bytes = self._free_bytes
        is_idle = not self._holding and not self._merging
        admitted: list[Attempt] = []
        for attempt in self._in_turn():
            if attempt.id in self._merging:
                continue  # what is merged for it spares it just that
            fits = attempt.step.memory_limit_bytes <= memory_bytes or (is_idle and not admitted)
            if len(admitted) == slots or not fits:
                break
            memory_bytes -= attempt.step.memory_limit_bytes
            admitted.append(attempt)
        return admitted

    @property
    def free_slots(self) -> int:
        """How many slots nothing holds."""
        return self._slots - len(self._holding) - len(self._merging)

    @property
    def _free_bytes(self) -> int:
        held = sum(each.step.memory_limit_bytes for each in self._holding.values())
        return self._memory_bytes - held - sum(self._merging.values())

    @property
    def want_slots(self) -> bool:
        """Whether any that is ready waits for others to end, and not for what is merged for itself."""
        merged = (self._attempts.get(each) for each in self._merging)
        served = sum(1 for attempt in merged if attempt is not None and attempt.phase is Phase.READY)
        return sum(map(len, self._ready.values())) > served

    def begin_merge(self, attempt: Attempt) -> bool:
        """Give a slot to what is merged for an attempt that waits, if one is free, and memory."""
        if self.free_slots <= 0 or attempt.step.memory_limit_bytes > self._free_bytes:
            return False
        self._merging[attempt.id] = attempt.step.memory_limit_bytes
        return True

    def end_merge(self, attempt: AttemptId) -> None:
        """What was merged for an attempt, which may have ended, holds a slot no longer."""
        del self._merging[attempt]

    def followers(self, first: Attempt, batch_size: int, slots: int) -> list[Attempt]:
        """The ready attempts like `first`, which was admitted, that go into one batch with it: no more than its share
        of what so many slots have before them.
        """
        task = first.id.task
        found = (
            each
            for each in self._in_turn()
            if each.id.task.step == task.step
            and each.id.task.job == task.job
            and each.id.task.kind is task.kind
            and each.may_be_batched
        )
        ready = sum(map(len, self._ready.values()))
        return list(islice(found, min(batch_size, 1 + ready // slots) - 1))

    def batch(self, members: list[Attempt], now: float) -> None:
        """The first was admitted; the others go behind it."""
        batch = deque(members)
        for attempt in members:
            attempt.batch = batch
        for attempt in members[1:]:
            self.change(attempt, Change.HANDED_OVER, now)

    def ready_since(self, before: float) -> list[Attempt]:
        """The maps of splits that have been ready since before then."""
        return [
            each
            for each in self._ready[TaskKind.MAP].values()
            if each.ready_at < before and isinstance(each.input, _AT_HAND)
        ]

    def _in_turn(self) -> Iterator[Attempt]:
        """What is ready: reduces, then maps, each as launched. Sorted only where something came back, since thousands
        of short maps may be ready.
        """
        if not self._is_in_order:
            for kind, ready in self._ready.items():
                self._ready[kind] = dict(sorted(ready.items()))
            self._is_in_order = True
        return chain.from_iterable(ready.values() for ready in self._ready.values())


_AT_HAND = (LocalFiles, NumberRange)
"""What a process reads by itself. The input of other tasks their worker prepares, or reads for them."""
