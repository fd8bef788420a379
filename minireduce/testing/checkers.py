"""Judge a simulated run: while it goes on, and when it is over.

While it goes on: what is launched has no output yet, a committed output is given up only for a reason that is true, a
task has one winner, a key names one job for ever. When it is over: each job's parts are those of the sequential run,
byte for byte; its counters too, so each task counted once; a job failed only if its code had to; nothing acknowledged
is forgotten; master and workers have let go of all that the jobs needed.

The checkers know the truth of the simulation, which no machine does: which processes live, what lies on which disk.
"""

from __future__ import annotations

import gc
import types
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from minireduce.core import cluster as machine
from minireduce.core.compute.task import Attempt
from minireduce.core.effects import Row
from minireduce.core.messages import AttemptReturned, FetchFailed, Hello, LaunchAttempt
from minireduce.core.replica_messages import Replica
from minireduce.core.task_data import Counters
from minireduce.core.views import JobState
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind, WorkerId
from minireduce.testing.blocks import key_of
from minireduce.testing.busy import SlotUse
from minireduce.testing.shares import Shares
from minireduce.testing.tell import attempt as told
from minireduce.testing.workload import COUNTER_GROUP, SimJob, sequential, short_name
from minireduce.testing.wrong import Wrong

if TYPE_CHECKING:
    from minireduce.testing.client import SimClient
    from minireduce.testing.master import SimMaster
    from minireduce.testing.worker import SimWorker
    from minireduce.testing.world import World

OBJECTS_PER_ENDED_JOB_MAX = 400
OBJECTS_PER_WORKER_MAX = 200
OBJECTS_PER_BLOCK_MAX = 100
OBJECTS_MAX = 500


