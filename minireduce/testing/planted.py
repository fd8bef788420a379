"""Bugs to plant, so that it is known what the simulation would find.

A simulator that finds nothing proves nothing. Each of these takes one safeguard away, the kind that is easily forgotten
or lost in a change, and the simulation must then fail within a bounded number of seeds. How one is
planted and hunted: `planting`. The four of the block store's own simulation: `planted_storage`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from minireduce.core import cluster, membership
from minireduce.core.compute import fetch_failures, outputs, reports, speculation
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
from minireduce.core.work.fetches import FetchEnded, Fetches, NotReached
from minireduce.engine.read import Lines
from minireduce.ids import TaskKind
from minireduce.testing.blocks import ROOT
from minireduce.testing.disk import SimDisk
from minireduce.testing.draw import SEEDS_PER_REAL
from minireduce.testing.log import SimLog
from minireduce.testing.master import SimMaster
from minireduce.testing.planted_storage import PLANTED_IN_STORAGE
from minireduce.testing.planting import PlantedBug, replace_in

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


class _LinkThatSaysOnce(Link[Any]):
    """The master's end of a session: what was lost on its way stays lost."""

    def due(self, now: float) -> Any:
        self._resend_at = None
        return super().due(now)


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
    def lose_output(state: ComputeState, task: Task, *rest: Any) -> None:
        original(state, task, *rest)
        if task.id.kind is TaskKind.MAP:
            task.queue = TaskQueue()  # it seems to wait, but nobody looks there

    return lose_output


def _ignore_fetch_failure(*_: Any) -> None:
    return


def _forget_not_reached(original: Callable[..., Any]) -> Callable[..., Any]:
    def ended(self: Fetches, event: FetchEnded, now: float) -> Any:
        if not isinstance(event.outcome, NotReached) or event.fetch not in self._under_way:
            return original(self, event, now)
        return self._forget_fetch(event.fetch)[0].attempt, []

    return ended


def _trust_no_reduce(original: Callable[..., None]) -> Callable[..., None]:
    def came(state: ComputeState, member: Member, hello: Any, now: float, effects: Any) -> None:
        for task in list(state.load_of(member.id).outputs.values()):
            if task.id.job in state.jobs and task.id.kind is TaskKind.REDUCE:
                outputs.lose_output(state, task, now, "its worker came back", effects)
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


# ── the engine ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_one_byte_more(original: Callable[..., Any]) -> Callable[..., Any]:
    def blocks(self: Lines, stream: Any, offset: int, length: int) -> Any:
        return original(self, stream, offset, length + 1)

    return blocks


_TAKE_HELLO = cluster.ClusterState._take_hello  # noqa: SLF001 - replaced from here

PLANTED: tuple[PlantedBug, ...] = (
    PlantedBug("reply before persist", replace_in(SimMaster, "_release", _release_at_once)),
    PlantedBug("block fsync left out", replace_in(SimDisk, "sync", _forget_file_sync(SimDisk.sync))),
    PlantedBug(
        "directory fsync left out",
        replace_in(SimDisk, "sync_directory", _forget_directory_sync(SimDisk.sync_directory)),
    ),
    PlantedBug("zombie wins", replace_in(reports, "succeeded", _twin_wins(reports.succeeded))),
    PlantedBug(
        "stale epoch accepted",
        replace_in(cluster.ClusterState, "_take_hello", _follow_old_master(_TAKE_HELLO)),
    ),
    PlantedBug("old incarnation accepted", replace_in(Membership, "enter", _take_any_incarnation(Membership.enter))),
    PlantedBug("repeated report counted", replace_in(Link, "received", _take_repeated(Link.received)), first_seed=80),
    PlantedBug("lost reply never resent", replace_in(membership, "Link", _LinkThatSaysOnce)),
    PlantedBug("counter doubled", replace_in(Task, "win", _count_twice(Task.win))),
    PlantedBug("finished reduce run again", replace_in(cluster, "worker_came", _trust_no_reduce(worker_came))),
    PlantedBug(
        "lost map output not made again",
        replace_in(outputs, "lose_output", _never_queue_again(outputs.lose_output)),
    ),
    PlantedBug("fetch failure ignored", replace_in(fetch_failures, "fetch_failed", _ignore_fetch_failure)),
    PlantedBug("corrupt replica counted as good", replace_in(Blocks, "damage", _never_damaged)),
    PlantedBug(
        "record at a split edge doubled",
        replace_in(Lines, "blocks", _read_one_byte_more(Lines.blocks)),
        every=SEEDS_PER_REAL,
    ),
    PlantedBug("locality wait without end", replace_in(LocalityWait, "level", _wait_for_ever)),
    PlantedBug(
        "backup on the same worker",
        replace_in(speculation, "choose_place", _beside_itself(speculation.choose_place)),
    ),
    *PLANTED_IN_STORAGE,
)
"""The twenty that must be found, whatever else is."""

PLANTED_BESIDES: tuple[PlantedBug, ...] = (
    PlantedBug("log sync left out", replace_in(SimLog, "_finish", _finish_without_sync)),
    PlantedBug("old session accepted", replace_in(Membership, "hear", _hear_anybody)),
    PlantedBug(
        "output that was not reached forgotten",
        replace_in(Fetches, "ended", _forget_not_reached(Fetches.ended)),
        first_seed=58,
    ),
)
"""More of the kind."""
