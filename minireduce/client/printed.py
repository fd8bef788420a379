"""Read what the attempts of a job have printed: page by page as the master keeps it, or whole from their workers.

The master keeps the beginning and the end of each text. The worker keeps more (`attempt_log_size`), and gives it to
whoever shows the token of the job's reads, for as long as it lives and has not collected it. While an attempt runs, its
text is with the master alone.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from contextlib import closing

from minireduce.client.connection import Connection
from minireduce.client.doors import open_door
from minireduce.core.texts import AttemptText
from minireduce.core.views import AttemptView, PrintedPage, PrintedPiece
from minireduce.errors import MinireduceError, NotFound, Unavailable
from minireduce.ids import AttemptId, JobId, TaskId, WorkerId
from minireduce.wire import methods
from minireduce.wire.errors import from_http
from minireduce.wire.questions import ListWorkers, OpenLogs, ReadPrinted

STREAMS = ("stdout", "stderr")
TEXT_BYTES_MAX = 1 << 30
ERROR_BYTES_MAX = 1 << 20


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


def read_whole(
    connection: Connection, job: JobId, attempts: Iterable[AttemptView]
) -> tuple[list[AttemptText], dict[WorkerId, str]]:
    """What the workers of these attempts keep of their texts, and which workers gave none, with the reason."""
    token = connection.call(methods.OPEN_LOGS, OpenLogs(job))
    addresses = {worker.worker: worker.data_address for worker in connection.call(methods.LIST_WORKERS, ListWorkers())}
    found: list[AttemptText] = []
    silent: dict[WorkerId, str] = {}
    for attempt in attempts:
        if attempt.worker in silent:
            continue
        address = addresses.get(attempt.worker, "")
        try:
            with closing(open_door(attempt.worker, address, connection.authority)) as door:
                streams = [_read_stream(door, attempt.attempt, name, token) for name in STREAMS]
        except (OSError, http.client.HTTPException, MinireduceError) as error:
            silent[attempt.worker] = str(error)
            continue
        if any(stream is not None for stream in streams):
            found.append(AttemptText(attempt.attempt, attempt.worker, streams[0] or "", streams[1] or ""))
    return found, silent


def _read_stream(door: http.client.HTTPConnection, attempt: AttemptId, name: str, token: str) -> str | None:
    """A stream's text as it lies on the worker; None where there is none."""
    door.request("GET", f"/logs/{attempt}/{name}", headers={"Authorization": f"Bearer {token}"})
    answer = door.getresponse()
    if answer.status != http.client.OK:
        error = from_http(answer.status, answer.read(ERROR_BYTES_MAX), "the worker")
        if isinstance(error, NotFound):
            return None
        raise error
    data = answer.read(TEXT_BYTES_MAX)
    if answer.length:
        raise Unavailable(f"what {attempt} printed to {name} is longer than can be shown")
    return data.decode(errors="replace")
