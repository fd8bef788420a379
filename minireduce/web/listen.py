"""The pages' port: bound at once, served when somebody first comes.

Most clusters that live for one command are never looked at, and aiohttp takes longer to import (measured: 190 ms) than
the rest of a master needs to start. The kernel accepts connections from the moment the socket listens; the first one
has the application loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minireduce.auth.policy import Authenticator
from minireduce.errors import RequestError
from minireduce.web.views import Views

if TYPE_CHECKING:
    from minireduce.wire.http_server import Runner

log = logging.getLogger(__name__)

BACKLOG_CONNECTIONS = 128


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; `port` 0 takes any free one. Raises RequestError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG_CONNECTIONS)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise RequestError(
            f"the pages cannot listen on {host}:{port}: {error.strerror}",
            hint="name another with --http-port or --host, or stop what listens there",
        ) from error
    return listening


class Pages:
    """The pages on a listening socket. `hosts` are the names by which they may be asked for."""

    def __init__(
        self,
        listening: socket.socket,
        views: Views,
        authenticator: Authenticator,
        hosts: Sequence[str],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listening = listening
        self._views = views
        self._authenticator = authenticator
        self._hosts = hosts
        self._tls = tls
        self._serving: asyncio.Task[Runner] | None = None

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def start(self) -> None:
        """Serve from the first connection on."""
        asyncio.get_running_loop().add_reader(self._listening, self._somebody_came)

    def _somebody_came(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._serving = loop.create_task(self._serve())
        self._serving.add_done_callback(_log_failure)

    async def _serve(self) -> Runner:
        from aiohttp.web import SockSite

        from minireduce.web.app import make_app
        from minireduce.wire.http_server import Runner

        app = make_app(self._views, self._authenticator, self._hosts, is_secure=self._tls is not None)
        runner = Runner(app)
        await runner.setup()
        await SockSite(runner, self._listening, ssl_context=self._tls).start()
        return runner

    async def stop(self) -> None:
        """Close the port and end what is being answered."""
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._serving is not None:
            with contextlib.suppress(Exception):  # logged when it happened
                runner = await self._serving
                await runner.cleanup()
        self._listening.close()


def _log_failure(serving: asyncio.Task[Runner]) -> None:
    if not serving.cancelled() and serving.exception() is not None:
        log.error("the pages cannot be served", exc_info=serving.exception())
