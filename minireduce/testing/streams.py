"""The streams between simulated workers and their master, as the shells see them: opened, broken, half open.

Each message is encoded on one side and decoded on the other with the real codec, and travels over the `SimNetwork`,
which may lose, repeat or reorder it; `Hello` and `Welcome`, which carry no number, can be lost only.

Either side may take a stream for open while the other has forgotten it: the network is cut, or a process is gone. As
with TCP, who hears something on a stream that it does not know answers with a reset, and a process that ends resets its
streams, if the network lets that through.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.errors import MinireduceError, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId
from minireduce.testing.agenda import Agenda, Node
from minireduce.testing.network import SimNetwork
from minireduce.testing.trace import Trace
from minireduce.wire import codec

_CONNECT_TIMEOUT_S = 5.0
_MESSAGES_KEPT = 256


@functools.lru_cache(maxsize=_MESSAGES_KEPT)
def _decode(kind: Any, data: bytes) -> Any:
    """What was sent. Heartbeats say the same again and again; values are frozen, so one may arrive many times."""
    return codec.decode(kind, data)


class MasterEnd(Protocol):
    """What a master does with its streams."""

    node: Node

    def on_hello(self, stream: int, hello: Hello) -> None: ...
    def on_up(self, stream: int, up: Up) -> None: ...
    def on_closed(self, stream: int) -> None: ...


class WorkerEnd(Protocol):
    """What a worker does with its streams; it numbers them itself."""

    node: Node

    def on_opened(self, number: int) -> None: ...
    def on_welcome(self, number: int, welcome: Welcome) -> None: ...
    def on_down(self, number: int, down: Down) -> None: ...
    def on_closed(self, number: int, error: MinireduceError | None) -> None: ...


@dataclass(eq=False, slots=True)
class _Stream:
    """`number` is the master's. What ended one life of a process is never open in another."""

    number: int
    worker: WorkerEnd
    worker_number: int
    worker_life: int
    is_open_at_worker: bool = True
    is_connected: bool = False  # the worker has heard that it can speak
    is_open_at_master: bool = False
    is_refused_by_master: bool = False  # the master has ended it, or was another process: it never opens again


