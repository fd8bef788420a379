"""Bring parts here that other workers made, to be kept as if this worker had made them.

A copy goes through three stages: it is fetched, like the input of an attempt; it is verified and made durable by the
shell; it is an output of this worker, told to the master and listed like any other. What fails on the way is told too
and leaves nothing behind. The master decides which copies there are, and asks elsewhere when one fails.

Not here: which fetch goes first (fetches.py), files and digests (worker.outputs).
"""

from __future__ import annotations

from dataclasses import field

from minireduce.core.messages import AttemptSucceeded, CopyPart, FetchFailed, PartCopyFailed
from minireduce.core.work.fetches import PART, CancelFetch, Fetches
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """What was fetched is verified and durable (`error` empty), or is of no use."""

    attempt: AttemptId
    error: str = ""


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class KeepCopy:
    """Verify what was fetched of this part and make it durable in its place. `CopyEnded` follows."""

    order: CopyPart


@dataclass(slots=True)
class Copies:
    """All copies under way on one worker."""

    fetches: Fetches
    orders: dict[AttemptId, CopyPart] = field(default_factory=dict)

    def begin(self, order: CopyPart) -> None:
        """Fetch a part, unless that is under way."""
        attempt = order.part.attempt
        if attempt not in self.orders:
            self.orders[attempt] = order
            tasks, token = (attempt.task,), order.read_token
            self.fetches.expect(attempt, tasks, partition=PART, shares=1, read_token=token, is_copy=True)
            self.fetches.announce(attempt, (order.source,))

    def fetched(
        self, attempt: AttemptId, failed: list[FetchFailed]
    ) -> tuple[list[KeepCopy | CancelFetch], list[PartCopyFailed]]:
        """A fetch for a copy came to an end, or to a pause after several tries: then the copy is given up."""
        order = self.orders[attempt]
        if self.fetches.is_complete(attempt):
            self.fetches.release(attempt)
            return [KeepCopy(order)], []
        if not failed:
            return [], []
        return list(self.drop(attempt)), [PartCopyFailed(attempt, failed[0].is_gone, failed[0].reason)]

    def ended(self, event: CopyEnded) -> AttemptSucceeded | None:
        """The part, if it is here now and still wanted."""
        order = self.orders.pop(event.attempt, None)
        return order.part if order is not None and not event.error else None

    def drop(self, attempt: AttemptId) -> list[CancelFetch]:
        """A copy is no longer wanted."""
        if self.orders.pop(attempt, None) is None:
            return []
        return self.fetches.release(attempt)[1]

    def of_job(self, job: JobId) -> list[AttemptId]:
        """The copies under way of one job."""
        return [attempt for attempt in self.orders if attempt.task.job == job]
