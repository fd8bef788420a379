"""The shell of a simulated worker: the real machine, modelled task processes, fetches and a disk of outputs.

Tasks compute real pairs (`workload`) and take a drawn time, longer on a slow worker. A fetch is a question over the
network to another worker, with an answer or a timeout. What attempts have finished lies on the worker's disk: it
survives the end of the process, and goes with the disk.

Killed, the process forgets everything else; started again it is a new incarnation that lists what its disk has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from minireduce.attempt.batch import LATE_S
from minireduce.core import worker as machine
from minireduce.core.messages import AttemptSucceeded, Down, Welcome, WorkerProfile
from minireduce.core.replica_messages import Replica
from minireduce.core.settings import WorkerSettings
from minireduce.core.spec import LocalFiles
from minireduce.core.task_data import PartInput, StoredInput, TaskError
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptsGivenBack,
    CopyFoundDamaged,
    Failed,
    Killed,
    Lost,
    OutputFoundMissing,
    ProgressMade,
    StartAttempt,
    StartBatch,
    StopAttempt,
    Succeeded,
)
from minireduce.core.work.copies import CopyEnded, KeepCopy
from minireduce.core.work.fetches import (
    PART,
    CancelFetch,
    Fetched,
    FetchEnded,
    FetchOutcome,
    Gone,
    StartFetch,
    Unreachable,
)
from minireduce.core.work.orders import CloseProgram, OpenProgram, RemoveFetched, RemoveJob, RemoveOutputs
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
from minireduce.ids import AttemptId, JobId, TaskKind
from minireduce.testing import tell, workload
from minireduce.testing.agenda import Node
from minireduce.testing.bad_lines import meet_bad_lines
from minireduce.testing.blocks import SimBlocks, StoredRead, is_good, key_of
from minireduce.testing.clock import SkewedClock
from minireduce.testing.disk import SimDisk
from minireduce.testing.faults import Left
from minireduce.testing.master import SimMaster
from minireduce.testing.workload import Product, SimJob
from minireduce.testing.world import World, address_of, read_token
from minireduce.testing.wrong import Wrong

HASTY_BUSY_S = 0.003
HASTY_TRUE_SHARE = 0.6  # of the tasks of such a run; the others take seconds all the same
SPENT_SHARE = 0.1  # of the ends in a batch, after which the process takes no more
FETCH_TIMEOUT_S = 3.0
COPY_S = 0.01
FREE_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished output on a worker's disk."""

    report: AttemptSucceeded
    partitions: tuple[bytes, ...]
    is_damaged: bool = False


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
        self.slowness = 1.0
        self.running: dict[AttemptId, StartAttempt] = {}
        self._master = master
        self._peers = peers
        self.shape = shape
        self._settings = settings
        self._map_s = map_s
        self._rng = world.rng(name)
        self._work_rng = world.rng(f"work of {name}")
        self.clock = SkewedClock(world.clock)
        self._programs: dict[JobId, SimJob] = {}
        self._fetched: dict[tuple[AttemptId, AttemptId], bytes] = {}
        self._damaged: dict[tuple[AttemptId, AttemptId], None] = {}  # of what was fetched
        self._inputs: dict[AttemptId, bytes] = {}
        self._stopping: set[AttemptId] = set()
        self._behind: dict[AttemptId, tuple[StartAttempt, ...]] = {}
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
        self._programs.clear()
        self._fetched.clear()
        self._damaged.clear()
        self._stopping.clear()
        self._behind.clear()
        self._cancelled.clear()
        self._inputs.clear()
        self.blocks = SimBlocks(self)
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
            for attempt in [attempt for attempt in self.disk.outputs if self._work_rng.random() < 0.5]:
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
        places = sorted(place for place in self._fetched if place not in self._damaged)
        if places:
            self._damaged[rng.choice(places)] = None
        return bool(places)

    def holds(self, replica: Replica) -> bool:
        """Whether the disk holds a replica with the right bytes, up or down."""
        return is_good(self.disk.files, replica, self.world.blocks[key_of(replica)])

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
                self._programs[action.opened.job] = self.world.jobs[action.opened.program.body]
            case CloseProgram():
                del self._programs[action.job]
            case StartAttempt():
                self._start_attempt(action)
            case StartBatch():
                self._start_batch(action)
            case StopAttempt():
                self._stop_attempt(action)
            case StartFetch():
                self._start_fetch(action)
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
        data = self._fetched.get((part.attempt, part.attempt), b"")

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
        for place in [place for place in self._fetched if is_unwanted(place[0])]:
            del self._fetched[place]
            self._damaged.pop(place, None)

    def _remove_job(self, job: JobId) -> None:
        if any(attempt.task.job == job for attempt in self.running):
            raise InvariantViolation(f"{self.name} is told to remove {job} while attempts of it run")
        self._programs.pop(job, None)
        for attempt in [attempt for attempt in self.disk.outputs if attempt.task.job == job]:
            del self.disk.outputs[attempt]
        self._remove_fetched(lambda attempt: attempt.task.job == job)

    # ── attempts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_attempt(self, order: StartAttempt) -> None:
        attempt = order.attempt
        if attempt in self.running:
            raise InvariantViolation(f"{self.name} is told to start {attempt}, which runs")
        self.running[attempt] = order
        self.world.trace.mark(self.name, f"runs {attempt}")
        self.world.trace.tell(self.name, f"runs {tell.attempt(attempt)}{tell.care(order.care)}")
        if self.slowness > 1.0:
            self.world.strikes["attempt on a slow worker"] += 1
        if isinstance(order.input, StoredInput):
            reading = StoredRead(self, order.input, lambda data: self._has_read(attempt, data))
            self.world.agenda.after(0.0, self.node, reading.start)
        else:
            self._work_on(attempt)
        self.world.moment(f"a {attempt.task.kind} runs", self.name)

    def _has_read(self, attempt: AttemptId, data: bytes | MinireduceError) -> None:
        if isinstance(data, MinireduceError):
            self.world.strikes["stored input could not be read"] += 1
            self._end(attempt, Lost(data.message))
        elif attempt in self.running:
            self._inputs[attempt] = data
            self._work_on(attempt)

    def _work_on(self, attempt: AttemptId) -> None:
        seconds = self._work_rng.uniform(*self._map_s) * self.slowness
        if self.world.is_hasty and self._work_rng.random() < HASTY_TRUE_SHARE:
            seconds = HASTY_BUSY_S
        self.world.agenda.after(seconds / 2, self.node, lambda: self._progress(attempt))
        self.world.agenda.after(seconds, self.node, lambda: self._finish_attempt(attempt))

    def _start_batch(self, batch: StartBatch) -> None:
        self.world.strikes["batch begun"] += 1
        self._begin_next(batch.orders)

    def _begin_next(self, orders: tuple[StartAttempt, ...]) -> None:
        first = orders[0].attempt
        self._start_attempt(orders[0])
        self._behind[first] = orders[1:]
        self.world.agenda.after(LATE_S, self.node, lambda: self._give_back(self._behind.pop(first, ())))

    def _go_on_with_batch(self, ended: AttemptId, *, is_alive: bool) -> None:
        """The next attempt of a batch begins, or all that are left are given back: the process died, or is spent."""
        behind = self._behind.pop(ended, ())
        if behind and is_alive and self._work_rng.random() > SPENT_SHARE:
            self._begin_next(behind)
        else:
            self._give_back(behind)

    def _give_back(self, orders: tuple[StartAttempt, ...]) -> None:
        if orders:
            self.world.strikes["attempts given back"] += 1
            self.handle(AttemptsGivenBack(tuple(order.attempt for order in orders)))

    def _progress(self, attempt: AttemptId) -> None:
        if attempt in self.running:
            self.handle(ProgressMade(attempt, 0.5, 1))

    def _stop_attempt(self, order: StopAttempt) -> None:
        attempt = order.attempt
        if attempt in self.running and attempt not in self._stopping:
            self._stopping.add(attempt)
            self.world.agenda.after(self._work_rng.uniform(0.001, 0.2), self.node, lambda: self._end(attempt, Killed()))

    def _finish_attempt(self, attempt: AttemptId) -> None:
        order = self.running.get(attempt)
        if order is None:
            return
        program = self._programs[attempt.task.job]
        failure = (program.body, workload.short_name(attempt.task))
        if self.world.failures_left.get(failure, 0) > 0 or program.failing_on == self.name:
            self.world.failures_left[failure] = max(0, self.world.failures_left.get(failure, 0) - 1)
            self.world.strikes["user code raised"] += 1
            self._end(attempt, Failed(TaskError("raised", "ValueError", "a bad record")))
            return
        missing = [run.source for run in order.runs if run.is_own and not self._has_whole(run.source)]
        copies = [run.source for run in order.runs if (attempt, run.source) in self._damaged]
        if missing or copies:
            for source in missing:
                self.handle(OutputFoundMissing(source))
            for source in copies:
                self.handle(CopyFoundDamaged(attempt, source))
            self._end(attempt, Lost("its input is not there"))
            return
        bad = meet_bad_lines(program, attempt, order.care, self._lines(program, order) or ())
        if bad is not None:
            self.world.strikes["bad record met"] += 1
            self._end(attempt, bad)
            return
        product = self._compute(program, order)
        if workload.short_name(attempt.task) in program.wavering:
            product = workload.waver(product, attempt.number)
        report = AttemptSucceeded(attempt, product.output, product.counters)
        if not product.output.is_empty_part:
            self.disk.outputs[attempt] = Kept(report, product.partitions)
        busy_s = HASTY_BUSY_S if self.world.is_hasty else 0.0
        self._end(attempt, Succeeded(product.output, product.counters, busy_s=busy_s))
        self.world.moment(f"a {attempt.task.kind} is done", self.name)

    def _end(self, attempt: AttemptId, outcome: Succeeded | Failed | Lost | Killed) -> None:
        if attempt in self.running:
            del self.running[attempt]
            self._inputs.pop(attempt, None)
            self._stopping.discard(attempt)
            self.handle(AttemptEnded(attempt, outcome))
            self._go_on_with_batch(attempt, is_alive=isinstance(outcome, Succeeded))

    def _lines(self, program: SimJob, order: StartAttempt) -> list[str] | None:
        """The records of a map of the first step."""
        if isinstance(order.input, LocalFiles):
            return program.texts[order.attempt.task.index].splitlines()
        if isinstance(order.input, StoredInput):
            return workload.lines_of_split(self._inputs[order.attempt], order.input.offset, order.input.length)
        return None

    def _compute(self, program: SimJob, order: StartAttempt) -> Product:
        task = order.attempt.task
        if program.is_real:
            return self._compute_really(program, order)
        lines = self._lines(program, order)
        if lines is not None:
            return workload.run_first_map(program, lines, (place.position for place in order.care.skips))
        inputs = self._fetched_inputs(order)
        if task.kind is TaskKind.MAP:
            return workload.run_later_map(program, task.step, inputs[0])
        return workload.run_reduce(inputs)

    def _compute_really(self, program: SimJob, order: StartAttempt) -> Product:
        from minireduce.testing import real_engine  # imports much, for few seeds

        task = order.attempt.task
        if isinstance(order.input, StoredInput):
            stored = order.input
            return real_engine.compute_stored(program, self._inputs[order.attempt], stored.offset, stored.length)
        if isinstance(order.input, LocalFiles):
            data = program.texts[task.index].encode()
            return real_engine.RealTask(program, 0).map(data, 0, len(data))
        inputs = self._fetched_inputs(order)
        if task.kind is TaskKind.MAP:
            return real_engine.RealTask(program, task.step).map(inputs[0], 0, len(inputs[0]))
        return real_engine.RealTask(program, task.step).reduce(inputs)

    def _fetched_inputs(self, order: StartAttempt) -> list[bytes]:
        """What the tasks before left for this one, in their order."""
        if isinstance(order.input, PartInput) and not order.input.source.bytes_total:
            return [b""]
        part = PART if isinstance(order.input, PartInput) else order.attempt.task.index
        return [
            self._own_output(run.source, part) if run.is_own else self._fetched[order.attempt, run.source]
            for run in order.runs
        ]

    def _has_whole(self, attempt: AttemptId) -> bool:
        kept = self.disk.outputs.get(attempt)
        return kept is not None and not kept.is_damaged

    def _own_output(self, attempt: AttemptId, partition: int) -> bytes:
        return self.disk.outputs[attempt].partitions[max(partition, 0)]

    # ── fetches ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_fetch(self, order: StartFetch) -> None:
        """Ask the other worker; whatever comes first counts, the answer or the timeout."""

        def end(outcome: FetchOutcome, data: bytes = b"") -> None:
            if order.fetch in self._cancelled:
                return
            if isinstance(outcome, Fetched):
                self._fetched[order.attempt, order.source.attempt] = data
                self._damaged.pop((order.attempt, order.source.attempt), None)
                self.world.moment("a run is fetched", self.name)
            self.handle(FetchEnded(order.fetch, outcome))

        self.world.trace.mark(self.name, f"fetches {order.source.attempt} for {order.attempt}")
        source = self._peers.get(order.source.address)
        silence = "no answer" if source is not None and source.node.is_up else "connection refused"
        self.ask_peer(
            order.source.address,
            lambda peer, reply: reply(peer.serve(order.source.attempt, order.partition, order.read_token)),
            lambda answer: end(*(answer or (Unreachable(silence),))),
            timeout_s=FETCH_TIMEOUT_S,
        )

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
        return self._work_rng.uniform(*between) * self.slowness

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
