"""Read every replica again before its disk has lost a second one of the same block.

A damaged replica that nobody reads is found by nobody, until the good ones are gone. So all are read and verified in
rounds, in ascending order, at no more than `bytes_per_s`: a round begins half a `period_s` after the one before it
began, so that no more than a period passes between two looks at one replica, as long as the limit lets a round end in
half of that; where it does not, a warning says so. Where a round stood is written down, or a worker that is often
started again would never come to the end.

A replica that a reader called damaged is a suspect: it goes before all others, at once and without a limit. It may
prove to be good, when it was the reader's memory or cable that failed; then the master hears that, too.

Elsewhere: what is done about damage (`core.storage.repair`), reading and verifying (`block_store`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from minireduce.clock import Clock
from minireduce.core.replica_messages import Replica, ReplicaVerified
from minireduce.core.worker import ReplicaDeleted
from minireduce.disk import Disk
from minireduce.errors import MinireduceError, NotFound
from minireduce.frozen import dataclass
from minireduce.worker.block_store import BlockStore
from minireduce.worker.replica_files import DamagedReplica

log = logging.getLogger(__name__)

STATE_NAME = "scrubbed"
DRAFT_NAME = ".scrubbed"
SAVE_INTERVAL_S = 60.0
LOOK_INTERVAL_S = 60.0
"""How often it is looked whether the next round is due."""

Key = tuple[int, int]
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ScrubLimits:
    """How often every replica is read, and how fast."""

    period_s: float = 7 * 86_400.0
    bytes_per_s: int = 8 << 20


@dataclass(slots=True)
class _Round:
    """A round that goes on: when it began by the wall clock, and the last replica that was read. It is over at None."""

    began_at: float = 0.0
    last: Key | None = None


class Scrubber:
    """Reads the replicas of `store`, round after round. What it finds goes to `tell` and `found_damaged`."""

    def __init__(
        self,
        store: BlockStore,
        disk: Disk,
        state_path: Path,
        limits: ScrubLimits,
        clock: Clock,
        tell: Callable[[ReplicaVerified | ReplicaDeleted], None],
        found_damaged: Callable[[Replica, DamagedReplica], None],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store = store
        self._disk = disk
        self._path = state_path
        self._limits = limits
        self._clock = clock
        self._tell = tell
        self._found_damaged = found_damaged
        self._sleep = sleep
        self._round = _Round()
        self._saved_at_s = 0.0
        self._spent_until_s = 0.0  # when what was read so far is within the limit

    async def run(self) -> None:
        """Round after round."""
        self._load()
        while True:
            if self._round.last is None:
                wait_s = self._round.began_at + self._limits.period_s / 2 - self._clock.time()
                if 0 < wait_s <= self._limits.period_s:  # not where the wall clock was set back
                    await self._sleep(min(wait_s, LOOK_INTERVAL_S))
                    continue
                self._round = _Round(self._clock.time(), (0, 0))
            await self._go_on()

    async def _go_on(self) -> None:
        """The rest of a round."""
        for replica in self._rest():
            await self._read(replica)
            self._round.last = (replica.block_id, replica.generation)
            if self._clock.now() - self._saved_at_s >= SAVE_INTERVAL_S:
                await asyncio.to_thread(self._save)
        took_s = self._clock.time() - self._round.began_at
        if took_s > self._limits.period_s / 2:
            log.warning(
                "verifying all replicas took %.0f s, so that some are not read within %.0f s: raise scrub_bytes_per_s",
                took_s,
                self._limits.period_s,
            )
        self._round.last = None
        await asyncio.to_thread(self._save)

    def _rest(self) -> Iterator[Replica]:
        """The replicas behind the last one; those that come meanwhile were verified as they came."""
        last = self._round.last or (0, 0)
        return (replica for replica in self._store.replicas() if (replica.block_id, replica.generation) > last)

    async def _read(self, replica: Replica) -> None:
        try:
            pieces = self._store.read(replica.block_id, replica.generation)
            while piece := await asyncio.to_thread(next, pieces, b""):
                await self._slow_down(len(piece))
        except NotFound:
            pass  # it has been removed meanwhile
        except DamagedReplica as damage:
            self._found_damaged(replica, damage)

    async def _slow_down(self, count: int) -> None:
        now = self._clock.now()
        self._spent_until_s = max(self._spent_until_s, now) + count / self._limits.bytes_per_s
        if self._spent_until_s > now:
            await self._sleep(self._spent_until_s - now)

    async def verify(self, replica: Replica) -> None:
        """Read a suspect at once, though it was found damaged before, and say what it is."""
        try:
            await asyncio.to_thread(self._store.look_again, replica.block_id, replica.generation)
            found = self._store.find(replica.block_id, replica.generation)
            pieces = self._store.read(replica.block_id, replica.generation)
            while await asyncio.to_thread(next, pieces, b""):
                pass
        except DamagedReplica as damage:
            self._found_damaged(replica, damage)
        except MinireduceError:
            self._tell(ReplicaDeleted(replica))  # it is not here
        else:
            self._tell(ReplicaVerified(found))

    # ── where it stood ──────────────────────────────────────────────────────────────────────────────────────────────

    def _load(self) -> None:
        try:
            with self._disk.open(self._path) as file:
                began_at, last = json.loads(file.read())
            self._round = _Round(float(began_at), (int(last[0]), int(last[1])) if last else None)
        except (OSError, ValueError, TypeError, IndexError):
            self._round = _Round()  # it begins anew

    def _save(self) -> None:
        """Write it down; of no use to anybody but the next life of this process, so nothing is lost where it fails."""
        self._saved_at_s = self._clock.now()
        draft = self._path.with_name(DRAFT_NAME)
        try:
            self._disk.remove(draft)
            with self._disk.create(draft) as file:
                file.write(json.dumps([self._round.began_at, self._round.last]).encode())
                self._disk.sync(file)
            self._disk.rename(draft, self._path)
        except OSError as error:
            log.warning("where verifying stands cannot be written to %s: %s", self._path, error)
