"""How a reader gets a range of one block: from the nearest replica, and when that fails from the next one, and so on.

What has been read and verified is kept: the next replica is asked only for what is missing. A replica that proved
damaged is reported, so that it is replaced, and not asked again. When all have failed, the master is asked where the
block is now, since workers come back and replicas are copied; after `ROUNDS_MAX` such rounds reading fails.

A worker that hangs keeps its connections, so only its silence shows it. Silence is borne for `SILENCE_S`, counted from
byte to byte, and twice as long with each round: a slow worker is left for a better one, and waited for when there is
none. Who failed is asked last from then on, in all blocks of the file, or each block would wait for it anew.

Before it is silent for so long a worker may be slow to answer at all. When it has not begun to for `HEDGE_TIMES` what
answers usually take (`Pace`), the next one is asked beside it, and whoever answers first is read: a hedged read, after
"The Tail at Scale" (2013). The other one is left, and counts as failing.

Invariants: bytes are counted as read only after they were verified; at most two replicas are asked at a time, and one
is read. Elsewhere: bytes and sockets (`client.block_io`).
"""

from __future__ import annotations

import math

from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.errors import Corruption, MinireduceError, NotFound, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

ROUNDS_MAX = 4
SILENCE_S = 4.0
HEDGE_TIMES = 5
HEDGE_S_MIN = 0.1
"""Below this a second question costs more than it saves: busy machines answer late, and then all of them do."""
HEDGE_S_FIRST = 1.0
"""Until any answer has come."""
_NEWEST_WEIGHT = 0.25


class Pace:
    """How long answers take a reader, and so when to ask a second worker; and how often that was done."""

    def __init__(self, usual_s: float | None = None) -> None:
        self.usual_s = usual_s
        self.hedged = 0
        self.won_by_second = 0

    @property
    def hedge_after_s(self) -> float:
        """How long to wait for an answer to begin before another worker is asked."""
        return HEDGE_S_FIRST if self.usual_s is None else max(HEDGE_S_MIN, HEDGE_TIMES * self.usual_s)

    def answered(self, after_s: float) -> None:
        """An answer began so long after its question."""
        self.usual_s = after_s if self.usual_s is None else self.usual_s + _NEWEST_WEIGHT * (after_s - self.usual_s)


# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BytesRead:
    """The next bytes came, and were what was written."""

    count: int


@dataclass(frozen=True, slots=True)
class ReplicaSlow:
    """The worker that was asked has not begun to answer for the `hedge_after_s` of its `Fetch`."""


@dataclass(frozen=True, slots=True)
class ReplicaAnswered:
    """This worker has begun to answer, `after_s` after it was asked. It is read; another that was asked is left."""

    worker: WorkerId
    after_s: float


@dataclass(frozen=True, slots=True)
class ReplicaFailed:
    """A replica gave no more. Corruption means that its bytes are wrong. `worker`: which, where two are asked."""

    error: MinireduceError
    worker: WorkerId = ""


@dataclass(frozen=True, slots=True)
class BlockLocated:
    """Where the block is now."""

    source: BlockSource


Event = BytesRead | ReplicaSlow | ReplicaAnswered | ReplicaFailed | BlockLocated

# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read this range of the block from this worker. `BytesRead`, once or more, or `ReplicaFailed` follows.

    It has failed, too, when it gives no byte for `silence_s`. When it has not begun to answer after `hedge_after_s`,
    say `ReplicaSlow`: a second `Fetch`, of another worker, may follow. Then `ReplicaAnswered` says which one is read.
    """

    worker: WorkerId
    address: str
    replica: Replica
    offset: int
    length: int
    silence_s: float = SILENCE_S
    hedge_after_s: float = math.inf


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

    `failing` is shared by all blocks of a file: who did not answer last time; so is `pace`, without which nobody is
    asked beside another.
    """

    def __init__(
        self,
        source: BlockSource,
        offset: int,
        length: int,
        failing: dict[WorkerId, None],
        pace: Pace | None = None,
    ) -> None:
        self._source = source
        self._offset = offset
        self._left = length
        self._failing = failing
        self._pace = pace
        self._asked: list[tuple[WorkerId, str]] = []
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
                for worker, _ in self._asked:
                    self._failing.pop(worker, None)
                return [] if self._left > 0 else [RangeDone()]
            case ReplicaSlow():
                return self._ask_another()
            case ReplicaAnswered(worker, after_s):
                self._answered(worker, after_s)
                return []
            case ReplicaFailed(error, worker):
                return self._failed(error, worker or self._asked[0][0])
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

    def _ask_another(self) -> list[Action]:
        """Beside the one that is slow."""
        if self._pace is None or len(self._asked) != 1 or not self._untried:
            return []
        self._pace.hedged += 1
        return [self._fetch(math.inf)]

    def _answered(self, worker: WorkerId, after_s: float) -> None:
        if self._pace is not None:
            self._pace.answered(after_s)
            self._pace.won_by_second += worker != self._asked[0][0]
        left = [each for each in self._asked if each[0] != worker]
        self._failing.update(dict.fromkeys(slow for slow, _ in left))
        self._untried += left  # slow is not gone
        self._asked = [each for each in self._asked if each[0] == worker]

    def _failed(self, error: MinireduceError, worker: WorkerId) -> list[Action]:
        self._error = error
        self._failing[worker] = None
        self._asked = [each for each in self._asked if each[0] != worker]
        actions: list[Action] = []
        if isinstance(error, Corruption):
            self._damaged[worker] = None
            actions.append(TellDamage(self._source.replica, worker))
        return actions if self._asked else [*actions, self._next()]

    def _next(self) -> Action:
        if self._left <= 0:
            return RangeDone()
        if self._untried:
            has_other = len(self._untried) > 1
            return self._fetch(self._pace.hedge_after_s if self._pace is not None and has_other else math.inf)
        if self._rounds >= ROUNDS_MAX:
            return GiveUp(self._final_error())
        self._rounds += 1
        return LocateAgain(0.1 * 2**self._rounds)

    def _fetch(self, hedge_after_s: float) -> Fetch:
        worker, address = self._untried.pop(0)
        self._asked.append((worker, address))
        silence_s = SILENCE_S * 2 ** (self._rounds - 1)
        return Fetch(worker, address, self._source.replica, self._offset, self._left, silence_s, hedge_after_s)

    def _final_error(self) -> MinireduceError:
        block = f"block {self._source.replica.block_id}"
        if self._damaged:
            named = ", ".join(self._damaged)
            return Corruption(
                f"{block} has no good replica that can be reached: those on {named} are damaged",
                hint="`minireduce fs fsck` says whether others have one; with --repair the damaged ones are read again",
            )
        kind = NotFound if isinstance(self._error, NotFound) else Unavailable
        said = f": {self._error.message}" if self._error is not None else ", since no live worker holds it"
        return kind(
            f"{block} cannot be read now{said}", hint="`minireduce cluster workers` shows which workers are lost"
        )
