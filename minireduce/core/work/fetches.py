"""Decide which map outputs and parts a worker fetches next, on behalf of attempts that wait for them.

An attempt that reads what other attempts wrote expects one run of each of their tasks. A run that this worker wrote
itself is read in place; any other is fetched from where the master says it is, and the latest word on a task counts. A
fetched copy stays good whatever becomes of its source, until its attempt ends: no two attempts share one.

Fetching begins while maps still run, which hides most of the network behind them, but only within
`prefetch_bytes_max`. When all sources of an attempt are known it may pass that bound, if it is among the first that the
slots can take: else a budget full of half-fetched reduces could wait for ever. A part that is fetched only to be kept
(`is_copy`) stands beside that budget, since it waits for nobody.

A source that does not answer is tried again after a pause that doubles, and the master is told after every
`fetch_tries_per_report` tries, since it alone sees whether others get through. A source that answers that it does not
have the output is reported at once and left until the master names another.

Many outputs of one worker go into one request (requests.py). When its answer breaks off, the output that was coming
was tried, and those behind it were not reached: they are asked for again at once.

Invariants: at most one fetch under way for each (attempt, task); every fetch is part of one request.
Not here: limits of requests (requests.py), connections, files and checksums (worker.fetcher), and when an attempt with
all its input runs (attempts.py).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import field
from random import Random

from minireduce.core.messages import AttemptSucceeded, FetchFailed
from minireduce.core.settings import WorkerSettings
from minireduce.core.task_data import OutputSource
from minireduce.core.work.attempts import InputRun
from minireduce.core.work.requests import Fetch, Requests, StartFetches
from minireduce.errors import InvariantViolation
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, TaskId, WorkerId

PART = -1
"""The partition number that means: the whole part of an attempt without partitions."""

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes lie in the place of this fetch, verified as far as length goes."""

    bytes_total: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The other side answered that the output is missing or damaged."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The other side did not answer, or broke off."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotReached:
    """The answer broke off before it came to this output, which says nothing about it.

    Of each request at least one fetch ends in another way, so that what breaks off every answer is given a pause.
    """


FetchOutcome = Fetched | Gone | Unreachable | NotReached


@dataclass(frozen=True, slots=True)
class FetchEnded:
    """A fetch came to an end. Of one that was cancelled nothing more need be said; if it is, it is ignored."""

    fetch: int
    outcome: FetchOutcome


@dataclass(frozen=True, slots=True)
class FetchesEnded:
    """What came together ended together, in this order: what to do next is decided once for all of them."""

    ended: tuple[FetchEnded, ...]


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CancelFetch:
    """The fetch is no longer wanted; what it brought may be removed."""

    fetch: int


# ── what is known of an attempt's inputs ────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Inputs:
    """The runs that one attempt needs: one of each of `tasks`, in that order.

    Of a task without a run, `sources` says where one is; `queues` holds those that may be fetched now, by address, and
    may hold tasks that have a run or another source by now. `bytes_held` counts what was fetched and, for fetches under
    way, what is expected, which is an even share (`shares`) of the source. `sizes`: of each run that is
    not empty, the least that it may have.
    """

    attempt: AttemptId
    tasks: tuple[TaskId, ...]
    partition: int
    shares: int
    read_token: str
    is_copy: bool = False
    runs: dict[TaskId, InputRun] = field(default_factory=dict)
    sizes: dict[TaskId, int] = field(default_factory=dict)
    sources: dict[TaskId, OutputSource] = field(default_factory=dict)
    queues: dict[str, deque[TaskId]] = field(default_factory=dict)
    under_way: dict[TaskId, int] = field(default_factory=dict)
    tries: Counter[TaskId] = field(default_factory=Counter)
    bytes_held: int = 0

    @property
    def is_complete(self) -> bool:
        return len(self.runs) == len(self.tasks)

    @property
    def is_announced(self) -> bool:
        return len(self.runs) + len(self.sources) == len(self.tasks)

    def take(self, run: InputRun, bytes_min: int) -> None:
        """A run is at hand."""
        self.runs[run.source.task] = run
        if bytes_min:
            self.sizes[run.source.task] = bytes_min

    def expected_bytes(self, source: OutputSource) -> int:
        return source.bytes_total // self.shares


