"""The master's machine: everything a cluster decides, as `advance(event, now) -> list[Action]`.

In come what workers said, what clients asked and the passing of time; out go messages, answers and rows to persist.
The shell performs the actions in order and holds one rule, the release watermark: whatever one `advance` sends leaves
only when every `Persist` of that call and of all calls before it is durable. So nobody ever sees what a crash undoes.

`now` is the master's monotonic time in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from minireduce.core.admission import Admission
from minireduce.core.cluster_views import ClusterViews
from minireduce.core.compute.arrivals import worker_came, worker_went
from minireduce.core.compute.completing import complete_if_done
from minireduce.core.compute.draining import worker_drains, worker_stays
from minireduce.core.compute.records import restore_jobs
from minireduce.core.compute.reports import take_report
from minireduce.core.compute.rounds import Rounds
from minireduce.core.compute.state import ComputeState
from minireduce.core.compute.submission import Submissions
from minireduce.core.effects import Effects, Row
from minireduce.core.membership import Member, Membership
from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.core.replica_messages import DirectoriesMeasured, ReplicaReport
from minireduce.core.requests import ComputeRequest, DrainWorker
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.places import MembershipPlaces
from minireduce.core.storage.requests import FileRequest
from minireduce.core.storage.state import StorageState
from minireduce.core.storage.tokens import BlockTokens, NoTokens
from minireduce.errors import MinireduceError, NotFound, Refused
from minireduce.frozen import dataclass
from minireduce.ids import JobId

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """A worker opened a stream. The shell numbers streams; a number is never used twice."""

    stream: int
    hello: Hello


@dataclass(frozen=True, slots=True)
class UpReceived:
    """A worker's message came in on a stream."""

    stream: int
    up: Up


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """A stream broke or was ended by the worker. The worker is not lost by that: it may open another."""

    stream: int


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A client asked for a change. The shell numbers requests and answers each by its number."""

    request: int
    body: ComputeRequest | DrainWorker | FileRequest
    received_at: float  # wall clock, for people


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed; the shell sends one several times a second. `at` is the wall clock's time, if it is known."""

    at: float = 0.0


Event = HelloReceived | UpReceived | StreamClosed | RequestReceived | Ticked


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Persist:
    """Write these rows in one transaction, marked (epoch, txid); txids grow by one."""

    epoch: int
    txid: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class SendWelcome:
    """Answer a `Hello` on its stream."""

    stream: int
    welcome: Welcome


@dataclass(frozen=True, slots=True)
class SendDown:
    """Send a message on a stream; drop it silently when the stream is gone, for it will be sent again."""

    stream: int
    down: Down


@dataclass(frozen=True, slots=True)
class CloseStream:
    """End a stream: an older one of the same worker, or one that is refused. `error` goes to the worker."""

    stream: int
    error: MinireduceError


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request."""

    request: int
    value: Any


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer a request with an error."""

    request: int
    error: MinireduceError


@dataclass(frozen=True, slots=True)
class JobChanged:
    """Wake those who wait for this job: its state changed."""

    job: JobId


@dataclass(frozen=True, slots=True)
class StopServing:
    """This master must not go on: its metadata is older than what a worker remembers."""

    error: MinireduceError


Action = Persist | SendWelcome | SendDown | CloseStream | Reply | Refuse | JobChanged | StopServing


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────────────


