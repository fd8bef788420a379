"""The blocks of files that are open: where each goes, whether enough workers have it, and when it counts.

A block is placed for its writer, sent, and committed; placed again it has another generation, and what was sent of it
before is void. The last block of a file that is appended to becomes longer where it is, under a new generation. The
last one of a new file may be committed together with its name.

Every method that raises has changed nothing. Elsewhere: names (`open_files`), which worker is best (`placement`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.containers import Containers
from minireduce.core.storage.ids import SEQUENCES, IdSequence
from minireduce.core.storage.inodes import File
from minireduce.core.storage.leases import Leases, WritingFile
from minireduce.core.storage.namespace import Namespace
from minireduce.core.storage.paths import parse_path
from minireduce.core.storage.placement import FREE_BYTES_KEPT, PlacementPolicy, Want, is_taker
from minireduce.core.storage.places import Place, Places
from minireduce.core.storage.quotas import Quotas
from minireduce.core.storage.recovery import choose_recovered
from minireduce.core.storage.requests import AddBlock, CommitBlock, WrittenBlock
from minireduce.core.storage.tokens import BlockTokens
from minireduce.core.storage.views import BlockTarget, PlacedBlock
from minireduce.errors import NotFound, RequestError, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId


@dataclass(frozen=True, slots=True)
class LastBlock:
    """A block that is committed together with the name of its file."""

    block: Block
    length: int
    workers: tuple[WorkerId, ...]


class OpenBlocks:
    """Over the parts that `state` owns. `ids` numbers new blocks."""

    def __init__(
        self,
        settings: ClusterSettings,
        namespace: Namespace,
        leases: Leases,
        blocks: Blocks,
        containers: Containers,
        quotas: Quotas,
        places: Places,
        tokens: BlockTokens,
        policy: PlacementPolicy,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._namespace = namespace
        self._leases = leases
        self._blocks = blocks
        self._containers = containers
        self._quotas = quotas
        self._places = places
        self._tokens = tokens
        self._policy = policy
        self._rng = rng
        self._recent: dict[WorkerId, int] = {}
        self.ids = IdSequence(SEQUENCES[1], 1)

    def forget_recent(self) -> None:
        """What was placed a while ago no longer keeps new blocks away."""
        self._recent.clear()

    def place(self, request: AddBlock, now: float, effects: Effects) -> PlacedBlock:
        """Where the next block of a file goes, or the last one, which is written again or becomes longer."""
        file = self._leases.get(request.file_id, request.lease, now)
        present = self._blocks.of_file(file.id)
        if file.is_append:
            replication = self.file_of(file).replication  # it may have been changed meanwhile
            if present and request.position == len(present) - 1 and present[-1].is_committed:
                return self._place_longer(file, present[-1], request, effects)
        else:
            replication = file.replication
        is_again = request.position == len(present) - 1 and not present[-1].is_committed
        is_next = request.position == len(present) and (not present or present[-1].is_committed)
        if not is_again and not is_next:
            raise RequestError(f"block {request.position} of {file.path} is not the next one to write")
        if file.path and not file.is_append:
            written = sum(max(0, block.length) for block in present)
            self._quotas.check_new([(parse_path(file.path), written * replication + 1)])
        targets = self._choose(file, request)
        if is_again:
            block = present[-1]
            self._blocks.begin_again(block, effects)
        else:
            block = self._blocks.add(self.ids.take(effects), file.id, replication, effects)
        for place in targets:
            self._recent[place.worker] = self._recent.get(place.worker, 0) + 1
        return self._placed(block, targets)

    def _placed(self, block: Block, targets: list[Place], base_generation: int = 0) -> PlacedBlock:
        return PlacedBlock(
            block.id,
            block.tried,
            tuple(BlockTarget(place.worker, place.data_address) for place in targets),
            self._tokens.write(block.id, block.tried),
            base_generation,
            block.length if base_generation else 0,
        )

    def _place_longer(self, file: WritingFile, block: Block, request: AddBlock, effects: Effects) -> PlacedBlock:
        """Where the last block of a file becomes longer: where it is; anew, if too few have it."""
        if block.length >= file.block_size_bytes:
            raise RequestError(f"block {request.position} of {file.path} is full")
        live = self._places.live()
        here = [live[worker] for worker in block.good if worker in live and worker not in request.excluded]
        holders = [place for place in here if place.takes_replicas]
        holders.sort(key=lambda place: not request.machine_id or place.machine_id != request.machine_id)
        if len(holders) >= self._replicas_needed(file):
            self._blocks.begin_longer(block, effects)
            return self._placed(block, holders, block.generation)
        targets = self._choose(file, request)
        self._blocks.begin_longer(block, effects)
        return self._placed(block, targets)

    def _choose(self, file: WritingFile, request: AddBlock) -> list[Place]:
        live = self._places.live()
        want = Want(file.replication, file.block_size_bytes, machine_id=request.machine_id)
        preferred = [place for place in live.values() if place.worker not in request.excluded]
        targets = self._policy.choose_targets(preferred, want, self._recent, self._rng)
        if len(targets) < self._replicas_needed(file):
            targets = self._policy.choose_targets(live.values(), want, self._recent, self._rng)
        if len(targets) < self._replicas_needed(file) and self._places.is_anyone_expected:
            raise Unavailable("workers that were there before the master was started again are still expected")
        if targets:
            return targets
        if not live:
            raise Unavailable(f"no worker is live that could hold a block of {file.path}", hint="start workers")
        raise RequestError(
            f"none of {len(live)} live workers has room for a block of {file.path}",
            hint=f"one needs {want.bytes_needed + FREE_BYTES_KEPT >> 20} MiB free, for a block and to spare; "
            "see `minireduce cluster workers`: free some disk, start more workers, or undrain one",
        )

    def _replicas_needed(self, file: WritingFile) -> int:
        """On so many workers a block must be. Those who are expected count: few are live while a master starts.

        Those without room do not: the only other worker of two may be full, and yet files can be written.
        """
        asked = min(self._settings.replicas_min, file.replication)
        if self._places.is_anyone_expected:
            return asked
        takers = (place for place in self._places.live().values() if is_taker(place, file.block_size_bytes))
        return max(1, sum(1 for _ in itertools.islice(takers, asked)))

    def commit(self, request: CommitBlock, at: float, now: float, effects: Effects) -> bool:
        """Count a block as written; False when too few of those who live have it, and it must be placed anew."""
        file = self._leases.get(request.file_id, request.lease, now)
        block = self._current(file, request.replica)
        is_longer = block.is_committed and request.replica.generation > block.generation
        if block.is_committed and not is_longer:
            return True
        closed = self.file_of(file) if file.is_append else None
        _check_fits(file, request.replica)
        if closed is not None and closed.packed_in and request.replica.length < closed.length:
            raise RequestError(f"the first block of {file.path} must begin with the {closed.length} bytes that it has")
        workers = self._enough(file, request.workers)
        if not workers:
            return False
        if closed is not None:
            had = closed.length if closed.packed_in else (block.length if is_longer else 0)
            self._quotas.check_growth(closed, (request.replica.length - had) * closed.replication)
        self._take_in(block, request.replica.length, workers, closed, at, effects)
        return True

    def _enough(self, file: WritingFile, named: Iterable[WorkerId]) -> list[WorkerId]:
        """Those who live of the workers that have a block of `file`; nobody if they are too few."""
        live = self._places.live()
        workers = [worker for worker in dict.fromkeys(named) if worker in live]
        if len(workers) >= self._replicas_needed(file):
            return workers
        if self._places.is_anyone_expected:
            raise Unavailable("workers that were there before the master was started again are still expected")
        return []

    def _take_in(
        self, block: Block, length: int, workers: Iterable[WorkerId], closed: File | None, at: float, effects: Effects
    ) -> None:
        """The block counts with this length; `closed` is the file that it makes longer."""
        if block.is_committed:
            self._blocks.commit_longer(block, length, workers, effects)
        else:
            self._blocks.commit(block, length, workers, effects)
        if closed is not None:
            if closed.packed_in:
                self._containers.leave(closed, effects)
            self._namespace.grow(closed, sum(each.length for each in self._blocks.of_file(block.file_id)), at, effects)

    def _current(self, file: WritingFile, replica: Replica) -> Block:
        block = self._blocks.get(replica.block_id)
        generation, length = replica.generation, replica.length
        is_longer = block is not None and block.longer is not None and generation == block.tried
        if block is None or block.file_id != file.id or (generation != block.generation and not is_longer):
            raise RequestError(f"block {replica.block_id} of {file.path} has been written anew since")
        if block.is_committed and (length < block.length if is_longer else length != block.length):
            raise RequestError(f"block {block.id} of {file.path} was committed with {block.length} bytes")
        return block

    def file_of(self, file: WritingFile) -> File:
        """The file that is appended to. Raises NotFound when it has been removed."""
        found = self._namespace.get(file.id)
        if not isinstance(found, File):
            raise NotFound(f"{file.path} has been removed while it was appended to", hint="write it anew")
        return found

    def last_of(self, file: WritingFile, written: WrittenBlock | None) -> LastBlock | None:
        """The block that is to be committed with the close of a new file, if one is. Raises RequestError."""
        if written is None:
            return None
        block = self._current(file, written.replica)
        _check_fits(file, written.replica)
        if block.is_committed:
            return None
        workers = self._enough(file, written.workers)
        if not workers:
            raise RequestError(f"too few live workers have block {block.id} of {file.path or 'a container'}")
        return LastBlock(block, written.replica.length, tuple(workers))

    def length_with(self, file: WritingFile, last: LastBlock | None) -> int:
        """How many bytes a new file has with its last block. One that was placed and never written does not count."""
        lengths = [block.length for block in self._blocks.of_file(file.id) if block.is_committed]
        return sum(lengths) + (last.length if last is not None else 0)

    def end(self, file: WritingFile, last: LastBlock | None, effects: Effects) -> None:
        """Commit the last block of a new file; drop one that was placed and never written."""
        if last is not None:
            self._blocks.commit(last.block, last.length, last.workers, effects)
        self._blocks.drop_open(file.id, effects)

    def recover(self, file: WritingFile, at: float, effects: Effects) -> None:
        """The lease of a file that is appended to ran out: keep what enough workers have of its last block."""
        closed, found = self._namespace.get(file.id), self._blocks.uncommitted(file.id)
        if not isinstance(closed, File) or found is None:
            return
        block, held = found
        needed = min(self._settings.replicas_min, file.replication)  # nobody waits, so however few are live now
        recovered = choose_recovered(held, self._places.live(), needed)
        least = block.length if block.is_committed else closed.length if closed.packed_in else 1
        if recovered is not None and least <= recovered[0] <= file.block_size_bytes:
            self._take_in(block, *recovered, closed, at, effects)


def _check_fits(file: WritingFile, replica: Replica) -> None:
    if not 0 < replica.length <= file.block_size_bytes:
        raise RequestError(f"a block of {replica.length} bytes does not fit {file.path}")
