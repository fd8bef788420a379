"""Move small files from one container to another: out of one that is mostly holes, or to others with as many replicas.

A move is written like a file: a nameless one, under a lease of its own. A worker that has the block sends ranges of it,
verified, as a new block to one that is to have it; repair makes as many replicas as the files want; then one
transaction has the files lie there. What was moved leaves the old container, whose block goes with its last file.

Until that transaction nothing has changed for anybody, so a move that fails, takes too long or is forgotten by a new
master is dropped with its block, and tried again later. A file that went elsewhere meanwhile is left alone.

Invariants: files are moved only onto as many confirmed replicas as they want, as far as there are workers; every move
has a block of its own, so one that comes late can never be taken for another.
"""

from __future__ import annotations

from collections.abc import Callable

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import ByteRange, RepackBlock, Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.containers import Container, Containers
from minireduce.core.storage.inodes import File
from minireduce.core.storage.leases import Leases, WritingFile
from minireduce.core.storage.namespace import Namespace
from minireduce.core.storage.places import Places
from minireduce.core.storage.tokens import BlockTokens
from minireduce.frozen import dataclass

MOVES_MAX = 4
"""So many go on at a time."""
REST_S = 10.0
"""A container is looked at once nothing has changed in it for so long: whoever removes one file removes others, too."""
DEAD_BYTES_SHARE_MAX = 0.5
"""A container that is dead to a larger part is written anew."""

NewIds = Callable[[Effects], tuple[int, int]]
"""A new file's number and a new block's."""


@dataclass(frozen=True, slots=True)
class Move:
    """Files on their way from the container `source`: the number of each and where it lies there."""

    source: int
    file: WritingFile
    block: Block
    length: int
    files: tuple[tuple[int, ByteRange], ...]
    deadline_s: float


class Moves:
    """The moves that are under way, and the containers that wait for one."""

    def __init__(
        self,
        settings: ClusterSettings,
        namespace: Namespace,
        leases: Leases,
        blocks: Blocks,
        containers: Containers,
        places: Places,
        tokens: BlockTokens,
        new_ids: NewIds,
    ) -> None:
        self._settings = settings
        self._namespace = namespace
        self._leases = leases
        self._blocks = blocks
        self._containers = containers
        self._places = places
        self._tokens = tokens
        self._new_ids = new_ids
        self._due_s: dict[int, float] = {}
        self._moves: dict[int, Move] = {}  # by the new block
        self._failed: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._moves)

    def failed(self, block_id: int) -> None:
        """A worker could not send what was to become this block."""
        if block_id in self._moves:
            self._failed[block_id] = None

    def shift_deadlines(self, jump_s: float) -> None:
        """The master slept for `jump_s`."""
        self._due_s = {container: due_s + jump_s for container, due_s in self._due_s.items()}

    def tick(self, now: float, effects: Effects) -> None:
        """Go on with what is under way, and begin what is due."""
        for move in list(self._moves.values()):
            self._go_on(move, now, effects)
        for container_id in self._containers.take_changed():
            self._due_s[container_id] = now + REST_S
        if self._places.is_anyone_expected:
            return
        busy = {move.source for move in self._moves.values()}
        for container_id, due_s in list(self._due_s.items()):
            if len(self._moves) >= MOVES_MAX:
                break
            if now >= due_s and container_id not in busy:
                del self._due_s[container_id]
                self._begin(container_id, now, effects)

    def _begin(self, container_id: int, now: float, effects: Effects) -> None:
        container = self._containers.get(container_id)
        if container is None:
            return
        (block,) = self._blocks.of_file(container_id)
        files = self._to_move(container, block)
        if not files:
            return
        live = self._places.live()
        holders = [worker for worker in block.good if worker in live]
        if not holders:
            self._due_s[container_id] = now + self._settings.copy_retry_after_s
            return
        source = holders[block.id % len(holders)]
        target = live[source]  # it is its own first target: others are the business of repair
        length = sum(file.length for file in files)
        file_id, block_id = self._new_ids(effects)
        sizes = (max(file.block_size_bytes for file in files), files[0].replication)
        writing = WritingFile(file_id, "", f"move {file_id}", "", False, *sizes)
        self._leases.open(writing, now, effects)
        packed = self._blocks.add(block_id, file_id, writing.replication, effects)
        deadline_s = now + self._settings.copy_timeout_s + length / self._settings.copy_bytes_per_s_min
        ranges = tuple(ByteRange(file.packed_at, file.length) for file in files)
        leaving = tuple(zip((file.id for file in files), ranges, strict=True))
        self._moves[block_id] = Move(container_id, writing, packed, length, leaving, deadline_s)
        becomes = Replica(block_id, packed.generation, length)
        token = self._tokens.write(block_id, packed.generation)
        effects.command(source, RepackBlock(block.replica, ranges, becomes, source, target.data_address, token))

    def _to_move(self, container: Container, block: Block) -> list[File]:
        """The files that should lie elsewhere, all of one replication, in the order in which they lie."""
        files = [found for found in map(self._namespace.peek, container.files) if isinstance(found, File)]
        files.sort(key=lambda file: file.packed_at)
        if len(container.wishes) > 1:
            odd = min(container.wishes, key=lambda replication: (container.wishes[replication], replication))
            return [file for file in files if file.replication == odd]
        is_mostly_dead = block.length - container.bytes > block.length * DEAD_BYTES_SHARE_MAX
        return files if is_mostly_dead else []

    def _go_on(self, move: Move, now: float, effects: Effects) -> None:
        self._leases.renew(move.file.lease, now)
        block = move.block
        if block.id in self._failed or now >= move.deadline_s:
            self._end(move)
            self._blocks.drop_file(move.file.id, effects)
            self._leases.end(move.file, effects)
            self._due_s[move.source] = now + self._settings.copy_retry_after_s
        elif not block.is_committed:
            if block.good:
                self._blocks.commit(block, move.length, list(block.good), effects)
        elif sum(block.good.values()) >= min(move.file.replication, len(self._places.live())):
            self._end(move)
            self._finish(move, effects)

    def _end(self, move: Move) -> None:
        del self._moves[move.block.id]
        self._failed.pop(move.block.id, None)

    def _finish(self, move: Move, effects: Effects) -> None:
        """The files lie in the new block from now on, but for those that went elsewhere meanwhile."""
        begins, is_used = 0, False
        for file_id, place in move.files:
            found = self._namespace.peek(file_id)
            if isinstance(found, File) and (found.packed_in, found.packed_at) == (move.source, place.offset):
                self._containers.leave(found, effects)
                self._namespace.repack(found, move.file.id, begins, effects)
                self._containers.enter(found)
                is_used = True
            begins += place.length
        self._leases.end(move.file, effects)
        if not is_used:
            self._blocks.drop_file(move.file.id, effects)
