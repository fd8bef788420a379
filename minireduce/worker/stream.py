"""Carry the machine's messages to the master and back, over one gRPC stream at a time.

Each stream has its own connection, since one that broke tells nothing about the next, and a task of its own that sends
what is queued while another receives. Whatever goes wrong becomes `StreamClosed` with the error that the master or the
network gave; what to do about it the machine decides.

Invariants: after `StreamClosed` of a stream nothing more comes from it; messages leave in the order in which they were
given; those for a stream that is gone are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.core.work.session import DownReceived, StreamClosed, StreamOpened, WelcomeReceived
from minireduce.errors import MinireduceError, Unavailable

if TYPE_CHECKING:
    from minireduce.wire.calls import Credentials, Stream

log = logging.getLogger(__name__)

StreamEvent = StreamOpened | StreamClosed | WelcomeReceived | DownReceived


class MasterStreams:
    """The streams of one worker to the master at `address`. Events go to `tell`."""

    def __init__(self, address: str, credentials: Credentials, tell: Callable[[StreamEvent], None]) -> None:
        self._address = address
        self._credentials = credentials
        self._tell = tell
        self._queues: dict[int, asyncio.Queue[Hello | Up]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def open(self, stream: int) -> None:
        """Open a stream under this number."""
        self._queues[stream] = asyncio.Queue()
        self._tasks[stream] = asyncio.create_task(self._live(stream), name=f"stream {stream}")

    def send(self, stream: int, message: Hello | Up) -> None:
        """Send a message, after those given before."""
        if stream in self._queues:
            self._queues[stream].put_nowait(message)

    def close(self, stream: int) -> None:
        """End a stream, of which no more is told."""
        self._queues.pop(stream, None)
        task = self._tasks.pop(stream, None)
        if task is not None:
            task.cancel()

    async def close_all(self) -> None:
        """End all streams and wait until they are gone."""
        tasks = list(self._tasks.values())
        for stream in list(self._tasks):
            self.close(stream)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _live(self, stream: int) -> None:
        from minireduce.wire.calls import AsyncCalls
        from minireduce.wire.methods import CONNECT

        calls = AsyncCalls(self._address, self._credentials)
        queue = self._queues[stream]
        error: MinireduceError | None = None
        try:
            conversation: Stream[Hello | Up, Welcome | Down] = calls.open_stream(CONNECT)
            sender = asyncio.create_task(self._send_queued(conversation, queue))
            sender.add_done_callback(lambda _: conversation.cancel())
            try:
                self._tell(StreamOpened(stream))
                async for message in conversation:
                    self._take(stream, message)
            finally:
                sender.cancel()
                await asyncio.wait([sender])
                if not sender.cancelled() and sender.exception() is not None:
                    log.error("sending to the master failed", exc_info=sender.exception())
        except MinireduceError as cause:
            error = cause
        except asyncio.CancelledError:
            if stream not in self._tasks:  # closed by us; gRPC says the same of a call that ended while sending
                raise
        except Exception as cause:  # a peer that is no master of ours may send anything
            error = Unavailable(f"the stream to the master at {self._address} broke: {cause!r}")
        finally:
            await calls.close()
        if self._tasks.pop(stream, None) is not None:
            self._queues.pop(stream, None)
            self._tell(StreamClosed(stream, error))

    def _take(self, stream: int, message: Welcome | Down) -> None:
        if isinstance(message, Welcome):
            self._tell(WelcomeReceived(stream, message))
        else:
            self._tell(DownReceived(stream, message))

    @staticmethod
    async def _send_queued(conversation: Stream[Hello | Up, Welcome | Down], queue: asyncio.Queue[Hello | Up]) -> None:
        """Send what is queued; an error is met by the receiver too, which tells of it."""
        with contextlib.suppress(MinireduceError, asyncio.InvalidStateError):
            while True:
                await conversation.send(await queue.get())
