"""What serves our HTTP applications: aiohttp's server, with another opinion of two errors that are none of ours.

What is no HTTP it repeats, escaped, in its answer and in the log: up to four bytes for each that a stranger sends,
before anybody has asked for a token. Here both get one short line. And a caller that goes away before it has its
answer, as every worker that is killed does, is worth no traceback.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

log = logging.getLogger(__name__)

NO_HTTP = "this is no HTTP request that can be understood\n"


class Runner(web.AppRunner):
    """Runs `app`, with aiohttp's `options` for each connection."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        self._options: dict[str, Any] = {**options, "access_log": None}
        super().__init__(app, handle_signals=False, **self._options)

    @property
    def server(self) -> web.Server | None:
        """What makes the protocol of each connection, for the site that listens."""
        server = super().server
        if server is None:
            return None
        loop = asyncio.get_running_loop()
        return cast("web.Server", partial(_Connection, server, loop=loop, **self._options))


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError):
            log.info("what %s sent is no HTTP request: %s", request.remote, type(exc).__name__)
            answer = web.Response(status=status, text=NO_HTTP)
        elif isinstance(exc, ConnectionError):
            log.debug("%s went away before it had its answer", request.remote)
            answer = web.Response(status=status)
        else:
            return super().handle_error(request, status, exc, message)
        answer.force_close()
        return answer
