"""Fetch outputs of other workers over HTTP into files of the attempts that need them.

One request names many outputs of one worker, which come one after the other; each is told as soon as it is here. A
fetch that breaks leaves what it brought, and the next one for the same place asks for the rest. Which fetches there
are, what goes into one request and when to try again the machine decides (`core.work`). A thread for each request takes
the answer from the socket to the file (`connections.py`), so that neither bytes nor a slow disk delay a heartbeat.
Whether an answer travels compressed `link_rates` says.

Invariant: at most one request at a time writes to a file: one that was cancelled is waited for before the next begins.
Where one fetch of several is cancelled, the request is broken off and made again for the others that have not ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException

from minireduce.config import Compression
from minireduce.core.work.fetches import FetchEnded, FetchesEnded
from minireduce.core.work.requests import Fetch, StartFetches
from minireduce.errors import MinireduceError, Unavailable
from minireduce.ids import AttemptId
from minireduce.wire.compression import ACCEPT_HEADER, COMPRESSION_HEADER, ZSTD
from minireduce.wire.errors import from_http
from minireduce.wire.many_outputs import ERROR_BYTES_MAX, encode_wanted
from minireduce.worker.connections import IDLE_S, Connection, Connections
from minireduce.worker.fetched_files import Ended, FetchedFiles
from minireduce.worker.link_rates import LinkRates
from minireduce.worker.outputs import Outputs

log = logging.getLogger(__name__)

THREADS_MAX = 64
"""More than there are requests under way, as one that was cancelled may be ending while others begin."""
Place = tuple[AttemptId, AttemptId]
"""Whose input, and whose output: a file."""


@dataclass(slots=True)
class _Asked:
    """A request, and the fetches in it that have not ended. `files` are there once it asks and writes."""

    fetches: list[Fetch]
    task: asyncio.Task[None] | None = None
    files: FetchedFiles | None = None


class Fetcher:
    """All fetches of one worker. Each ends once in a `FetchesEnded` given to `tell`, unless it is cancelled."""

    def __init__(
        self,
        outputs: Outputs,
        tell: Callable[[FetchesEnded], None],
        *,
        authority_pem: bytes | None = None,
        compression: Compression = Compression.AUTO,
    ) -> None:
        self._rates = LinkRates(compression)
        self._outputs = outputs
        self._tell = tell
        self._connections = Connections(authority_pem)
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="fetching")
        self._asked: dict[int, _Asked] = {}
        self._writers: dict[Place, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tidying: asyncio.TimerHandle | None = None  # while connections rest

    def start(self, order: StartFetches) -> None:
        """Ask for outputs."""
        self._ask(_Asked(list(order.fetches)))

    def cancel(self, fetch: int) -> None:
        """End a fetch, of which no more is told; what was fetched for its attempt may be removed after.

        A request that has not begun leaves it out when it does. It goes on waiting for those before it: were its task
        cancelled before the first step, that would end at once, and the next one begin while those still write.
        """
        asked = self._asked.pop(fetch, None)
        if asked is None or asked.task is None or asked.files is None:
            return
        asked.files.call_off()
        asked.task.cancel()
        others = [other for other in asked.fetches if other.number != fetch]
        if others:
            self._ask(_Asked(others))

    async def close(self) -> None:
        """End all fetches."""
        self._asked.clear()
        for task in self._tasks:
            if not task.cancelling():  # a second time would end the wait for what a thread still writes
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tidying is not None:
            self._tidying.cancel()
        self._connections.close()
        self._threads.shutdown()

    def _ask(self, asked: _Asked) -> None:
        places = [(fetch.attempt, fetch.source.attempt) for fetch in asked.fetches]
        before = {self._writers[place] for place in places if place in self._writers}
        first = asked.fetches[0]
        asked.task = task = asyncio.create_task(self._live(asked, before), name=f"fetches from {first.number}")
        for fetch, place in zip(asked.fetches, places, strict=True):
            self._asked[fetch.number] = asked
            self._writers[place] = task
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._forget(places, task))

    def _forget(self, places: Sequence[Place], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        for place in places:
            if self._writers.get(place) is task:
                del self._writers[place]

    async def _live(self, asked: _Asked, before: set[asyncio.Task[None]]) -> None:
        if before:
            await _all_ended(before)
        # Others were cancelled, or ended there.
        asked.fetches = [fetch for fetch in asked.fetches if self._asked.get(fetch.number) is asked]
        if not asked.fetches:
            return
        asked.files = files = FetchedFiles(self._outputs, asked.fetches)
        try:
            reason = await self._fetch_and_say(asked, files)
        except BaseException:
            files.close()
            raise
        self._tell_ended(asked, files.break_off(reason))

    def _tell_ended(self, asked: _Asked, ended: Ended) -> None:
        news = []
        for fetch, outcome in ended:
            asked.fetches.remove(fetch)
            if self._asked.pop(fetch.number, None) is not None:
                news.append(FetchEnded(fetch.number, outcome))
        if news:
            self._tell(FetchesEnded(tuple(news)))

    async def _fetch_and_say(self, asked: _Asked, files: FetchedFiles) -> str:
        """Fetch until nothing more comes, and say why that is, for those that have not ended."""
        source = asked.fetches[0].source
        try:
            await self._fetch(asked, files)
        except MinireduceError as error:
            return error.message
        except OSError as error:  # our own disk; another try may find it better, or this attempt another worker
            log.warning("what %s sends cannot be written here: %s", source.worker, error)
            return f"this worker cannot write what it fetches: {error.strerror}"
        except Exception as error:
            log.exception("fetching from %s failed", source.worker)
            return f"fetching failed: {error!r}"
        return f"the answer of {source.worker} ended early"

    async def _fetch(self, asked: _Asked, files: FetchedFiles) -> None:
        """Ask for what is missing, and take it in."""
        first, loop = asked.fetches[0], asyncio.get_running_loop()
        connection = self._connections.take(first.source.address)
        sharing, began_s = self._rates.begin(first.source.address), loop.time()

        def tell(ended: Ended) -> None:
            loop.call_soon_threadsafe(self._tell_ended, asked, ended)

        exchange = loop.run_in_executor(self._threads, _exchange, connection, first, files, sharing.is_compressed, tell)
        try:
            await _all_ended([exchange], connection.break_off)
        finally:
            self._rates.end(sharing, files.bytes_taken, loop.time() - began_s)
            if exchange.exception() is None and files.are_complete:
                self._put_back(connection)
            else:
                connection.close()
        exchange.result()

    def _put_back(self, connection: Connection) -> None:
        """Have it rest until the next question, but not for ever."""
        self._connections.put_back(connection)
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(IDLE_S, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        if self._connections.close_idle():
            self._tidying = asyncio.get_running_loop().call_later(IDLE_S, self._tidy)


async def _all_ended(awaited: Iterable[asyncio.Future[None]], break_off: Callable[[], None] = lambda: None) -> None:
    """Wait until these have ended, also when cancelled: whoever waits for us may then rely on that."""
    try:
        await asyncio.wait(awaited)
    except asyncio.CancelledError:
        break_off()
        await asyncio.wait(awaited)
        raise


def _exchange(
    connection: Connection, first: Fetch, files: FetchedFiles, is_compressed: bool, tell: Callable[[Ended], None]
) -> None:
    """In a thread: ask for what is missing of these files, and take the answer in to its end."""
    body = encode_wanted(files.wanted())
    headers = {"Authorization": f"Bearer {first.read_token}", **({ACCEPT_HEADER: ZSTD} if is_compressed else {})}
    with _telling_of(first):
        answer = connection.ask(f"/outputs/{first.attempt.task.job}", body, headers)
        told = answer.read(ERROR_BYTES_MAX) if answer.status >= 400 else b""
    if answer.status >= 400:
        raise from_http(answer.status, told, f"the worker {first.source.worker}")
    if answer.headers.get(COMPRESSION_HEADER) == ZSTD:
        files.expect_compressed()
    while True:
        with _telling_of(first):
            piece = connection.read()
        if not piece:
            files.close()
            return
        ended = files.write((piece,))
        if ended:
            tell(ended)


@contextlib.contextmanager
def _telling_of(fetch: Fetch) -> Iterator[None]:
    """Whatever goes wrong on the way to this source makes it unavailable, and is no error of our own disk."""
    try:
        yield
    except (OSError, HTTPException) as error:
        reason = f"{fetch.source.worker} at {fetch.source.address}: {error or type(error).__name__}"
        raise Unavailable(reason) from None
