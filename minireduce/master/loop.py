"""Around the machine: events in, actions out, and who waits for what. All on one event loop.

The machine is called where an event arrives, so events are taken in the order in which they come and none waits for
input or output. Commits go to the writer's thread; everything else that an `advance` asks for passes the watermark.
Reads are made from the machine's views at once and pass the same watermark.

Streams and requests are numbered here; the numbers are never used twice. A stream's messages wait in a queue of
`STREAM_MESSAGES_MAX`; beyond that they are dropped, as those of a stream that is gone, since the machine repeats what
is not acknowledged.

Whatever cannot go on (a commit that fails, an invariant that does not hold, metadata that is too old) ends the master:
`ended` then holds the error, and nobody is answered any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Protocol, TypeVar

from minireduce.clock import Clock
from minireduce.core.cluster import (
    Action,
    CloseStream,
    Event,
    HelloReceived,
    JobChanged,
    Persist,
    Refuse,
    Reply,
    RequestReceived,
    SendDown,
    SendWelcome,
    StopServing,
    StreamClosed,
    Ticked,
    UpReceived,
)
from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.core.requests import ComputeRequest, DrainWorker
from minireduce.core.storage.requests import FileRequest
from minireduce.errors import MinireduceError, Unavailable
from minireduce.ids import JobId
from minireduce.master.watermark import Watermark
from minireduce.master.writer import Write, Writer

log = logging.getLogger(__name__)

TICK_INTERVAL_S = 0.1
STREAM_MESSAGES_MAX = 1024

T = TypeVar("T")


class Machine(Protocol):
    """What decides: `core.cluster.ClusterState`."""

    def advance(self, event: Event, now: float) -> list[Action]:
        """What follows from `event`."""


class WorkerStream:
    """One stream of one worker, as its conversation sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.outgoing: asyncio.Queue[Welcome | Down | MinireduceError | None] = asyncio.Queue(STREAM_MESSAGES_MAX)

    def put(self, message: Welcome | Down) -> None:
        """Send this next, unless too much waits already."""
        try:
            self.outgoing.put_nowait(message)
        except asyncio.QueueFull:
            log.debug("stream %d does not keep up, a message is dropped", self.number)

    def end(self, error: MinireduceError | None) -> None:
        """Send nothing more; what waits is dropped, as the stream's end makes it void."""
        while not self.outgoing.empty():
            self.outgoing.get_nowait()
        self.outgoing.put_nowait(error)


