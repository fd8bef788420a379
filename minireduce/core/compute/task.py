"""One task and its attempts: who tries it, how each try ended, and whose output counts.

A task is *done* while the output of its winner is present; an output that is gone makes it *pending* again, yet its
counters stay, since each task counts once whatever became of its output. Failed, lost and killed are kept apart: only
failures count against the job's `attempts_max`, losses have a limit of their own, kills count for nothing, and neither
does what a worker returned because it had no slot for it.

Attempt numbers are never used twice. Launches are not persisted, so each epoch of the master starts a hundred of its
own: after a restart, an attempt that nobody remembers cannot share its number with a new one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import field, replace
from enum import StrEnum
from typing import Protocol

from minireduce.core.compute.locality import NOWHERE, Homes
from minireduce.core.messages import AttemptProgressed, AttemptSucceeded
from minireduce.core.task_data import Counters, LargestKey, OutputSource, TaskOutput
from minireduce.core.views import SkippedView
from minireduce.errors import InvariantViolation
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, TaskId, WorkerId

ATTEMPTS_PER_EPOCH_MAX = 100
LOSSES_PER_WORKER_MAX = 2
"""A task that was lost so often on one worker goes elsewhere, if it can."""


class AttemptState(StrEnum):
    """LAUNCHED: sent to its worker, which gathers the input. RUNNING: it has its input and a slot. RETURNED: its worker
    could not begin it, and gave it back.
    """

    LAUNCHED = "launched"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    KILLED = "killed"
    RETURNED = "returned"

    __hash__ = str.__hash__

    @property
    def is_live(self) -> bool:
        return self is _LAUNCHED or self is _RUNNING


_S = AttemptState
_LAUNCHED, _RUNNING = _S.LAUNCHED, _S.RUNNING
TRANSITIONS: frozenset[tuple[AttemptState, AttemptState]] = frozenset(
    {(_S.LAUNCHED, _S.RUNNING), (_S.LAUNCHED, _S.RETURNED), (_S.RUNNING, _S.RETURNED)}
    | {(live, end) for live in (_S.LAUNCHED, _S.RUNNING) for end in (_S.SUCCEEDED, _S.FAILED, _S.LOST, _S.KILLED)}
)


class TaskState(StrEnum):
    """PENDING: has no live attempt and no output. RUNNING: has a live attempt. DONE: its winner's output is there."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"

    __hash__ = str.__hash__


@dataclass(slots=True)
class Attempt:
    """One try. `fraction` and `records` are as last reported, `message` says how it ended. `started_s` is since when it
    has its input and a slot, `moved_s` when it was last heard to have read on.
    """

    id: AttemptId
    worker: WorkerId
    launched_s: float
    state: AttemptState = AttemptState.LAUNCHED
    is_backup: bool = False
    started_s: float | None = None
    moved_s: float = 0.0
    marks: tuple[tuple[float, float], tuple[float, float]] | None = None  # two moments of late, and how far it was
    ended_s: float | None = None
    fraction: float = 0.0
    records: int = 0
    status: str = ""
    message: str = ""
    is_written: bool = False  # into the history

    def progress(self, fraction: float, records: int, now: float, window_s: float) -> None:
        """It was heard to be so far."""
        if (fraction, records) != (self.fraction, self.records):
            self.moved_s = now
        self.fraction, self.records = fraction, records
        if self.marks is None:
            self.marks = (now, fraction), (now, fraction)
        elif now - self.marks[1][0] >= window_s:
            self.marks = self.marks[1], (now, fraction)

    @property
    def elapsed_s(self) -> float:
        """How long an attempt that has ended took, from its launch on."""
        return self.ended_s - self.launched_s if self.ended_s is not None else 0.0

    @property
    def fraction_per_s(self) -> float:
        """How fast it has been of late; 0 when that is not known yet."""
        if self.marks is None or self.marks[0] == self.marks[1]:
            return 0.0
        since_s, fraction = self.marks[0]
        return (self.fraction - fraction) / max(self.moved_s - since_s, 1e-3)

    def become(self, state: AttemptState, now: float, message: str = "") -> None:
        """Move to `state`; anything that the table does not hold is our own fault."""
        if (self.state, state) not in TRANSITIONS:
            raise InvariantViolation(
                f"{self.id} on {self.worker} cannot go from {self.state} to {state}: {self.message}"
            )
        self.state = state
        self.message = message
        if state is AttemptState.RUNNING:
            self.started_s = self.moved_s = now
        if not state.is_live:
            self.ended_s = now


@dataclass(frozen=True, slots=True)
class Winner:
    """The attempt whose output counts. `worker` is "" once that output is gone."""

    attempt: AttemptId
    worker: WorkerId
    output: TaskOutput
    counters: Counters

    def is_output_of(self, source: OutputSource) -> bool:
        """Whether this is what `source` says where it is; not once it is gone."""
        return (self.attempt, self.worker) == (source.attempt, source.worker)


class WaitingList(Protocol):
    """Where a task waits for a slot (queue.py)."""

    def left(self, task: Task) -> None:
        """A task waits no more; called by the task, which is still in this queue."""


