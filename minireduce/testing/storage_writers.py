"""The writers of a simulated block store: what each does with its file, and what is known of the bytes it sent.

They follow the real `writing` machine, ask until they are answered, and may die between any two steps.

Elsewhere: who strikes them (storage_world.py), what must hold of their files (storage_checks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from minireduce.core.effects import Effects
from minireduce.core.replica_messages import Replica
from minireduce.core.storage import writing
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
    PackedFile,
    RemovePath,
    RenamePath,
    WrittenBlock,
)
from minireduce.core.storage.views import BlockView, PlacedBlock
from minireduce.errors import MinireduceError, NotFound, RequestError, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId
from minireduce.testing.storage_holders import SETTINGS, Key, key_of

if TYPE_CHECKING:
    from minireduce.testing.storage_world import SimStorage

FILES = 6
PACKS = 2

_ENDED = object()

Steps = Generator[None, None, Any]
"""What goes on for a while; between two steps anything may happen."""


@dataclass(slots=True)
class Sent:
    """A block as a writer sent it: on how many disks it must be before it counts, and on which it came to be."""

    replicas_min: int
    stored: dict[WorkerId, None] = field(default_factory=dict)


class Writers:
    """All writers of one seed, by the path of their file."""

    def __init__(self, world: SimStorage) -> None:
        self._world = world
        self._rng, self._strikes = world.rng, world.strikes
        self._holders, self._closed = world.holders, world.closed
        self.alive = {f"/f{number}": self._write(f"/f{number}") for number in range(FILES)}
        self.alive |= {f"/p{number}": self._pack(f"/p{number}") for number in range(PACKS)}
        self.single: set[int] = set()  # files and containers that have, had or will have one replica
        self.single_packs: set[str] = set()  # whose files may be moved to a block with one replica
        self.contents: dict[Key, bytes] = {}  # of the blocks that small files share
        self._names: dict[str, list[str]] = {}  # what the writers of such blocks called the files
        self.appended: dict[str, int] = {}  # how long a file is at least, once somebody appended to it
        self.longest: dict[str, int] = {}  # and how long at most: a writer may die before it knows
        self.appending: dict[str, None] = {}  # whose writers are at it
        self.sent: dict[Key, Sent] = {}  # what writers have sent
        self._left: list[str] = []  # by writers that died; whether their files were closed is the master's to say

    def go_on(self) -> None:
        """Let some of them do their next step."""
        for path, writer in list(self.alive.items()):
            if self._rng.random() < 0.5 and next(writer, _ENDED) is _ENDED:
                del self.alive[path]

    def end(self, path: str) -> None:
        """The writer of a file, or of all small files that share a block, is gone, and says no more."""
        owner = path.partition(".")[0]
        self.alive.pop(owner).close()
        self._left.extend(self._names.get(owner, [owner]))
        self._strikes["writer died"] += 1

    def find_what_was_left(self) -> None:
        """Take the files of writers that died as closed where the master has them."""
        for path in self._left:
            with suppress(NotFound):
                self._closed[path] = self._world.state.status(path)

    def blocks_of(self, path: str) -> list[tuple[Key, set[WorkerId]]]:
        """The blocks of a file, each with those who hold it as far as the master knows."""
        found = self._world.state.file_blocks(path, 0, 1 << 60)
        sources = [block.source for block in found.blocks]
        return [(key_of(each.replica), set(each.workers)) for each in sources]

    def _views_of(self, path: str) -> list[BlockView]:
        keys = {key for key, _ in self.blocks_of(path)}
        return [view for view in self._world.state.block_views() if key_of(view.replica) in keys]

    def _write(self, path: str) -> Steps:
        with suppress(MinireduceError):  # a file that cannot be written was promised to nobody
            replication = self._rng.randint(2, 3)
            opened = yield from self._open(path, path, replication)
            file_id, first = opened.file_id, opened.first
            lengths = [self._rng.randint(1, SETTINGS.block_size_bytes) for _ in range(self._rng.randint(0, 4))]
            close = CloseFile(file_id, path, sum(lengths))
            closed: Any = None
            excluded: dict[WorkerId, None] = {}
            for position, length in enumerate(lengths):
                ends_file = position == len(lengths) - 1 and self._rng.random() < 0.5
                with_it = partial(replace, close) if ends_file else None
                closed = yield from self._write_block(file_id, path, position, length, excluded, first, with_it)
                first = None
            self._closed[path] = closed or (yield from self._ask(close))
            for _ in range(self._rng.choice((0, 0, 2, 8))):
                yield from self._change_replication(path)
            for _ in range(self._rng.choice((0, 0, 1, 3))):
                yield from self._append(path, lengths)
            for _ in range(self._rng.randint(0, 60)):
                yield
            if self._rng.random() < 0.4:
                yield from self._remove(path)

    def _pack(self, lease: str) -> Steps:
        """Write small files that share a block; then all kinds of things happen to each."""
        with suppress(MinireduceError):
            opened = yield from self._open("", lease, self._rng.randint(2, 3))
            file_id = opened.file_id
            lengths = {f"{lease}.{number}": self._rng.randint(1, 12) for number in range(self._rng.randint(1, 4))}
            packed = tuple(PackedFile(path, length) for path, length in lengths.items())
            close = CloseContainer(file_id, lease, packed, next_lease=self._rng.choice(("", f"{lease}, left open")))
            content = b"".join(map(bytes_of, lengths, lengths.values()))

            def with_it(*, last: WrittenBlock) -> CloseContainer:
                self.contents[key_of(last.replica)] = content
                return replace(close, last=last)

            self._names[lease] = list(lengths)
            ends_file = self._rng.random() < 0.5
            closed = yield from self._write_block(
                file_id, lease, 0, len(content), {}, opened.first, with_it if ends_file else None
            )
            (view,) = (view for view in self._world.state.block_views() if view.file_id == file_id)
            self.contents[key_of(view.replica)] = content
            if not closed:
                yield from self._ask(close)
            for path in lengths:
                self._closed[path] = self._world.state.status(path)
            self._strikes["container opened ahead and left"] += bool(close.next_lease)
            self._strikes["files packed"] += len(packed)
            for path, length in lengths.items():
                for _ in range(self._rng.choice((0, 0, 1, 2))):
                    yield from self._change_replication(path)
                if self._rng.random() < 0.2:
                    yield from self._append(path, [length])
                for _ in range(self._rng.randint(0, 8)):
                    yield
                if self._rng.random() < 0.6:
                    yield from self._remove(path)

    def _append(self, path: str, lengths: list[int]) -> Steps:
        """Make a file longer, in one session of some blocks. It may be given up; what was committed stays."""
        lease, inode = f"{path} {self._world.now}", self._closed[path].inode
        yield from self._ask(AppendFile(path, inode, lease))
        self.appending[path] = None
        try:
            yield from self._append_blocks(path, inode, lease, lengths)
        finally:
            del self.appending[path]
        if self._rng.random() < 0.3:
            yield from self._ask(AbandonFile(inode, lease))
        else:
            self._closed[path] = yield from self._ask(CloseFile(inode, lease, sum(lengths)))

    def _append_blocks(self, path: str, inode: int, lease: str, lengths: list[int]) -> Steps:
        excluded = dict[WorkerId, None]()
        for _ in range(self._rng.randint(0, 3)):
            if not lengths or lengths[-1] == SETTINGS.block_size_bytes:
                lengths.append(0)
            length = self._rng.randint(lengths[-1] + 1, SETTINGS.block_size_bytes)
            self.appended[path] = sum(lengths)
            self.longest[path] = sum(lengths) - lengths[-1] + length
            yield from self._write_block(inode, lease, len(lengths) - 1, length, excluded)
            lengths[-1] = length
            self._strikes["block appended"] += 1
        self.appended[path] = sum(lengths)

    def _change_replication(self, path: str) -> Steps:
        """Ask for more replicas or fewer, often again before that is done. One replica alone must be a good one."""
        replication = self._rng.choice((1, 1, 2, 2, 3, 4))
        if replication > 1 or not any(self._may_deceive(*each) for each in self.blocks_of(path)):
            inode = self._closed[path].inode
            if replication == 1:
                self.single |= {inode, *(view.file_id for view in self._views_of(path))}
                self.single_packs.add(path.partition(".")[0])
            request = ChangeAttributes(path, inode, replication)
            self._closed[path] = yield from self._ask(request)
            self._strikes["replication changed"] += 1
        for _ in range(self._rng.choice((0, 1, 2, 3, 20))):
            yield

    def _may_deceive(self, key: Key, named: set[WorkerId]) -> bool:
        """Whether some worker's replica is bad, or gone though the master names it."""
        holders = self._holders.values()
        pack = self.pack_of(key)
        keys = [key, *(each for each in self.contents if pack and self.pack_of(each) == pack)]
        return any(each in holder.damaged for holder in holders for each in keys) or any(
            key not in self._holders[name].good() for name in named
        )

    def pack_of(self, key: Key) -> str:
        """The writer of the small files that share a block; empty for any other block."""
        content = self.contents.get(key)
        return f"/p{content[0] // 10}" if content else ""

    def _remove(self, path: str) -> Steps:
        """Remove a file, perhaps for good; else it may be brought back."""
        status = self._closed.pop(path)
        is_for_good = self._rng.random() < 0.5
        removed = yield from self._ask(RemovePath(path, status.inode, skip_trash=is_for_good))
        self._strikes["file removed"] += 1
        if removed.trash_path and self._rng.random() < 0.5:
            self._closed[path] = yield from self._ask(RenamePath(removed.trash_path, path, status.inode))
            self._strikes["file brought back"] += 1

    def _open(self, path: str, lease: str, replication: int) -> Steps:
        places_first = self._rng.random() < 0.5
        return self._ask(CreateFile(path, lease, lease, replication=replication, places_first=places_first))

    def _write_block(
        self,
        file_id: int,
        lease: str,
        position: int,
        length: int,
        excluded: dict[WorkerId, None],
        first: PlacedBlock | None = None,
        with_it: Callable[..., FileRequest] | None = None,
    ) -> Steps:
        """Get a block committed. `first` says where it goes, if that was asked before; `with_it` makes the request that
        closes the file with its `last` block: the answer to that, where it was the one that committed it.
        """
        closed: Any = None
        machine = writing.BlockWriting(length, excluded)
        action = machine.begin()
        while not isinstance(action, writing.BlockDone):
            yield
            match action:
                case writing.PlaceBlock(left_out):
                    placed = first or (yield from self._ask(AddBlock(file_id, lease, position, left_out)))
                    first = None
                    event: writing.Event = writing.BlockPlaced(placed)
                case writing.SendBlock(placed):
                    event = self._send(file_id, placed, length)
                case writing.CommitToMaster(replica, workers):
                    if with_it is not None:
                        closed = yield from self._close_with(with_it(last=WrittenBlock(replica, workers)))
                    is_committed = closed or (yield from self._ask(CommitBlock(file_id, lease, replica, workers)))
                    event = writing.BlockCommitted() if is_committed else writing.CommitRefused()
                case writing.GiveUp(error):
                    raise error
            action = machine.advance(event)
        return closed

    def _close_with(self, request: FileRequest) -> Steps:
        """The answer to a close with the last block; None if it was refused: then each is asked for by itself."""
        try:
            answer = yield from self._ask(request)
        except RequestError:
            return None
        self._strikes["last block committed with the close"] += 1
        return answer

    def _send(self, file_id: int, placed: PlacedBlock, length: int) -> writing.Event:
        replica = Replica(placed.block_id, placed.generation, length)
        base = (placed.block_id, placed.base_generation)
        file = self._world.state._leases.peek(file_id)  # noqa: SLF001 - the truth
        asked = min(SETTINGS.replicas_min, file.replication) if file is not None else SETTINGS.replicas_min
        sent = self.sent[key_of(replica)] = Sent(asked)
        done: list[WorkerId] = []
        for target in placed.targets:
            holder = self._holders[target.worker]
            if placed.base_generation and (base not in holder.replicas or base in holder.damaged):
                if base in holder.damaged and holder.is_up:
                    self._world.notice(holder, base)
                break
            if not self._world.store(target.worker, replica):
                break
            done.append(target.worker)
            sent.stored[target.worker] = None
        if not done:
            return writing.SendingFailed(Unavailable("nobody took it"))
        return writing.BlockSent(tuple(done), tuple(target.worker for target in placed.targets[len(done) :]))

    def _ask(self, request: FileRequest) -> Steps:
        while True:
            is_lost, is_answer_lost = self._rng.random() < 0.05, self._rng.random() < 0.05
            if not is_lost:
                effects = Effects()
                self._world.state.handle(1, request, self._world.now, self._world.now, effects)
                self._world.take(effects)
                refusal = effects.refusals.get(1)
                if refusal is not None and not isinstance(refusal, Unavailable):
                    raise refusal
                if refusal is None and not is_answer_lost:
                    return effects.replies[1]
            self._strikes["request or answer lost"] += is_lost or is_answer_lost
            yield


def bytes_of(path: str, length: int) -> bytes:
    """What `/p0.1` holds: 1 again and again."""
    return bytes([int(path[2::2])]) * length
