"""What a simulated worker merges ahead: which runs go into a group, how long that takes, and what the group then is.

A group keeps the bytes that its runs had when it was made, and which they were. A reduce reads them in place of its
runs. One that is given a group of other runs makes the seed fail, though maps made again mostly give the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minireduce.core.work.attempts import InputRun, Killed, MergedGroup
from minireduce.core.work.merging import GroupMerged, MergeEnded, MergeOutcome, NotMerged, StartMerge, StopMerge
from minireduce.errors import InvariantViolation
from minireduce.ids import AttemptId
from minireduce.testing.wrong import Wrong

if TYPE_CHECKING:
    from minireduce.testing.worker import SimWorker

AT_ONCE = 2
RUNS_MAX = 2
MERGE_S = (0.05, 1.5)
STOP_S = (0.001, 0.2)
DEATHS_SHARE = 0.1  # of the processes that merge


class SimMerges:
    """The merges on `worker`, for one life of its process."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        self._rng = worker.world.rng(f"merging on {worker.name}, life {worker.node.life}")
        self._under_way: dict[AttemptId, StartMerge] = {}
        self._groups: dict[tuple[AttemptId, int], tuple[tuple[InputRun, ...], list[bytes]]] = {}

    def start(self, order: StartMerge) -> None:
        """A free slot begins to merge."""
        if order.attempt in self._under_way or order.attempt in self._worker.running:
            raise InvariantViolation(f"{self._worker.name} is told to merge for {order.attempt}, which is at work")
        self._under_way[order.attempt] = order
        seconds = self._rng.uniform(*MERGE_S) * self._worker.slowness
        self._worker.world.agenda.after(seconds, self._worker.node, lambda: self._finish(order))

    def stop(self, order: StopMerge) -> None:
        """The slot is wanted; the process takes a moment to end."""
        self._worker.world.strikes["merge ahead broken off"] += 1
        seconds = self._rng.uniform(*STOP_S)
        self._worker.world.agenda.after(seconds, self._worker.node, lambda: self._end(order.attempt, Killed()))

    def is_for(self, attempt: AttemptId) -> bool:
        """Whether a process still merges for an attempt."""
        return attempt in self._under_way

    def is_at_work(self, job: str) -> bool:
        """Whether any process still merges for a job."""
        return any(attempt.task.job == job for attempt in self._under_way)

    def inputs(self, attempt: AttemptId, runs: tuple[InputRun, ...], ahead: tuple[MergedGroup, ...]) -> list[bytes]:
        """What an attempt reads, its groups in place of the runs that are in them."""
        found = [self._bytes_of(attempt, run) for run in runs]
        for group in ahead:
            parts, data = self._groups[attempt, group.first]
            if runs[group.first : group.first + group.count] != parts:
                raise Wrong(f"{attempt} is given what was merged of other runs than its own")
            self._worker.world.strikes["group merged ahead used"] += 1
            found[group.first : group.first + group.count] = data
        return found

    def _finish(self, order: StartMerge) -> None:
        if self._under_way.get(order.attempt) is order:
            is_alive = self._rng.random() >= DEATHS_SHARE
            self._end(order.attempt, self._merged(order) if is_alive else NotMerged())

    def _merged(self, order: StartMerge) -> MergeOutcome:
        if order.runs_here < RUNS_MAX + (order.groups_before + 1) * (AT_ONCE - 1):
            return NotMerged(AT_ONCE, RUNS_MAX)
        if not all(self._is_whole(order.attempt, run) for run in order.runs):
            return NotMerged()
        parts = [self._bytes_of(order.attempt, run) for run in order.runs]
        filled = [place for place, part in enumerate(parts) if part][:AT_ONCE]
        if len(filled) < AT_ONCE:
            return NotMerged(AT_ONCE, RUNS_MAX)
        count = filled[-1] + 1
        self._groups[order.attempt, order.first] = order.runs[:count], parts[:count]
        return GroupMerged(count, sum(map(len, parts[:count])), 1, AT_ONCE, RUNS_MAX)

    def _is_whole(self, attempt: AttemptId, run: InputRun) -> bool:
        if run.is_own:
            kept = self._worker.disk.outputs.get(run.source)
            return kept is not None and not kept.is_damaged
        return (attempt, run.source) in self._worker.fetched and (attempt, run.source) not in self._worker.damaged

    def _bytes_of(self, attempt: AttemptId, run: InputRun) -> bytes:
        if run.is_own:
            return self._worker.disk.outputs[run.source].partitions[attempt.task.index]
        return self._worker.fetched[attempt, run.source]

    def _end(self, attempt: AttemptId, outcome: MergeOutcome) -> None:
        if self._under_way.pop(attempt, None) is not None:
            self._worker.handle(MergeEnded(attempt, outcome))
