"""Carry out what clients ask of the block store: each request checks everything first, then changes state and rows.

A request that raises has changed nothing. `state` turns the errors into refusals. Here are directories, names and what
is said about files; those that are open have parts of their own (`open_files`, `open_blocks`).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from minireduce.core.effects import Effects
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.blocks import Blocks
from minireduce.core.storage.containers import Containers
from minireduce.core.storage.ids import SEQUENCES, IdSequence
from minireduce.core.storage.inodes import Directory, File
from minireduce.core.storage.leases import Leases
from minireduce.core.storage.namespace import ROOT, Namespace
from minireduce.core.storage.open_blocks import OpenBlocks
from minireduce.core.storage.open_files import REPLICATION_MAX, OpenFiles, check_within
from minireduce.core.storage.paths import parse_path
from minireduce.core.storage.placement import PlacementPolicy
from minireduce.core.storage.places import Places
from minireduce.core.storage.quotas import Quotas
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
)
from minireduce.core.storage.staging import Staging
from minireduce.core.storage.tokens import BlockTokens
from minireduce.core.storage.trash import Trash
from minireduce.core.storage.views import FileStatus, Removed
from minireduce.errors import AlreadyExists, RequestError

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
        self.quotas = Quotas(namespace)
        self._trash = Trash(namespace, settings.trash_kept_s)
        self.staging = Staging(namespace, settings.staging_keep_s)
        self.inode_ids = IdSequence(SEQUENCES[0], 2)
        parts = (settings, namespace, leases, blocks, containers, self.quotas)
        self.open_blocks = OpenBlocks(*parts, places, tokens, policy, rng)
        self.open_files = OpenFiles(*parts, self.open_blocks, self.inode_ids)

    def handle(self, request: FileRequest, at: float, now: float, effects: Effects) -> object:
        """The reply to `request`, received at `at` of the wall clock. Raises MinireduceError."""
        match request:
            case MakeDirectory():
                return self._make_directory(request, at, effects)
            case CreateFile():
                return self.open_files.create(request, now, effects)
            case AppendFile():
                return self.open_files.append(request, now, effects)
            case AddBlock():
                return self.open_blocks.place(request, now, effects)
            case CommitBlock():
                return self.open_blocks.commit(request, at, now, effects)
            case CloseFile():
                return self.open_files.close(request, at, now, effects)
            case CloseContainer():
                return self.open_files.close_container(request, at, now, effects)
            case AbandonFile():
                self.open_files.abandon(request, effects)
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

    def _make_directory(self, request: MakeDirectory, at: float, effects: Effects) -> FileStatus:
        self._trash.refuse(request.path)
        if request.with_parents:
            if isinstance(self._namespace.find(request.path), File):
                raise AlreadyExists(f"{request.path} is a file")
            names = parse_path(request.path)
            if self._namespace.find(request.path) is None:
                self.quotas.check_new([(names, 0)])
            made = self._namespace.make_directories(names, self.inode_ids.supply(effects), at, effects, request.owner)
        else:
            ids = self.inode_ids.supply(effects)
            if self._namespace.find(request.path) is None:
                self.quotas.check_new([(parse_path(request.path), 0)])
            made = self._namespace.make_directory(request.path, ids, at, effects, request.owner)
        return self._namespace.status(made)

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
            return Removed(inodes, self._trash.put(found, self.inode_ids.supply(effects), at, effects))
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
            check_within("replication", request.replication, REPLICATION_MAX)
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
