"""Errors that callers make are worth a line, and those of ours a traceback."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from minireduce.web.listen import listen
from minireduce.wire.http_server import Runner


async def goes_away(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    answer = web.StreamResponse()
    await answer.prepare(request)
    return answer


async def is_wrong(_request: web.Request) -> web.StreamResponse:
    raise ZeroDivisionError


@pytest.mark.parametrize(("handler", "told"), [(goes_away, b""), (is_wrong, b"HTTP/1.1 500 ")])
def test_who_goes_away_before_the_answer_leaves_no_traceback(handler, told, caplog):
    async def scene() -> bytes:
        app = web.Application()
        app.router.add_get("/", handler)
        runner = Runner(app)
        await runner.setup()
        listening = listen("127.0.0.1", 0)
        await web.SockSite(runner, listening).start()
        try:
            reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer
        finally:
            await runner.cleanup()

    with caplog.at_level(logging.DEBUG, logger="aiohttp"), caplog.at_level(logging.DEBUG, logger="minireduce"):
        answer = asyncio.run(asyncio.wait_for(scene(), 30))
    assert answer.startswith(told)
    assert (answer == b"") is (told == b"")
    assert caplog.messages
    assert ("Traceback" in caplog.text) is (handler is is_wrong)