class Fetches:
    """All inputs of all attempts that wait, the earliest first, and the fetches under way for them.

    `own_outputs` holds the finished outputs of this worker, as they are at each moment.
    """

    def __init__(
        self,
        *,
        worker: WorkerId,
        own_outputs: Mapping[AttemptId, AttemptSucceeded],
        settings: WorkerSettings,
        rng: Random,
    ) -> None:
        self._worker = worker
        self._own_outputs = own_outputs
        self._settings = settings
        self._rng = rng
        self._waiting: dict[AttemptId, Inputs] = {}
        self._under_way: dict[int, tuple[Inputs, OutputSource]] = {}
        self._requests = Requests(settings)
        self._retries: list[tuple[float, int, AttemptId, OutputSource]] = []
        self._fetches_seen = 0
        self._retries_seen = 0

    def expect(
        self,
        attempt: AttemptId,
        tasks: tuple[TaskId, ...],
        *,
        partition: int,
        shares: int,
        read_token: str,
        is_copy: bool = False,
    ) -> None:
        """An attempt needs a run of each of these tasks."""
        self._waiting[attempt] = Inputs(attempt, tasks, partition, max(1, shares), read_token, is_copy)

    def is_complete(self, attempt: AttemptId) -> bool:
        """Whether all runs of a waiting attempt are at hand."""
        return self._waiting[attempt].is_complete

    def release(self, attempt: AttemptId) -> tuple[tuple[InputRun, ...], list[CancelFetch]]:
        """The attempt waits no longer. Gives back the runs that it has, in order, and ends fetches made for it."""
        inputs = self._waiting.pop(attempt, None)
        if inputs is None:
            return (), []
        cancelled = [CancelFetch(number) for number in inputs.under_way.values()]
        for number in tuple(inputs.under_way.values()):
            self._forget_fetch(number)
        return tuple(inputs.runs[task] for task in inputs.tasks if task in inputs.runs), cancelled

    # ── where outputs are ───────────────────────────────────────────────────────────────────────────────────────────

    def announce(
        self, attempt: AttemptId, sources: tuple[OutputSource, ...]
    ) -> tuple[list[CancelFetch], list[FetchFailed]]:
        """Say to a waiting attempt where runs that it needs are; sources of other tasks than its own do not occur."""
        inputs = self._waiting[attempt]
        cancelled: list[CancelFetch] = []
        missing: list[FetchFailed] = []
        for source in sources:
            task = source.attempt.task
            if task in inputs.runs or inputs.sources.get(task) == source:
                continue  # fetched copies stay good, and repeated news is none
            if task in inputs.under_way:
                cancelled.append(CancelFetch(inputs.under_way[task]))
                self._forget_fetch(inputs.under_way[task])
            inputs.tries.pop(task, None)
            if source.attempt in self._own_outputs:
                inputs.sources.pop(task, None)
                bytes_min = self._own_bytes_min(source.attempt, inputs.partition)
                inputs.take(InputRun(source.attempt, is_own=True), bytes_min)
            elif source.worker == self._worker:
                inputs.sources.pop(task, None)
                missing.append(FetchFailed(attempt, source.attempt, is_gone=True, reason="this worker has lost it"))
            else:
                inputs.sources[task] = source
                inputs.queues.setdefault(source.address, deque()).append(task)
        return cancelled, missing

    def withdraw(self, lost: AttemptId) -> tuple[list[CancelFetch], list[AttemptId]]:
        """An output is gone. Gives back the attempts that had it in place and so lack a run again."""
        cancelled: list[CancelFetch] = []
        lacking: list[AttemptId] = []
        for inputs in self._waiting.values():
            source = inputs.sources.get(lost.task)
            if source is not None and source.attempt == lost:
                del inputs.sources[lost.task]
                if lost.task in inputs.under_way:
                    cancelled.append(CancelFetch(inputs.under_way[lost.task]))
                    self._forget_fetch(inputs.under_way[lost.task])
            if inputs.runs.get(lost.task) == InputRun(lost, is_own=True):
                del inputs.runs[lost.task]
                inputs.sizes.pop(lost.task, None)
                lacking.append(inputs.attempt)
        return cancelled, lacking

    def _own_bytes_min(self, attempt: AttemptId, partition: int) -> int:
        if partition == PART:
            return self._own_outputs[attempt].output.bytes_total
        log2 = self._own_outputs[attempt].output.partition_bytes_log2[partition]
        return (1 << log2) // 2

    def waiting_for_partitions(self) -> Iterator[Inputs]:
        """The inputs of all reduces that lack some, the earliest first."""
        return (each for each in self._waiting.values() if each.partition != PART and not each.is_complete)

    # ── fetching ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_idle(self) -> bool:
        """Whether no attempt waits for anything."""
        return not self._waiting

    def plan(self, now: float, exceeding_max: int) -> list[StartFetches]:
        """The fetches to start now. `exceeding_max`: how many attempts may fetch beyond the budget."""
        self._requeue_due(now)
        bytes_held = sum(inputs.bytes_held for inputs in self._waiting.values() if not inputs.is_copy)
        for inputs in self._waiting.values():
            if inputs.is_complete:
                continue
            if inputs.is_copy:
                self._start_some(inputs, None)
                continue
            may_exceed = inputs.is_announced and exceeding_max > 0
            exceeding_max -= may_exceed
            budget = self._settings.prefetch_bytes_max - bytes_held
            bytes_held += self._start_some(inputs, None if may_exceed else budget)
        return self._requests.take_gathered()

    def ended(self, event: FetchEnded, now: float) -> tuple[AttemptId | None, list[FetchFailed]]:
        """What became of a fetch: the attempt that it was for, and what the master must hear."""
        if event.fetch not in self._under_way:
            return None, []  # it was cancelled, and ended before the shell knew
        inputs, source = self._forget_fetch(event.fetch)
        task = source.attempt.task
        match event.outcome:
            case Fetched(bytes_total):
                del inputs.sources[task]
                inputs.take(InputRun(source.attempt, is_own=False), bytes_total)
                inputs.bytes_held += bytes_total
                return inputs.attempt, []
            case Gone(reason):
                del inputs.sources[task]
                return inputs.attempt, [FetchFailed(inputs.attempt, source.attempt, is_gone=True, reason=reason)]
            case Unreachable(reason):
                return inputs.attempt, self._plan_retry(inputs, source, reason, now)
            case NotReached():
                inputs.queues.setdefault(source.address, deque()).append(task)
                return inputs.attempt, []

    def _plan_retry(self, inputs: Inputs, source: OutputSource, reason: str, now: float) -> list[FetchFailed]:
        inputs.tries[source.attempt.task] += 1
        tries = inputs.tries[source.attempt.task]
        doubled = self._settings.fetch_retry_s_min * 2 ** min(tries - 1, 16)
        pause_s = min(doubled, self._settings.fetch_retry_s_max) * self._rng.uniform(0.5, 1.0)
        self._retries_seen += 1
        heapq.heappush(self._retries, (now + pause_s, self._retries_seen, inputs.attempt, source))
        if tries % self._settings.fetch_tries_per_report:
            return []
        return [FetchFailed(inputs.attempt, source.attempt, is_gone=False, reason=reason)]

    def _requeue_due(self, now: float) -> None:
        while self._retries and self._retries[0][0] <= now:
            _, _, attempt, source = heapq.heappop(self._retries)
            inputs = self._waiting.get(attempt)
            if inputs is not None and inputs.sources.get(source.attempt.task) == source:
                inputs.queues.setdefault(source.address, deque()).append(source.attempt.task)

    def _start_some(self, inputs: Inputs, budget: int | None) -> int:
        """Start what limits allow for one attempt; gives back the bytes expected. `budget` None: no limit of bytes."""
        begun_bytes = 0
        for address in tuple(inputs.queues):
            queue = inputs.queues[address]
            while queue and self._requests.has_room(address, inputs.read_token):
                if budget is not None and begun_bytes >= budget:
                    break
                task = queue.popleft()
                source = inputs.sources.get(task)
                if source is None or source.address != address or task in inputs.under_way:
                    continue  # queued before later news of this task
                begun_bytes += self._start(inputs, source)
            if not queue:
                del inputs.queues[address]
        return begun_bytes

    def _start(self, inputs: Inputs, source: OutputSource) -> int:
        self._fetches_seen += 1
        number, expected_bytes = self._fetches_seen, inputs.expected_bytes(source)
        self._under_way[number] = inputs, source
        inputs.under_way[source.attempt.task] = number
        inputs.bytes_held += expected_bytes
        fetch = Fetch(number, inputs.attempt, source, inputs.partition, inputs.read_token)
        self._requests.add(fetch, expected_bytes)
        return expected_bytes

    def _forget_fetch(self, number: int) -> tuple[Inputs, OutputSource]:
        inputs, source = self._under_way.pop(number)
        if inputs.under_way.pop(source.attempt.task) != number:
            raise InvariantViolation(f"fetch {number} of {source.attempt} for {inputs.attempt} was under way twice")
        self._requests.ended(number)
        inputs.bytes_held -= inputs.expected_bytes(source)
        return inputs, source
