"""Send a block on to the next worker, while it comes in or from a replica that is here.

The bytes go as they came, sealed. What is to be sent waits in a short queue, so a slow next worker slows the sender
down, as it should; one that is gone or hangs stops nobody: sending to it fails, once, and what follows is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp

from minireduce.auth import transport
from minireduce.auth.joining import split_address
from minireduce.core.replica_messages import Replica
from minireduce.errors import MinireduceError, Unavailable
from minireduce.wire.errors import from_http
from minireduce.wire.packets import sealed_length
from minireduce.wire.pipeline import (
    BASE_HEADER,
    LENGTH_HEADER,
    PIPELINE_HEADER,
    SILENCE_S,
    Base,
    Hop,
    Written,
    sent_length,
    silence_s_max,
    write_pipeline,
)

PIECES_WAITING_MAX = 8
ANSWER_BYTES_MAX = 64 << 10


class BlockSender:
    """Opens connections to other workers' block servers. `authority_pem` is what those must be signed by."""

    def __init__(self, authority_pem: bytes | None) -> None:
        self._authority_pem = authority_pem
        self._session: aiohttp.ClientSession | None = None

    def start(self, replica: Replica, pipeline: tuple[Hop, ...], token: str, base: Base | None = None) -> Sending:
        """Begin to send a block, or what comes behind `base`, to the first of `pipeline`, which will send it on."""
        return Sending(self, replica, pipeline, token, base)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def put(
        self,
        replica: Replica,
        pipeline: tuple[Hop, ...],
        token: str,
        body: AsyncIterator[bytes],
        base: Base | None = None,
    ) -> Written:
        """Send a block. Raises MinireduceError when the first of `pipeline` did not take it."""
        (worker, address), *rest = pipeline
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=None)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(sealed_length(sent_length(replica.length, base))),
            LENGTH_HEADER: str(replica.length),
            PIPELINE_HEADER: write_pipeline(rest),
        }
        if base is not None:
            headers[BASE_HEADER] = base.to_text()
        host, _ = split_address(address)
        scheme, context, name = "http", None, None
        if transport.needs_tls(host):
            if self._authority_pem is None:
                raise Unavailable(
                    f"the worker {worker} at {address} is beyond loopback, and no authority is known here"
                )
            scheme, context = "https", transport.client_context(self._authority_pem)
            name = transport.expected_name(self._authority_pem, transport.BLOCK_SERVER_ROLE, host)
        url = f"{scheme}://{address}/blocks/{replica.block_id}/{replica.generation}"
        try:
            async with self._session.put(
                url, data=body, headers=headers, ssl=context if context is not None else True, server_hostname=name
            ) as answer:
                told = await answer.content.read(ANSWER_BYTES_MAX)
                if answer.status != 200:
                    raise from_http(answer.status, told, f"the worker {worker}")
                return Written.from_json(told)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"the worker {worker} at {address} did not take the block: {error}") from error


class Sending:
    """One block on its way down the pipeline."""

    def __init__(
        self, sender: BlockSender, replica: Replica, pipeline: tuple[Hop, ...], token: str, base: Base | None
    ) -> None:
        self._pipeline = pipeline
        self._silence_s = silence_s_max(len(pipeline))
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES_WAITING_MAX)
        self._put = asyncio.create_task(sender.put(replica, pipeline, token, self._body(), base))

    async def _body(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def send(self, piece: bytes | None) -> None:
        """Send this next; None: that was all. Waits while much waits already; does nothing once sending has failed."""
        if self._put.done():
            return
        putting = asyncio.ensure_future(self._pieces.put(piece))
        await asyncio.wait({putting, self._put}, return_when=asyncio.FIRST_COMPLETED, timeout=self._silence_s)
        if not putting.done():
            putting.cancel()
            self._put.cancel()

    async def result(self) -> Written:
        """Who has it. Never raises: who failed, or was silent for too long, is in the answer."""
        await asyncio.wait({self._put}, timeout=self._silence_s)
        self._put.cancel()  # nothing happens where it has answered
        try:
            return await self._put
        except asyncio.CancelledError:
            if not self._put.cancelled():
                raise
            reason = "it was silent for too long"
        except MinireduceError as error:
            reason = error.message
        return Written((), tuple((worker, reason) for worker, _ in self._pipeline))

    async def abandon(self) -> None:
        """Break off, if it still goes on."""
        self._put.cancel()
        await asyncio.wait({self._put})
