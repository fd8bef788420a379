"""What the attempts of a job have printed, as the master keeps it: piece by piece, put together to texts.

The pieces of a stream may leave gaps, where a text was longer than is kept, and may overlap, since a failed attempt's
text is sent twice. A gap is told by a line of its own. Text is UTF-8; what is not is replaced.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from minireduce.client.connection import Connection
from minireduce.core.views import PrintedPage, PrintedPiece
from minireduce.core.work.printed import left_out_note
from minireduce.ids import AttemptId, JobId, WorkerId
from minireduce.wire import methods
from minireduce.wire.questions import ReadPrinted

Decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(slots=True)
class StreamText:
    """One stream of one attempt, read from its beginning on."""

    position: int = 0
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: Decoder("replace"))

    def read(self, piece: PrintedPiece) -> str:
        """What a piece adds to what was read before."""
        skipped = self.position - piece.offset
        if skipped >= len(piece.data):
            return ""
        note = self.end() + left_out_note(-skipped) if skipped < 0 else ""
        self.position = piece.offset + len(piece.data)
        return note + self._decoder.decode(piece.data[max(0, skipped) :])

    def end(self) -> str:
        """What is left of a character that was begun."""
        return self._decoder.decode(b"", final=True)


@dataclass(frozen=True, slots=True)
class AttemptText:
    """What one attempt has printed, as far as it is kept."""

    attempt: AttemptId
    worker: WorkerId
    stdout: str
    stderr: str


def read_page(connection: Connection, job: JobId, after: int = 0) -> PrintedPage:
    """What was printed behind the place `after`, a page of it."""
    return connection.call(methods.READ_PRINTED, ReadPrinted(job, after))


def read_all(connection: Connection, job: JobId) -> tuple[list[PrintedPiece], int]:
    """Everything that is kept of a job's texts, and how many pieces found no room."""
    pieces: list[PrintedPiece] = []
    page = read_page(connection, job)
    while page.pieces:
        pieces.extend(page.pieces)
        page = read_page(connection, job, page.last)
    return pieces, page.left_out


def texts(pieces: Iterable[PrintedPiece]) -> Iterator[AttemptText]:
    """The texts of all attempts that printed anything, by attempt."""
    by_attempt: dict[AttemptId, dict[str, list[PrintedPiece]]] = {}
    for piece in pieces:
        by_attempt.setdefault(piece.attempt, {}).setdefault(piece.stream, []).append(piece)
    for attempt, streams in sorted(by_attempt.items()):
        worker = next(iter(streams.values()))[0].worker
        yield AttemptText(attempt, worker, _whole(streams.get("stdout", ())), _whole(streams.get("stderr", ())))


def _whole(pieces: Iterable[PrintedPiece]) -> str:
    stream = StreamText()
    return "".join([stream.read(piece) for piece in sorted(pieces, key=lambda piece: piece.offset)]) + stream.end()
