"""A block store whose workers, writers and faults are drawn from a seed, for `sim_storage`.

The master's real storage machine, writers that follow the real `writing` machine, and workers that are nothing but the
replicas they hold. Each seed draws workers, files and what becomes of them: some are small and share a block, some are
made longer, get another replication, are removed, are brought back. It draws faults, too: workers die and come back
with their disks, without them or with damaged ones, connections break, the master starts again, requests and answers
are lost, writers die. Workers are drained and taken back, or thrown away once they are drained.

Faults always leave one good replica of each block, and strike none while another of its replicas is bad or gone without
the master's knowledge: of as many as were asked for, one may deceive it. Then must hold:

- at every moment, each block of a closed file has a good replica on some disk, and a small file's bytes are where the
  master says that they are in it;
- what a writer sent counts only once enough workers have stored it, whether the writer lived to commit it or not;
- no worker takes part in more copies at a time than it may;
- once faults have stopped, each closed file has as many good replicas as it asked for, on different workers, and the
  master names exactly these; nothing else is on any disk, neither of removed files nor of older tries.

Messages between a worker and the master arrive in order or, when their session breaks, not at all; that `core.link`
does that is the business of `testing.sim`.

Elsewhere: what writers do (storage_writers.py), and how that which must hold is looked at (storage_checks.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from minireduce.core.effects import Effects, Row
from minireduce.core.messages import Command
from minireduce.core.replica_messages import (
    ConfirmReplica,
    RemoveReplica,
    RepackBlock,
    Replica,
    ReplicaConfirmed,
    ReplicaDamaged,
    ReplicaRemoved,
    ReplicaStored,
    ReplicateBlock,
    ReplicationFailed,
    ReplicaVerified,
    VerifyReplica,
)
from minireduce.core.storage.places import Place
from minireduce.core.storage.requests import ReportDamage
from minireduce.core.storage.state import StorageState
from minireduce.core.storage.tokens import NoTokens
from minireduce.core.storage.views import FileStatus
from minireduce.ids import WorkerId
from minireduce.testing import storage_checks as checks
from minireduce.testing.storage_holders import SETTINGS, Key, SimHolder, key_of
from minireduce.testing.storage_writers import Writers
from minireduce.testing.wrong import Wrong

STEP_S = 0.5
FAULTS_S = 60.0
QUIET_S_MAX = 300.0


class SimStorage:
    """One seed's world."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)  # noqa: S311 - it must repeat
        self.now = 0.0
        self.strikes: Counter[str] = Counter()
        self.holders = {f"w{number}": SimHolder(f"w{number}") for number in range(self.rng.randint(3, 6))}
        self.closed: dict[str, FileStatus] = {}
        self.expected: dict[WorkerId, float] = {}
        self.listed: dict[WorkerId, Place] = {}
        self._rows: dict[tuple[str, tuple[Any, ...]], Row] = {}
        self.state = StorageState(SETTINGS, self, NoTokens(), self.rng)
        self.writers = Writers(self)
        self._found = ""  # what is wrong, found where errors of a writer's would hide it

    # ── what the machine asks about workers ─────────────────────────────────────────────────────────────────────────

    def live(self) -> Mapping[WorkerId, Place]:
        """See `Places`."""
        return dict(self.listed)

    @property
    def is_anyone_expected(self) -> bool:
        """See `Places`."""
        return bool(self.expected)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """All of it. Raises Wrong."""
        while self.now < FAULTS_S or self.writers.alive:
            self._step()
            if self.now < FAULTS_S:
                self._strike()
        for holder in self.holders.values():  # somebody reads everything, so all damage is noticed
            for key in list(holder.damaged):
                self.notice(holder, key)
        self.writers.find_what_was_left()
        deadline_s = self.now + QUIET_S_MAX
        while wrong := checks.what_is_wrong(self):
            if self.now >= deadline_s:
                raise Wrong(wrong)
            self._step()

    def _step(self) -> None:
        self.now += STEP_S
        for holder in self.holders.values():
            self._serve(holder)
            if holder.is_draining and self._shall_be_taken_back(holder):
                self._drain(holder, is_draining=False)
        self.writers.go_on()
        self.expected = {worker: until for worker, until in self.expected.items() if until > self.now}
        effects = Effects()
        self.state.tick(self.now, effects, self.now)
        self.take(effects)
        if self._found:
            raise Wrong(self._found)
        checks.check_durability(self)
        checks.check_copies(self)

    def _serve(self, holder: SimHolder) -> None:
        if holder.back_at_s is not None:
            if self.now >= holder.back_at_s:
                self._join(holder)
            elif holder.name in self.listed and self.now - holder.heard_at_s >= SETTINGS.worker_lost_s:
                del self.listed[holder.name]
                self.state.worker_lost(holder.name, self.now, is_draining=holder.is_draining)
            return
        holder.heard_at_s = self.now
        self.listed[holder.name] = self._place(holder)
        for _ in range(self.rng.randint(0, 4)):
            if holder.inbox and self.now >= holder.obeys_from_s:
                self._obey(holder, holder.inbox.popleft())
        for _ in range(self.rng.randint(0, 4)):
            if holder.outbox:
                effects = Effects()
                self.state.report(holder.name, holder.outbox.popleft(), self.now, effects)
                self.take(effects)

    def _join(self, holder: SimHolder) -> None:
        holder.is_up, holder.back_at_s, holder.heard_at_s = True, None, self.now
        self.expected.pop(holder.name, None)
        self.listed[holder.name] = self._place(holder)
        listed = [replica for key, replica in holder.replicas.items() if not holder.damaged.get(key)]
        holder.outbox.extend(
            ReplicaDamaged(replica, holder.name) for key, replica in holder.replicas.items() if holder.damaged.get(key)
        )
        effects = Effects()
        self.state.worker_joined(holder.name, listed, effects)
        self.take(effects)

    def _place(self, holder: SimHolder) -> Place:
        name, is_draining = holder.name, holder.is_draining
        return Place(name, name, "/r", f"{name}:1", self._free_bytes(), 10 << 40, is_draining, not is_draining)

    def _drain(self, holder: SimHolder, *, is_draining: bool) -> None:
        holder.is_draining = is_draining
        if holder.name in self.listed:
            self.listed[holder.name] = self._place(holder)
        self.state.worker_drains(holder.name, is_draining=is_draining)

    def _free_bytes(self) -> int:
        """As chance has it, so that there is always something to balance, and all alike once faults are over."""
        return self.rng.randint(1, 9) << 40 if self.now < FAULTS_S else 5 << 40

    def take(self, effects: Effects) -> None:
        """Write down and send what the machine decided."""
        for row in effects.rows:
            if row.values is None:
                self._rows = {at: kept for at, kept in self._rows.items() if not _begins(at, row)}
            else:
                self._rows[row.table, row.key] = row
                self._found = checks.why_too_early(self, row) or self._found
        for worker, commands in effects.commands.items():
            if self.holders[worker].back_at_s is None:
                self.holders[worker].inbox.extend(commands)

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _obey(self, holder: SimHolder, command: Command) -> None:
        match command:
            case ReplicateBlock(replica, target):
                key = key_of(replica)
                if key in holder.replicas and key not in holder.damaged and self.store(target, replica):
                    return
                if key in holder.damaged:
                    self.notice(holder, key)
                holder.outbox.append(ReplicationFailed(replica, "it could not be sent"))
            case RepackBlock(replica, ranges, packed, target):
                key = key_of(replica)
                data = b"".join(self.writers.contents[key][part.offset :][: part.length] for part in ranges)
                self.writers.contents[key_of(packed)] = data
                if key in holder.replicas and key not in holder.damaged and self.store(target, packed):
                    self.strikes["files moved"] += len(ranges)
                    return
                if key in holder.damaged:
                    self.notice(holder, key)
                holder.outbox.append(ReplicationFailed(packed, "it could not be sent"))
            case VerifyReplica(replica):
                key = key_of(replica)
                if key in holder.damaged:
                    self.notice(holder, key)
                else:
                    holder.outbox.append((ReplicaVerified if key in holder.replicas else ReplicaRemoved)(replica))
                self.strikes["suspect verified"] += 1
            case ConfirmReplica(replica, question):
                if key_of(replica) in holder.replicas and not holder.damaged.get(key_of(replica)):
                    holder.outbox.append(ReplicaConfirmed(replica, question))
            case RemoveReplica(replica):
                key = key_of(replica)
                holder.replicas.pop(key, None)
                holder.damaged.pop(key, None)
                holder.outbox.append(ReplicaRemoved(replica))

    def store(self, target: WorkerId, replica: Replica) -> bool:
        """A replica comes to a worker, unless it is down or has bad luck; gives whether it is there."""
        holder = self.holders[target]
        if not holder.is_up or self.rng.random() < 0.05:
            return False
        key = key_of(replica)
        holder.replicas[key] = replica
        holder.damaged.pop(key, None)
        if holder.back_at_s is None:
            holder.outbox.append(ReplicaStored(replica))
        return True

    def notice(self, holder: SimHolder, key: Key) -> None:
        """A worker finds a replica of its own damaged, and says so when it can."""
        holder.damaged[key] = True
        if holder.back_at_s is None:
            holder.outbox.append(ReplicaDamaged(holder.replicas[key], holder.name))

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _strike(self) -> None:
        holder = self.rng.choice(list(self.holders.values()))
        drawn = self.rng.random()
        if drawn < 0.02:
            self._restart_master()
        elif drawn < 0.03 and self.writers.alive:
            self.writers.end(self.rng.choice(list(self.writers.alive)))
        elif self.writers.appending and self.rng.random() < 0.05:
            self.writers.end(self.rng.choice(list(self.writers.appending)))
            self.strikes["writer died while it appended"] += 1
        elif holder.back_at_s is not None:
            return
        elif drawn < 0.05:
            holder.cut(self.now + self.rng.uniform(0.0, 20.0))
            self.strikes["connection broken"] += 1
        elif drawn < 0.08:
            holder.cut(self.now + self.rng.uniform(1.0, 40.0))
            holder.is_up = False
            holder.damaged = dict.fromkeys(holder.damaged, False)  # a process that starts anew looks at sizes only
            self.strikes["worker died"] += 1
            if self.rng.random() < 0.4 and all(self._is_spared(key, holder) for key in holder.replicas):
                holder.replicas.clear()
                holder.damaged.clear()
                self.strikes["disk lost"] += 1
        elif drawn < 0.1:
            holder.obeys_from_s = self.now + self.rng.uniform(1.0, 8.0)
            self.strikes["orders left waiting"] += 1
        elif drawn < 0.14 and holder.replicas:
            key = self.rng.choice(list(holder.replicas))
            if self._is_spared(key, holder):
                holder.damaged[key] = False
                self.strikes["replica damaged"] += 1
        elif drawn < 0.3:
            for key in list(holder.damaged):
                self.notice(holder, key)
        elif drawn < 0.33:
            self._drain_or_take_back(holder)
        elif drawn < 0.4 and holder.replicas:
            replica = holder.replicas[self.rng.choice(list(holder.replicas))]  # rightly or not
            effects = Effects()
            self.state.handle(0, ReportDamage(replica, holder.name), self.now, self.now, effects)
            self.take(effects)
            self.strikes["replica suspected"] += 1

    def _drain_or_take_back(self, holder: SimHolder) -> None:
        """Do without a worker, one at a time. One that is drained may be thrown away, disk and all."""
        if not holder.is_draining:
            if not any(other.is_draining for other in self.holders.values()):
                self._drain(holder, is_draining=True)
                self.strikes["worker drained"] += 1
            return
        others = [other for other in self.holders.values() if other is not holder]
        is_known = all(other.back_at_s is None and not other.damaged and not other.inbox for other in others)
        if is_known and not holder.damaged and not self.state.drain_left(holder.name).why and not self.expected:
            holder.replicas.clear()
            holder.cut(self.now + self.rng.uniform(1.0, 40.0))
            holder.is_up = False
            self.strikes["drained worker thrown away"] += 1
        else:
            self._drain(holder, is_draining=False)

    def _shall_be_taken_back(self, holder: SimHolder) -> bool:
        """All are, once faults are over; and some that have just died, while the master still thinks that they live."""
        if self.now >= FAULTS_S:
            return True
        is_dead_unnoticed = holder.back_at_s is not None and holder.name in self.listed
        if is_dead_unnoticed and self.rng.random() < 0.1:
            self.strikes["dead worker taken back"] += 1
            return True
        return False

    def _is_spared(self, key: Key, holder: SimHolder) -> bool:
        """Whether good replicas are left without this worker's, and all others that the master counts on are good."""
        view = next((view for view in self.state.block_views() if key_of(view.replica) == key), None)
        named = view.workers if view is not None else ()
        if view is not None and view.file_id in self.writers.single:
            return False  # of one replica none may deceive
        if self.writers.pack_of(key) in self.writers.single_packs:
            return False
        others = [other for other in self.holders.values() if other is not holder]
        is_left = any(key in other.good() for other in others)
        return is_left and all(key in other.good() for other in others if other.name in named or key in other.damaged)

    def _restart_master(self) -> None:
        self.strikes["master started again"] += 1
        self.expected = dict.fromkeys(self.listed, self.now + SETTINGS.worker_lost_s)
        self.listed.clear()
        for holder in self.holders.values():
            if holder.back_at_s is None:
                holder.cut(self.now + self.rng.uniform(0.0, 8.0))
        self.state = StorageState(SETTINGS, self, NoTokens(), self.rng)
        self.state.load(self._rows.values(), self.now)
        for holder in self.holders.values():
            if holder.is_draining:
                self.state.worker_drains(holder.name, is_draining=True)


def _begins(at: tuple[str, tuple[Any, ...]], row: Row) -> bool:
    return at[0] == row.table and at[1][: len(row.key)] == row.key
