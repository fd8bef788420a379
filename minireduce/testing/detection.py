"""Seeds in which something is lost for good: `python -m minireduce.testing.detection --seeds 0:60`.

Other seeds leave one good replica of each block, and all metadata that was synced, so that everything can be mended.
Here, on top of a seed's ordinary faults, one strikes that nobody can mend: all replicas of a block that jobs read are
damaged, or gone, behind everybody's back; or the log under the master, though it was synced, is damaged or loses its
end, and the master is started on that. Then must hold:

- nobody is ever given a wrong byte: a read of the block gives an error, and what jobs give is what the sequential run
  gives;
- a job that cannot be computed any more fails, and names the block; the master counts no replica of it as good;
- a master whose metadata lacks what workers have followed stops serving, and says so by name. Once it is started on the
  metadata as they were, everything goes on as if nothing had been.

A seed whose loss found no moment proves nothing, and is counted apart.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from random import Random

from minireduce.core.membership import Member
from minireduce.core.replica_messages import Replica
from minireduce.core.views import JobState
from minireduce.errors import MinireduceError, Refused
from minireduce.frozen import dataclass
from minireduce.testing import log
from minireduce.testing.blocks import replica_path
from minireduce.testing.client import SimClient
from minireduce.testing.disk import SimDisk
from minireduce.testing.draw import build
from minireduce.testing.faults import Fault, FaultKind, Left
from minireduce.testing.injector import LATER_S_MAX, OLD_COPY_S_MAX
from minireduce.testing.sim import LIVENESS_S_MAX, QUIET_S, parse_seeds, without_collector
from minireduce.testing.wrong import Wrong

LOSSES_MAX = 15
"""So often a task may fail to read its input before its job is given up: jobs of other seeds are more patient."""

AGAIN_S = 0.25


class Loss(StrEnum):
    """What is lost for good."""

    REPLICAS_DAMAGED = "all replicas of a block damaged"
    REPLICAS_GONE = "all replicas of a block gone"
    LOG_DAMAGED = "synced metadata damaged"
    LOG_CUT = "synced metadata cut off"


@dataclass(frozen=True, slots=True)
class Detection:
    """What became of one seed. `said`: the error by which the loss was told, "" while nobody needed what was lost."""

    seed: int
    loss: Loss
    has_struck: bool
    said: str
    error: str


class _Run:
    def __init__(self, seed: int) -> None:
        self.rng = Random(f"{seed}/loss")  # noqa: S311 - chance, not secrets
        self.cluster, self.plan = build(seed)
        is_stored = any(client.job.is_stored for client in self.cluster.clients)
        self.loss = self.rng.choice([each for each in Loss if is_stored or each.startswith("synced")])
        self.lost: Replica | None = None
        self.lost_path = ""
        self.said = ""
        self.has_struck = False
        if not self.loss.startswith("synced"):
            for client in self.cluster.clients:
                client.job = replace(client.job, losses_max=LOSSES_MAX)
        agenda = self.cluster.world.agenda
        agenda.after(self.rng.uniform(1.0, 8.0), None, self._try)

    # ── striking ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _try(self) -> None:
        injector = self.cluster.injector
        if injector.is_healed or injector.is_over():
            return
        self.has_struck = self._lose_log() if self.loss.startswith("synced") else self._lose_block()
        if not self.has_struck:
            self.cluster.world.agenda.after(AGAIN_S, None, self._try)

    def _lose_block(self) -> bool:
        master, world = self.cluster.master, self.cluster.world
        reading = [client for client in self.cluster.clients if _is_mapping(client) and client.path in world.files]
        if not reading or not master.node.is_up:
            return False
        self.lost_path = self.rng.choice(reading).path
        found = master.state.storage.file_blocks(self.lost_path, 0, 1 << 60)
        self.lost = self.rng.choice(found.blocks).source.replica
        copies = master.state.storage._copying._copies.values()  # noqa: SLF001 - the truth
        if any(copy.block_id == self.lost.block_id for copy in copies):
            return False  # what is on its way would arrive
        for worker in self.cluster.workers.values():
            if worker.holds(self.lost):
                self._spoil(worker.disk.files, replica_path(self.lost), self.lost.length)
        return True

    def _spoil(self, disk: SimDisk, path: Path, length: int) -> None:
        if self.loss is Loss.REPLICAS_DAMAGED:
            disk.flip_bit(path, self.rng.randrange(8 * length))
        else:
            disk.remove(path)
            disk.sync_directory(path.parent)

    def _lose_log(self) -> bool:
        """Start the master on a damaged copy of its log, out of reach of clients; later it has the true one again."""
        master, injector = self.cluster.master, self.cluster.injector
        copy = master.disk.copy()
        copy.crash()  # what was not synced yet is no loss
        size = copy.size_bytes(log.PATH)
        if not master.node.is_up or master.node.is_paused or not size:
            return False
        if self.loss is Loss.LOG_DAMAGED:
            copy.flip_bit(log.PATH, self.rng.randrange(8 * size))
        else:
            copy.cut_short(log.PATH, self.rng.randrange(size))
        left = log.read(copy.copy()).txid
        fault = Fault(FaultKind.MASTER_OLD_COPY, "", 1, 0.0, OLD_COPY_S_MAX, Left.ALL)
        if not injector.start_copy(fault, copy, left):
            return False
        master.ended_because = None
        self.cluster.world.agenda.after(OLD_COPY_S_MAX - AGAIN_S, None, self._see_master_refuse)
        return True

    def _see_master_refuse(self) -> None:
        """By now a worker has come, or none could; clients could not, so nothing wrong was served."""
        ended = self.cluster.master.ended_because
        if isinstance(ended, Refused) and "metadata ends at" in ended.message:
            self.said = ended.message
        elif self._is_on_damaged_log and any(member.is_live for member in self._members()):
            raise Wrong(f"a master on damaged metadata took workers in, and ended because of {ended}")
        else:
            self.has_struck = False

    @property
    def _is_on_damaged_log(self) -> bool:
        return self.cluster.master.node.is_up and self.cluster.injector.is_on_old_copy

    def _members(self) -> list[Member]:
        return list(self.cluster.master.state._membership)  # noqa: SLF001 - the truth

    # ── judging ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """All of it. Raises Wrong."""
        cluster, plan = self.cluster, self.plan
        cluster.run_to_end(seconds_max=plan.heal_s + LATER_S_MAX + LIVENESS_S_MAX)
        if not cluster.injector.is_healed:
            cluster.injector.heal()
        cluster.run_for(QUIET_S)
        if self.lost is None:
            cluster.repair()
            cluster.judge()
            return
        for client in cluster.clients:
            self._judge_client(client)
        self._judge_reads(self.lost)

    def _judge_client(self, client: SimClient) -> None:
        view = client.view
        is_reader = client.job.is_stored and client.path == self.lost_path
        if is_reader and not client.job.is_doomed and view is not None and view.state is JobState.FAILED:
            if self.lost is None or f"block {self.lost.block_id} " not in f"{view.reason} ":
                raise Wrong(f"{client.job.key!r} lost its input, but says {view.reason!r}")
            self.said = view.reason
        else:
            self.cluster.checker.judge_job(client)

    def _judge_reads(self, lost: Replica) -> None:
        """Everybody who might have the block is asked for it."""
        for worker in self.cluster.workers.values():
            if worker.node.is_up:
                data = worker.blocks.read(lost, 0, lost.length)
                if not isinstance(data, MinireduceError):
                    raise Wrong(
                        f"{worker.name} gives {data!r} for block {lost.block_id}, of which no good replica is left"
                    )
                self.said = self.said or data.message
        self.cluster.run_for(QUIET_S)
        found = self.cluster.master.state.storage.file_blocks(self.lost_path, 0, 1 << 60)
        named = [block for block in found.blocks if block.source.replica == lost]
        views = [view for view in self.cluster.master.state.storage.block_views() if view.replica == lost]
        if len(named) != 1 or [view.workers for view in views] != [()]:
            raise Wrong(f"no good replica of block {lost.block_id} is left, but the master names {views}")


def _is_mapping(client: SimClient) -> bool:
    view = client.view
    counts = view.tasks if view is not None and view.state is JobState.RUNNING else ()
    return client.job.is_stored and any(count.kind == "map" and not count.step and count.running for count in counts)


def loss_of(seed: int) -> Loss:
    """What is lost in this seed."""
    return _Run(seed).loss


def run_seed(seed: int) -> Detection:
    """Run one seed to its end and judge it."""
    with without_collector():
        run, error = _Run(seed), ""
        try:
            run.run()
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
    return Detection(seed, run.loss, run.has_struck, run.said, error)


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m minireduce.testing.detection")
    parser.add_argument("--seeds", type=parse_seeds, default=range(60), metavar="A:B", help="from A to before B")
    options = parser.parse_args(arguments)
    struck, told, failed = Counter[str](), Counter[str](), 0
    for found in map(run_seed, options.seeds):
        struck[found.loss] += found.has_struck
        told[found.loss] += found.has_struck and bool(found.said)
        if found.error:
            failed += 1
            sys.stdout.write(f"seed {found.seed} failed: {found.loss}: {found.error}\n")
    sys.stdout.write(f"{len(options.seeds)} seeds: {len(options.seeds) - failed} held, {failed} failed\n")
    sys.stdout.writelines(f"{loss:<46}struck {struck[loss]:>4}, told {told[loss]:>4}\n" for loss in Loss)
    return 1 if failed or not all(told[loss] for loss in Loss) else 0


if __name__ == "__main__":
    sys.exit(main())
