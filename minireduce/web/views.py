"""What the pages read: the master's views, handed in. Each is released only when what it shows is durable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from minireduce.core.views import ClusterView, JobView, PrintedPage, TaskView, WorkerView
from minireduce.ids import JobId, TaskId


class Views(Protocol):
    """Read-only questions. They raise NotFound and Unavailable."""

    async def jobs(self) -> Sequence[JobView]:
        """All jobs, the latest first."""

    async def job(self, job: JobId) -> JobView:
        """One job."""

    async def tasks(self, job: JobId) -> Sequence[TaskView]:
        """The tasks of a job."""

    async def printed(self, job: JobId, after: int = 0, task: TaskId | None = None) -> PrintedPage:
        """A page of what the attempts of a job, or of one of its tasks, have printed."""

    async def workers(self) -> Sequence[WorkerView]:
        """All workers."""

    async def cluster(self) -> ClusterView:
        """The cluster as a whole."""