class MasterLoop:
    """One machine with its streams, requests and readers. Made and used on the running event loop."""

    def __init__(self, machine: Machine, write: Write, clock: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        self._machine = machine
        self._clock = clock
        self._watermark = Watermark()
        self._writer = Writer(write, self._report_durable, self._report_failure)
        self._numbers = count(1)
        self._streams: dict[int, WorkerStream] = {}
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._watchers: dict[JobId, set[asyncio.Future[None]]] = {}
        self._ticker: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Begin to write and to tick."""
        self._writer.start()
        self._ticker = self._loop.create_task(self._tick())

    async def stop(self) -> None:
        """Take no more events; returns when all commits are written and the streams were told to end."""
        if self._ticker is not None:
            self._ticker.cancel()
        self._end(Unavailable("the master is stopping", hint="it may be back in a moment"))
        await asyncio.to_thread(self._writer.stop)

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def open_stream(self, hello: Hello) -> WorkerStream:
        """A worker says hello on a new stream. Raises Unavailable when the master ends."""
        stream = WorkerStream(next(self._numbers))
        self._streams[stream.number] = stream
        self._take(HelloReceived(stream.number, hello))
        return stream

    def take_message(self, stream: WorkerStream, message: Hello | Up) -> None:
        """A worker's message came in; it says hello again when its session is over. Raises Unavailable at the end."""
        if stream.number in self._streams:
            if isinstance(message, Hello):
                self._take(HelloReceived(stream.number, message))
            else:
                self._take(UpReceived(stream.number, message))

    def close_stream(self, stream: WorkerStream) -> None:
        """A stream broke or was ended by its worker."""
        if self._streams.pop(stream.number, None) is not None and not self.ended.done():
            self._take(StreamClosed(stream.number))
        stream.end(None)

    async def request(self, body: ComputeRequest | DrainWorker | FileRequest) -> Any:
        """Ask the machine for a change; its reply, once it is durable. Raises what the machine refused with."""
        number = next(self._numbers)
        answer = self._requests[number] = self._loop.create_future()
        try:
            self._take(RequestReceived(number, body, self._clock.time()))
            return await answer
        finally:
            self._requests.pop(number, None)

    async def read(self, view: Callable[[float], T]) -> T:
        """What `view` shows now, once all that it rests on is durable. Raises what `view` raises, then too."""
        if self.ended.done():
            raise _over()
        released: asyncio.Future[None] = self._loop.create_future()
        result: T | None = None
        error: MinireduceError | None = None
        try:
            result = view(self._clock.now())
        except MinireduceError as raised:
            error = raised
        self._watermark.hold(partial(_resolve, released))
        if not released.done():
            await asyncio.wait([released, self.ended], return_when=asyncio.FIRST_COMPLETED)
        if not released.done():
            raise _over()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # set where no error is

    def watch(self, job: JobId) -> asyncio.Future[None]:
        """Resolved when the job's state changes; to be given back to `unwatch`."""
        watcher: asyncio.Future[None] = self._loop.create_future()
        self._watchers.setdefault(job, set()).add(watcher)
        return watcher

    def unwatch(self, job: JobId, watcher: asyncio.Future[None]) -> None:
        """Stop watching."""
        watchers = self._watchers.get(job, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(job, None)

    async def _tick(self) -> None:
        while not self.ended.done():
            self._take(Ticked(self._clock.time()))
            await asyncio.sleep(TICK_INTERVAL_S)

    def _take(self, event: Event) -> None:
        if self.ended.done():
            raise _over()
        try:
            actions = self._machine.advance(event, self._clock.now())
        except Exception as error:
            log.critical("the master cannot go on after %s", type(event).__name__, exc_info=error)
            self._end(error)
            raise _over() from error
        for action in actions:
            if isinstance(action, Persist):
                self._watermark.begin()
                self._writer.put(action)
        for action in actions:
            if not isinstance(action, Persist):
                self._watermark.hold(partial(self._perform, action))

    # ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _perform(self, action: Action) -> None:
        match action:
            case SendWelcome():
                self._send(action.stream, action.welcome)
            case SendDown():
                self._send(action.stream, action.down)
            case CloseStream():
                stream = self._streams.pop(action.stream, None)
                if stream is not None:
                    stream.end(action.error)
            case Reply():
                _resolve(self._requests.get(action.request), action.value)
            case Refuse():
                _reject(self._requests.get(action.request), action.error)
            case JobChanged():
                for watcher in self._watchers.pop(action.job, ()):
                    _resolve(watcher)
            case StopServing():
                self._end(action.error)
            case Persist():
                raise AssertionError("commits go to the writer")

    def _send(self, stream: int, message: Welcome | Down) -> None:
        if stream in self._streams:
            self._streams[stream].put(message)

    # ── the writer's thread reports ─────────────────────────────────────────────────────────────────────────────────

    def _report_durable(self, commits: int) -> None:
        self._loop.call_soon_threadsafe(self._release, commits)

    def _report_failure(self, error: Exception) -> None:
        self._loop.call_soon_threadsafe(self._end, error)

    def _release(self, commits: int) -> None:
        if not self.ended.done():
            self._watermark.durable(commits)

    def _end(self, error: Exception) -> None:
        """Answer nobody any more; what was not durable was never seen."""
        if self.ended.done():
            return
        self.ended.set_exception(error)
        self.ended.exception()  # whoever looks will see it; nobody has to
        for stream in self._streams.values():
            stream.end(_over())
        self._streams.clear()
        for answer in list(self._requests.values()):
            _reject(answer, _over())
        for watchers in self._watchers.values():
            for watcher in watchers:
                _resolve(watcher)
        self._watchers.clear()


def _over() -> Unavailable:
    return Unavailable("the master is ending", hint="start it again; its log says why it ended")


def _resolve(future: asyncio.Future[Any] | None, value: Any = None) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _reject(future: asyncio.Future[Any] | None, error: MinireduceError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
