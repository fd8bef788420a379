"""Carry a seed's faults out: watch for their moments, strike, and mend everything at the end."""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from minireduce.core.replica_messages import Replica
from minireduce.core.worker import StopRequested
from minireduce.ids import TaskKind
from minireduce.testing.blocks import replica_path
from minireduce.testing.disk import SimDisk
from minireduce.testing.faults import Fault, FaultKind, Left, Plan
from minireduce.testing.ghost import Ghost
from minireduce.testing.master import SimMaster
from minireduce.testing.worker import SimWorker
from minireduce.testing.world import World

RESTART_S = (0.5, 6.0)
SLOWNESS = 8.0
LATER_S_MAX = 400.0
OLD_COPY_S_MAX = 5.0


class Injector:
    """The faults of one run. `healed` once nothing strikes any more."""

    def __init__(self, world: World, master: SimMaster, workers: dict[str, SimWorker], plan: Plan) -> None:
        self.plan = plan
        self.is_healed = False
        self.is_over: Callable[[], bool] = lambda: True  # whether all clients have what they wanted
        self._world = world
        self._master = master
        self._workers = workers
        self._rng: random.Random = world.rng("faults")
        self._moments: Counter[str] = Counter()
        self._needs_old_copy = any(fault.kind is FaultKind.MASTER_OLD_COPY for fault in plan.faults)
        self._old_copy: tuple[SimDisk, int] | None = None
        self._true_disk: SimDisk | None = None  # while an old copy of it is in use
        world.on_moment = self._on_moment
        if plan.heal_s:
            world.agenda.after(plan.heal_s, None, self._heal_if_due)

    # ── moments ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_moment(self, name: str, actor: str) -> None:
        if name == "worker ended itself":
            self._world.agenda.after(1.0, None, lambda: self._start_worker(actor))
            return
        if name == "master ended itself":
            self._world.agenda.after(1.0, None, self._start_master)
            return
        if self.is_healed:
            return
        self._moments[name] += 1
        if name == "rows are durable" and self._old_copy is None and self._needs_old_copy:
            self._old_copy = self._master.disk.copy(), self._master.txid
        for fault in self.plan.faults:
            if not fault.has_struck and fault.moment == name and self._moments[name] >= fault.nth:
                if fault.delay_s:
                    self._world.agenda.after(fault.delay_s, None, lambda fault=fault: self._strike(fault, actor))  # type: ignore[misc]
                else:
                    self._strike(fault, actor)

    def _strike(self, fault: Fault, actor: str) -> None:
        """Let a fault happen if it still can; otherwise it waits for the next moment of its kind."""
        if self.is_healed or fault.has_struck or self._true_disk is not None or not self._is_anything_running():
            return
        worker = self._workers.get(actor)
        if fault.kind.startswith(("master", "log")):
            fault.has_struck = self._strike_master(fault)
        elif fault.kind is FaultKind.WALL_CLOCK_SET:
            away_s = self._rng.choice((-1, 1)) * 3600.0 * fault.seconds
            self._world.clock.set_time(self._world.clock.time() + away_s)
            fault.has_struck = True
        elif worker is not None and worker.node.is_up and not worker.node.is_paused:
            fault.has_struck = self._strike_worker(fault, worker)
        if fault.has_struck:
            self._world.strikes[fault.kind] += 1
            self._world.trace.mark("fault", str(fault))

    def _is_anything_running(self) -> bool:
        """A fault that strikes while there is no job to disturb shows nothing."""
        return bool(self._master.state._compute.jobs)  # noqa: SLF001 - the truth, not what is shown

    # ── striking ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _strike_master(self, fault: Fault) -> bool:
        node = self._master.node
        if not node.is_up or node.is_paused:
            return False
        match fault.kind:
            case FaultKind.MASTER_PAUSED:
                self._world.agenda.pause(node)
                life = node.life
                self._world.agenda.after(fault.seconds, None, lambda: self._resume_master(life))
            case FaultKind.LOG_FULL:
                self._master.disk.fail_next("write", errno.ENOSPC)
            case FaultKind.LOG_ERROR:
                self._master.disk.fail_next("sync", errno.EIO)
            case FaultKind.MASTER_OLD_COPY:
                return self._start_old_copy(fault)
            case FaultKind.MASTER_CLOCK_JUMPED:
                self._master.clock.jump(fault.seconds)
            case _:
                self._master.kill(str(fault.kind))
                self._world.agenda.after(min(fault.seconds, RESTART_S[1]), None, self._start_master)
        return True

    def _strike_worker(self, fault: Fault, worker: SimWorker) -> bool:
        maps_running = [attempt for attempt in worker.running if attempt.task.kind is TaskKind.MAP]
        reduces_running = len(worker.running) - len(maps_running)
        match fault.kind:
            case FaultKind.WORKER_KILLED_MAPPING if maps_running:
                self._kill(fault, worker)
            case FaultKind.WORKER_KILLED_AFTER_MAPS if worker.disk.outputs:
                self._kill(fault, worker)
            case FaultKind.WORKER_KILLED_REDUCING if reduces_running:
                self._kill(fault, worker)
            case FaultKind.WORKER_STOPPED:
                worker.handle(StopRequested())
            case FaultKind.WORKER_PAUSED:
                self._world.agenda.pause(worker.node)
                life = worker.node.life
                self._world.agenda.after(fault.seconds, None, lambda: self._resume_worker(worker, life))
            case FaultKind.WORKER_SLOW:
                worker.slowness = SLOWNESS
            case FaultKind.OUTPUT_LOST if worker.disk.outputs:
                lost = self._rng.choice(sorted(worker.disk.outputs))
                del worker.disk.outputs[lost]
            case FaultKind.OUTPUT_DAMAGED:
                whole = [attempt for attempt in worker.disk.outputs if not worker.disk.outputs[attempt].is_damaged]
                if not whole:
                    return False
                damaged = self._rng.choice(sorted(whole))
                worker.disk.outputs[damaged] = replace(worker.disk.outputs[damaged], is_damaged=True)
            case FaultKind.COPY_DAMAGED:
                return worker.damage_copy(self._rng)
            case FaultKind.REPLICA_FLIPPED | FaultKind.REPLICA_TORN | FaultKind.REPLICA_MISDIRECTED:
                return self._damage_replica(fault.kind, worker)
            case FaultKind.BLOCK_DISK_FULL:
                worker.disk.files.fail_next("write", errno.ENOSPC)
            case FaultKind.BLOCK_DISK_ERROR:
                worker.disk.files.fail_next("sync", errno.EIO)
            case FaultKind.STREAM_BROKEN:
                return self._master.streams.break_all_of(worker)
            case FaultKind.CUT_TO_MASTER:
                self._world.network.cut(worker.name, "master", fault.seconds)
            case FaultKind.CUT_FROM_MASTER:
                self._world.network.cut("master", worker.name, fault.seconds)
            case FaultKind.CUT_BETWEEN_WORKERS:
                other = self._rng.choice([name for name in self._workers if name != worker.name])
                self._world.network.cut(other, worker.name, fault.seconds)
            case FaultKind.WORKER_GHOST:
                if worker.node.life == 1:
                    return False
                Ghost(self._master.streams, worker.profile()).appear()
            case FaultKind.WORKER_CLOCK_JUMPED:
                worker.clock.jump(fault.seconds)
            case FaultKind.RACK_KILLED:
                for each in self._rack_of(worker):
                    self._kill(fault, each)
            case FaultKind.RACK_CUT:
                for each in self._rack_of(worker):
                    self._world.network.cut(each.name, "master", fault.seconds)
                    self._world.network.cut("master", each.name, fault.seconds)
            case _:
                return False
        return True

    def _start_old_copy(self, fault: Fault) -> bool:
        """Somebody starts the master on a backup, out of reach of clients; after a while they see that it will not do.
        Every worker has followed a later master, and so must not be taken in.
        """
        return self._old_copy is not None and self.start_copy(fault, *self._old_copy)

    def start_copy(self, fault: Fault, old: SimDisk, txid: int) -> bool:
        """The same with a copy that ends at commit `txid`; whether it could be done now."""
        if self._true_disk is not None or any(worker.highest[1] <= txid for worker in self._workers.values()):
            return False
        master, seconds = self._master, min(fault.seconds, OLD_COPY_S_MAX)
        master.kill(str(fault.kind))
        self._true_disk, master.disk = master.disk, old.copy()
        self._world.network.cut("client", "master", seconds)
        master.start()
        self._world.agenda.after(seconds, None, self._end_old_copy)
        return True

    @property
    def is_on_old_copy(self) -> bool:
        """Whether the master runs on another copy of its metadata than the true one."""
        return self._true_disk is not None

    def _end_old_copy(self) -> None:
        if self._true_disk is not None:
            if self._master.node.is_up:
                self._master.kill("it was started on an old copy")
            self._master.disk, self._true_disk = self._true_disk, None
            self._start_master()

    def _rack_of(self, worker: SimWorker) -> list[SimWorker]:
        return [each for each in self._workers.values() if each.rack == worker.rack and each.node.is_up]

    def _kill(self, fault: Fault, worker: SimWorker) -> None:
        left = fault.left
        if left is Left.NOTHING and not all(self._is_spared(replica, worker) for replica in worker.replicas()):
            left = Left.SOME
        worker.kill(str(fault.kind), left=left)
        self._world.strikes[f"worker killed, {left}"] += 1
        self._world.agenda.after(fault.seconds, None, lambda: self._start_worker(worker.name))

    # ── disks of the block store ────────────────────────────────────────────────────────────────────────────────────

    def _damage_replica(self, kind: FaultKind, worker: SimWorker) -> bool:
        whole = [replica for replica in worker.replicas() if worker.holds(replica)]
        spared = [replica for replica in whole if self._is_spared(replica, worker)]
        if not spared:
            return False
        replica = self._rng.choice(spared)
        path = replica_path(replica)
        if kind is FaultKind.REPLICA_FLIPPED:
            worker.disk.files.flip_bit(path, self._rng.randrange(8 * replica.length))
        elif kind is FaultKind.REPLICA_TORN:
            worker.disk.files.cut_short(path, self._rng.randrange(replica.length))
        else:
            others = [other for other in worker.replicas() if other != replica and other.length]
            if not others:
                return False
            worker.disk.files.misdirect(replica_path(self._rng.choice(others)), path)
        return not worker.holds(replica)

    def _is_spared(self, replica: Replica, worker: SimWorker) -> bool:
        """Whether a good replica is left without this worker's, and all others that the master counts on are good."""
        storage = self._master.state.storage
        views = [view for view in storage.block_views() if view.replica == replica] if self._master.node.is_up else []
        others = [other for other in self._workers.values() if other is not worker]
        named = {name for view in views for name in view.workers}
        good = {other.name for other in others if other.holds(replica)}
        return bool(good) and named - {worker.name} <= good

    # ── mending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _heal_if_due(self) -> None:
        """The time of faults is over, once enough of them have struck to prove something, or none will any more."""
        is_late = self._world.clock.now() >= self.plan.heal_s + LATER_S_MAX
        if is_late or self.is_over() or not self.plan.lacks_strikes:
            self.heal()
        else:
            self._world.agenda.after(1.0, None, self._heal_if_due)

    def heal(self) -> None:
        """From now on nothing fails."""
        self.is_healed = True
        self._world.trace.mark("fault", "healed")
        self._world.network.heal()
        self._end_old_copy()
        self._resume_master(self._master.node.life)
        self._start_master()
        for worker in self._workers.values():
            worker.slowness = 1.0
            self._resume_worker(worker, worker.node.life)
            self._mend_disk(worker)
            self._start_worker(worker.name)

    @staticmethod
    def _mend_disk(worker: SimWorker) -> None:
        """A full disk has room again; one that failed is used again by a worker that starts on it."""
        directories = worker.blocks.store.directories
        directories.reopen()
        if worker.node.is_up and any(directories.why_closed(root) for root in directories.roots):
            worker.kill("its disk is mended")

    def _start_master(self) -> None:
        if not self._master.node.is_up and self._true_disk is None:
            self._master.start()

    def _start_worker(self, name: str) -> None:
        worker = self._workers[name]
        if self._true_disk is not None and not worker.disk.remembered[1]:  # it would follow any master
            self._world.agenda.after(1.0, None, lambda: self._start_worker(name))
        elif not worker.node.is_up:
            worker.start()

    def _resume_master(self, life: int) -> None:
        node = self._master.node
        if node.is_paused and node.life == life:
            self._world.agenda.resume(node)

    def _resume_worker(self, worker: SimWorker, life: int) -> None:
        if worker.node.is_paused and worker.node.life == life:
            self._world.agenda.resume(worker.node)
