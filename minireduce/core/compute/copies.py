"""Keep each part of the last step on a second worker, so that a finished task need not run again when its worker dies.

What a task of the last step left is asked for by the job's owner, who was told that it is done. So another worker
copies it, on another rack or at least another host if there is one: while the job still runs if the part took long to
make, since one that was made quickly is made again as quickly; and at the end of a job whose result stays in the
cluster, which waits for the copies for a bounded time before it says that it has succeeded. A part without bytes is
not copied. Small parts go first, which makes the most tasks safe the soonest, and each worker gives and takes but a few
copies at once.

When the worker of the winner goes, a copy becomes the winner's place, and another copy is made. A worker that is told
to stop is relieved first of the parts that nobody else holds. Copies are not persisted: workers list them when they
register, like outputs of their own.

Invariants: a worker holds or brings a part at most once; nothing is copied of a job whose client is already fetching
its parts, unless their worker stops.
Not here: how a copy is made (core.work.copies), when a lost output is wanted again (state.py).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import field
from itertools import islice

from minireduce.core.compute.job import Job
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.compute.task import Task
from minireduce.core.effects import Effects
from minireduce.core.membership import Member, Membership
from minireduce.core.messages import AttemptSucceeded, CopyPart, ReleaseWorker
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import OutputKind
from minireduce.core.views import JobState
from minireduce.frozen import dataclass
from minireduce.ids import JobId, TaskId, WorkerId

TRIES_MAX = 4
"""So often a part is asked for until it is left with one worker; each try goes to another worker, if there is one."""

LOOK_AHEAD_PARTS_MAX = 64
"""How many parts whose workers are busy with copies may be passed over at a time."""

CANDIDATES_MAX = 32
"""Among how many workers the one that is to copy a part is chosen."""


@dataclass(slots=True)
class _Wish:
    """A part that should be on more workers. `source` and `target` are "" while no copy of it is under way."""

    task: Task
    is_urgent: bool  # its worker stops
    source: WorkerId = ""
    target: WorkerId = ""
    refused: list[WorkerId] = field(default_factory=list)  # the workers that could not copy it


class Copies:
    """Which parts lack a copy, and which copies are under way."""

    def __init__(
        self,
        settings: ClusterSettings,
        membership: Membership,
        find_job: Callable[[JobId], Job | None],
        load_of: Callable[[WorkerId], WorkerLoad],
        make_read_token: Callable[[JobId], str],
    ) -> None:
        self._settings = settings
        self._membership = membership
        self._find_job = find_job
        self._load_of = load_of
        self._make_read_token = make_read_token
        self._wishes: dict[TaskId, _Wish] = {}
        self._waiting: list[tuple[int, TaskId]] = []  # a heap, by size; entries of wishes that are over may remain
        self._by_job: Counter[JobId] = Counter()
        self._busy: Counter[WorkerId] = Counter()  # copies that a worker gives or takes
        self._stopping: dict[WorkerId, None] = {}
        self._in_turn: deque[WorkerId] = deque()  # all workers; each part begins with another one of them
        self._has_news = False

    # ── what should be copied ───────────────────────────────────────────────────────────────────────────────────────

    def part_is_done(self, task: Task, run_s: float) -> None:
        """A part of the last step is there; it took `run_s` to make."""
        winner = task.winner
        if winner is None or not winner.output.bytes_total:
            return  # as most of very many are
        is_leaving = bool(winner.worker) and not self._is_staying(winner.worker)
        if run_s >= self._settings.part_copy_run_s_min or is_leaving:
            self.want(task, is_urgent=is_leaving)

    def want_all(self, job: Job) -> None:
        """Every part that is there should have its copies."""
        if job.state is not JobState.PUBLISHING:
            for task in job.steps[-1].finals:
                self.want(task)

    def is_waiting(self, job: Job) -> bool:
        """Whether a part of the job lacks a copy that could be had."""
        return job.id in self._by_job

    def worker_stops(self, worker: WorkerId) -> None:
        """Have others copy what this worker alone holds, then release it."""
        self._stopping[worker] = None
        self.worker_drains(worker)

    def worker_drains(self, worker: WorkerId) -> None:
        """Have others copy what this worker alone holds."""
        for task in list(self._load_of(worker).outputs.values()):
            self.want(task, is_urgent=True)
        self._has_news = True

    def want(self, task: Task, *, is_urgent: bool = False) -> None:
        """The part should have another copy, if it is one of the last step and lacks one."""
        job = self._find_job(task.id.job)
        wish = self._wishes.get(task.id) if self._wishes else None
        if wish is not None:
            wish.is_urgent |= is_urgent
        elif job is not None and job.is_final(task) and self._lacks_copy(task):
            self._wishes[task.id] = _Wish(task, is_urgent)
            self._by_job[job.id] += 1
            self._push(task)

    def _push(self, task: Task) -> None:
        heapq.heappush(self._waiting, (task.winner.output.bytes_total if task.winner else 0, task.id))
        self._has_news = True

    def _lacks_copy(self, task: Task) -> bool:
        winner = task.winner
        if winner is None or not task.is_done or not winner.output.bytes_total:
            return False
        staying = [worker for worker in (winner.worker, *task.copies) if self._is_staying(worker)]
        enough = self._settings.part_copies
        return len(staying) < min(enough, len(list(islice(self._staying(), enough))))

    def _staying(self) -> Iterator[Member]:
        """Those that could take parts, made one by one: mostly a few are enough."""
        members = map(self._membership.get, self._in_turn)
        return (member for member in members if member is not None and member.is_live and member.takes_work)

    def _is_staying(self, worker: WorkerId) -> bool:
        member = self._membership.get(worker)
        return member is not None and member.is_live and member.takes_work

    # ── what became of it ───────────────────────────────────────────────────────────────────────────────────────────

    def copied(self, job: Job, task: Task, worker: WorkerId) -> bool:
        """A worker holds the winner's part too. Whether it should keep it."""
        wish = self._wishes.get(task.id)
        is_wanted = worker in task.copies or (wish is not None and wish.target == worker) or self._lacks_copy(task)
        if not job.is_final(task) or not is_wanted:
            return False
        task.copies[worker] = None
        self._load_of(worker).copies[task.id] = task
        if wish is not None and (wish.target == worker or not self._lacks_copy(task)):
            self._settle(wish, again=True)
        return True

    def failed(self, task: Task, worker: WorkerId) -> WorkerId:
        """A worker could not copy the part; from which one, "" when it was not asked to."""
        wish = self._wishes.get(task.id)
        if wish is None or wish.target != worker:
            return ""
        source = wish.source
        wish.refused.append(worker)
        self._settle(wish, again=len(wish.refused) < TRIES_MAX)
        return source

    def worker_gone(self, worker: WorkerId) -> None:
        """What the worker held is lost, and what it was bringing does not come."""
        self._stopping.pop(worker, None)
        self._take_back(worker)
        if worker in self._in_turn:
            self._in_turn.remove(worker)
        for task in list(self._load_of(worker).copies.values()):
            self.lost(task, worker)

    def were_workers_too_few(self) -> bool:
        """Whether parts may have gone without copies until the last worker came."""
        enough = self._settings.part_copies
        return len(list(islice(self._staying(), enough + 1))) <= enough

    def worker_came(self, worker: WorkerId) -> None:
        """A worker came, or began anew: what it was bringing may have been forgotten, and is asked for again."""
        if worker not in self._in_turn:
            self._in_turn.append(worker)
        self._take_back(worker)

    def _take_back(self, worker: WorkerId) -> None:
        for wish in [wish for wish in self._wishes.values() if wish.target == worker]:
            self._settle(wish, again=True)
        self._has_news = True

    def lost(self, task: Task, worker: WorkerId) -> None:
        """A worker no longer has its copy of a part."""
        task.copies.pop(worker, None)
        self._load_of(worker).copies.pop(task.id, None)
        self.want(task)

    def inherit(self, task: Task) -> WorkerId:
        """The winner's worker has the part no longer: who takes its place; "" when nobody can, and it is made again."""
        heard = [member for member in map(self._membership.get, task.copies) if member is not None and member.is_live]
        heir = min(heard, key=lambda member: not member.takes_work).id if heard else ""
        if heir:
            task.copies.pop(heir)
            self._load_of(heir).copies.pop(task.id, None)
        elif task.id in self._wishes:
            self._settle(self._wishes[task.id], again=False)
        return heir

    def job_is_over(self, job: Job) -> None:
        """Nothing of it is copied any more."""
        if job.id in self._by_job:
            for wish in [wish for wish in self._wishes.values() if wish.task.id.job == job.id]:
                self._settle(wish, again=False)

    def look_again(self) -> None:
        """Time passed: those that had no room may have some."""
        self._has_news = bool(self._wishes or self._stopping)

    def _settle(self, wish: _Wish, *, again: bool) -> None:
        """No copy of the part is under way any more; it may want another."""
        for worker in (wish.source, wish.target) if wish.target else ():
            self._busy[worker] -= 1
            if self._busy[worker] <= 0:
                del self._busy[worker]
        wish.source = wish.target = ""
        self._has_news = True
        if again and self._lacks_copy(wish.task):
            self._push(wish.task)
            return
        del self._wishes[wish.task.id]
        self._by_job[wish.task.id.job] -= 1
        if not self._by_job[wish.task.id.job]:
            del self._by_job[wish.task.id.job]

    # ── who copies it ───────────────────────────────────────────────────────────────────────────────────────────────

    def order(self, effects: Effects) -> None:
        """Have workers copy what waits, as far as they have room, and release those that stop."""
        if not self._has_news:
            return
        self._has_news = False
        passed: list[tuple[int, TaskId]] = []
        while self._waiting and len(passed) < LOOK_AHEAD_PARTS_MAX:
            entry = heapq.heappop(self._waiting)
            wish = self._wishes.get(entry[1])
            if wish is not None and not wish.target and not self._begin(wish, effects):
                passed.append(entry)
        for entry in passed:
            heapq.heappush(self._waiting, entry)
        for worker in list(self._stopping):
            if not self.is_needed(worker):
                del self._stopping[worker]
                effects.command(worker, ReleaseWorker())

    def is_needed(self, worker: WorkerId) -> bool:
        """Whether it holds a part that should be copied and is on no worker that stays."""
        wanted = (task for task in self._load_of(worker).outputs.values() if task.id in self._wishes)
        return any(not any(map(self._is_staying, task.copies)) for task in wanted)

    def is_elsewhere(self, task: Task, worker: WorkerId) -> bool:
        """Whether a worker that stays holds the part, other than this one."""
        return any(self._is_staying(holder) for holder in task.copies if holder != worker)

    def _begin(self, wish: _Wish, effects: Effects) -> bool:
        """Order a copy, or give it up when it is of no use. False when it must wait."""
        task = wish.task
        job, winner = self._find_job(task.id.job), task.winner
        is_late = job is not None and job.state is JobState.PUBLISHING and not wish.is_urgent
        holder = self._membership.get(winner.worker) if winner is not None else None
        if job is None or winner is None or holder is None or is_late or not self._lacks_copy(task):
            self._settle(wish, again=False)
            return True
        room = self._settings.part_copies_per_worker_max
        if not holder.is_live or self._busy[holder.id] >= room:
            return False
        candidates = self._candidates({holder.id, *task.copies, *wish.refused})
        if not candidates:
            self._settle(wish, again=False)
            return True
        free = [member for member in candidates if self._busy[member.id] < room]
        if not free:
            return False
        target = min(free, key=lambda member: self._distance_and_load(holder, member))
        wish.source, wish.target = holder.id, target.id
        self._busy.update((holder.id, target.id))
        part = AttemptSucceeded(winner.attempt, winner.output, winner.counters)
        source = task.source(holder.profile.data_address)
        is_text = job.spec.output is not OutputKind.RESULT
        effects.command(target.id, CopyPart(part, source, is_text, self._make_read_token(job.id)))
        return True

    def _candidates(self, others_than: set[WorkerId]) -> list[Member]:
        """Some workers that could take a part, other ones each time: looking at all for each part would take long."""
        self._in_turn.rotate(-1)
        return list(islice((member for member in self._staying() if member.id not in others_than), CANDIDATES_MAX))

    def _distance_and_load(self, holder: Member, member: Member) -> tuple[bool, bool, int, int]:
        return (
            member.profile.rack == holder.profile.rack,
            member.profile.host == holder.profile.host,
            self._busy[member.id],
            len(self._load_of(member.id).copies),
        )
