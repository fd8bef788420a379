"""Replicas on their way from one worker to another: which, until when, and whether a worker has room for more.

Repair and balancing order copies here, so that both keep the same limits: a worker takes part in a few at a time, and
no more bytes a second are moved from it or to it than `repair_bytes_per_s`. A copy that takes too long, or that its
source could not send, has failed; its target is left alone for a while.

Invariants: at most one copy of a block goes to one worker; a copy that has ended, however, makes its block be looked at
again.
"""

from __future__ import annotations

from collections.abc import Mapping

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import ReplicateBlock
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.places import Place
from minireduce.core.storage.tokens import BlockTokens
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

SAVED_S_MAX = 1.0
"""A worker that was idle may be given at once what it could have moved in so long: orders go out on ticks."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A replica on its way. It counts as failed after `deadline_s`."""

    block_id: int
    source: WorkerId
    target: WorkerId
    deadline_s: float


class Copying:
    """The copies that are under way."""

    def __init__(self, settings: ClusterSettings, blocks: Blocks, tokens: BlockTokens) -> None:
        self._settings = settings
        self._blocks = blocks
        self._tokens = tokens
        self._copies: dict[tuple[int, WorkerId], Copy] = {}
        self._of_block: dict[int, dict[WorkerId, None]] = {}
        self._load: dict[WorkerId, int] = {}
        self._sent_until_s: dict[WorkerId, float] = {}
        self._received_until_s: dict[WorkerId, float] = {}
        self._avoided_until_s: dict[tuple[int, WorkerId], float] = {}

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def load(self) -> Mapping[WorkerId, int]:
        """In how many copies each worker takes part; those that take part in none are left out."""
        return self._load

    def targets(self, block_id: int) -> list[WorkerId]:
        """The workers to which copies of a block are on their way."""
        return list(self._of_block.get(block_id, ()))

    def is_free(self, worker: WorkerId) -> bool:
        """Whether a worker may take part in one more copy, as its source or as its target."""
        return self._load.get(worker, 0) < self._settings.copies_per_worker_max

    def may_send(self, worker: WorkerId, now: float) -> bool:
        """Whether a worker has sent so little lately that it may send more."""
        return self._sent_until_s.get(worker, 0.0) <= now

    def may_receive(self, worker: WorkerId, now: float) -> bool:
        """Whether a worker was given so little lately that it may get more."""
        return self._received_until_s.get(worker, 0.0) <= now

    def is_avoided(self, block_id: int, worker: WorkerId) -> bool:
        """Whether a copy of this block to this worker has failed of late."""
        return (block_id, worker) in self._avoided_until_s

    def start(self, block: Block, source: WorkerId, target: Place, now: float, effects: Effects) -> None:
        """Have `source` send its replica to `target`."""
        copy_s = self._settings.copy_timeout_s + block.length / self._settings.copy_bytes_per_s_min
        self._copies[block.id, target.worker] = Copy(block.id, source, target.worker, now + copy_s)
        self._of_block.setdefault(block.id, {})[target.worker] = None
        for worker in (source, target.worker):
            self._load[worker] = self._load.get(worker, 0) + 1
        takes_s = block.length / self._settings.repair_bytes_per_s
        for until_s, worker in ((self._sent_until_s, source), (self._received_until_s, target.worker)):
            until_s[worker] = max(until_s.get(worker, 0.0), now - SAVED_S_MAX) + takes_s
        token = self._tokens.write(block.id, block.generation)
        effects.command(source, ReplicateBlock(block.replica, target.worker, target.data_address, token))

    # ── what became of them ─────────────────────────────────────────────────────────────────────────────────────────

    def arrived(self, block_id: int, worker: WorkerId) -> None:
        """A replica is there. It may be one of a generation that is over, so the block is looked at again."""
        copy = self._copies.get((block_id, worker))
        if copy is not None:
            self._end(copy)

    def failed(self, block_id: int, source: WorkerId, now: float) -> None:
        """`source` could not send its replica: try another pair, and leave these targets alone for a while."""
        for target in self.targets(block_id):
            copy = self._copies[block_id, target]
            if copy.source == source:
                self._give_up(copy, now)

    def source_damaged(self, block_id: int, source: WorkerId) -> None:
        """`source` found its own replica damaged: its copies have ended, and their targets are not to blame."""
        for target in self.targets(block_id):
            copy = self._copies[block_id, target]
            if copy.source == source:
                self._end(copy)

    def expire(self, now: float) -> None:
        """Give up what took too long, and forget what failed long ago."""
        for copy in [copy for copy in self._copies.values() if now >= copy.deadline_s]:
            self._give_up(copy, now)
        if self._avoided_until_s:
            self._avoided_until_s = {key: until for key, until in self._avoided_until_s.items() if until > now}

    def forget_worker(self, worker: WorkerId) -> None:
        """Nothing is known of the copies from and to a worker any more."""
        for copy in [copy for copy in self._copies.values() if worker in (copy.source, copy.target)]:
            self._end(copy)

    def trust(self, worker: WorkerId) -> None:
        """That copies to this worker failed tells nothing any more."""
        self._avoided_until_s = {key: until for key, until in self._avoided_until_s.items() if key[1] != worker}

    def trust_with(self, block_id: int) -> None:
        """That copies of this block failed tells nothing any more."""
        self._avoided_until_s = {key: until for key, until in self._avoided_until_s.items() if key[0] != block_id}

    def _give_up(self, copy: Copy, now: float) -> None:
        self._avoided_until_s[copy.block_id, copy.target] = now + self._settings.copy_retry_after_s
        self._end(copy)

    def _end(self, copy: Copy) -> None:
        del self._copies[copy.block_id, copy.target]
        targets = self._of_block[copy.block_id]
        del targets[copy.target]
        if not targets:
            del self._of_block[copy.block_id]
        for worker in (copy.source, copy.target):
            self._load[worker] -= 1
            if not self._load[worker]:
                del self._load[worker]
        self._blocks.unsettle(copy.block_id)

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`."""
        self._copies = {
            key: Copy(copy.block_id, copy.source, copy.target, copy.deadline_s + jump_s)
            for key, copy in self._copies.items()
        }
