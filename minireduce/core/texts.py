"""Put the pieces of what attempts printed together to texts.

The pieces of a stream may leave gaps, where a text was longer than is kept, and may overlap, since a failed attempt's
text is sent twice. A gap is told by a line of its own. Text is UTF-8; what is not is replaced.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import field

from minireduce.core.views import PrintedPiece
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, WorkerId

RECORDS_LEFT_OUT = "left out, as no attempt can compute them"
"""What the master's note on a job's bad records ends with, after their number."""

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


def left_out_note(count: int) -> str:
    """The line that stands for what was left out."""
    return f"\n… {count:,} bytes were left out here …\n"
