"""Fetch outputs of other workers over HTTP into files of the attempts that need them.

One request names many outputs of one worker, which come one after the other; each is told as soon as it is here. A
fetch that breaks leaves what it brought, and the next one for the same place asks for the rest. Which fetches there
are, what goes into one request and when to try again the machine decides (`core.work`). While a piece of an answer is
written, in a thread, the next one comes in. Whether an answer travels compressed `link_rates` says.

Invariant: at most one request at a time writes to a file: one that was cancelled is waited for before the next begins.
Where one fetch of several is cancelled, the request is broken off and made again for the others that have not ended.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minireduce.auth import transport
from minireduce.auth.joining import split_address
from minireduce.config import ShuffleCompression
from minireduce.core.work.fetches import FetchEnded
from minireduce.core.work.requests import Fetch, StartFetches
from minireduce.errors import MinireduceError, Unavailable
from minireduce.ids import AttemptId
from minireduce.wire.compression import ACCEPT_HEADER, COMPRESSION_HEADER, ZSTD
from minireduce.wire.errors import from_http
from minireduce.wire.many_outputs import ERROR_BYTES_MAX, encode_wanted
from minireduce.worker.fetched_files import Ended, FetchedFiles
from minireduce.worker.link_rates import LinkRates
from minireduce.worker.outputs import Outputs

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

log = logging.getLogger(__name__)

CONNECT_S = 5.0
SILENCE_S = 30.0
SLICE_BYTES = 1 << 20
Place = tuple[AttemptId, AttemptId]
"""Whose input, and whose output: a file."""


@dataclass(slots=True)
class _Asked:
    """A request under way, and the fetches in it that have not ended."""

    fetches: list[Fetch]
    task: asyncio.Task[None] | None = None


class Fetcher:
    """All fetches of one worker. Each ends by one `FetchEnded` given to `tell`, unless it is cancelled."""

    def __init__(
        self,
        outputs: Outputs,
        tell: Callable[[FetchEnded], None],
        *,
        authority_pem: bytes | None = None,
        compression: ShuffleCompression = ShuffleCompression.AUTO,
    ) -> None:
        self._rates = LinkRates(compression)
        self._outputs = outputs
        self._tell = tell
        self._authority_pem = authority_pem
        self._asked: dict[int, _Asked] = {}
        self._writers: dict[Place, asyncio.Task[None]] = {}
        self._session: ClientSession | None = None
        self._tls: ssl.SSLContext | None = None

    def start(self, order: StartFetches) -> None:
        """Ask for outputs."""
        self._ask(_Asked(list(order.fetches)))

    def cancel(self, fetch: int) -> None:
        """End a fetch, of which no more is told."""
        asked = self._asked.pop(fetch, None)
        if asked is None or asked.task is None:
            return
        asked.task.cancel()
        others = [other for other in asked.fetches if other.number != fetch]
        if others:
            self._ask(_Asked(others))

    async def close(self) -> None:
        """End all fetches."""
        writers = list(self._writers.values())
        self._asked.clear()
        for writer in writers:
            if not writer.cancelling():  # a second time would end the wait for what a thread still writes
                writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _ask(self, asked: _Asked) -> None:
        places = [(fetch.attempt, fetch.source.attempt) for fetch in asked.fetches]
        before = {self._writers[place] for place in places if place in self._writers}
        first = asked.fetches[0]
        asked.task = task = asyncio.create_task(self._live(asked, before), name=f"fetches from {first.number}")
        for fetch, place in zip(asked.fetches, places, strict=True):
            self._asked[fetch.number] = asked
            self._writers[place] = task
        task.add_done_callback(lambda _: self._forget_writers(places, task))

    def _forget_writers(self, places: Sequence[Place], task: asyncio.Task[None]) -> None:
        for place in places:
            if self._writers.get(place) is task:
                del self._writers[place]

    async def _live(self, asked: _Asked, before: set[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
            asked.fetches = [fetch for fetch in asked.fetches if fetch.number in self._asked]  # others ended there
        if not asked.fetches:
            return
        files = FetchedFiles(self._outputs, asked.fetches)
        try:
            reason = await self._fetch_and_say(asked, files)
        except BaseException:
            files.close()
            raise
        self._tell_ended(asked, files.break_off(reason))

    def _tell_ended(self, asked: _Asked, ended: Ended) -> None:
        for fetch, outcome in ended:
            asked.fetches.remove(fetch)
            if self._asked.pop(fetch.number, None) is not None:
                self._tell(FetchEnded(fetch.number, outcome))

    async def _fetch_and_say(self, asked: _Asked, files: FetchedFiles) -> str:
        """Fetch until nothing more comes, and say why that is, for those that have not ended."""
        import aiohttp

        source = asked.fetches[0].source
        try:
            await self._fetch(asked, files)
        except MinireduceError as error:
            return error.message
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            return f"{source.worker} at {source.address}: {error or type(error).__name__}"
        except OSError as error:  # our own disk; another try may find it better, or this attempt another worker
            log.warning("what %s sends cannot be written here: %s", source.worker, error)
            return f"this worker cannot write what it fetches: {error.strerror}"
        except Exception as error:
            log.exception("fetching from %s failed", source.worker)
            return f"fetching failed: {error!r}"
        return f"the answer of {source.worker} ended early"

    async def _fetch(self, asked: _Asked, files: FetchedFiles) -> None:
        """Ask for what is missing, and take it in."""
        first = asked.fetches[0]
        body = encode_wanted(await asyncio.to_thread(files.wanted))
        headers = {"Authorization": f"Bearer {first.read_token}", "Accept-Encoding": "identity"}
        url, tls = _url(first), self._tls_options(first)
        sharing, began_s = self._rates.begin(first.source.address), asyncio.get_running_loop().time()
        if sharing.is_compressed:
            headers[ACCEPT_HEADER] = ZSTD
        try:
            async with self._open_session().post(url, data=body, headers=headers, **tls) as response:
                if response.status >= 400:
                    told = await response.content.read(ERROR_BYTES_MAX)
                    raise from_http(response.status, told, f"the worker {first.source.worker}")
                if response.headers.get(COMPRESSION_HEADER) == ZSTD:
                    files.expect_compressed()
                await self._take_in(response, asked, files)
        finally:
            self._rates.end(sharing, files.bytes_taken, asyncio.get_running_loop().time() - began_s)

    async def _take_in(self, response: ClientResponse, asked: _Asked, files: FetchedFiles) -> None:
        """Write the answer, off the loop, so that a slow disk delays no heartbeat."""
        writing: asyncio.Future[Ended] | None = None
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece, _ in response.content.iter_chunks():
                pieces.append(piece)
                size += len(piece)
                if size >= SLICE_BYTES:
                    if writing is not None:
                        await asyncio.wait([writing])
                        written, writing = writing, None
                        self._tell_ended(asked, written.result())
                    writing = asyncio.ensure_future(asyncio.to_thread(files.write, pieces))
                    pieces, size = [], 0
        finally:  # what has come counts when the next does not
            if writing is not None:
                await asyncio.wait([writing])  # which a thread goes on with, also when we are cancelled
                self._tell_ended(asked, writing.result())
            self._tell_ended(asked, await asyncio.to_thread(files.write, pieces))

    def _open_session(self) -> ClientSession:
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, TCPConnector

            self._session = ClientSession(
                connector=TCPConnector(limit=0),  # the machine sets the limits
                timeout=ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
                read_bufsize=SLICE_BYTES,
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _tls_options(self, first: Fetch) -> dict[str, Any]:
        host, _ = split_address(first.source.address)
        if not transport.needs_tls(host):
            return {}
        if self._authority_pem is None:
            raise Unavailable(f"{first.source.address} is beyond loopback, and this worker knows no authority to trust")
        if self._tls is None:
            self._tls = transport.client_context(self._authority_pem)
        name = transport.expected_name(self._authority_pem, transport.BLOCK_SERVER_ROLE, host)
        return {"ssl": self._tls, "server_hostname": name}


def _url(fetch: Fetch) -> str:
    host, _ = split_address(fetch.source.address)
    scheme = "https" if transport.needs_tls(host) else "http"
    return f"{scheme}://{fetch.source.address}/outputs/{fetch.attempt.task.job}"
