"""What a worker's assignments order the shell to do, beside what attempts, fetches and copies declare.

Orders for the shell (`actions`) and what the master must hear (`reports`) gather in an `Outbox` while an event is taken
in; `worker.py` drains it after each event.
"""

from __future__ import annotations

from dataclasses import field

from minireduce.core.messages import AttemptFailed, AttemptKilled, AttemptLost, OpenJob, Report
from minireduce.core.work.attempts import StartAttempt, StartBatch, StopAttempt
from minireduce.core.work.copies import KeepCopy
from minireduce.core.work.fetches import CancelFetch
from minireduce.core.work.merging import StartMerge, StopMerge
from minireduce.core.work.requests import StartFetches
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId


@dataclass(frozen=True, slots=True)
class OpenProgram:
    """A job's attempts will follow: keep its program and its read token at hand."""

    opened: OpenJob


@dataclass(frozen=True, slots=True)
class RemoveOutputs:
    """Remove all that these attempts wrote and all that was fetched for them."""

    attempts: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class RemoveFetched:
    """Remove what was fetched for this attempt, which has succeeded and needs it no more."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """Remove everything of a job: files, program, warm processes. None of its attempts runs any more."""

    job: JobId


@dataclass(frozen=True, slots=True)
class CloseProgram:
    """Nothing of a job is here: forget its program and end its warm processes. `OpenProgram` may follow."""

    job: JobId


AssignmentAction = (
    OpenProgram
    | CloseProgram
    | StartAttempt
    | StartBatch
    | StopAttempt
    | StartFetches
    | CancelFetch
    | StartMerge
    | StopMerge
    | KeepCopy
    | RemoveOutputs
    | RemoveFetched
    | RemoveJob
)

EndReport = AttemptFailed | AttemptLost | AttemptKilled


@dataclass(slots=True)
class Outbox:
    """What has gathered since the last time."""

    actions: list[AssignmentAction] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def drain(self) -> tuple[list[AssignmentAction], list[Report]]:
        """Give it all away."""
        actions, self.actions = self.actions, []
        reports, self.reports = self.reports, []
        return actions, reports