class ClusterState:
    """Made from the rows that an earlier master left, with an `epoch` higher than any before it.

    `txid` is the last one on disk, `make_read_token` signs the token with which a job's outputs may be read,
    `block_tokens` those that open one block, and `rng` draws where new replicas go. `at` is the time of the wall clock.
    """

    def __init__(
        self,
        *,
        cluster_id: str,
        epoch: int,
        txid: int,
        settings: ClusterSettings,
        rows: Iterable[Row],
        make_read_token: Callable[[JobId], str],
        now: float,
        at: float = 0.0,
        software_version: str = "",
        block_tokens: BlockTokens | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._cluster_id = cluster_id
        self._epoch = epoch
        self._txid = txid
        self._admission = Admission(cluster_id, epoch, txid)
        self._settings = settings
        self._ticked_at = now
        self._membership = Membership(settings)
        rng = rng or random.Random(epoch)  # noqa: S311 - placement, no secret
        places = MembershipPlaces(self._membership)
        self.storage = StorageState(settings, places, block_tokens or NoTokens(), rng)
        self._compute = ComputeState(
            settings,
            self._membership,
            make_read_token,
            self.storage.locate_input,
            self.storage.holders_of,
            self.storage.drop_leftovers,
            lambda: self.storage.replica_moves,
        )
        self._rounds = Rounds(self._compute)
        self.views = ClusterViews(
            self._compute,
            self._membership,
            self.storage,
            cluster_id=cluster_id,
            epoch=epoch,
            software_version=software_version,
        )
        self._submissions = self._restore(rows, now, at)

    def _restore(self, all_rows: Iterable[Row], now: float, at: float) -> Submissions:
        rows = [row for row in all_rows if not self.storage.restore(row)]
        self.storage.restored(rows, now)
        compute = self._compute
        compute.jobs, compute.ended = restore_jobs(rows, self._epoch, now, at)
        compute.printed.restore(rows)
        compute.history.restore(rows, compute.ended)
        jobs_seen = 0
        for row in rows:
            if row.table == "draining":
                self._membership.drain(row.key[0], is_draining=True)
                self.storage.worker_drains(row.key[0], is_draining=True)
        for row in rows:
            if row.table == "workers" and row.values is not None:
                self._membership.expect(row.key[0], row.values[0], now)
            elif row.table == "settings" and row.key[0] == "jobs_seen" and row.values is not None:
                jobs_seen = int(row.values[0])
            elif row.table == "settings" and row.key[0] == "restored_epoch" and row.values is not None:
                self._admission.restored_epoch = int(row.values[0])
        effects = Effects()  # queueing what is wanted persists nothing and tells nobody
        for job in compute.jobs.values():
            for task in job.tasks():
                if task.winner is not None and task.winner.worker:
                    compute.load_of(task.winner.worker).keep(task)
            compute.queue_wanted(job)
            complete_if_done(compute, job, now, effects)
        return Submissions(compute, self._cluster_id, self._epoch, jobs_seen)

    def advance(self, event: Event, now: float) -> list[Action]:
        """Decide what follows from `event`. Raises InvariantViolation, after which the machine must not be used."""
        effects = Effects()
        urgent: list[Action] = []
        match event:
            case HelloReceived():
                urgent = self._take_hello(event, now, effects)
            case UpReceived():
                self._take_up(event, now, effects)
            case StreamClosed():
                ended = self._membership.close_stream(event.stream)
                if ended is not None:
                    self._lose(ended, now, effects, is_orderly=True)
            case RequestReceived():
                self._take_request(event, now, effects)
            case Ticked():
                self._tick(event.at, now, effects)
        self._rounds.schedule(now, effects)
        return self._actions(event, effects, urgent, now)

    def _take_request(self, event: RequestReceived, now: float, effects: Effects) -> None:
        number, body, at = event.request, event.body, event.received_at
        if isinstance(body, DrainWorker):
            self._drain(number, body, now, at, effects)
        elif isinstance(body, ComputeRequest):
            self._submissions.take_request(number, body, now, at, effects)
        else:
            self.storage.handle(number, body, at, now, effects)

    def _drain(self, number: int, request: DrainWorker, now: float, at: float, effects: Effects) -> None:
        """Do without a worker from now on, or no longer. Asked again, nothing changes."""
        worker = request.worker
        member = self._membership.get(worker)
        if member is None:
            hint = "`minireduce cluster workers` lists them"
            effects.refuse(number, NotFound(f"there is no worker {worker}", hint=hint))
            return
        if self._membership.is_draining(worker) != request.is_draining:
            self._membership.drain(worker, is_draining=request.is_draining)
            if request.is_draining:
                effects.persist("draining", (worker,), (at,))
            else:
                effects.forget("draining", (worker,))
            self.storage.worker_drains(worker, is_draining=request.is_draining)
            if request.is_draining:
                worker_drains(self._compute, worker)
            else:
                worker_stays(self._compute)
        effects.reply(number, self.views.worker(worker, now))

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_hello(self, event: HelloReceived, now: float, effects: Effects) -> list[Action]:
        hello = event.hello
        if (error := self._admission.refusal(hello)) is not None:
            return [CloseStream(event.stream, error)]
        if (error := self._admission.outdated(hello, self._txid)) is not None:
            return [CloseStream(event.stream, error), StopServing(error)]
        self._admission.welcome(hello)
        entrance = self._membership.enter(event.stream, hello, now)
        actions: list[Action] = []
        if entrance.superseded_stream:
            newer = Refused(f"worker {hello.profile.worker} opened another stream")
            actions.append(CloseStream(entrance.superseded_stream, newer))
        member = entrance.member
        if member is None:
            if entrance.error is not None:
                return [CloseStream(event.stream, entrance.error)]
            return [SendWelcome(event.stream, self._list_anew())]
        actions.append(SendWelcome(event.stream, self._welcome(member, is_resumed=entrance.is_resumed)))
        if not entrance.is_resumed:
            effects.persist("workers", (member.id,), (member.profile.incarnation,))
            self.storage.worker_joined(member.id, hello.replicas, effects)
            worker_came(self._compute, member, hello, now, effects)
            if member.is_draining:
                worker_drains(self._compute, member.id)
        return actions

    def _list_anew(self) -> Welcome:
        """The session that the worker wants to go on with is over: it must say all that it has."""
        settings = self._settings
        return Welcome(
            self._epoch, 0, False, 0, settings.heartbeat_interval_s, settings.worker_lost_s, self._cluster_id
        )

    def _welcome(self, member: Member, *, is_resumed: bool) -> Welcome:
        return Welcome(
            epoch=self._epoch,
            session=member.session,
            resumed=is_resumed,
            received=member.link.received_number,
            heartbeat_interval_s=self._membership.heartbeat_interval_s,
            worker_lost_s=self._settings.worker_lost_s,
            cluster=self._cluster_id,
        )

    def _take_up(self, event: UpReceived, now: float, effects: Effects) -> None:
        member = self._membership.hear(event.stream, event.up, now)
        if member is None:
            return
        if member.link.received(event.up.number, event.up.ack, now):
            for report in event.up.reports:
                if isinstance(report, DirectoriesMeasured):
                    member.directories = report.directories
                elif isinstance(report, ReplicaReport):
                    self.storage.report(member.id, report, now, effects)
                else:
                    take_report(self._compute, member, report, now, effects)

    def _tick(self, at: float, now: float, effects: Effects) -> None:
        """Time passed. When the master itself stood still, deadlines move with it: nobody could be heard."""
        gap_s = now - self._ticked_at
        self._ticked_at = now
        if gap_s > self._settings.clock_jump_s_max:
            self._membership.shift_deadlines(gap_s)
            self.storage.shift_deadlines(gap_s)
        for member in self._membership.lose_the_silent(now):
            self._lose(member, now, effects)
        self._rounds.tick(now, effects)
        self.storage.tick(now, effects, at, self._compute.is_unended)

    def _lose(self, member: Member, now: float, effects: Effects, *, is_orderly: bool = False) -> None:
        effects.forget("workers", (member.id,))
        self.storage.worker_lost(member.id, now, is_orderly=is_orderly, is_draining=member.is_draining)
        worker_went(self._compute, member.id, now, effects)

    # ── what leaves ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _actions(self, event: Event, effects: Effects, urgent: list[Action], now: float) -> list[Action]:
        """What must be durable stands first; the shell releases the rest only when it is."""
        actions: list[Action] = []
        if effects.rows:
            self._txid += 1
            actions.append(Persist(self._epoch, self._txid, tuple(effects.rows)))
        actions.extend(urgent)
        for worker, commands in effects.commands.items():
            member = self._membership.get(worker)
            if member is not None and member.is_live:
                member.link.push(*commands)
        for member in self._members_to_tell(event, effects):
            if member.is_live and member.stream:
                for down in member.link.due(now):
                    actions.append(SendDown(member.stream, self._down(member, down)))  # noqa: PERF401 - mostly one
        if effects.has_answers:
            actions.extend(Reply(request, value) for request, value in effects.replies.items())
            actions.extend(Refuse(request, error) for request, error in effects.refusals.items())
            actions.extend(JobChanged(job) for job in effects.changed_jobs)
        return actions

    def _members_to_tell(self, event: Event, effects: Effects) -> list[Member]:
        """Those for whom something new may be due. Heartbeats and repetitions wait for the next tick: looking at all
        members after each event would make an event the dearer the more members there are.
        """
        if isinstance(event, Ticked):
            return self._membership.live()
        members = {worker: self._membership.get(worker) for worker in effects.commands}
        if isinstance(event, HelloReceived | UpReceived):
            speaker = self._membership.on_stream(event.stream)
            if speaker is not None:
                members[speaker.id] = speaker
        return [member for member in members.values() if member is not None]

    def _down(self, member: Member, message: Any) -> Down:
        return Down(member.session, message.number, message.ack, message.items, self._epoch, self._txid)
