"""What attempts have printed and the master has not been sent yet.

While the master is away attempts go on printing. What waits for it is bounded: an end replaces an earlier end of the
same text, and beyond `printed_waiting_bytes_max` the oldest pieces are dropped, where readers then see a gap. The text
as a whole stays on this worker for as long as its job does.
"""

from __future__ import annotations

from collections.abc import Iterator

from minireduce.core.messages import AttemptPrinted
from minireduce.core.settings import WorkerSettings
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId

PIECE_COST_BYTES = 256
"""What a piece costs beside its bytes."""


@dataclass(frozen=True, slots=True)
class TextPrinted:
    """An attempt printed something; the fields are those of `AttemptPrinted`."""

    attempt: AttemptId
    stream: str
    offset: int
    data: bytes
    is_end: bool = False
    is_of_failure: bool = False


class WaitingText:
    """Pieces in the order in which they came."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._bytes_max = settings.printed_waiting_bytes_max
        self._bytes = 0
        self._pieces: dict[tuple[AttemptId, str, int], AttemptPrinted] = {}

    def add(self, event: TextPrinted) -> None:
        """Keep a piece until it can be sent."""
        place = -1 if event.is_end else event.offset
        key = (event.attempt, event.stream, place)
        self._remove(key)
        self._pieces[key] = AttemptPrinted(
            event.attempt, event.stream, event.offset, event.data, event.is_end, event.is_of_failure
        )
        self._bytes += _cost(self._pieces[key])
        while self._bytes > self._bytes_max:
            self._remove(next(iter(self._pieces)))

    def take(self) -> Iterator[AttemptPrinted]:
        """All pieces, which are sent now."""
        pieces, self._pieces, self._bytes = self._pieces, {}, 0
        yield from pieces.values()

    def _remove(self, key: tuple[AttemptId, str, int]) -> None:
        piece = self._pieces.pop(key, None)
        if piece is not None:
            self._bytes -= _cost(piece)


def _cost(piece: AttemptPrinted) -> int:
    return len(piece.data) + PIECE_COST_BYTES