class Checker:
    """Watches one cluster. Satisfies `world.Watcher`."""

    def __init__(self, world: World, master: SimMaster, workers: dict[str, SimWorker]) -> None:
        self._world = world
        self._master = master
        self._workers = workers
        self._winners: dict[TaskId, tuple[AttemptId, WorkerId]] = {}
        self._jobs_by_key: dict[str, JobId] = {}
        self._ears = _Ears()
        self._fetch_reports: dict[AttemptId, set[tuple[int, int, int]]] = {}  # stream, message, place in that
        self._unreachable: dict[AttemptId, set[tuple[int, int]]] = {}
        self._complained: dict[WorkerId, set[int]] = {}  # by which streams
        self._missed: dict[int, set[WorkerId]] = {}  # by stream: from whom nothing could be read
        self._gone: set[AttemptId] = set()
        self._taken_in: dict[int, tuple[int, float]] = {}  # by stream: up to which message, and when the last came
        self._launched: set[AttemptId] = set()
        self._returned: set[AttemptId] = set()
        self._incarnations: dict[WorkerId, int] = {}
        self.seen: Counter[str] = Counter()
        self.use = SlotUse(not world.network.is_stormy and not world.is_hasty)
        self._shares = Shares(master, workers)

    @property
    def attempts_begun(self) -> int:
        """How many attempts were launched, less those that their worker handed back since their slot had gone."""
        return len(self._launched - self._returned)

    # ── while it goes on ────────────────────────────────────────────────────────────────────────────────────────────

    def master_started(self, rows: Sequence[Row]) -> None:
        """A new master knows what is durable, and has heard nobody."""
        self._ears = _Ears(self._master.now())
        self._shares.master_started()
        self._taken_in.clear()
        self._unreachable.clear()
        self._complained.clear()
        self._missed.clear()
        self._winners.clear()
        self._incarnations = {row.key[0]: row.values[0] for row in rows if row.table == "workers" and row.values}
        for row in rows:
            if row.table == "winners" and row.values is not None and row.values[1]:
                task = _task(row.key)
                self._winners[task] = AttemptId(task, row.values[0]), row.values[1]

    def master_advanced(self, event: machine.Event, actions: Sequence[machine.Action]) -> None:
        """Judge one step of the master."""
        self._ears.hear(event, self._master.now())
        if isinstance(event, machine.Ticked):
            self.use.look(self._master, self._workers)
            self._judge_copies()
            self._shares.look()
        if isinstance(event, machine.UpReceived):
            is_repeated = self._is_repeated(event)
            for place, report in enumerate(event.up.reports):
                if isinstance(report, FetchFailed):
                    said = (event.stream, event.up.number, place)
                    self._fetch_reports.setdefault(report.source, set()).add(said)
            for report in event.up.reports:
                if isinstance(report, FetchFailed):
                    if is_repeated:
                        self._judge_repeated(report, event.stream)
                    self._fetch_failed(report, event.stream, event.up.number)
                elif isinstance(report, AttemptReturned):
                    self._returned.add(report.attempt)
        launched: list[tuple[AttemptId, WorkerId]] = []
        for action in actions:
            match action:
                case machine.SendWelcome():
                    self._ears.welcome(action)
                    if isinstance(event, machine.HelloReceived) and action.welcome.session:
                        self._welcome(event.hello)
                case machine.Persist():
                    for row in action.rows:
                        self._row(row)
                case machine.SendDown():
                    for command in action.down.commands:
                        if isinstance(command, LaunchAttempt) and command.attempt not in self._launched:
                            launched.append((command.attempt, self._master.streams.worker_of(action.stream)))
                            self._launch(*launched[-1])
        if launched:
            self._shares.launched(launched)

    def _is_repeated(self, event: machine.UpReceived) -> bool:
        """Whether the master had taken this message in already, some time ago."""
        member = self._master.state._membership.on_stream(event.stream)  # noqa: SLF001 - the truth
        number, at = self._taken_in.get(event.stream, (0, 0.0))
        now = self._master.now()
        if member is not None and member.link.received_number > number:
            self._taken_in[event.stream] = member.link.received_number, now
        return 0 < event.up.number <= number and at < now

    def _judge_repeated(self, report: FetchFailed, stream: int) -> None:
        """What was said before is not counted again."""
        member = self._master.state._membership.on_stream(stream)  # noqa: SLF001 - the truth
        source = self._winners.get(report.source.task, (None, ""))[1]
        complaints = self._master.state._compute.complaints.said_at  # noqa: SLF001 - as above
        if member is not None and complaints.get((member.id, source)) == self._master.now():
            raise Wrong(f"{member.id} said once that it cannot read from {source}, and that was counted again")

    def _welcome(self, hello: Hello) -> None:
        """Who has followed a later master is not taken in, nor who was replaced by a later process."""
        worker, master = hello.profile.worker, (self._master.state._epoch, self._master.txid)  # noqa: SLF001 - the truth
        if hello.highest_epoch > master[0] or hello.highest_txid > master[1]:
            followed = (hello.highest_epoch, hello.highest_txid)
            raise Wrong(f"a master at {master} took in {worker}, which has followed one at {followed}")
        known = self._incarnations.setdefault(worker, hello.profile.incarnation)
        if hello.profile.incarnation < known:
            raise Wrong(f"{worker} was taken in as incarnation {hello.profile.incarnation}, after {known}")
        self._incarnations[worker] = hello.profile.incarnation

    def _judge_copies(self) -> None:
        """Repair moves no more than it may from and to one worker."""
        copies = self._master.state.storage._copying._copies.values()  # noqa: SLF001 - a checker looks inside
        load = Counter(worker for copy in copies for worker in (copy.source, copy.target))
        for worker, count in load.items():
            if count > self._master.settings.copies_per_worker_max:
                raise Wrong(f"{worker} takes part in {count} copies at a time")

    def submit_acknowledged(self, job: SimJob, job_id: JobId) -> None:
        """One key, one job, over all restarts."""
        known = self._jobs_by_key.setdefault(job.key, job_id)
        if known != job_id:
            raise Wrong(f"the submission {job.key!r} was acknowledged as {known} and later as {job_id}")

    def _fetch_failed(self, report: FetchFailed, stream: int, number: int) -> None:
        made = self._fetch_reports[report.source]
        job = self._master.state._compute.jobs.get(report.source.task.job)  # noqa: SLF001 - a checker looks inside
        task = job.task(report.source.task) if job is not None else None
        is_winner = task is not None and task.winner is not None and task.winner.attempt == report.source
        if task is not None and is_winner and task.fetch_reports > len(made):
            raise Wrong(f"{task.fetch_reports} failed fetches of {told(report.source)} count, of {len(made)} reported")
        if not report.is_gone:
            self._unreachable.setdefault(report.source, set()).add((stream, number))
            if report.source.task in self._winners:
                source = self._winners[report.source.task][1]
                self._complained.setdefault(source, set()).add(stream)
                self._missed.setdefault(stream, set()).add(source)
            return
        holder = self._winners.get(report.source.task, (None, ""))[1]
        is_of_reader = report.attempt == report.source  # who tells of its own output, which may be a copy
        if holder and not is_of_reader and _has_whole(self._workers[holder], report.source):
            raise Wrong(f"the output of {told(report.source)} is reported gone, but {holder} has it")
        self._gone.add(report.source)

    def _row(self, row: Row) -> None:
        if row.table != "winners" or row.values is None:
            return
        task = _task(row.key)
        number, worker = row.values[:2]
        before = self._winners.get(task)
        if before is not None and (before[0].number != number or not worker):
            self._given_up(*before)
        if worker:
            member = self._master.state._membership.get(worker)  # noqa: SLF001 - a checker looks inside
            if member is None or not member.is_live:
                raise Wrong(f"an output of {task} is committed on {worker}, which counts as lost")
            self._winners[task] = AttemptId(task, number), worker
            self.seen["outputs committed"] += before is None
        else:
            self._winners.pop(task, None)

    def _given_up(self, attempt: AttemptId, worker: WorkerId) -> None:
        """A committed output no longer counts: there must be a reason."""
        self.seen["outputs given up"] += 1
        job = self._master.state._compute.jobs.get(attempt.task.job)  # noqa: SLF001 - a checker looks inside
        task = job.task(attempt.task) if job is not None else None
        for other in task.copies if task is not None else ():
            if self._workers[other].node.is_up and _has_whole(self._workers[other], attempt):
                raise Wrong(f"the output of {told(attempt)} was given up, but {other} holds a copy of it")
        silent_s = self._master.now() - self._ears.heard_at(worker)
        reports = self._unreachable.get(attempt, set())
        missed_max = max((len(self._missed.get(stream, ())) for stream, _ in reports), default=0)
        witnesses = max(len(reports), missed_max, len(self._complained.get(worker, ())))
        member = self._master.state._membership.get(worker)  # noqa: SLF001 - a checker looks inside
        if (
            member is None
            or member.is_stopping
            or not _has_whole(self._workers[worker], attempt)
            or not self._workers[worker].keeps(attempt)
            or attempt in self._gone
            or silent_s > self._master.settings.worker_lost_s
            or witnesses >= self._master.settings.fetch_reports_max
        ):
            return
        raise Wrong(
            f"the output of {told(attempt)} was given up, but it lives on {worker}, which was heard {silent_s:.1f} s "
            f"ago, and {len(reports)} fetches of it failed"
        )

    def _launch(self, attempt: AttemptId, worker: WorkerId) -> None:
        self._launched.add(attempt)
        self.seen["attempts launched"] += 1
        if self._is_live(attempt) and len(self._live_attempts(attempt.task)) > 1:
            self._world.strikes["straggler given a backup"] += 1
        rival = self._rival_on(attempt, worker)
        if rival is not None:
            raise Wrong(f"{told(attempt)} is launched on {worker}, where {told(rival)} of the same task runs")
        winner = self._winners.get(attempt.task)
        if winner is not None and self._is_live(attempt):
            raise Wrong(f"{told(attempt)} is launched, but {told(winner[0])} on {winner[1]} has finished the task")

    def _rival_on(self, attempt: AttemptId, worker: WorkerId) -> AttemptId | None:
        jobs = self._master.state._compute.jobs  # noqa: SLF001 - a checker looks inside
        task = jobs[attempt.task.job].task(attempt.task) if attempt.task.job in jobs else None
        live = task.live_attempts if task is not None else ()
        return next((each.id for each in live if each.id != attempt and each.worker == worker), None)

    def _is_live(self, attempt: AttemptId) -> bool:
        """Whether the master still wants an attempt: one whose launch waited for a stream may be killed by now."""
        return any(attempt == live.id for live in self._live_attempts(attempt.task))

    def _live_attempts(self, task_id: TaskId) -> list[Attempt]:
        jobs = self._master.state._compute.jobs  # noqa: SLF001 - a checker looks inside
        job = jobs.get(task_id.job)
        task = job.task(task_id) if job is not None else None
        return task.live_attempts if task is not None else []

    def what_is_wrong_with_files(self) -> str:
        """What of the block store is not as it shall be in the end; "" when all is well."""
        wanted: set[tuple[int, int]] = set()
        for path, data in self._world.files.items():
            blocks = self._blocks_of(path)
            if b"".join(self._world.blocks[key_of(replica)] for replica, _ in blocks) != data:
                return f"{path} is not what was written"
            for replica, named in blocks:
                wanted.add(key_of(replica))
                good = {name for name, worker in self._workers.items() if worker.holds(replica)}
                if named != good or len(good) != self._wanted(path):
                    return f"block {replica.block_id} of {path} is on {sorted(good)}, the master names {sorted(named)}"
        for worker in self._workers.values():
            surplus = {key_of(replica) for replica in worker.blocks.store.replicas()} - wanted
            if surplus:
                return f"{worker.name} keeps blocks {sorted(surplus)}, which no file has"
        return ""

    def _blocks_of(self, path: str) -> list[tuple[Replica, set[WorkerId]]]:
        found = self._master.state.storage.file_blocks(path, 0, 1 << 60)
        return [(block.source.replica, set(block.source.workers)) for block in found.blocks]

    def _wanted(self, path: str) -> int:
        return self._master.state.storage.status(path).replication

    # ── when it is over ─────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, clients: Iterable[SimClient]) -> None:
        """All jobs have ended and nothing is under way any more."""
        if self.use.is_idle:
            raise Wrong(f"while tasks waited, slots stood idle: {self.use}")
        for client in clients:
            self.judge_job(client)
        self._judge_what_is_left()

    def judge_job(self, client: SimClient) -> None:
        """What must hold of one job that is over. Raises Wrong."""
        job, view = client.job, client.view
        if view is None or client.refusals:
            raise Wrong(f"{job.key!r} got no answer but {client.refusals}")
        kept = {shown.job: shown for shown in self._master.state.views.jobs(self._master.now())}
        if kept.get(view.job) != view:
            raise Wrong(f"{job.key!r} was {view.state} as {view.job}, but the master now says {kept.get(view.job)}")
        if client.has_asked_to_kill and view.state is JobState.KILLED:
            return
        is_told_lost = view.state is JobState.FAILED or client.has_lost_result
        if job.wavering and is_told_lost and "not deterministic" in view.reason:
            return
        if job.is_doomed or view.state is not JobState.SUCCEEDED:
            if not job.is_doomed or view.state is not JobState.FAILED:
                raise Wrong(f"{job.key!r} is {view.state}: {view.reason}")
            return
        expected = sequential(job)
        if client.obtained is None and not client.has_asked_to_kill:
            raise Wrong(f"{job.key!r} has succeeded, but its client never obtained its output")
        counters = tuple(counter for counter in view.counters if counter[0] == COUNTER_GROUP and counter[2])
        if job.is_real:
            self._judge_really(client, counters)
            return
        if client.obtained is not None and client.obtained != expected.parts:
            raise Wrong(f"{job.key!r} gave {client.obtained}, the sequential run {expected.parts}")
        skipped = self._master.state.views.skipped(view.job, self._master.now())
        positions = sorted((short_name(each.attempt.task), each.record.place.position) for each in skipped)
        if positions != sorted((line.task, line.position) for line in job.left_out):
            raise Wrong(f"{job.key!r} says that it left out {positions}, but its bad lines are {job.left_out}")
        if counters != expected.counters:
            raise Wrong(f"{job.key!r} counted {counters}, the sequential run {expected.counters}")

    @staticmethod
    def _judge_really(client: SimClient, counters: Counters) -> None:
        """What the real engine made of a job, against the sequential run of the same job as a user writes it."""
        from minireduce.testing import real_engine  # imports much, for few seeds

        job = client.job
        if client.obtained is not None:
            got = sorted(pair for part in client.obtained for pair in real_engine.pairs_of(job, part))
            expected = real_engine.expected_pairs(job)
            if got != expected:
                raise Wrong(f"{job.key!r} gave {got}, the sequential run {expected}")
        names = {name for _, name, _ in counters}
        counted = sequential(job).counters
        wanted = tuple(counter for counter in counted if counter[1] in names)
        if counters != wanted or (counted and "MAP_INPUT" not in names):
            raise Wrong(f"{job.key!r} counted {counters}, the sequential run {wanted}")

    def _judge_what_is_left(self) -> None:
        for worker in self._workers.values():
            if worker.node.is_up and (worker.running or worker.disk.outputs):
                left = [told(each) for each in (*worker.running, *worker.disk.outputs)]
                raise Wrong(f"all jobs are over, but {worker.name} still has {', '.join(left)}")
        objects = count_objects(self._master.state)
        bound = OBJECTS_MAX + OBJECTS_PER_ENDED_JOB_MAX * len(self._jobs_by_key)
        bound += OBJECTS_PER_WORKER_MAX * len(self._workers) + OBJECTS_PER_BLOCK_MAX * len(self._world.blocks)
        if objects > bound:
            raise Wrong(f"all jobs are over, but the master keeps {objects} objects, more than {bound}")


