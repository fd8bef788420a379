"""Fetch outputs of other workers over HTTP into files of the attempt that needs them.

One fetch is one request. A fetch that breaks leaves what it brought, and the next one for the same place asks for the
rest; which fetches there are, how many at once and when to try again the machine decides (`core.work.fetches`).

Length is checked here; what the bytes are is checked frame by frame when a task reads them.

Invariant: at most one fetch at a time writes to a file: one that was cancelled is waited for before the next begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from minireduce.auth import transport
from minireduce.auth.joining import split_address
from minireduce.core.work.fetches import PART, Fetched, FetchEnded, FetchOutcome, Gone, StartFetch, Unreachable
from minireduce.errors import Corruption, MinireduceError, NotFound, RequestError, Unavailable
from minireduce.wire.errors import from_http
from minireduce.worker.outputs import Outputs

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

log = logging.getLogger(__name__)

CONNECT_S = 5.0
SILENCE_S = 30.0
SLICE_BYTES = 1 << 20
ERROR_BYTES_MAX = 64 << 10


class Fetcher:
    """All fetches of one worker. Each ends by one `FetchEnded` given to `tell`, unless it is cancelled."""

    def __init__(
        self, outputs: Outputs, tell: Callable[[FetchEnded], None], *, authority_pem: bytes | None = None
    ) -> None:
        self._outputs = outputs
        self._tell = tell
        self._authority_pem = authority_pem
        self._fetches: dict[int, asyncio.Task[None]] = {}
        self._writers: dict[Path, asyncio.Task[None]] = {}
        self._session: ClientSession | None = None
        self._tls: ssl.SSLContext | None = None

    def start(self, order: StartFetch) -> None:
        """Begin a fetch."""
        path = self._outputs.fetched(order.attempt, order.source.attempt)
        before = self._writers.get(path)
        task = asyncio.create_task(self._live(order, before), name=f"fetch {order.fetch}")
        self._fetches[order.fetch] = self._writers[path] = task
        task.add_done_callback(lambda _: self._forget_writer(path, task))

    def cancel(self, fetch: int) -> None:
        """End a fetch, of which no more is told."""
        task = self._fetches.pop(fetch, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """End all fetches."""
        writers = list(self._writers.values())
        for fetch in list(self._fetches):
            self.cancel(fetch)
        await asyncio.gather(*writers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _forget_writer(self, path: Path, task: asyncio.Task[None]) -> None:
        if self._writers.get(path) is task:
            del self._writers[path]

    async def _live(self, order: StartFetch, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        outcome = await self._outcome(order)
        if self._fetches.pop(order.fetch, None) is not None:
            self._tell(FetchEnded(order.fetch, outcome))

    async def _outcome(self, order: StartFetch) -> FetchOutcome:
        import aiohttp

        source = order.source
        try:
            return Fetched(await self._fetch(order))
        except (NotFound, Corruption, RequestError) as error:
            return Gone(error.message)
        except MinireduceError as error:
            return Unreachable(error.message)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            return Unreachable(f"{source.worker} at {source.address}: {error or type(error).__name__}")
        except OSError as error:  # our own disk; another try may find it better, or this attempt another worker
            log.warning("the output of %s cannot be written here: %s", source.attempt, error)
            return Unreachable(f"this worker cannot write what it fetches: {error.strerror}")
        except Exception as error:
            log.exception("fetching the output of %s failed", source.attempt)
            return Unreachable(f"fetching failed: {error!r}")

    async def _fetch(self, order: StartFetch) -> int:
        """Bring what is missing; gives back the length of the whole."""
        with contextlib.closing(self._outputs.open_fetched(order.attempt, order.source.attempt)) as file:
            have = file.tell()
            headers = {"Authorization": f"Bearer {order.read_token}", "Accept-Encoding": "identity"}
            if have:
                headers["Range"] = f"bytes={have}-"
            async with self._open_session().get(_url(order), headers=headers, **self._tls_options(order)) as response:
                if response.status == 416:  # all of it is here, as far as a second look can tell
                    return _whole_length(response, have)
                if response.status >= 400:
                    body = await response.content.read(ERROR_BYTES_MAX)
                    raise from_http(response.status, body, f"the worker {order.source.worker}")
                if response.status == 200 and have:
                    file.seek(0)
                    file.truncate()
                    have = 0
                return have + await self._copy(response, file)

    async def _copy(self, response: ClientResponse, file: BinaryIO) -> int:
        """Write the body, off the loop, so that a slow disk delays no heartbeat; gives back its length."""
        length = 0
        expected = response.content_length
        if expected is not None and expected <= SLICE_BYTES:  # as most are; each step to a thread costs as much as such
            pieces: list[bytes] = []
            try:
                async for data in response.content.iter_any():
                    pieces.append(data)  # noqa: PERF401 - what has come counts when the next does not
            finally:
                await asyncio.to_thread(_write, file, pieces)
            length = sum(map(len, pieces))
        else:
            async for data in response.content.iter_chunked(SLICE_BYTES):
                await asyncio.to_thread(file.write, data)
                length += len(data)
            await asyncio.to_thread(file.flush)
        if length != response.content_length:
            raise Unavailable(f"the answer ended after {length} of {response.content_length} bytes")
        return length

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

    def _tls_options(self, order: StartFetch) -> dict[str, Any]:
        host, _ = split_address(order.source.address)
        if not transport.needs_tls(host):
            return {}
        if self._authority_pem is None:
            raise Unavailable(f"{order.source.address} is beyond loopback, and this worker knows no authority to trust")
        if self._tls is None:
            self._tls = transport.client_context(self._authority_pem)
        name = transport.expected_name(self._authority_pem, transport.BLOCK_SERVER_ROLE, host)
        return {"ssl": self._tls, "server_hostname": name}


def _write(file: BinaryIO, pieces: list[bytes]) -> None:
    file.writelines(pieces)
    file.flush()


def _url(order: StartFetch) -> str:
    host, _ = split_address(order.source.address)
    scheme = "https" if transport.needs_tls(host) else "http"
    door = "part" if order.partition == PART else f"partitions/{order.partition}"
    return f"{scheme}://{order.source.address}/outputs/{order.source.attempt}/{door}"


def _whole_length(response: ClientResponse, have: int) -> int:
    """The length of what a range lies behind, which must be what is here. Raises Corruption."""
    told = response.headers.get("Content-Range", "").rpartition("/")[2]
    if told != str(have):
        raise Corruption(f"the other side has {told or 'an unknown number of'} bytes, and {have} are here")
    return have
