"""Bugs to plant, so that it is known what the simulation would find.

A simulator that finds nothing proves nothing. Each of these takes one safeguard away, the kind that is easily forgotten
or lost in a change, and the simulation must then fail within a bounded number of seeds. They are planted from here, by
replacing a method while the seeds run; production code knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from minireduce.core import cluster
from minireduce.core.compute import reports, speculation
from minireduce.core.compute.arrivals import worker_came
from minireduce.core.compute.locality import Level, LocalityWait
from minireduce.core.compute.queue import TaskQueue
from minireduce.core.compute.speculation import Straggler
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.task import Task, TaskState, Winner
from minireduce.core.link import Link
from minireduce.core.membership import Member, Membership
from minireduce.core.messages import Up
from minireduce.core.storage.blocks import Blocks
from minireduce.core.storage.copying import Copying
from minireduce.engine.read import Lines
from minireduce.errors import InvariantViolation
from minireduce.ids import TaskKind
from minireduce.testing.blocks import ROOT
from minireduce.testing.disk import SimDisk
from minireduce.testing.draw import SEEDS_PER_REAL
from minireduce.testing.log import SimLog
from minireduce.testing.master import SimMaster
from minireduce.testing.sim import Outcome, run_seed
from minireduce.testing.wrong import Wrong

_CAUGHT = (Wrong.__name__, InvariantViolation.__name__)

Plant = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """One safeguard taken away."""

    name: str
    plant: Plant
    first_seed: int = 0  # where the ordinary tests begin to look: the seeds before are known to find nothing
    every: int = 1  # only one in so many seeds can find it

    @contextmanager
    def planted(self) -> Iterator[None]:
        """While this lasts, the bug is there."""
        with ExitStack() as stack:
            self.plant(stack)
            yield

    def hunt(self, seeds: range) -> Outcome | None:
        """What the first of `seeds` that is caught says; None when none is. An error of Python catches nothing."""
        tried = [seed for seed in seeds if seed % self.every == 0]
        with self.planted():
            return next((outcome for outcome in map(run_seed, tried) if outcome.error.startswith(_CAUGHT)), None)


def _replace(owner: Any, name: str, replacement: Callable[..., Any]) -> Plant:
    def plant(stack: ExitStack) -> None:
        stack.enter_context(patch.object(owner, name, replacement))

    return plant


# ── what is sent, and when ──────────────────────────────────────────────────────────────────────────────────────────


def _release_at_once(_: SimMaster, act: Callable[[], None]) -> None:
    act()


def _finish_without_sync(self: SimLog, count: int) -> None:
    self._durable += count
    self._is_busy = False
    if self._waiting:
        self._start()
    self._on_durable(self._durable)


def _take_repeated(original: Callable[..., bool]) -> Callable[..., bool]:
    def received(self: Link[Any], number: int, *rest: Any) -> bool:
        is_repeated = 0 < number <= self.received_number
        return original(self, number, *rest) or is_repeated

    return received


def _send_once(original: Callable[..., Any]) -> Callable[..., Any]:
    def due(self: Link[Any], now: float) -> Any:
        self._resend_at = None
        return original(self, now)

    return due


# ── who may speak ───────────────────────────────────────────────────────────────────────────────────────────────────


def _hear_anybody(self: Membership, stream: int, up: Up, now: float) -> Member | None:
    member = self._by_stream.get(stream)
    if member is not None:
        member.heard_at_s = now
        member.free_bytes = up.free_bytes
    return member


def _twin_wins(original: Callable[..., None]) -> Callable[..., None]:
    def succeeded(state: ComputeState, member: Member, report: Any, now: float, effects: Any) -> None:
        job = state.jobs.get(report.attempt.task.job)
        task = job.task(report.attempt.task) if job is not None else None
        if job is not None and task is not None and task.is_done:
            job.steps[task.id.step].count_done(task, -1)
            task.state = TaskState.PENDING
        original(state, member, report, now, effects)

    return succeeded


# ── what is made again ──────────────────────────────────────────────────────────────────────────────────────────────


def _never_queue_again(original: Callable[..., None]) -> Callable[..., None]:
    def lose_output(self: ComputeState, task: Task, *rest: Any) -> None:
        original(self, task, *rest)
        if task.id.kind is TaskKind.MAP:
            task.queue = TaskQueue()  # it seems to wait, but nobody looks there

    return lose_output


def _ignore_fetch_failure(*_: Any) -> None:
    return


def _trust_nothing(original: Callable[..., None]) -> Callable[..., None]:
    def came(state: ComputeState, member: Member, hello: Any, now: float, effects: Any) -> None:
        for task in list(state.load_of(member.id).outputs.values()):
            if task.id.job in state.jobs:
                state.lose_output(task, now, "its worker came back", effects)
        original(state, member, hello, now, effects)

    return came


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────────────


def _count_twice(original: Callable[..., None]) -> Callable[..., None]:
    def win(self: Task, winner: Winner) -> None:
        earlier = self.winner.counters if self.winner is not None else ()
        original(self, Winner(winner.attempt, winner.worker, winner.output, winner.counters + earlier))

    return win


# ── what a master must refuse ───────────────────────────────────────────────────────────────────────────────────────


def _follow_old_master(original: Callable[..., Any]) -> Callable[..., Any]:
    def take_hello(self: cluster.ClusterState, event: cluster.HelloReceived, *rest: Any) -> Any:
        return original(self, replace(event, hello=replace(event.hello, highest_epoch=0, highest_txid=0)), *rest)

    return take_hello


def _take_any_incarnation(original: Callable[..., Any]) -> Callable[..., Any]:
    def enter(self: Membership, stream: int, hello: Any, now: float) -> Any:
        known = self._members.get(hello.profile.worker)
        if known is not None:
            incarnation = max(known.profile.incarnation, hello.profile.incarnation)
            hello = replace(hello, profile=replace(hello.profile, incarnation=incarnation))
        return original(self, stream, hello, now)

    return enter


# ── where and when tasks run ────────────────────────────────────────────────────────────────────────────────────────


def _wait_for_ever(*_: Any) -> Level:
    return Level.NODE


def _beside_itself(original: Callable[..., Any]) -> Callable[..., Any]:
    def choose(straggler: Straggler, places: Any) -> Any:
        here = replace(straggler, avoided=frozenset(), node="", homes=(straggler.node,))
        return original(here, places)

    return choose


# ── the block store ─────────────────────────────────────────────────────────────────────────────────────────────────


def _holds_blocks(disk: SimDisk) -> bool:
    return disk.exists(ROOT)


def _forget_file_sync(original: Callable[..., None]) -> Callable[..., None]:
    def sync(self: SimDisk, file: Any) -> None:
        if not _holds_blocks(self):
            original(self, file)

    return sync


def _forget_directory_sync(original: Callable[..., None]) -> Callable[..., None]:
    def sync_directory(self: SimDisk, path: Any) -> None:
        if not _holds_blocks(self):
            original(self, path)

    return sync_directory


def _never_damaged(*_: Any, **__: Any) -> None:
    return


def _never_busy(*_: Any) -> bool:
    return True


def _take_any_generation(original: Callable[..., bool]) -> Callable[..., bool]:
    def stored(self: Blocks, block: Any, worker: str, replica: Any) -> bool:
        return replica.generation < block.generation or original(self, block, worker, replica)

    return stored


# ── the engine ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_one_byte_more(original: Callable[..., Any]) -> Callable[..., Any]:
    def blocks(self: Lines, stream: Any, offset: int, length: int) -> Any:
        return original(self, stream, offset, length + 1)

    return blocks


_TAKE_HELLO = cluster.ClusterState._take_hello  # noqa: SLF001 - replaced from here

PLANTED: tuple[PlantedBug, ...] = (
    PlantedBug("reply before persist", _replace(SimMaster, "_release", _release_at_once)),
    PlantedBug("log sync left out", _replace(SimLog, "_finish", _finish_without_sync)),
    PlantedBug("repeated report counted", _replace(Link, "received", _take_repeated(Link.received)), first_seed=80),
    PlantedBug("lost message never resent", _replace(Link, "due", _send_once(Link.due))),
    PlantedBug("old session accepted", _replace(Membership, "hear", _hear_anybody)),
    PlantedBug("zombie wins", _replace(reports, "succeeded", _twin_wins(reports.succeeded))),
    PlantedBug(
        "lost map output not made again",
        _replace(ComputeState, "lose_output", _never_queue_again(ComputeState.lose_output)),
    ),
    PlantedBug("fetch failure ignored", _replace(reports, "_fetch_failed", _ignore_fetch_failure)),
    PlantedBug("finished output run again", _replace(cluster, "worker_came", _trust_nothing(worker_came))),
    PlantedBug(
        "stale epoch accepted",
        _replace(cluster.ClusterState, "_take_hello", _follow_old_master(_TAKE_HELLO)),
    ),
    PlantedBug("old incarnation accepted", _replace(Membership, "enter", _take_any_incarnation(Membership.enter))),
    PlantedBug("locality wait without end", _replace(LocalityWait, "level", _wait_for_ever)),
    PlantedBug(
        "backup on the same worker",
        _replace(speculation, "choose_place", _beside_itself(speculation.choose_place)),
    ),
    PlantedBug("block sync left out", _replace(SimDisk, "sync", _forget_file_sync(SimDisk.sync))),
    PlantedBug(
        "directory sync left out",
        _replace(SimDisk, "sync_directory", _forget_directory_sync(SimDisk.sync_directory)),
    ),
    PlantedBug("corrupt replica counted as good", _replace(Blocks, "damage", _never_damaged)),
    PlantedBug("stale generation accepted", _replace(Blocks, "stored", _take_any_generation(Blocks.stored))),
    PlantedBug(
        "record at a split edge doubled",
        _replace(Lines, "blocks", _read_one_byte_more(Lines.blocks)),
        every=SEEDS_PER_REAL,
    ),
    PlantedBug("repair without limit", _replace(Copying, "is_free", _never_busy)),
    PlantedBug("counter doubled", _replace(Task, "win", _count_twice(Task.win))),
)
