"""Read what the attempts of a job have printed, page by page, as the master keeps it."""

from __future__ import annotations

from minireduce.client.connection import Connection
from minireduce.core.views import PrintedPage, PrintedPiece
from minireduce.ids import JobId, TaskId
from minireduce.wire import methods
from minireduce.wire.questions import ReadPrinted


def read_page(connection: Connection, job: JobId, after: int = 0, task: TaskId | None = None) -> PrintedPage:
    """What was printed behind the place `after`, by one task or by all; a page of it."""
    return connection.call(methods.READ_PRINTED, ReadPrinted(job, after, task))


def read_all(connection: Connection, job: JobId, task: TaskId | None = None) -> tuple[list[PrintedPiece], int]:
    """Everything that is kept of a job's texts, and how many pieces found no room."""
    pieces: list[PrintedPiece] = []
    page = read_page(connection, job, 0, task)
    while page.pieces:
        pieces.extend(page.pieces)
        page = read_page(connection, job, page.last, task)
    return pieces, page.left_out
