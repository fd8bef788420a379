"""The shell of a simulated worker: the real machine, modelled task processes, fetches and a disk of outputs.

A fetch is a question over the network to another worker, with an answer or a timeout. What attempts have finished lies
on the worker's disk: it survives the end of the process, and goes with the disk. What attempts do: `tasks`.

Killed, the process forgets everything else; started again it is a new incarnation that lists what its disk has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import field
from random import Random
from typing import Any

from minireduce.core import worker as machine
from minireduce.core.messages import Down, Welcome, WorkerProfile
from minireduce.core.replica_messages import Replica
from minireduce.core.settings import WorkerSettings
from minireduce.core.work.attempts import (
    OutputFoundMissing,
    StartAttempt,
    StartBatch,
    StopAttempt,
)
from minireduce.core.work.copies import CopyEnded, KeepCopy
from minireduce.core.work.fetches import (
    CancelFetch,
    Fetched,
    FetchEnded,
    FetchesEnded,
    FetchOutcome,
    Gone,
    NotReached,
    Unreachable,
)
from minireduce.core.work.merging import StartMerge, StopMerge
from minireduce.core.work.orders import CloseProgram, OpenProgram, RemoveFetched, RemoveJob, RemoveOutputs
from minireduce.core.work.requests import Fetch, StartFetches
from minireduce.core.work.session import (
    CloseStream,
    DownReceived,
    OpenStream,
    Remember,
    SendHello,
    SendUp,
    StopWorker,
    StreamClosed,
    StreamOpened,
    Warn,
    WelcomeReceived,
)
from minireduce.core.worker import WorkerState
from minireduce.errors import InvariantViolation, MinireduceError
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId
from minireduce.testing import tell, workload
from minireduce.testing.agenda import Node
from minireduce.testing.blocks import SimBlocks, is_good, key_of
from minireduce.testing.clock import SkewedClock
from minireduce.testing.disk import SimDisk
from minireduce.testing.faults import Left
from minireduce.testing.master import SimMaster
from minireduce.testing.merges import SimMerges
from minireduce.testing.tasks import Kept, SimTasks
from minireduce.testing.workload import SimJob
from minireduce.testing.world import World, address_of, read_token
from minireduce.testing.wrong import Wrong

FETCH_TIMEOUT_S = 3.0
COPY_S = 0.01
FREE_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class WorkerShape:
    """What kind of machine a worker is."""

    slots: int = 1
    rack: str = "/default"
    memory_bytes: int = 1 << 30


@dataclass(slots=True)
class Disk:
    """What survives the process: modelled outputs, and the real files of the block store."""

    files: SimDisk
    outputs: dict[AttemptId, Kept] = field(default_factory=dict)
    remembered: tuple[int, int] = (0, 0)


class SimWorker:
    """One worker over all its lives. `peers` are all workers by address, itself among them."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        master: SimMaster,
        peers: dict[str, SimWorker],
        shape: WorkerShape,
        settings: WorkerSettings,
        map_s: tuple[float, float] = (1.0, 6.0),
    ) -> None:
        self.world = world
        self.node = Node(name)
        self._disk_rng = world.rng(f"disk of {name}")
        self.disk = Disk(SimDisk(self._disk_rng))
        self.state: WorkerState
        self.blocks: SimBlocks
        self.tasks: SimTasks
        self.merges: SimMerges
        self.slowness = 1.0
        self.running: dict[AttemptId, StartAttempt] = {}
        self._master = master
        self._peers = peers
        self.shape = shape
        self._settings = settings
        self._map_s = map_s
        self._rng = world.rng(name)
        self.work_rng = world.rng(f"work of {name}")
        self.clock = SkewedClock(world.clock)
        self.programs: dict[JobId, SimJob] = {}
        self.fetched: dict[tuple[AttemptId, AttemptId], bytes] = {}
        self.damaged: dict[tuple[AttemptId, AttemptId], None] = {}  # of what was fetched
        self._cancelled: set[int] = set()
        peers[address_of(name)] = self

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def rack(self) -> str:
        return self.shape.rack

    # ── lives ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the process: a new incarnation with what the disk has."""
        self.node.start()
        self.running.clear()
        self.programs.clear()
        self.fetched.clear()
        self.damaged.clear()
        self._cancelled.clear()
        self.blocks = SimBlocks(self)
        self.tasks = SimTasks(self, self._map_s)
        self.merges = SimMerges(self)
        drift = self._rng.uniform(-0.01, 0.01)
        self.clock = SkewedClock(self.world.clock, offset_s=self._rng.uniform(0.0, 1e6), drift=drift)
        self.state = WorkerState(
            profile=self.profile(),
            settings=self._settings,
            highest=self.disk.remembered,
            outputs=tuple(kept.report for kept in self.disk.outputs.values()),
            replicas=self.blocks.store.replicas(),
            rng=self._rng,
        )
        self.world.trace.mark(self.name, f"starts as incarnation {self.node.life}")
        self.world.trace.tell(self.name, f"starts, incarnation {self.node.life}")
        self._tick()
        self.blocks.tell_damaged()

    @property
    def highest(self) -> tuple[int, int]:
        """The latest commit of a master that this worker has followed, as it will say or has written down."""
        return self.state._session._highest if self.node.is_up else self.disk.remembered  # noqa: SLF001 - the truth

    def profile(self) -> WorkerProfile:
        """What it says of itself."""
        return WorkerProfile(
            worker=self.name,
            incarnation=self.node.life,
            host=self.name,
            rack=self.shape.rack,
            slots=self.shape.slots,
            memory_bytes=self.shape.memory_bytes,
            data_address=address_of(self.name),
            machine_id=f"machine of {self.name}",
            software_version="0",
            free_bytes=FREE_BYTES,
        )

    def kill(self, reason: str, *, left: Left = Left.ALL) -> None:
        """End the process without warning, and perhaps its disk or a part of it."""
        self.world.trace.tell(self.name, f"is killed{'' if left is Left.ALL else f', {left}'}: {reason}")
        self._end_process(left)

    def _end_process(self, left: Left) -> None:
        self.world.trace.mark(self.name, f"ends, {left}")
        self.node.end()
        if left is Left.NOTHING:
            self.disk = Disk(SimDisk(self._disk_rng))
        elif left is Left.SOME:
            for attempt in [attempt for attempt in self.disk.outputs if self.work_rng.random() < 0.5]:
                del self.disk.outputs[attempt]
            self._crash_disk()
        self._master.streams.worker_ended(self)

    def _crash_disk(self) -> None:
        """The machine loses power: what it had said that it stored must be there after."""
        replicas = [replica for replica in self.blocks.told.values() if self.holds(replica)]
        self.disk.files.crash()
        for replica in replicas:
            if not self.holds(replica):
                raise Wrong(f"{self.name} had stored block {replica.block_id}, and lost it when its machine went down")

    def replicas(self) -> list[Replica]:
        """The replicas that the worker has stored, as it last knew."""
        return list(self.blocks.told.values())

    def damage_copy(self, rng: Random) -> bool:
        """Damage something that was fetched for an attempt; whether there was anything."""
        places = sorted(place for place in self.fetched if place not in self.damaged)
        if places:
            self.damaged[rng.choice(places)] = None
        return bool(places)

    def holds(self, replica: Replica) -> bool:
        """Whether the disk holds a replica with the right bytes, up or down."""
        return is_good(self.disk.files, replica, self.world.blocks[key_of(replica)])

    def keeps(self, attempt: AttemptId) -> bool:
        """Whether its machine means to keep an output: files go a little later, and not while its job has processes."""
        return attempt in self.state._assignments.outputs  # noqa: SLF001 - the truth

    def now(self) -> float:
        """The monotonic clock of this worker's machine."""
        return self.clock.now()

    def _tick(self) -> None:
        self.world.agenda.after(self._settings.tick_interval_s, self.node, self._tick)
        self.handle(machine.Ticked())

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, number: int) -> None:
        self.handle(StreamOpened(number))

    def on_welcome(self, number: int, welcome: Welcome) -> None:
        self.handle(WelcomeReceived(number, welcome))

    def on_down(self, number: int, down: Down) -> None:
        self.handle(DownReceived(number, down))

    def on_closed(self, number: int, error: MinireduceError | None) -> None:
        self.world.trace.mark(self.name, f"stream {number} closed: {error}")
        self.handle(StreamClosed(number, error))

    def handle(self, event: machine.Event) -> None:
        """Let the machine advance, and do what it says."""
        actions = self.state.advance(event, self.now())
        if self.world.trace.is_told:
            self.world.trace.tell(self.name, *tell.worker(event, actions))
        for action in actions:
            if self.node.is_up:
                self._perform(action)

    # ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────

    def _perform(self, action: machine.Action) -> None:
        streams = self._master.streams
        match action:
            case OpenStream():
                streams.open(self, action.stream)
            case CloseStream():
                streams.close_at_worker(self, action.stream)
            case SendHello():
                streams.send_up(self, action.stream, action.hello)
            case SendUp():
                streams.send_up(self, action.stream, action.up)
            case Remember():
                self.disk.remembered = (action.epoch, action.txid)
            case OpenProgram():
                self.programs[action.opened.job] = self.world.jobs[action.opened.program.body]
            case CloseProgram():
                del self.programs[action.job]
            case StartAttempt():
                self.tasks.start(action)
            case StartBatch():
                self.tasks.start_batch(action)
            case StopAttempt():
                self.tasks.stop(action)
            case StartMerge():
                self.merges.start(action)
            case StopMerge():
                self.merges.stop(action)
            case StartFetches():
                self._ask_for_outputs(action.fetches)
            case CancelFetch():
                self._cancelled.add(action.fetch)
            case KeepCopy():
                self._keep_copy(action)
            case RemoveOutputs():
                self._remove_outputs(action.attempts)
            case RemoveFetched():
                self._remove_fetched(lambda attempt: attempt == action.attempt)
            case RemoveJob():
                self._remove_job(action.job)
            case StopWorker():
                self._stopped(action.error)
            case Warn():
                self.world.trace.tell(self.name, f"warns: {action.message}")
            case machine.StartReplication():
                self.world.agenda.after(0.0, self.node, lambda: self.blocks.replicate(action.order))
            case machine.CheckReplica():
                self.world.agenda.after(0.0, self.node, lambda: self.blocks.verify(action.replica))
            case machine.DeleteReplica():
                self.world.agenda.after(0.0, self.node, lambda: self.blocks.remove(action.replica))

    def _keep_copy(self, action: KeepCopy) -> None:
        part = action.order.part
        data = self.fetched.get((part.attempt, part.attempt), b"")

        def keep() -> None:
            error = "" if workload.digest_of([data]) == part.output.digest else "it is another part"
            if not error:
                self.disk.outputs[part.attempt] = Kept(part, (data,))
            self._remove_fetched(lambda attempt: attempt == part.attempt)
            self.handle(CopyEnded(part.attempt, error))

        self.world.agenda.after(COPY_S, self.node, keep)

    def _stopped(self, error: MinireduceError | None) -> None:
        self.world.trace.tell(self.name, f"ends{f': {error.message}' if error else ' in good order'}")
        self._end_process(Left.ALL)
        if error is not None:
            self.world.strikes["worker ended itself"] += 1
        self.world.moment("worker ended itself", self.name)

    def _remove_outputs(self, attempts: tuple[AttemptId, ...]) -> None:
        for attempt in attempts:
            self.disk.outputs.pop(attempt, None)
        self._remove_fetched(lambda attempt: attempt in attempts)

    def _remove_fetched(self, is_unwanted: Callable[[AttemptId], bool]) -> None:
        for place in [place for place in self.fetched if is_unwanted(place[0])]:
            del self.fetched[place]
            self.damaged.pop(place, None)

    def _remove_job(self, job: JobId) -> None:
        if any(attempt.task.job == job for attempt in self.running) or self.merges.is_at_work(job):
            raise InvariantViolation(f"{self.name} is told to remove {job} while attempts of it run")
        self.programs.pop(job, None)
        for attempt in [attempt for attempt in self.disk.outputs if attempt.task.job == job]:
            del self.disk.outputs[attempt]
        self._remove_fetched(lambda attempt: attempt.task.job == job)

    # ── fetches ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask_for_outputs(self, fetches: tuple[Fetch, ...]) -> None:
        """Have the outputs of one request come one after the other: what breaks one off leaves out those behind it."""
        for fetch in fetches:
            self.world.trace.mark(self.name, f"fetches {fetch.source.attempt} for {fetch.attempt}")
        self._ask_for_next(deque(fetches), has_begun=False)

    def _ask_for_next(self, waiting: deque[Fetch], *, has_begun: bool) -> None:
        """Ask the other worker; whatever comes first counts, the answer or the timeout."""
        while waiting and waiting[0].number in self._cancelled:
            waiting.popleft()
        if not waiting:
            return
        fetch = waiting.popleft()
        address = fetch.source.address

        def answered(answer: tuple[FetchOutcome, bytes] | None) -> None:
            if answer is not None:
                self._fetched(fetch, *answer)
                self._ask_for_next(waiting, has_begun=True)
                return
            source = self._peers.get(address)
            silence = Unreachable("no answer" if source is not None and source.node.is_up else "connection refused")
            not_reached = NotReached() if has_begun else silence
            self._tell_ended([(fetch, silence), *((behind, not_reached) for behind in waiting)])

        self.ask_peer(
            address,
            lambda peer, reply: reply(peer.serve(fetch.source.attempt, fetch.partition, fetch.read_token)),
            answered,
            timeout_s=FETCH_TIMEOUT_S,
        )

    def _fetched(self, fetch: Fetch, outcome: FetchOutcome, data: bytes) -> None:
        if fetch.number in self._cancelled or not self.node.is_up:
            return
        if isinstance(outcome, Fetched):
            self.fetched[fetch.attempt, fetch.source.attempt] = data
            self.damaged.pop((fetch.attempt, fetch.source.attempt), None)
            self.world.moment("a run is fetched", self.name)
        self._tell_ended([(fetch, outcome)])

    def _tell_ended(self, ended: Iterable[tuple[Fetch, FetchOutcome]]) -> None:
        known = [each for each in ended if each[0].number not in self._cancelled]
        wanted = tuple(FetchEnded(fetch.number, outcome) for fetch, outcome in known)
        if wanted and self.node.is_up:
            self.handle(FetchesEnded(wanted))

    def ask_peer(
        self,
        address: str,
        question: Callable[[SimWorker, Callable[[Any], None]], None],
        then: Callable[[Any], None],
        *,
        timeout_s: float,
    ) -> None:
        """Ask another worker over the network; `then` is told its answer, or None."""
        self.world.ask(self.node, self._peers.get(address), question, then, timeout_s=timeout_s)

    def draw_s(self, between: tuple[float, float]) -> float:
        """How long something takes on this worker."""
        return self.work_rng.uniform(*between) * self.slowness

    def serve(self, attempt: AttemptId, partition: int, token: str) -> tuple[FetchOutcome, bytes]:
        """What this worker's block server answers."""
        kept = self.disk.outputs.get(attempt)
        if token != read_token(attempt.task.job):
            raise InvariantViolation(f"{attempt} of {self.name} is asked for with the token {token!r}")
        if kept is None or kept.is_damaged:
            self.handle(OutputFoundMissing(attempt))
            return Gone(f"{self.name} has no output of {attempt}"), b""
        data = kept.partitions[max(partition, 0)]
        return Fetched(len(data)), data