def _has_whole(worker: SimWorker, attempt: AttemptId) -> bool:
    kept = worker.disk.outputs.get(attempt)
    return kept is not None and not kept.is_damaged


class _Ears:
    """When the master last heard each worker in the session that counts."""

    def __init__(self, started_at: float = 0.0) -> None:
        self._started_at = started_at
        self._heard_at: dict[WorkerId, float] = {}
        self._speaker: dict[int, WorkerId] = {}
        self._session: dict[int, int] = {}
        self._stream: dict[WorkerId, int] = {}

    def heard_at(self, worker: WorkerId) -> float:
        return self._heard_at.get(worker, self._started_at)

    def hear(self, event: machine.Event, now: float) -> None:
        if isinstance(event, machine.HelloReceived):
            worker = event.hello.profile.worker
            self._speaker[event.stream] = worker
            self._stream[worker] = event.stream
            self._heard_at[worker] = now
        elif isinstance(event, machine.UpReceived):
            speaker = self._speaker.get(event.stream)
            is_current = speaker is not None and self._stream[speaker] == event.stream
            if speaker is not None and is_current and self._session.get(event.stream) == event.up.session:
                self._heard_at[speaker] = now

    def welcome(self, action: machine.SendWelcome) -> None:
        self._session[action.stream] = action.welcome.session


def _task(key: tuple[Any, ...]) -> TaskId:
    return TaskId(key[0], key[1], TaskKind(key[2]), key[3])


_CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType, property)


def count_objects(root: object) -> int:
    """How many objects a machine holds on to, code and classes aside."""
    seen = {id(root)}
    waiting = [root]
    while waiting:
        for found in gc.get_referents(waiting.pop()):
            if id(found) not in seen and not isinstance(found, _CODE):
                seen.add(id(found))
                waiting.append(found)
    return len(seen)
