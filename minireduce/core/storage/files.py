"""Carry out what clients ask of the block store: each request checks everything first, then changes state and rows.

A request that raises has changed nothing. `state` turns the errors into refusals.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import Replica
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Block, Blocks
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX, Containers
from minireduce.core.storage.ids import SEQUENCES, IdSequence
from minireduce.core.storage.leases import Leases, WritingFile
from minireduce.core.storage.namespace import ROOT, Directory, File, Namespace
from minireduce.core.storage.paths import parse_path
from minireduce.core.storage.placement import FREE_BYTES_KEPT, PlacementPolicy, Want, is_taker
from minireduce.core.storage.places import Place, Places
from minireduce.core.storage.quotas import Quotas
from minireduce.core.storage.recovery import choose_recovered
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    AppendFile,
    ChangeAttributes,
    CloseContainer,
    CloseFile,
    CommitBlock,
    CreateFile,
    FileRequest,
    MakeDirectory,
    RemovePath,
    RenamePath,
    RenewLease,
    WrittenBlock,
)
from minireduce.core.storage.staging import Staging
from minireduce.core.storage.tokens import BlockTokens
from minireduce.core.storage.trash import Trash
from minireduce.core.storage.views import BlockTarget, FileStatus, NamedFiles, OpenedFile, PlacedBlock, Removed
from minireduce.errors import AlreadyExists, NotFound, RequestError, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

BLOCK_SIZE_BYTES_MAX = 1 << 40
REPLICATION_MAX = 512
MODE_MAX = 0o1777


class Files:
    """The requests of `requests`, over the parts that `state` owns."""

    def __init__(
        self,
        settings: ClusterSettings,
        namespace: Namespace,
        leases: Leases,
        blocks: Blocks,
        containers: Containers,
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
        self._places = places
        self._tokens = tokens
        self._policy = policy
        self._rng = rng
        self.quotas = Quotas(namespace)
        self._trash = Trash(namespace, settings.trash_kept_s)
        self.staging = Staging(namespace, settings.staging_kept_s)
        self._recent: dict[WorkerId, int] = {}
        self.inode_ids = IdSequence(SEQUENCES[0], 2)
        self.block_ids = IdSequence(SEQUENCES[1], 1)

    def handle(self, request: FileRequest, at: float, now: float, effects: Effects) -> object:
        """The reply to `request`, received at `at` of the wall clock. Raises MinireduceError."""
        match request:
            case MakeDirectory():
                return self._make_directory(request, at, effects)
            case CreateFile():
                return self._create(request, now, effects)
            case AppendFile():
                return self._append(request, now, effects)
            case AddBlock():
                return self._add_block(request, now, effects)
            case CommitBlock():
                return self._commit_block(request, at, now, effects)
            case CloseFile():
                return self._close(request, at, now, effects)
            case CloseContainer():
                return self._close_container(request, at, now, effects)
            case AbandonFile():
                self._abandon(request, effects)
            case RenewLease():
                self._leases.renew(request.lease, now)
                return self._settings.lease_s
            case RenamePath():
                return self._rename(request, effects)
            case RemovePath():
                return self._remove(request, at, effects)
            case ChangeAttributes():
                return self._change(request, effects)
        return None

    def collect(self, at: float, is_needed: Callable[[str], bool], effects: Effects) -> None:
        """Time passed: empty trash and staging of what is old, and go on with what was removed."""
        self._trash.expire(at, effects)
        self.staging.expire(at, is_needed, effects)
        for file in self._namespace.collect(self._settings.inodes_collected_per_tick, effects):
            self._blocks.drop_file(file.id, effects)
            if file.packed_in:
                self._containers.leave(file, effects)
        self.quotas.forget_collected(effects)

    def forget_recent(self) -> None:
        """What was placed a while ago no longer keeps new blocks away."""
        self._recent.clear()

    # ── directories ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_directory(self, request: MakeDirectory, at: float, effects: Effects) -> FileStatus:
        self._trash.refuse(request.path)
        if request.with_parents:
            if isinstance(self._namespace.find(request.path), File):
                raise AlreadyExists(f"{request.path} is a file")
            names = parse_path(request.path)
            if self._namespace.find(request.path) is None:
                self.quotas.check_new([(names, 0)])
            made = self._namespace.make_directories(names, self._inode_ids(effects), at, effects, request.owner)
        else:
            ids = self._inode_ids(effects)
            if self._namespace.find(request.path) is None:
                self.quotas.check_new([(parse_path(request.path), 0)])
            made = self._namespace.make_directory(request.path, ids, at, effects, request.owner)
        return self._namespace.status(made)

    def _inode_ids(self, effects: Effects) -> Iterator[int]:
        while True:
            yield self.inode_ids.take(effects)

    def _rename(self, request: RenamePath, effects: Effects) -> FileStatus:
        there = self._namespace.find(request.target)
        if there is not None and there.id == request.inode:
            return self._namespace.status(there)  # done already
        found = self._namespace.look_up(request.source)
        if found.id != request.inode:
            raise RequestError(f"{request.source} has been replaced meanwhile", hint="look at it and try again")
        self._trash.refuse_to_move(request.source)
        self._trash.refuse(request.target)
        self.quotas.check_rename(found, parse_path(request.target))
        self._namespace.rename(found, request.target, effects, replace=request.replace)
        return self._namespace.status(found)

    def _remove(self, request: RemovePath, at: float, effects: Effects) -> Removed:
        found = self._namespace.find(request.path)
        if found is None or found.id != request.inode:
            return Removed(0)  # removed already
        if isinstance(found, Directory) and found.entries and not request.recursive:
            raise RequestError(f"{request.path} is not empty", hint="remove it with what it holds: rm -r")
        if not request.skip_trash and self._trash.takes(request.path) and found.id != ROOT:
            inodes = self._namespace.inodes_in(found)
            return Removed(inodes, self._trash.put(found, self._inode_ids(effects), at, effects))
        return Removed(self._namespace.remove(found, effects))

    def _change(self, request: ChangeAttributes, effects: Effects) -> FileStatus:
        found = self._namespace.look_up(request.path)
        if found.id != request.inode:
            raise RequestError(f"{request.path} has been replaced meanwhile", hint="look at it and try again")
        if request.mode > MODE_MAX:
            raise RequestError(f"{request.mode:o} is no mode", hint="a mode is an octal number up to 1777")
        if request.replication:
            if isinstance(found, Directory):
                raise RequestError(f"{request.path} is a directory", hint="set the replication of the files in it")
            _check_within("replication", request.replication, REPLICATION_MAX)
        if max(request.names_max, request.space_bytes_max) >= 0:
            if not isinstance(found, Directory):
                raise RequestError(f"{request.path} is a file", hint="set the quota of the directory that holds it")
            self.quotas.change(found.id, request.names_max, request.space_bytes_max, effects)
        before = found.replication if isinstance(found, File) else 0
        if request.replication and isinstance(found, File):
            self.quotas.check_growth(found, (request.replication - found.replication) * found.length)
        wishes = {"replication": request.replication, "mode": request.mode}
        self._namespace.change(found, effects, owner=request.owner, **wishes)
        if request.replication and isinstance(found, File):
            self._blocks.want(found.id, request.replication)
            if found.packed_in:
                self._containers.wish(found, before)
        return self._namespace.status(found)

    # ── writing a file ──────────────────────────────────────────────────────────────────────────────────────────────

    def _create(self, request: CreateFile, now: float, effects: Effects) -> OpenedFile:
        file = self._leases.find(request.lease, request.file_key)
        if file is None:
            if request.path:
                self._trash.refuse(request.path)
                self._namespace.check_target(request.path, overwrite=request.overwrite)
                self.quotas.check_new([(parse_path(request.path), 0)])
            block_size_bytes = request.block_size_bytes or self._settings.block_size_bytes
            _check_within("block size", block_size_bytes, BLOCK_SIZE_BYTES_MAX)
            replication = request.replication or self._settings.replication
            _check_within("replication", replication, REPLICATION_MAX)
            file = WritingFile(
                self.inode_ids.take(effects),
                request.path,
                request.lease,
                request.file_key,
                request.overwrite,
                block_size_bytes,
                replication,
                request.owner,
            )
            self._leases.open(file, now, effects)
        first = self._place_first(file, request, now, effects) if request.places_first else None
        return OpenedFile(file.id, file.block_size_bytes, file.replication, self._settings.lease_s, first=first)

    def _place_first(self, file: WritingFile, request: CreateFile, now: float, effects: Effects) -> PlacedBlock | None:
        """Where the first block of a file that is opened goes; None where `AddBlock` will say why not."""
        asked = AddBlock(file.id, file.lease, 0, machine_id=request.machine_id)
        with contextlib.suppress(RequestError, Unavailable):
            return self._add_block(asked, now, effects)
        return None

    def _append(self, request: AppendFile, now: float, effects: Effects) -> OpenedFile:
        found = self._namespace.look_up(request.path)
        if not isinstance(found, File):
            raise RequestError(f"{request.path} is a directory", hint="give the name of a file")
        if found.id != request.inode:
            raise RequestError(f"{request.path} has been replaced meanwhile", hint="look at it and try again")
        file = self._leases.peek(found.id)
        if file is None:
            sizes = (found.block_size_bytes, found.replication)
            file = WritingFile(found.id, request.path, request.lease, "", True, *sizes, found.owner, is_append=True)
            self._leases.open(file, now, effects)
        elif file.lease != request.lease:
            raise RequestError(
                f"{request.path} is being appended to by another writer",
                hint=f"wait until it has closed it; a dead one is forgotten after {self._settings.lease_s:g} s",
            )
        sizes = (file.block_size_bytes, file.replication)
        return OpenedFile(file.id, *sizes, self._settings.lease_s, is_packed=bool(found.packed_in))

    def _file_of(self, file: WritingFile) -> File:
        """The file that is appended to. Raises NotFound when it has been removed."""
        found = self._namespace.get(file.id)
        if not isinstance(found, File):
            raise NotFound(f"{file.path} has been removed while it was appended to", hint="write it anew")
        return found

    def _add_block(self, request: AddBlock, now: float, effects: Effects) -> PlacedBlock:
        file = self._leases.get(request.file_id, request.lease, now)
        present = self._blocks.of_file(file.id)
        if file.is_append:
            replication = self._file_of(file).replication  # it may have been changed meanwhile
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
            self.quotas.check_new([(parse_path(file.path), written * replication + 1)])
        targets = self._choose(file, request)
        if is_again:
            block = present[-1]
            self._blocks.begin_again(block, effects)
        else:
            block = self._blocks.add(self.block_ids.take(effects), file.id, replication, effects)
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

    def _commit_block(self, request: CommitBlock, at: float, now: float, effects: Effects) -> bool:
        file = self._leases.get(request.file_id, request.lease, now)
        block = self._current(file, request.replica)
        is_longer = block.is_committed and request.replica.generation > block.generation
        if block.is_committed and not is_longer:
            return True
        closed = self._file_of(file) if file.is_append else None
        _check_fits(file, request.replica)
        if closed is not None and closed.packed_in and request.replica.length < closed.length:
            raise RequestError(f"the first block of {file.path} must begin with the {closed.length} bytes that it has")
        workers = self._enough(file, request.workers)
        if not workers:
            return False
        if closed is not None:
            had = closed.length if closed.packed_in else (block.length if is_longer else 0)
            self.quotas.check_growth(closed, (request.replica.length - had) * closed.replication)
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

    def _close(self, request: CloseFile, at: float, now: float, effects: Effects) -> FileStatus:
        closed = self._namespace.get(request.file_id)
        if isinstance(closed, File) and closed.length == request.length:
            writing = self._leases.peek(request.file_id)
            if writing is not None and writing.lease == request.lease:
                self.drop(writing, effects)
            return self._namespace.status(closed)  # appended to, or the answer was lost, or came late
        file = self._leases.get(request.file_id, request.lease, now)
        if file.is_append:
            raise RequestError(f"{file.path} has {self._file_of(file).length} bytes, not {request.length}")
        last = self._last(file, request.last)
        length = self._length_with(file, last)
        if length != request.length:
            raise RequestError(f"{file.path} cannot be closed with {request.length} bytes: its blocks hold {length}")
        self._namespace.check_target(file.path, overwrite=file.overwrite)
        self.quotas.check_new([(parse_path(file.path), length * file.replication)])
        self._end_blocks(file, last, effects)
        made = self._make(file, file.path, file.id, length, at, effects)
        self._leases.end(file, effects)
        self._namespace.add_file(made, effects)
        return self._namespace.status(made)

    def _last(self, file: WritingFile, written: WrittenBlock | None) -> _LastBlock | None:
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
        return _LastBlock(block, written.replica.length, tuple(workers))

    def _length_with(self, file: WritingFile, last: _LastBlock | None) -> int:
        """How many bytes a new file has with its last block. One that was placed and never written does not count."""
        lengths = [block.length for block in self._blocks.of_file(file.id) if block.is_committed]
        return sum(lengths) + (last.length if last is not None else 0)

    def _end_blocks(self, file: WritingFile, last: _LastBlock | None, effects: Effects) -> None:
        """Commit the last block of a new file; drop one that was placed and never written."""
        if last is not None:
            self._blocks.commit(last.block, last.length, last.workers, effects)
        self._blocks.drop_open(file.id, effects)

    def _make(self, file: WritingFile, path: str, inode: int, length: int, at: float, effects: Effects) -> File:
        """The file `path`, ready to be added where nothing has its name any more."""
        names = parse_path(path)
        parent = self._namespace.make_directories(names[:-1], self._inode_ids(effects), at, effects, file.owner)
        if names[-1] in parent.entries:
            self._namespace.remove(self._namespace.look_up(path), effects)
        sizes = (length, file.block_size_bytes, file.replication)
        return File(inode, parent.id, names[-1], at, *sizes, file.owner)

    def _close_container(self, request: CloseContainer, at: float, now: float, effects: Effects) -> NamedFiles:
        length = sum(each.length for each in request.files)
        if self._containers.get(request.file_id) is not None or (not length and self._was_closed(request)):
            return self._named(request, self._open_next(request, None, now, effects))  # the answer was lost
        file = self._leases.get(request.file_id, request.lease, now)
        if file.path or file.is_append:
            raise RequestError(f"{file.path} is no container")
        last = self._last(file, request.last)
        held = self._length_with(file, last)
        if held != length or len(self._blocks.of_file(file.id)) > 1 or any(each.length < 0 for each in request.files):
            raise RequestError(f"a container whose block holds {held} bytes cannot be closed with {length}")
        if len(request.files) > FILES_PER_CONTAINER_MAX:
            raise RequestError(f"{len(request.files)} files are too many for one container")
        for each in request.files:
            self._trash.refuse(each.path)
        self._namespace.check_targets([each.path for each in request.files], overwrite=file.overwrite)
        self.quotas.check_new([(parse_path(each.path), each.length * file.replication) for each in request.files])
        self._end_blocks(file, last, effects)
        self._leases.end(file, effects)
        begins = 0
        for each in request.files:
            made = self._make(file, each.path, self.inode_ids.take(effects), each.length, at, effects)
            if made.length:
                made.packed_in, made.packed_at = file.id, begins
                self._containers.enter(made)
            self._namespace.add_file(made, effects)
            begins += made.length
        return self._named(request, self._open_next(request, file, now, effects))

    def _open_next(
        self, request: CloseContainer, like: WritingFile | None, now: float, effects: Effects
    ) -> OpenedFile | None:
        """The next container, if one is asked for; `like` is the one that was closed, unless that was before."""
        lease = request.next_lease
        wishes = self._leases.find(lease, lease) or like
        if not lease or wishes is None:
            return None
        sizes = (wishes.block_size_bytes, wishes.replication)
        create = CreateFile("", lease, lease, wishes.overwrite, *sizes, wishes.owner, True, request.machine_id)
        return self._create(create, now, effects)

    def _named(self, request: CloseContainer, following: OpenedFile | None) -> NamedFiles:
        found = [self._namespace.find(each.path) for each in request.files] if request.shows_files else []
        statuses = [self._namespace.status(each) for each in found if isinstance(each, File)]
        is_whole = len(statuses) == len(found) and all(status.container in (0, request.file_id) for status in statuses)
        return NamedFiles(len(request.files), tuple(statuses) if is_whole else (), following)

    def _was_closed(self, request: CloseContainer) -> bool:
        """Whether there is nothing left to do for a container without bytes."""
        found = (self._namespace.find(each.path) for each in request.files)
        is_done = all(isinstance(each, File) and not each.length for each in found)
        return is_done and self._leases.peek(request.file_id) is None

    def _abandon(self, request: AbandonFile, effects: Effects) -> None:
        file = self._leases.peek(request.file_id)
        if file is not None and file.lease == request.lease:
            self.drop(file, effects)

    def recover(self, file: WritingFile, at: float, effects: Effects) -> None:
        """The lease of an open file ran out: of an append keep what enough workers have, and forget the rest."""
        closed, found = self._namespace.get(file.id), self._blocks.uncommitted(file.id)
        if file.is_append and isinstance(closed, File) and found is not None:
            block, held = found
            needed = min(self._settings.replicas_min, file.replication)  # nobody waits, so however few are live now
            recovered = choose_recovered(held, self._places.live(), needed)
            least = block.length if block.is_committed else closed.length if closed.packed_in else 1
            if recovered is not None and least <= recovered[0] <= file.block_size_bytes:
                self._take_in(block, *recovered, closed, at, effects)
        self.drop(file, effects)

    def drop(self, file: WritingFile, effects: Effects) -> None:
        """Forget an open file and all that was written of it; of one that is appended to, what was not committed."""
        if file.is_append:
            self._blocks.drop_open(file.id, effects)
        else:
            self._blocks.drop_file(file.id, effects)
        self._leases.end(file, effects)


@dataclass(frozen=True, slots=True)
class _LastBlock:
    """A block that is committed together with the name of its file."""

    block: Block
    length: int
    workers: tuple[WorkerId, ...]


def _check_fits(file: WritingFile, replica: Replica) -> None:
    if not 0 < replica.length <= file.block_size_bytes:
        raise RequestError(f"a block of {replica.length} bytes does not fit {file.path}")


def _check_within(name: str, number: int, bound: int) -> None:
    if not 0 < number <= bound:
        raise RequestError(f"a {name} of {number} is not between 1 and {bound}")
