"""Files that are open: created or appended to, closed, abandoned, or left by a writer that fell silent.

A new file has no name until it is closed; a container gives several files their names at once. Whoever repeats a
request after a lost answer gets the same answer again.

Every method that raises has changed nothing. Elsewhere: their blocks (`open_blocks`), leases (`leases`).
"""

from __future__ import annotations

import contextlib

from minireduce.core.effects import Effects
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Blocks
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX, Containers
from minireduce.core.storage.ids import IdSequence
from minireduce.core.storage.inodes import File
from minireduce.core.storage.leases import Leases, WritingFile
from minireduce.core.storage.namespace import Namespace
from minireduce.core.storage.open_blocks import OpenBlocks
from minireduce.core.storage.paths import parse_path
from minireduce.core.storage.quotas import Quotas
from minireduce.core.storage.requests import (
    AbandonFile,
    AddBlock,
    AppendFile,
    CloseContainer,
    CloseFile,
    CreateFile,
)
from minireduce.core.storage.trash import Trash
from minireduce.core.storage.views import FileStatus, NamedFiles, OpenedFile, PlacedBlock
from minireduce.errors import RequestError, Unavailable

BLOCK_SIZE_BYTES_MAX = 1 << 40
REPLICATION_MAX = 512


class OpenFiles:
    """Over the parts that `state` owns. `inode_ids` numbers new files."""

    def __init__(
        self,
        settings: ClusterSettings,
        namespace: Namespace,
        leases: Leases,
        blocks: Blocks,
        containers: Containers,
        quotas: Quotas,
        open_blocks: OpenBlocks,
        inode_ids: IdSequence,
    ) -> None:
        self._settings = settings
        self._namespace = namespace
        self._leases = leases
        self._blocks = blocks
        self._containers = containers
        self._quotas = quotas
        self._open_blocks = open_blocks
        self._inode_ids = inode_ids

    def create(self, request: CreateFile, now: float, effects: Effects) -> OpenedFile:
        """Begin a new file or, without a path, a container."""
        file = self._leases.find(request.lease, request.file_key)
        if file is None:
            if request.path:
                Trash.refuse(request.path)
                self._namespace.check_target(request.path, overwrite=request.overwrite)
                self._quotas.check_new([(parse_path(request.path), 0)])
            block_size_bytes = request.block_size_bytes or self._settings.block_size_bytes
            check_within("block size", block_size_bytes, BLOCK_SIZE_BYTES_MAX)
            replication = request.replication or self._settings.replication
            check_within("replication", replication, REPLICATION_MAX)
            file = WritingFile(
                self._inode_ids.take(effects),
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
            return self._open_blocks.place(asked, now, effects)
        return None

    def append(self, request: AppendFile, now: float, effects: Effects) -> OpenedFile:
        """Begin to append to a file."""
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

    def close(self, request: CloseFile, at: float, now: float, effects: Effects) -> FileStatus:
        """Give a new file its name; what it is then. A file that was appended to has been seen all along."""
        closed = self._namespace.get(request.file_id)
        if isinstance(closed, File) and closed.length == request.length:
            writing = self._leases.peek(request.file_id)
            if writing is not None and writing.lease == request.lease:
                self.drop(writing, effects)
            return self._namespace.status(closed)  # appended to, or the answer was lost, or came late
        file = self._leases.get(request.file_id, request.lease, now)
        if file.is_append:
            raise RequestError(f"{file.path} has {self._open_blocks.file_of(file).length} bytes, not {request.length}")
        last = self._open_blocks.last_of(file, request.last)
        length = self._open_blocks.length_with(file, last)
        if length != request.length:
            raise RequestError(f"{file.path} cannot be closed with {request.length} bytes: its blocks hold {length}")
        self._namespace.check_target(file.path, overwrite=file.overwrite)
        self._quotas.check_new([(parse_path(file.path), length * file.replication)])
        self._open_blocks.end(file, last, effects)
        made = self._make(file, file.path, file.id, length, at, effects)
        self._leases.end(file, effects)
        self._namespace.add_file(made, effects)
        return self._namespace.status(made)

    def _make(self, file: WritingFile, path: str, inode: int, length: int, at: float, effects: Effects) -> File:
        """The file `path`, ready to be added where nothing has its name any more."""
        names = parse_path(path)
        parent = self._namespace.make_directories(names[:-1], self._inode_ids.supply(effects), at, effects, file.owner)
        if names[-1] in parent.entries:
            self._namespace.remove(self._namespace.look_up(path), effects)
        sizes = (length, file.block_size_bytes, file.replication)
        return File(inode, parent.id, names[-1], at, *sizes, file.owner)

    def close_container(self, request: CloseContainer, at: float, now: float, effects: Effects) -> NamedFiles:
        """Give the files of a container their names, all or none; and open the next one, if that is asked."""
        length = sum(each.length for each in request.files)
        if self._containers.get(request.file_id) is not None or (not length and self._was_closed(request)):
            return self._named(request, self._open_next(request, None, now, effects))  # the answer was lost
        file = self._leases.get(request.file_id, request.lease, now)
        if file.path or file.is_append:
            raise RequestError(f"{file.path} is no container")
        last = self._open_blocks.last_of(file, request.last)
        held = self._open_blocks.length_with(file, last)
        if held != length or len(self._blocks.of_file(file.id)) > 1 or any(each.length < 0 for each in request.files):
            raise RequestError(f"a container whose block holds {held} bytes cannot be closed with {length}")
        if len(request.files) > FILES_PER_CONTAINER_MAX:
            raise RequestError(f"{len(request.files)} files are too many for one container")
        for each in request.files:
            Trash.refuse(each.path)
        self._namespace.check_targets([each.path for each in request.files], overwrite=file.overwrite)
        self._quotas.check_new([(parse_path(each.path), each.length * file.replication) for each in request.files])
        self._open_blocks.end(file, last, effects)
        self._leases.end(file, effects)
        begins = 0
        for each in request.files:
            made = self._make(file, each.path, self._inode_ids.take(effects), each.length, at, effects)
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
        return self.create(create, now, effects)

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

    def abandon(self, request: AbandonFile, effects: Effects) -> None:
        """Drop what a writer wrote and does not want."""
        file = self._leases.peek(request.file_id)
        if file is not None and file.lease == request.lease:
            self.drop(file, effects)

    def drop(self, file: WritingFile, effects: Effects) -> None:
        """Forget an open file and all that was written of it; of one that is appended to, what was not committed."""
        if file.is_append:
            self._blocks.drop_open(file.id, effects)
        else:
            self._blocks.drop_file(file.id, effects)
        self._leases.end(file, effects)

    def recover(self, file: WritingFile, at: float, effects: Effects) -> None:
        """The lease of an open file ran out: of an append keep what enough workers have, and forget the rest."""
        if file.is_append:
            self._open_blocks.recover(file, at, effects)
        self.drop(file, effects)


def check_within(name: str, number: int, bound: int) -> None:
    if not 0 < number <= bound:
        raise RequestError(f"a {name} of {number} is not between 1 and {bound}")