class SimStreams:
    """All streams to one master, over its restarts."""

    def __init__(self, agenda: Agenda, network: SimNetwork, trace: Trace, master: MasterEnd) -> None:
        self._agenda = agenda
        self._network = network
        self._trace = trace
        self._master = master
        self._numbers = 0
        self._by_number: dict[int, _Stream] = {}
        self._by_worker: dict[tuple[str, int, int], _Stream] = {}

    # ── the worker's side ───────────────────────────────────────────────────────────────────────────────────────────

    def open(self, worker: WorkerEnd, worker_number: int) -> None:
        """Ask for a stream; the worker hears that it is open, or that it could not be opened."""
        self._numbers += 1
        stream = _Stream(self._numbers, worker, worker_number, worker.node.life)
        self._by_number[stream.number] = stream
        self._by_worker[worker.node.name, worker.node.life, worker_number] = stream
        master = self._master.node
        if not master.is_up:
            self._reset_worker(stream, "connection refused")
            return

        def accept() -> None:
            self._network.send(master, worker.node, opened, is_single=True)

        def opened() -> None:
            if stream.is_open_at_worker:
                stream.is_connected = True
                worker.on_opened(worker_number)

        def give_up() -> None:
            if stream.is_open_at_worker and not stream.is_connected:
                stream.is_open_at_worker = False
                self._forget(stream)
                worker.on_closed(worker_number, Unavailable("no answer"))

        self._network.send(worker.node, master, accept, is_single=True)
        self._agenda.after(_CONNECT_TIMEOUT_S, worker.node, give_up)

    def send_up(self, worker: WorkerEnd, worker_number: int, message: Hello | Up) -> None:
        """Carry a worker's message to the master."""
        stream = self._by_worker.get((worker.node.name, worker.node.life, worker_number))
        if stream is None or not stream.is_open_at_worker:
            return
        if not self._master.node.is_up:
            self._reset_worker(stream, "connection reset")
            return
        kind: Any = type(message)
        data = codec.encode(message)
        self._trace.mark(worker.node.name, kind.__name__, data)

        def arrive() -> None:
            self._arrive_at_master(stream, _decode(kind, data))

        self._network.send(worker.node, self._master.node, arrive, is_single=kind is Hello)

    def close_at_worker(self, worker: WorkerEnd, worker_number: int) -> None:
        """The worker ends a stream."""
        stream = self._by_worker.get((worker.node.name, worker.node.life, worker_number))
        if stream is not None and stream.is_open_at_worker:
            stream.is_open_at_worker = False
            self._reset_master(stream)

    def worker_ended(self, worker: WorkerEnd) -> None:
        """The worker's process is gone, and with it its ends."""
        for stream in list(self._by_number.values()):
            if stream.worker is worker and stream.is_open_at_worker:
                stream.is_open_at_worker = False
                self._reset_master(stream)

    # ── the master's side ───────────────────────────────────────────────────────────────────────────────────────────

    def send_down(self, number: int, message: Welcome | Down) -> None:
        """Carry a master's message to the worker at the other end."""
        stream = self._by_number.get(number)
        if stream is None or not stream.is_open_at_master:
            return
        kind: Any = type(message)
        data = codec.encode(message)
        self._trace.mark(self._master.node.name, kind.__name__, data)

        def arrive() -> None:
            self._arrive_at_worker(stream, _decode(kind, data))

        self._network.send(self._master.node, stream.worker.node, arrive, is_single=kind is Welcome)

    def close_at_master(self, number: int, error: MinireduceError | None = None) -> None:
        """The master ends a stream, and may say why."""
        stream = self._by_number.get(number)
        if stream is not None:
            stream.is_open_at_master = False
            stream.is_refused_by_master = True
            self._reset_worker(stream, error or "ended by the master")

    def master_ended(self) -> None:
        """The master's process is gone, and with it its ends."""
        for stream in list(self._by_number.values()):
            if not stream.is_refused_by_master:
                self.close_at_master(stream.number, Unavailable("connection reset"))

    def worker_of(self, number: int) -> WorkerId:
        """Whose stream this is, or was."""
        stream = self._by_number.get(number)
        return stream.worker.node.name if stream is not None else "a worker that has left"

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def break_all_of(self, worker: WorkerEnd) -> bool:
        """Break the connection of a worker at both ends; whether there was one."""
        broken = False
        for stream in list(self._by_number.values()):
            if stream.worker is worker and stream.is_open_at_worker and stream.is_open_at_master:
                self._reset_master(stream)
                self._reset_worker(stream, "connection reset")
                broken = True
        return broken

    # ── arriving ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _arrive_at_master(self, stream: _Stream, message: Hello | Up) -> None:
        if isinstance(message, Hello) and not stream.is_refused_by_master:
            stream.is_open_at_master = True
        if not stream.is_open_at_master:
            self._reset_worker(stream, "connection reset")
        elif isinstance(message, Hello):
            self._master.on_hello(stream.number, message)
        else:
            self._master.on_up(stream.number, message)

    def _arrive_at_worker(self, stream: _Stream, message: Welcome | Down) -> None:
        if not stream.is_open_at_worker:
            self._reset_master(stream)
        elif isinstance(message, Welcome):
            stream.worker.on_welcome(stream.worker_number, message)
        else:
            stream.worker.on_down(stream.worker_number, message)

    def _reset_worker(self, stream: _Stream, reason: str | MinireduceError) -> None:
        """Let the worker learn that a stream is no more, if the network lets that through."""
        error = Unavailable(reason) if isinstance(reason, str) else reason

        def learn() -> None:
            if stream.is_open_at_worker:
                stream.is_open_at_worker = False
                self._forget(stream)
                stream.worker.on_closed(stream.worker_number, error)

        self._network.send(self._master.node, stream.worker.node, learn, is_single=True)

    def _reset_master(self, stream: _Stream) -> None:
        def learn() -> None:
            stream.is_refused_by_master = True
            if stream.is_open_at_master:
                stream.is_open_at_master = False
                self._forget(stream)
                self._master.on_closed(stream.number)

        self._network.send(stream.worker.node, self._master.node, learn, is_single=True)

    def _forget(self, stream: _Stream) -> None:
        """Streams that neither end has open are no longer needed."""
        if not stream.is_open_at_worker and not stream.is_open_at_master:
            self._by_number.pop(stream.number, None)
            self._by_worker.pop((stream.worker.node.name, stream.worker_life, stream.worker_number), None)
