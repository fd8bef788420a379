"""What one `advance` has gathered so far: rows to persist, commands for workers, answers, wake-ups.

The parts of the master's machine write into one `Effects`; `cluster` then turns it into actions in the order that the
release watermark needs: first what must be durable, then what may be seen.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from minireduce.core.messages import Command
from minireduce.errors import MinireduceError
from minireduce.frozen import dataclass
from minireduce.ids import JobId, WorkerId


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the durable form: inserted or replaced, or removed when `values` is None.

    `key` and `values` are named and typed by `core.tables`. A removal may give only the first columns of the key: then
    it removes all rows that begin so.
    """

    table: str
    key: tuple[Any, ...]
    values: tuple[Any, ...] | None


@dataclass(slots=True)
class Effects:
    """Mutable, and made anew for each `advance`."""

    rows: list[Row] = field(default_factory=list)
    commands: dict[WorkerId, list[Command]] = field(default_factory=dict)
    replies: dict[int, Any] = field(default_factory=dict)
    refusals: dict[int, MinireduceError] = field(default_factory=dict)
    changed_jobs: dict[JobId, None] = field(default_factory=dict)

    @property
    def has_answers(self) -> bool:
        """Whether anybody is answered or woken."""
        return bool(self.replies or self.refusals or self.changed_jobs)

    def persist(self, table: str, key: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        """Insert or replace a row."""
        self.rows.append(Row(table, key, values))

    def forget(self, table: str, key: tuple[Any, ...]) -> None:
        """Remove a row, or all rows whose key begins with `key`."""
        self.rows.append(Row(table, key, None))

    def command(self, worker: WorkerId, command: Command) -> None:
        """Tell a worker to do something, after what it was told before."""
        self.commands.setdefault(worker, []).append(command)

    def reply(self, request: int, value: Any) -> None:
        """Answer a request."""
        self.replies[request] = value

    def refuse(self, request: int, error: MinireduceError) -> None:
        """Answer a request with an error."""
        self.refusals[request] = error

    def changed(self, job: JobId) -> None:
        """Wake those who wait for this job."""
        self.changed_jobs[job] = None
