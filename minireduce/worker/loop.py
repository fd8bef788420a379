"""The one loop of a worker: events in, one at a time, and the actions that the machine answers with, in order.

Events come from the stream, from attempts, fetches and the clock, all of this thread; each is handled to its end before
the next is looked at. Performing an action never waits: what takes time becomes a task that tells its outcome as an
event, and what must happen in order on the disk goes to one thread.

Invariant: what the machine cannot explain (`InvariantViolation`), and anything else that goes wrong in it, ends the
worker; the data directory is left as it is, for whoever starts it next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from minireduce.clock import Clock
from minireduce.core.work.session import StopWorker, Warn, WelcomeReceived
from minireduce.core.worker import Action, Event, StopRequested, Ticked, WorkerState
from minireduce.errors import MinireduceError

log = logging.getLogger(__name__)

Perform = Callable[[Any], object]


class WorkerLoop:
    """Runs one machine. `performers` says for each kind of action who performs it."""

    def __init__(
        self,
        machine: WorkerState,
        clock: Clock,
        *,
        tick_interval_s: float,
        on_joined: Callable[[], None] = lambda: None,
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._tick_interval_s = tick_interval_s
        self._on_joined = on_joined
        self._performers: dict[type[Action], Perform] = {StopWorker: self._stop, Warn: self._warn}
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._disk_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker-disk")
        self._is_joined = False
        self._is_over = False
        self._error: MinireduceError | None = None

    def perform_with(self, performers: Mapping[type[Action], Perform]) -> None:
        """Have these perform these kinds of actions."""
        self._performers.update(performers)

    def tell(self, event: Event) -> None:
        """Something happened. For this loop's thread; from others by `call_soon_threadsafe`."""
        self._events.put_nowait(event)

    def on_disk(self, call: Callable[..., object], *arguments: Any) -> None:
        """Do this in the thread for the disk, after what was given before."""
        self._disk_thread.submit(call, *arguments).add_done_callback(_log_failure)

    def request_stop(self) -> None:
        """Have the worker end in good order."""
        self.tell(StopRequested())

    async def run(self) -> None:
        """Run until the machine ends the worker. Raises the error for which it did."""
        ticking = asyncio.create_task(self._tick(), name="ticks")
        try:
            while not self._is_over:
                self._handle_one(await self._events.get())
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait for what the disk was asked to do."""
        self._disk_thread.shutdown(wait=True)

    def _handle_one(self, event: Event) -> None:
        for action in self._machine.advance(event, self._clock.now()):
            self._performers[type(action)](action)
        if isinstance(event, WelcomeReceived) and self._machine.is_joined and not self._is_joined:
            self._is_joined = True
            self._on_joined()

    async def _tick(self) -> None:
        while True:
            self.tell(Ticked())
            await asyncio.sleep(self._tick_interval_s)

    def _stop(self, action: StopWorker) -> None:
        self._is_over = True
        self._error = action.error

    @staticmethod
    def _warn(action: Warn) -> None:
        log.warning("%s", action.message)


def _log_failure(done: Any) -> None:
    error = done.exception()
    if isinstance(error, OSError):
        log.error("the disk refused what it was asked to do: %s", error)
    elif error is not None:
        log.error("what the disk was asked to do failed", exc_info=error)
