"""How a reader gets a range of one block: from the nearest replica, and when that fails from the next one, and so on.

What has been read and verified is kept: the next replica is asked only for what is missing. A replica that proved
damaged is reported, so that it is replaced, and not asked again. When all have failed, the master is asked where the
block is now, since workers come back and replicas are copied; after `ROUNDS_MAX` such rounds reading fails.

A worker that hangs keeps its connections, so only its silence shows it. Silence is borne for `SILENCE_S`, counted from
byte to byte, and twice as long with each round: a slow worker is left for a better one, and waited for when there is
none. Who failed is asked last from then on, in all blocks of the file, or each block would wait for it anew.

Invariant: bytes are counted as read only after they were verified. Elsewhere: bytes and sockets (`client.block_io`).
"""

from __future__ import annotations

from dataclasses import dataclass

from minireduce.core.messages import BlockSource, Replica
from minireduce.errors import Corruption, MinireduceError, NotFound, Unavailable
from minireduce.ids import WorkerId

ROUNDS_MAX = 4
SILENCE_S = 4.0

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BytesRead:
    """The next bytes came, and were what was written."""

    count: int


@dataclass(frozen=True, slots=True)
class ReplicaFailed:
    """The replica last asked gave no more. Corruption means that its bytes are wrong."""

    error: MinireduceError


@dataclass(frozen=True, slots=True)
class BlockLocated:
    """Where the block is now."""

    source: BlockSource


Event = BytesRead | ReplicaFailed | BlockLocated

# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read this range of the block from this worker. `BytesRead`, once or more, or `ReplicaFailed` follows.

    It has failed, too, when it gives no byte for `silence_s`.
    """

    worker: WorkerId
    address: str
    replica: Replica
    offset: int
    length: int
    silence_s: float = SILENCE_S


@dataclass(frozen=True, slots=True)
class TellDamage:
    """Tell the master that this worker's replica is damaged."""

    replica: Replica
    worker: WorkerId


@dataclass(frozen=True, slots=True)
class LocateAgain:
    """Ask the master where the block is now, after `pause_s`. `BlockLocated` follows."""

    pause_s: float


@dataclass(frozen=True, slots=True)
class RangeDone:
    """All of the range was read."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The range cannot be read now."""

    error: MinireduceError


Action = Fetch | TellDamage | LocateAgain | RangeDone | GiveUp


class RangeReading:
    """The range [offset, offset + length) of the block of `source`; offsets count from the block's start.

    `failing` is shared by all blocks of a file: who did not answer last time.
    """

    def __init__(self, source: BlockSource, offset: int, length: int, failing: dict[WorkerId, None]) -> None:
        self._source = source
        self._offset = offset
        self._left = length
        self._failing = failing
        self._asked: WorkerId | None = None
        self._damaged: dict[WorkerId, None] = {}
        self._untried = self._in_order(source)
        self._rounds = 1
        self._error: MinireduceError | None = None

    def begin(self) -> list[Action]:
        """The first actions."""
        return [self._next()]

    def advance(self, event: Event) -> list[Action]:
        """What to do next, in this order; nothing while more of a fetch is to come."""
        match event:
            case BytesRead(count):
                self._offset += count
                self._left -= count
                if self._asked is not None:
                    self._failing.pop(self._asked, None)
                return [] if self._left > 0 else [RangeDone()]
            case ReplicaFailed(error):
                return self._failed(error)
            case BlockLocated(source):
                self._offset += self._source.file_offset - source.file_offset  # a small file may lie elsewhere now
                self._source = source
                self._untried = self._in_order(source)
                return [self._next()]

    def _in_order(self, source: BlockSource) -> list[tuple[WorkerId, str]]:
        """Whom to ask, one after the other."""
        held = zip(source.workers, source.addresses, strict=True)
        good = [(worker, address) for worker, address in held if worker not in self._damaged]
        return sorted(good, key=lambda each: each[0] in self._failing)

    def _failed(self, error: MinireduceError) -> list[Action]:
        self._error = error
        if self._asked is not None:
            self._failing[self._asked] = None
        actions: list[Action] = []
        if isinstance(error, Corruption) and self._asked is not None:
            self._damaged[self._asked] = None
            actions.append(TellDamage(self._source.replica, self._asked))
        return [*actions, self._next()]

    def _next(self) -> Action:
        if self._left <= 0:
            return RangeDone()
        if self._untried:
            self._asked, address = self._untried.pop(0)
            silence_s = SILENCE_S * 2 ** (self._rounds - 1)
            return Fetch(self._asked, address, self._source.replica, self._offset, self._left, silence_s)
        if self._rounds >= ROUNDS_MAX:
            return GiveUp(self._final_error())
        self._rounds += 1
        return LocateAgain(0.1 * 2**self._rounds)

    def _final_error(self) -> MinireduceError:
        block = f"block {self._source.replica.block_id}"
        if self._damaged:
            named = ", ".join(self._damaged)
            return Corruption(
                f"{block} has no good replica that can be reached: those on {named} are damaged",
                hint="start the workers that hold the others; `minireduce workers` shows who is lost",
            )
        kind = NotFound if isinstance(self._error, NotFound) else Unavailable
        said = f": {self._error.message}" if self._error is not None else ", since no live worker holds it"
        return kind(f"{block} cannot be read now{said}", hint="`minireduce workers` shows which workers are lost")
