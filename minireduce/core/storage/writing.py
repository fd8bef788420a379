"""How a writer gets one block onto enough disks: place it, send it, commit it, and after a failure begin again.

    PlaceBlock ──▶ BlockPlaced ──▶ SendBlock ──▶ BlockSent ──▶ CommitBlock ──▶ BlockCommitted
        ▲                              │                            │
        └──────── SendingFailed ◀──────┘      CommitRefused ◀───────┘

Every new try is placed under a higher generation, so what an earlier one left behind can never be taken for the block.
A worker that failed is left out from then on, for all blocks of the file, unless nobody else is there. Whether enough
workers have it is the master's to say: it counts who lives.

Invariant: a block is reported as done only after the master has committed it. Elsewhere: bytes and sockets
(`client.block_io`), placement (`placement`), files and leases (`files`).
"""

from __future__ import annotations

from minireduce.core.replica_messages import Replica
from minireduce.core.storage.views import PlacedBlock
from minireduce.errors import InvariantViolation, MinireduceError, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

PAUSES_S_MAX = 40.0
"""A writer gives up when it has paused for so long. On a small cluster there is nobody in place of a worker that died,
so it waits until the master holds that one for lost (`worker_lost_s`), and goes on with those that are left.
"""
PAUSE_S_MAX = 2.0

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BlockPlaced:
    """The master named the workers."""

    placed: PlacedBlock


@dataclass(frozen=True, slots=True)
class BlockSent:
    """The first worker answered: who has the block on disk, and who failed to."""

    workers: tuple[WorkerId, ...]
    failed: tuple[WorkerId, ...]


@dataclass(frozen=True, slots=True)
class SendingFailed:
    """The first worker of the pipeline did not take the block."""

    error: MinireduceError


@dataclass(frozen=True, slots=True)
class BlockCommitted:
    """The master took the block in."""


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """The master found that too few live workers have it."""


Event = BlockPlaced | BlockSent | SendingFailed | BlockCommitted | CommitRefused

# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PlaceBlock:
    """Ask the master where the block is to go. After a failure, wait `pause_s` first."""

    excluded: tuple[WorkerId, ...]
    pause_s: float


@dataclass(frozen=True, slots=True)
class SendBlock:
    """Send the block to the first target, naming the others."""

    placed: PlacedBlock


@dataclass(frozen=True, slots=True)
class CommitToMaster:
    """Tell the master who has it."""

    replica: Replica
    workers: tuple[WorkerId, ...]


@dataclass(frozen=True, slots=True)
class BlockDone:
    """The block is written."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The block cannot be written now."""

    error: MinireduceError


Action = PlaceBlock | SendBlock | CommitToMaster | BlockDone | GiveUp


class BlockWriting:
    """One block of `length` bytes. `excluded` is shared by all blocks of a file and grows with failures."""

    def __init__(self, length: int, excluded: dict[WorkerId, None]) -> None:
        self._length = length
        self._excluded = excluded
        self._tries = 0
        self._paused_s = 0.0
        self._placed: PlacedBlock | None = None

    def begin(self) -> Action:
        """The first action."""
        return self._place(0.0)

    def advance(self, event: Event) -> Action:
        """What to do next."""
        match event:
            case BlockPlaced(placed):
                self._placed = placed
                return SendBlock(placed)
            case BlockSent(workers, failed):
                self._excluded.update(dict.fromkeys(failed))
                return CommitToMaster(self._replica(), workers)
            case SendingFailed(error):
                self._excluded[self._sent().targets[0].worker] = None
                return self._again(error)
            case CommitRefused():
                return self._again(Unavailable("too few live workers have it"))
            case BlockCommitted():
                return BlockDone()

    def _sent(self) -> PlacedBlock:
        if self._placed is None:
            raise InvariantViolation("a block was sent before it was placed")
        return self._placed

    def _replica(self) -> Replica:
        placed = self._sent()
        return Replica(placed.block_id, placed.generation, self._length)

    def _again(self, error: MinireduceError) -> Action:
        if self._paused_s >= PAUSES_S_MAX:
            return GiveUp(
                Unavailable(
                    f"a block could not be written in {self._tries} tries: {error.message}",
                    hint="see `minireduce cluster workers`: enough of them must be live, with room on their disks",
                )
            )
        return self._place(min(PAUSE_S_MAX, 0.05 * 2**self._tries))

    def _place(self, pause_s: float) -> Action:
        self._tries += 1
        self._paused_s += pause_s
        return PlaceBlock(tuple(self._excluded), pause_s)
