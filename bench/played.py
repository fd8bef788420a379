"""The master's machine with workers that are played in this process, by script and on simulated time.

`PlayedCluster` hands every message of a played worker to the real `ClusterState` and reads what it answers; there are
no sockets, no codec and no disk. Each worker sends one message a moment with all that it has to say, and acknowledges
what it heard, as a real one does. How long an attempt takes is the caller's to say.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from minireduce.core.cluster import (
    Action,
    ClusterState,
    Event,
    HelloReceived,
    Refuse,
    RequestReceived,
    SendDown,
    SendWelcome,
    Ticked,
    UpReceived,
)
from minireduce.core.effects import Row
from minireduce.core.messages import (
    AttemptKilled,
    AttemptStarted,
    AttemptSucceeded,
    Hello,
    KillAttempt,
    LaunchAttempt,
    Report,
    Up,
    WorkerProfile,
)
from minireduce.core.replica_messages import Replica
from minireduce.core.requests import ComputeRequest
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import JobSpec, OutputKind, Program, Split, StepSpec
from minireduce.core.task_data import TaskOutput
from minireduce.ids import AttemptId, TaskId

TICK_S = 0.25
MEMORY_BYTES = 1 << 30
DIGEST = b"d" * 32


def map_only(name: str, splits: Iterable[Split], **options: object) -> JobSpec:
    """A job that only maps."""
    step = StepSpec(0, 1 << 20, 600.0)
    return JobSpec(name, Program("source", b"", ""), (step,), tuple(splits), OutputKind.RESULT, **options)  # type: ignore[arg-type]


@dataclass(slots=True)
class PlayedWorker:
    """One worker: what it says, and how far it has heard."""

    name: str
    rack: str
    slots: int
    stream: int
    replicas: tuple[Replica, ...] = ()
    session: int = 0
    sent: int = 0
    heard: int = 0
    says: list[Report] = field(default_factory=list)
    running: dict[AttemptId, None] = field(default_factory=dict)

    def hello(self) -> HelloReceived:
        profile = WorkerProfile(
            worker=self.name,
            incarnation=1,
            host=self.name,
            rack=self.rack,
            slots=self.slots,
            memory_bytes=MEMORY_BYTES,
            data_address=f"{self.name}:1",
            machine_id=f"machine of {self.name}",
            software_version="0",
        )
        return HelloReceived(self.stream, Hello(profile, 0, 0, 0, 0, replicas=self.replicas))

    def up(self) -> UpReceived:
        """All that it has to say, in one message."""
        said, self.says = tuple(self.says), []
        if said:
            self.sent += 1
        return UpReceived(self.stream, Up(self.session, self.sent if said else 0, self.heard, said))


class PlayedCluster:
    """`duration_s` says how long an attempt takes on a worker; `on_launch` is told of each launch."""

    def __init__(
        self,
        settings: ClusterSettings,
        rows: Iterable[Row] = (),
        *,
        duration_s: Callable[[AttemptId, PlayedWorker], float],
        on_launch: Callable[[LaunchAttempt, PlayedWorker], None] = lambda _, __: None,
    ) -> None:
        self.now = 0.0
        self.machine = ClusterState(
            cluster_id="abcdef", epoch=1, txid=0, settings=settings, rows=rows, make_read_token=lambda _: "", now=0.0
        )
        self.workers: dict[int, PlayedWorker] = {}
        self.launched = 0
        self.done: set[TaskId] = set()
        self._duration_s = duration_s
        self._on_launch = on_launch
        self._ends: list[tuple[float, int, AttemptId, PlayedWorker]] = []
        self._requests = 0

    def join(self, workers: Iterable[PlayedWorker]) -> None:
        """These say hello."""
        for worker in workers:
            self.workers[worker.stream] = worker
            self.advance(worker.hello())
        self._speak()

    def submit(self, spec: JobSpec) -> None:
        """A client submits a job."""
        from minireduce.core.requests import SubmitJob

        self.ask(SubmitJob(spec.name, spec))

    def ask(self, body: ComputeRequest) -> None:
        self._requests += 1
        self.advance(RequestReceived(self._requests, body, 0.0))
        self._speak()

    def run(self, until: Callable[[], bool], submissions: Mapping[float, JobSpec] | None = None) -> None:
        """Let attempts end and time pass."""
        waiting = sorted((submissions or {}).items(), reverse=True)
        next_tick = self.now + TICK_S
        while not until():
            next_end = self._ends[0][0] if self._ends else float("inf")
            next_submission = waiting[-1][0] if waiting else float("inf")
            self.now = max(self.now, min(next_tick, next_end, next_submission))
            if self.now >= next_submission:
                self.submit(waiting.pop()[1])
            elif self.now >= next_end:
                self._end_attempts()
            else:
                next_tick += TICK_S
                for worker in self.workers.values():
                    self.advance(worker.up())
                self.advance(Ticked())
            self._speak()

    def _end_attempts(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            _, _, attempt, worker = heapq.heappop(self._ends)
            if attempt in worker.running:
                del worker.running[attempt]
                self.done.add(attempt.task)
                worker.says.append(AttemptSucceeded(attempt, TaskOutput(DIGEST, 10, 1), (("g", "n", 1),)))

    def _speak(self) -> None:
        while talkative := [worker for worker in self.workers.values() if worker.says]:
            for worker in talkative:
                self.advance(worker.up())

    def advance(self, event: Event) -> None:
        for action in self.machine.advance(event, self.now):
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case SendWelcome():
                self.workers[action.stream].session = action.welcome.session
            case SendDown():
                worker = self.workers[action.stream]
                worker.heard = max(worker.heard, action.down.number)
                for command in action.down.commands:
                    if isinstance(command, LaunchAttempt):
                        self._launch(command, worker)
                    elif isinstance(command, KillAttempt) and command.attempt in worker.running:
                        del worker.running[command.attempt]
                        worker.says.append(AttemptKilled(command.attempt))
            case Refuse():
                raise action.error

    def _launch(self, command: LaunchAttempt, worker: PlayedWorker) -> None:
        self.launched += 1
        self._on_launch(command, worker)
        worker.running[command.attempt] = None
        worker.says.append(AttemptStarted(command.attempt))
        end = self.now + self._duration_s(command.attempt, worker)
        heapq.heappush(self._ends, (end, self.launched, command.attempt, worker))
