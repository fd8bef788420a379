"""A worker's machine with a master who is played by the test: says hello, is welcomed, sends commands."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TypeVar

from minireduce.core.messages import (
    AttemptSucceeded,
    Command,
    Down,
    LaunchAttempt,
    MapOutputsReady,
    OpenJob,
    Report,
    Welcome,
    WorkerProfile,
)
from minireduce.core.settings import WorkerSettings
from minireduce.core.spec import LocalFiles, LocalRange, Program, StepSpec
from minireduce.core.task_data import OutputSource, PartitionInput, TaskOutput
from minireduce.core.work.fetches import FetchEnded, FetchesEnded
from minireduce.core.work.requests import Fetch, StartFetches
from minireduce.core.work.session import (
    DownReceived,
    OpenStream,
    SendHello,
    SendUp,
    StreamClosed,
    StreamOpened,
    WelcomeReceived,
)
from minireduce.core.worker import Action, Event, Ticked, WorkerState
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.worker.outputs import Outputs

A = TypeVar("A")

JOB = "job-0000aa-1"
GIB = 1 << 30
SPLIT = LocalFiles("machine", (LocalRange("/books/a.txt", 0, 100, "100:1:1"),))
OUTPUT = TaskOutput(b"digest", 100, 10, b"\x07\x07")


def map_attempt(index: int = 0, number: int = 0, step: int = 0) -> AttemptId:
    return AttemptId(TaskId(JOB, step, TaskKind.MAP, index), number)


def reduce_attempt(index: int = 0, number: int = 0, step: int = 0) -> AttemptId:
    return AttemptId(TaskId(JOB, step, TaskKind.REDUCE, index), number)


def launch_map(index: int = 0, number: int = 0) -> LaunchAttempt:
    return LaunchAttempt(map_attempt(index, number), SPLIT)


def launch_reduce(index: int = 0, number: int = 0, maps: int = 2) -> LaunchAttempt:
    return LaunchAttempt(reduce_attempt(index, number), PartitionInput(index, maps))


def source(index: int, number: int = 0, worker: str = "other", bytes_total: int = 100) -> OutputSource:
    return OutputSource(map_attempt(index, number), worker, f"{worker}:1", bytes_total)


def ready(*sources: OutputSource) -> MapOutputsReady:
    return MapOutputsReady(JOB, 0, sources)


def succeeded(attempt: AttemptId) -> AttemptSucceeded:
    return AttemptSucceeded(attempt, OUTPUT, ())


def open_job(steps: int = 1, reducers: int = 2, memory_limit_bytes: int = GIB) -> OpenJob:
    step = StepSpec(reducers, memory_limit_bytes, 600.0)
    return OpenJob(JOB, Program("source", b"", ""), (step,) * steps, output_text=True, read_token="read")


class Scene:
    """One worker and its master. Actions are kept in `done` until taken, and so is each fetch that they start."""

    def __init__(
        self,
        *,
        slots: int = 2,
        memory_bytes: int = 8 * GIB,
        outputs: tuple[AttemptSucceeded, ...] = (),
        highest: tuple[int, int] = (0, 0),
        settings: WorkerSettings | None = None,
    ) -> None:
        profile = WorkerProfile("w1", 1, "host", "/r", slots, memory_bytes, "host:1", "machine", "0")
        self.settings = settings or WorkerSettings()
        self.machine = WorkerState(profile, self.settings, rng=Random(1), highest=highest, outputs=outputs)
        self.now = 0.0
        self.session = 0
        self.number = 0
        self.heard = 0
        self.done: list[Action | Fetch] = []

    def see(self, event: Event, after_s: float = 0.0) -> list[Action]:
        self.now += after_s
        actions = self.machine.advance(event, self.now)
        for action in actions:
            if isinstance(action, SendUp) and action.up.number == self.heard + 1:
                self.heard += 1
            if isinstance(action, StartFetches):
                self.done.extend(action.fetches)
        self.done.extend(actions)
        return actions

    def see_ended(self, *ended: FetchEnded) -> list[Action]:
        """Fetches that end together."""
        return self.see(FetchesEnded(ended))

    def tick(self, after_s: float = 0.1) -> list[Action]:
        return self.see(Ticked(), after_s)

    def take(self, kind: type[A]) -> list[A]:
        """The actions of one kind since they were last taken."""
        taken = [action for action in self.done if isinstance(action, kind)]
        self.done = [action for action in self.done if not isinstance(action, kind)]
        return taken

    def reports(self) -> list[Report]:
        """What was reported since this was last asked; repetitions are left out by the acknowledgements below."""
        return [report for action in self.take(SendUp) for report in action.up.reports]

    def open_stream(self) -> int:
        while not (opened := self.take(OpenStream)):
            self.tick()
        self.see(StreamOpened(opened[-1].stream))
        self.stream = opened[-1].stream
        return self.stream

    def hello(self):
        return self.take(SendHello)[-1].hello

    def welcome(self, *, epoch: int = 1, session: int | None = None, resumed: bool = False, received: int = 0):
        if not resumed:
            self.session = self.session + 1 if session is None else session
            self.number = self.heard = 0
        return self.see(WelcomeReceived(self.stream, Welcome(epoch, self.session, resumed, received, 1.0, 10.0)))

    def join(self) -> Scene:
        self.open_stream()
        self.welcome()
        return self

    def command(self, *commands: Command, epoch: int = 1, txid: int = 1) -> list[Action]:
        self.number += 1
        down = Down(self.session, self.number, self.heard, commands, epoch, txid)
        return self.see(DownReceived(self.stream, down))

    def acknowledge(self) -> list[Action]:
        return self.see(DownReceived(self.stream, Down(self.session, 0, self.heard)))

    def lose_stream(self) -> None:
        self.see(StreamClosed(self.stream))


def fetched_file(outputs: Outputs, attempt: AttemptId, source: AttemptId) -> Path:
    """An empty file, or the one that is there, in the place of what is fetched."""
    outputs.open_fetched(attempt, source).close()
    return outputs.fetched(attempt, source)
