"""Give descriptors of replicas and parts to readers on this host, so that bytes need not pass through the block server.

Whoever may read a replica or a part over HTTP may ask for its descriptor there, and fetches it at a Unix socket with
what it was answered (see `wire.local_door`). What is handed over is the file of bytes, opened for reading, and never a
name. A replica never changes under its generation, nor does a part, so a descriptor stays good however long it is held:
what is removed meanwhile still reads as it was.

The reader verifies what it reads: a replica against the checksums that came with the offer, which are checked here to
be of this replica, a part against the digest that the master has. Offers that nobody comes for are taken back after
`OFFER_S`, and the oldest when there are too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from typing import BinaryIO

from minireduce.frozen import dataclass
from minireduce.wire.local_door import OFFER_S, SECRET_BYTES, LocalOffer, address_of, new_socket

OFFERS_MAX = 256
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class _Offered:
    file: BinaryIO
    proof: bytes
    taking_back: asyncio.TimerHandle


class LocalReads:
    """The Unix socket of one block server, and what has been offered there."""

    def __init__(self) -> None:
        self.name = f"minireduce-{secrets.token_hex(16)}"
        self._listening = new_socket()
        self._listening.setblocking(False)
        self._listening.bind(address_of(self.name))
        self._listening.listen(BACKLOG)
        self._offered: dict[bytes, _Offered] = {}

    def offer(self, file: BinaryIO) -> LocalOffer:
        """Keep `file` for whoever brings the nonce."""
        while len(self._offered) >= OFFERS_MAX:
            self._take_back(next(iter(self._offered)))
        made = LocalOffer(self.name, secrets.token_bytes(SECRET_BYTES), secrets.token_bytes(SECRET_BYTES))
        taking_back = asyncio.get_running_loop().call_later(OFFER_S, self._take_back, made.nonce)
        self._offered[made.nonce] = _Offered(file, made.proof, taking_back)
        return made

    async def serve(self) -> None:
        """Hand descriptors over, until cancelled."""
        loop = asyncio.get_running_loop()
        handing: set[asyncio.Task[None]] = set()
        try:
            while True:
                connection, _ = await loop.sock_accept(self._listening)
                task = asyncio.create_task(self._hand_over(connection))
                handing.add(task)
                task.add_done_callback(handing.discard)
        finally:
            for task in handing:
                task.cancel()
            self._listening.close()
            for nonce in list(self._offered):
                self._take_back(nonce)

    async def _hand_over(self, connection: socket.socket) -> None:
        """Answer one caller; who brings no nonce of ours is told nothing."""
        with connection, contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(OFFER_S):
                nonce = await asyncio.get_running_loop().sock_recv(connection, SECRET_BYTES + 1)
            offered = self._offered.pop(nonce, None)
            if offered is not None:
                offered.taking_back.cancel()
                with offered.file:
                    socket.send_fds(connection, [offered.proof], [offered.file.fileno()])

    def _take_back(self, nonce: bytes) -> None:
        offered = self._offered.pop(nonce, None)
        if offered is not None:
            offered.taking_back.cancel()
            offered.file.close()
