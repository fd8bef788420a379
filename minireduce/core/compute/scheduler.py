"""Choose which task goes to which worker next: one pass over the workers that may have got room.

    for the job whose turn it is                                fair_share.py
        for its best pair of a free worker and a task that may go so far from its input now
            launch it
    workers that are busy get short tasks ahead                 ahead.py

The best pair is chosen over all free workers: the worker with the fewest local choices first, since the others find
something later as well, and for it the task that is near the fewest others (queue.py). Without a local pair a job lets
the slots pass for a while (locality.py), and the next job has its turn.

Reduces are placed beside the maps as soon as their step has opened them, on the machine that is expected to hold most
of their partition, if one does (reduce_homes.py), else on the worker with the fewest attempts for its slots: they take
no slot until all their input is local, so they cannot starve the maps they wait for.

Only workers that may take something are asked: when nothing was queued since the last time, those that have got room
since. So an event of one worker costs the same among ten workers and among a thousand.

A file on a client's disk can be read only by workers of that machine, and a job goes to no worker that it excludes.

Elsewhere: what is wanted at all (job.py), who is excluded (blame.py), slots and memory in use (load.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from minireduce.core.compute.fair_share import Queues
from minireduce.core.compute.job import Job, Step
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.locality import Level
from minireduce.core.compute.reduce_homes import PartitionSpread
from minireduce.core.compute.task import Task
from minireduce.core.membership import Member
from minireduce.core.settings import ClusterSettings
from minireduce.frozen import dataclass
from minireduce.ids import JobId, TaskKind, WorkerId

AHEAD_TASKS_PER_TURN = 16


@dataclass(frozen=True, slots=True)
class Assignment:
    """This task should be tried on this worker, beside the attempt that runs if it is a backup.

    `level` is None where the input lies nowhere in particular.
    """

    job: Job
    step: Step
    task: Task
    member: Member
    level: Level | None = None
    is_backup: bool = False


Launch = Callable[[Assignment], object]
"""Carries an assignment out; the loads and queues that the next choice is made from change by it."""

Everybody = Callable[[], Iterable[Member]]
"""All workers that take in attempts, one by one: who asks mostly needs the first few."""


class Scheduler:
    """Knows what every worker is busy with; what waits it is told in each pass."""

    def __init__(
        self, settings: ClusterSettings, queues: Queues, loads: dict[WorkerId, WorkerLoad], everybody: Everybody
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._loads = loads
        self._everybody = everybody

    def assign(self, jobs: Iterable[Job], asked: list[Member], now: float, launch: Launch) -> None:
        """Launch tasks until none of the workers asked finds one."""
        hungry = list(jobs)
        for job in hungry:
            for step in job.steps:
                if step.waiting_reduces:
                    self._place_reduces(job, step, asked, launch)
        free = {member.id: member for member in asked if self._loads[member.id].slots_free > 0}
        if free:
            self._give_slots([job for job in hungry if job.wants_slots], free, now, launch)
        ahead = max((step.brevity.tasks_ahead(self._settings) for job in hungry for step in job.steps), default=0)
        for member in asked if ahead else ():
            if _is_worth_telling(self._loads[member.id], ahead):  # mostly not: all are asked with each tick
                self._give_ahead([job for job in hungry if job.wants_slots], member, now, launch)

    def _give_ahead(self, jobs: list[Job], member: Member, now: float, launch: Launch) -> None:
        """Give a worker without a free slot some short tasks more, as long as it is the turn of the job of these."""
        load = self._loads[member.id]
        here = [
            job
            for job in jobs
            if member.id not in job.excluded and job.required_machine_id in ("", member.profile.machine_id)
        ]
        is_begun = False
        while load.slots_free <= 0 and (job := self._queues.first(here, now)) is not None:
            step = next(step for step in job.steps if step.waiting_maps)
            ahead = step.brevity.tasks_ahead(self._settings)
            if not is_begun and not _is_worth_telling(load, ahead):
                return
            is_begun = True
            room = ahead * load.slots + load.slots_free
            has_rival = any(other is not job and not other.slots_used for other in here)
            for _ in range(min(room, 1 if has_rival else AHEAD_TASKS_PER_TURN, self._queues.of(job).room)):
                task = step.waiting_maps.choose_homeless(lambda task: not self.avoids(job, task, member.id))
                if task is None:
                    return
                launch(Assignment(job, step, task, member, Level.NODE if job.required_machine_id else None))
                room -= 1
            self._queues.served(job, now)
            if room <= 0:
                return
            if not job.wants_slots:
                here.remove(job)

    def _give_slots(self, jobs: list[Job], free: dict[WorkerId, Member], now: float, launch: Launch) -> None:
        if len(free) == 1:  # as it mostly is: one has said that something ended
            self._give_homeless(jobs, next(iter(free.values())), now, launch)
            free = {worker: member for worker, member in free.items() if self._loads[worker].slots_free > 0}
        offers: dict[tuple[JobId, int], _Offers] = {}
        while free and (job := self._queues.first(jobs, now)) is not None:
            choice = None
            for step in job.steps:
                if step.waiting_maps:
                    offer = offers.get((job.id, step.index))
                    if offer is None:
                        offer = offers[job.id, step.index] = _Offers(self, job, step, free)
                    choice = self._choose(offer, now)
                    if choice is not None:
                        break
            if choice is None:
                jobs.remove(job)
                continue
            launch(choice)
            self._queues.served(job, now)
            if self._loads[choice.member.id].slots_free <= 0:
                del free[choice.member.id]

    def _give_homeless(self, jobs: list[Job], member: Member, now: float, launch: Launch) -> None:
        """Give one worker what `_give_slots` would, as long as there is nothing to compare: it is the turn of a job all
        of whose waiting maps are equally far from all workers, and none was tried before.
        """
        load = self._loads[member.id]
        while load.slots_free > 0 and (job := self._queues.first(jobs, now)) is not None:
            step = next(step for step in job.steps if step.waiting_maps)
            queue = step.waiting_maps
            if not queue.is_homeless or queue.has_again or not self.may_run(job, step, member):
                return
            task = queue.choose_homeless(lambda task: not self.avoids(job, task, member.id))
            if task is None:
                return
            level = Level.NODE if step.index == 0 and job.required_machine_id else None
            launch(Assignment(job, step, task, member, level))
            self._queues.served(job, now)
            if level is not None:
                step.locality_wait.launched(level, now, self._settings.locality_wait_node_s)
            if not job.wants_slots:
                jobs.remove(job)

    def _choose(self, offer: _Offers, now: float) -> Assignment | None:
        """The best pair of a free worker and a waiting map of this step, if any may be launched now."""
        step, settings = offer.step, self._settings
        node_s, rack_s = settings.locality_wait_node_s, settings.locality_wait_rack_s
        level = Level.ANY if offer.job.is_starved else step.locality_wait.level(now, node_s, rack_s)
        choice = offer.again() or offer.near() or offer.homeless() or (offer.far(level) if level else None)
        if choice is None:
            if not level and offer.has_room:
                step.locality_wait.slot_passed(now)
        elif choice.level is not None:
            step.locality_wait.launched(choice.level, now, node_s)
        return choice

    def may_run(self, job: Job, step: Step, member: Member, freed_bytes: int = 0) -> bool:
        """Whether a task of this step may run on this worker, once it has a slot free and so much memory more."""
        if member.id in job.excluded:
            return False
        if step.index == 0 and job.required_machine_id not in ("", member.profile.machine_id):
            return False
        return self._loads[member.id].has_memory_for(step.spec.memory_limit_bytes - freed_bytes)

    def avoids(self, job: Job, task: Task, worker: WorkerId) -> bool:
        """A task avoids workers on which it fared badly, as long as there is one on which it did not."""
        avoided = task.avoided
        if worker not in avoided:
            return False
        machine_id = job.required_machine_id if task.id.step == 0 and task.id.kind is TaskKind.MAP else ""
        return any(
            member.id not in avoided
            and member.id not in job.excluded
            and machine_id in ("", member.profile.machine_id)
            and self._loads[member.id].could_hold(task.memory_limit_bytes)
            for member in self._everybody()
        )

    def load(self, worker: WorkerId) -> WorkerLoad:
        """What a worker is busy with."""
        return self._loads[worker]

    def _place_reduces(self, job: Job, step: Step, asked: list[Member], launch: Launch) -> None:
        """Each goes to the worker that is the least busy then, if it is not placed beside most of its input; one that
        has no room for this step is asked no more.
        """
        able = [member for member in asked if self._may_gather(job, step, member)]
        self._place_beside_input(job, step, able, launch)
        ranked = [(self._loads[member.id].attempts_per_slot, order) for order, member in enumerate(able)]
        heapq.heapify(ranked)
        while ranked and step.waiting_reduces:
            order = ranked[0][1]
            member, load = able[order], self._loads[able[order].id]
            task = self._choose_reduce(job, step, member) if self._may_gather(job, step, member) else None
            if task is None:
                heapq.heappop(ranked)
                continue
            launch(Assignment(job, step, task, member))
            heapq.heapreplace(ranked, (load.attempts_per_slot, order))

    def _place_beside_input(self, job: Job, step: Step, able: list[Member], launch: Launch) -> None:
        on_node: dict[str, list[Member]] = {}
        for member in able:
            on_node.setdefault(self._loads[member.id].spot.node, []).append(member)
        if len(on_node) < 2:
            return
        spread = PartitionSpread(step, len(on_node), self._node_of)
        for task in [task for task in step.reduces if task.is_queued]:
            there = [
                member
                for member in on_node.get(spread.home(task.id.index) or "", ())
                if self._may_gather(job, step, member) and not self.avoids(job, task, member.id)
            ]
            if there:
                member = min(there, key=lambda member: self._loads[member.id].attempts_per_slot)
                launch(Assignment(job, step, task, member))

    def _node_of(self, worker: WorkerId) -> str:
        return self._loads[worker].spot.node if worker in self._loads else ""

    def _may_gather(self, job: Job, step: Step, member: Member) -> bool:
        load = self._loads[member.id]
        has_room = load.gathering_for(job.id, step.index) < load.slots
        return has_room and step.spec.memory_limit_bytes <= load.memory_bytes and member.id not in job.excluded

    def _choose_reduce(self, job: Job, step: Step, member: Member) -> Task | None:
        load = self._loads[member.id]
        return step.waiting_reduces.choose(Level.ANY, load.spot, lambda task: not self.avoids(job, task, member.id))


def _is_worth_telling(load: WorkerLoad, ahead: int) -> bool:
    """Whether a worker lacks half of what it may have ahead. It has enough until then, and a message costs as much for
    one task as for many: those that were given a few at a time would come back a few at a time, for ever.
    """
    room = ahead * load.slots + load.slots_free
    return room > 0 and 2 * room >= ahead * load.slots


class _Offers:
    """The free workers as one step sees them in one pass: by what is local to them, and by the room they have.

    Both are heaps whose entries are checked when they come up. Room shrinks while a pass goes on, so a stale entry is
    put where it belongs then; local choices shrink as well, which would bring an entry forward, so `_take` adds it.

    A worker to which no homeless task may go leaves `_room_for_homeless`, and one to which none may that is far leaves
    `_room`: two heaps, since the one says nothing of the other.
    """

    def __init__(self, scheduler: Scheduler, job: Job, step: Step, free: dict[WorkerId, Member]) -> None:
        self.job = job
        self.step = step
        self._scheduler = scheduler
        self._queue = step.waiting_maps
        self._free = free
        self._members = [member for member in free.values() if scheduler.may_run(job, step, member)]
        self._spots = [scheduler.load(member.id).spot for member in self._members]
        self._by_node: dict[str, list[int]] = {}
        for order, spot in enumerate(self._spots):
            self._by_node.setdefault(spot.node, []).append(order)
        self._near = [
            (count, order)
            for node, orders in self._by_node.items()
            if (count := self._queue.count_near(node))
            for order in orders
        ]
        heapq.heapify(self._near)
        self._room = [(-scheduler.load(member.id).slots_free, order) for order, member in enumerate(self._members)]
        heapq.heapify(self._room)
        self._room_for_homeless = self._room.copy()

    @property
    def has_room(self) -> bool:
        """Whether any free worker could take something of this step."""
        return next(self._roomiest(self._room), None) is not None

    def again(self) -> Assignment | None:
        """What must be done again, near or far: others wait for it."""
        for task in self._queue.again() if self._queue.has_again else ():
            for order in self._nearest_first(task):
                if self._suits(order)(task):
                    return self._take(order, task)
        return None

    def _nearest_first(self, task: Task) -> Iterator[int]:
        for node in task.homes.nodes:
            yield from (order for order in self._by_node.get(node, ()) if self._is_open(order))
        if task.avoided:  # perhaps the roomiest
            yield from (order for _, order in sorted(self._room) if self._is_open(order))
        else:
            yield from islice(self._roomiest(self._room), 1)

    def near(self) -> Assignment | None:
        """A task local to the worker that has the fewest local choices."""
        while self._near:
            count, order = self._near[0]
            current = self._queue.count_near(self._spots[order].node)
            if not current or not self._is_open(order):
                heapq.heappop(self._near)
            elif current != count:
                heapq.heapreplace(self._near, (current, order))
            else:
                task = self._queue.choose(Level.NODE, self._spots[order], self._suits(order))
                if task is not None:
                    return self._take(order, task)
                heapq.heappop(self._near)
        return None

    def homeless(self) -> Assignment | None:
        """A task that is equally far from all."""
        for order in self._roomiest(self._room_for_homeless) if self._queue.has_homeless else ():
            task = self._queue.choose_homeless(self._suits(order))
            if task is not None:
                return self._take(order, task)
        return None

    def far(self, level: Level) -> Assignment | None:
        """A task for which there is nothing nearer now than `level`: what is nearest to the worker with most room."""
        for order in self._roomiest(self._room):
            for each in range(Level.RACK, level + 1):
                task = self._queue.choose(Level(each), self._spots[order], self._suits(order))
                if task is not None:
                    return self._take(order, task)
        return None

    def _roomiest(self, room: list[tuple[int, int]]) -> Iterator[int]:
        """The worker with the most slots free; who asks for the next one drops the one before from this pass."""
        while room:
            free, order = room[0]
            slots_free = self._scheduler.load(self._members[order].id).slots_free
            if not self._is_open(order):
                heapq.heappop(room)
            elif free != -slots_free:
                heapq.heapreplace(room, (-slots_free, order))
            else:
                yield order
                heapq.heappop(room)

    def _is_open(self, order: int) -> bool:
        member = self._members[order]
        return member.id in self._free and self._scheduler.may_run(self.job, self.step, member)

    def _suits(self, order: int) -> Callable[[Task], bool]:
        worker = self._members[order].id
        return lambda task: not self._scheduler.avoids(self.job, task, worker)

    def _take(self, order: int, task: Task) -> Assignment:
        for node in task.homes.nodes:
            for near in self._by_node.get(node, ()):
                if near != order:
                    heapq.heappush(self._near, (self._queue.count_near(node) - 1, near))
        homes, spot = task.homes, self._spots[order]
        level = homes.level_of(spot) if homes.nodes else None
        if self.step.index == 0 and self.job.required_machine_id:
            level = Level.NODE  # this machine is the only one that can read it
        return Assignment(self.job, self.step, task, self._members[order], level)
