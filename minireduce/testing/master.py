"""The shell of a simulated master: the real machine, a modelled log, and the release watermark.

It does what the real shell does, in the same order: each event goes to the machine; what the machine persists goes to
the log at once; what it sends waits until every transaction handed in so far is durable. Answers to questions wait in
the same queue, so nobody reads what a crash would undo.

When the process is killed, everything here is gone but the disk, and of that what was not synced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from minireduce.core import cluster as machine
from minireduce.core.cluster import ClusterState
from minireduce.core.messages import Hello, Up
from minireduce.core.requests import ComputeRequest, DrainWorker
from minireduce.core.settings import ClusterSettings
from minireduce.errors import MinireduceError, Unavailable
from minireduce.testing import log, tell
from minireduce.testing.agenda import Node
from minireduce.testing.clock import SkewedClock
from minireduce.testing.disk import SimDisk
from minireduce.testing.streams import SimStreams
from minireduce.testing.world import World, read_token

CLUSTER_ID = "5eed00"
Answer = Callable[[Any], None]


class SimMaster:
    """One master over all its lives. `tick_interval_s` is coarser than in production, to save events."""

    def __init__(self, world: World, *, settings: ClusterSettings, tick_interval_s: float = 0.25) -> None:
        self.world = world
        self.node = Node("master")
        self.settings = settings
        self.disk = SimDisk(world.rng("disk"))
        self.streams = SimStreams(world.agenda, world.network, world.trace, self)
        self.state: ClusterState
        self.ended_because: MinireduceError | None = None
        self._rng = world.rng("master")
        self._commit_rng = world.rng("commit")
        self._tick_interval_s = tick_interval_s
        self.clock = SkewedClock(world.clock)
        self._log: log.SimLog
        self._requests = 0
        self._answers: dict[int, Answer] = {}
        self._outbox: deque[tuple[int, Callable[[], None]]] = deque()
        self._durable = 0

    # ── lives ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the process: read what is durable and serve."""
        self.node.start()
        stored = log.read(self.disk)
        self.clock = SkewedClock(self.world.clock, offset_s=self._rng.uniform(0.0, 1e6), drift=self._drawn_drift())
        epoch = stored.epoch + 1
        self.state = self._make_state(epoch, stored)
        self._log = log.SimLog(
            self.disk,
            self.world.agenda,
            self.node,
            self._commit_rng,
            on_durable=self._became_durable,
            on_failure=self._log_failed,
        )
        self._durable = 0
        self._outbox.clear()
        self._answers.clear()
        self.world.trace.mark("master", f"starts in epoch {epoch}")
        self.world.trace.tell("master", f"starts, epoch {epoch}")
        for watcher in self.world.watchers:
            watcher.master_started(stored.rows)
        self._tick()

    def _make_state(self, epoch: int, stored: log.Stored) -> ClusterState:
        return ClusterState(
            cluster_id=CLUSTER_ID,
            epoch=epoch,
            txid=stored.txid,
            settings=self.settings,
            rows=stored.rows,
            make_read_token=read_token,
            now=self.now(),
        )

    @property
    def txid(self) -> int:
        """The latest commit of this life."""
        return self.state._txid  # noqa: SLF001 - the truth

    def _drawn_drift(self) -> float:
        return self._rng.uniform(-0.01, 0.01)

    def kill(self, reason: str) -> None:
        """End the process without warning; what was not synced is lost."""
        self.world.trace.mark("master", "killed")
        self.world.trace.tell("master", f"is killed: {reason}")
        self.node.end()
        self.disk.crash()
        self.streams.master_ended()

    def now(self) -> float:
        """The monotonic clock of this master's machine."""
        return self.clock.now()

    def _tick(self) -> None:
        self.world.agenda.after(self._tick_interval_s, self.node, self._tick)
        self.handle(machine.Ticked())

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_hello(self, stream: int, hello: Hello) -> None:
        self.handle(machine.HelloReceived(stream, hello))

    def on_up(self, stream: int, up: Up) -> None:
        self.handle(machine.UpReceived(stream, up))

    def on_closed(self, stream: int) -> None:
        self.world.trace.mark("master", f"stream {stream} closed")
        self.handle(machine.StreamClosed(stream))

    def on_request(self, body: ComputeRequest | DrainWorker, answer: Answer) -> None:
        """A client's request; `answer` is given a value or an error."""
        self._requests += 1
        self._answers[self._requests] = answer
        self.handle(machine.RequestReceived(self._requests, body, self.world.clock.time()))

    def on_question(self, read: Callable[[ClusterState, float], Any], answer: Answer) -> None:
        """A client's question; its answer is made now and released like any other."""
        try:
            value = read(self.state, self.now())
        except MinireduceError as error:
            value = error
        self._release(lambda: answer(value))

    def handle(self, event: machine.Event) -> None:
        """Let the machine advance, and do what it says."""
        actions = self.state.advance(event, self.now())
        for watcher in self.world.watchers:
            watcher.master_advanced(event, actions)
        if self.world.trace.is_told:
            self.world.trace.tell("master", *tell.master(event, actions, self.streams.worker_of))
        life = self.node.life
        for action in actions:
            if self.node.is_up and self.node.life == life:
                self._perform(action)

    # ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────

    def _perform(self, action: machine.Action) -> None:
        match action:
            case machine.Persist():
                self.world.trace.mark("master", repr(action))
                self._log.append(action)
                self.world.moment("rows are written", "master")
            case machine.SendWelcome():
                self._release(lambda: self.streams.send_down(action.stream, action.welcome))
            case machine.SendDown():
                self._release(lambda: self.streams.send_down(action.stream, action.down))
            case machine.CloseStream():
                self._release(lambda: self.streams.close_at_master(action.stream, action.error))
            case machine.Reply():
                self._release(lambda: self._answers.pop(action.request)(action.value))
            case machine.Refuse():
                self._release(lambda: self._answers.pop(action.request)(action.error))
            case machine.StopServing():
                self.ended_because = action.error
                self.kill(str(action.error))
            case machine.JobChanged():
                pass  # the simulated client asks again by itself

    def _release(self, act: Callable[[], None]) -> None:
        """Let `act` happen once all that was handed in to the log is durable."""
        if self._log.appended <= self._durable and not self._outbox:
            act()
        else:
            self._outbox.append((self._log.appended, act))

    def _became_durable(self, durable: int) -> None:
        life = self.node.life
        self.world.moment("rows are durable", "master")
        if self.node.life != life or not self.node.is_up:
            return
        self._durable = durable
        while self._outbox and self._outbox[0][0] <= durable:
            self._outbox.popleft()[1]()

    def _log_failed(self, error: OSError) -> None:
        self.ended_because = Unavailable(f"the log cannot be written: {error}")
        self.world.strikes["log write failed"] += 1
        self.kill("its log cannot be written")
        self.world.moment("master ended itself", "master")