@dataclass(slots=True)
class Task:
    """One task; in `queue` while it waits for a slot, and there known to be near `homes`.

    `input_bytes` is what an attempt said that it reads, 0 as long as none did, and `largest_key` what most of it is.
    """

    id: TaskId
    first_number: int
    memory_limit_bytes: int
    state: TaskState = TaskState.PENDING
    attempts: list[Attempt] = field(default_factory=list)
    failures: int = 0
    losses: int = 0
    fetch_reports: int = 0
    moves: int = 0  # how often it was taken from a worker that could not read its input
    shunned: dict[WorkerId, None] = field(default_factory=dict)  # where it should not be made again
    winner: Winner | None = None
    copies: dict[WorkerId, None] = field(default_factory=dict)  # other workers that hold the winner's part
    queue: WaitingList | None = None
    homes: Homes = NOWHERE
    numbers_used: int = 0
    running_since_s: float = 0.0  # since when it has had live attempts without a break
    input_bytes: int = 0
    largest_key: LargestKey | None = None
    blamed: dict[int, None] = field(default_factory=dict)  # positions of records at which attempts failed
    skipped: dict[int, SkippedView] = field(default_factory=dict)  # records found to be bad, by their positions

    @property
    def is_done(self) -> bool:
        return self.state is TaskState.DONE

    def note_input(self, report: AttemptProgressed | AttemptSucceeded) -> None:
        """An attempt says what it reads."""
        self.input_bytes = report.input_bytes or self.input_bytes
        self.largest_key = report.largest_key or self.largest_key

    @property
    def avoided(self) -> frozenset[WorkerId]:
        """The workers that should not try this task while another can: it failed there, was lost there more than once,
        or could not be read from there.
        """
        if not (self.failures or self.losses or self.shunned):
            return frozenset()
        failed = [attempt.worker for attempt in self.attempts if attempt.state is AttemptState.FAILED]
        lost = Counter(attempt.worker for attempt in self.attempts if attempt.state is AttemptState.LOST)
        often = [worker for worker, times in lost.items() if times >= LOSSES_PER_WORKER_MAX]
        return frozenset((*failed, *often, *self.shunned))

    @property
    def is_queued(self) -> bool:
        return self.queue is not None

    def leave_queue(self) -> None:
        """It waits for no slot, any more."""
        if self.queue is not None:
            self.queue.left(self)
            self.queue = None

    @property
    def live_attempts(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.state is _LAUNCHED or attempt.state is _RUNNING]

    @property
    def has_started(self) -> bool:
        """Whether all that try it have their input at hand, so that nobody else need keep it for this task. A backup
        that still gathers keeps it wanted: the original may never end.
        """
        live = self.live_attempts
        return bool(live) and all(attempt.state is AttemptState.RUNNING for attempt in live)

    def find(self, attempt: AttemptId) -> Attempt | None:
        """The attempt of this id, if this master launched or adopted it."""
        for mine in self.attempts:
            if mine.id.number == attempt.number:
                return mine
        return None

    @property
    def is_used_up(self) -> bool:
        """Whether this epoch has no number left: kills and lost outputs have no limit but this."""
        return self.numbers_used >= ATTEMPTS_PER_EPOCH_MAX

    def launch(self, worker: WorkerId, now: float, *, is_backup: bool = False) -> Attempt:
        """A new attempt on `worker`."""
        if self.is_used_up:
            raise InvariantViolation(f"{self.id} has used up its {ATTEMPTS_PER_EPOCH_MAX} attempts of this epoch")
        attempt = Attempt(
            AttemptId(self.id, self.first_number + self.numbers_used), worker, now, is_backup=is_backup, moved_s=now
        )
        self.numbers_used += 1
        self._add(attempt)
        return attempt

    def adopt(self, attempt: AttemptId, worker: WorkerId, now: float) -> Attempt:
        """Take over an attempt that an earlier master launched. Whether it has its input is not known: LAUNCHED."""
        adopted = Attempt(attempt, worker, now, moved_s=now)
        self._add(adopted)
        return adopted

    def _add(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.state = TaskState.RUNNING if self.state is TaskState.PENDING else self.state
        self.leave_queue()

    def win(self, winner: Winner) -> None:
        """`winner`'s output counts from now on."""
        self.winner = winner
        self.state = TaskState.DONE
        self.leave_queue()
        self.fetch_reports = 0

    def left_out(self) -> list[SkippedView]:
        """The bad records that the winner's output lacks; before there is a winner, all that are known."""
        known = [self.skipped[position] for position in sorted(self.skipped)]
        if self.winner is None:
            return known
        positions = set(self.winner.output.skipped)
        return [view for view in known if view.record.place.position in positions]

    def lose_output(self) -> None:
        """The winner's output is gone; its counters stay."""
        if self.winner is None or not self.is_done:
            raise InvariantViolation(f"{self.id} is {self.state} and has no output to lose")
        self.winner = replace(self.winner, worker="")
        self.settle()

    def move_output(self, worker: WorkerId) -> None:
        """The winner's part is on another worker from now on."""
        if self.winner is None or not self.is_done:
            raise InvariantViolation(f"{self.id} is {self.state} and has no output to move")
        self.winner = replace(self.winner, worker=worker)

    def settle(self) -> None:
        """After an attempt ended or an output went: RUNNING while another attempt lives, else PENDING."""
        if self.winner is None or not self.winner.worker:
            self.state = TaskState.RUNNING if self.live_attempts else TaskState.PENDING

    def source(self, address: str) -> OutputSource:
        """Where the output is; only of a task that is done."""
        if self.winner is None or not self.is_done:
            raise InvariantViolation(f"{self.id} is {self.state} and has no output")
        return OutputSource(self.winner.attempt, self.winner.worker, address, self.winner.output.bytes_total)
