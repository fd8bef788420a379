"""How much of what attempts print the master keeps, so that it can be read when the worker is gone.

The text itself is in the durable form only, and is read from there when somebody asks; here stands how much there is of
it. Workers send the beginning of each text as it comes and, of a long one, ever again its latest end, which replaces
the one before. A failed attempt's text is sent once more, whole, as people look for that first.

Limits: a job's texts may take `job_logs_bytes_max`, of which a quarter is for failed attempts alone; all jobs
together `logs_bytes_max`, beyond which the texts of the job that began to print first go. What finds no room is
counted (`left_out`).

Invariants: a piece that is said again replaces itself; sequence numbers grow with every piece, so that a reader who
knows the last one he saw misses nothing that was kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from minireduce.core.effects import Effects, Row
from minireduce.core.messages import AttemptPrinted
from minireduce.core.settings import ClusterSettings
from minireduce.core.views import PrintedPiece
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind, WorkerId

TABLE = "printed"

PIECE_COST_BYTES = 512
"""What a piece costs beside its bytes: a row, and what is remembered of it here."""

ENDS_AT = -1
"""The place of a text's end among its pieces; the others stand at their offsets."""


@dataclass(slots=True)
class _JobText:
    """What is kept of one job, as the cost of each piece."""

    pieces: dict[tuple[AttemptId, str, int], int] = field(default_factory=dict)
    cost: int = 0
    left_out: int = 0  # pieces that found no room
    is_gone: bool = False  # to make room for others


class PrintedText:
    """The texts of all jobs that are remembered."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._jobs: dict[JobId, _JobText] = {}
        self._cost = 0
        self._sequence = 0

    def restore(self, rows: Iterable[Row]) -> None:
        """Know again what an earlier master kept; `rows` come without the text."""
        for row in rows:
            if row.table == TABLE and row.values is not None:
                sequence, _, size, _, _, _ = row.values
                self._sequence = max(self._sequence, sequence)
                job, step, kind, index, number, stream, place = row.key
                attempt = AttemptId(TaskId(job, step, TaskKind(kind), index), number)
                self._note(self._jobs.setdefault(job, _JobText()), (attempt, stream, place), size + PIECE_COST_BYTES)

    def left_out(self, job: JobId) -> int:
        """How many pieces of a job found no room."""
        text = self._jobs.get(job)
        return text.left_out if text is not None else 0

    def take(self, report: AttemptPrinted, worker: WorkerId, effects: Effects) -> None:
        """Keep a piece, if there is room."""
        job = report.attempt.task.job
        text = self._jobs.setdefault(job, _JobText())
        if text.is_gone:
            return
        key = (report.attempt, report.stream, ENDS_AT if report.is_end else report.offset)
        cost = len(report.data) + PIECE_COST_BYTES
        most = self._settings.job_logs_bytes_max
        limit = most if report.is_of_failure else most * 3 // 4
        if text.cost + cost - text.pieces.get(key, 0) > limit:
            text.left_out += 1
            return
        self._note(text, key, cost)
        self._sequence += 1
        values = (
            self._sequence,
            worker,
            len(report.data),
            report.offset,
            int(report.is_of_failure),
            report.data,
        )
        effects.persist(TABLE, _row_key(*key), values)
        self._make_room(job, effects)

    def forget(self, job: JobId, effects: Effects) -> None:
        """The job is not remembered any more."""
        if job in self._jobs:
            self._drop(self._jobs.pop(job), job, effects)

    def _note(self, text: _JobText, key: tuple[AttemptId, str, int], cost: int) -> None:
        change = cost - text.pieces.get(key, 0)
        text.pieces[key] = cost
        text.cost += change
        self._cost += change

    def _make_room(self, newest: JobId, effects: Effects) -> None:
        while self._cost > self._settings.logs_bytes_max:
            oldest = next((job for job, text in self._jobs.items() if text.pieces and job != newest), None)
            if oldest is None:
                return
            self._drop(self._jobs[oldest], oldest, effects)

    def _drop(self, text: _JobText, job: JobId, effects: Effects) -> None:
        self._cost -= text.cost
        text.cost = 0
        text.pieces.clear()
        text.is_gone = True
        effects.forget(TABLE, (job,))


def show_piece(row: Row) -> PrintedPiece:
    """A row, read with its text."""
    job, step, kind, index, number, stream, _ = row.key
    _, worker, _, offset, _, data = row.values or ()
    return PrintedPiece(AttemptId(TaskId(job, step, TaskKind(kind), index), number), worker, stream, offset, data)


def _row_key(attempt: AttemptId, stream: str, place: int) -> tuple[str | int, ...]:
    task = attempt.task
    return (task.job, task.step, str(task.kind), task.index, attempt.number, stream, place)
