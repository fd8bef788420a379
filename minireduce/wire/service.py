"""Serve the methods of the table: what a server registers, and the one gate that every call passes first.

An answer is an async function from request to reply that raises our errors; those of any other class are logged and
reach the caller as an internal error, without their text. Requests are decoded behind the gate, never before it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from minireduce.core.messages import PROTOCOL_VERSION
from minireduce.errors import MinireduceError, Refused
from minireduce.wire.calls import AUTHORIZATION_KEY, PROTOCOL_KEY
from minireduce.wire.errors import to_grpc
from minireduce.wire.methods import Method

log = logging.getLogger(__name__)

Answer = Callable[[Any], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Converse = Callable[[AsyncIterator[Any], Send], Awaitable[None]]
"""Takes what comes in and a function that sends; the stream ends when it returns, raises or is cancelled."""
Admit = Callable[[str, str | None], None]
"""Takes the path of a method and the authorization header, returns or raises Refused."""


def register(
    server: grpc.aio.Server,
    answers: Mapping[Method[Any, Any], Answer],
    conversations: Mapping[Method[Any, Any], Converse],
) -> None:
    """Have `server` answer these methods."""
    by_service: dict[str, dict[str, Any]] = {}
    for method, answer in answers.items():
        serve = grpc.unary_unary_rpc_method_handler(_unary(method, answer))
        by_service.setdefault(method.service, {})[method.name] = serve
    for method, converse in conversations.items():
        serve = grpc.stream_stream_rpc_method_handler(_stream(method, converse))
        by_service.setdefault(method.service, {})[method.name] = serve
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(f"minireduce.{name}", serve) for name, serve in by_service.items())
    )


def _unary(method: Method[Any, Any], answer: Answer) -> Callable[[bytes, Any], Awaitable[bytes]]:
    request_codec, reply_codec = method.request_codec, method.reply_codec

    async def serve(data: bytes, context: Any) -> bytes:
        try:
            return reply_codec.encode(await answer(request_codec.decode(data)))
        except Exception as error:
            await _abort(context, method.path, error)
            raise

    return serve


def _stream(method: Method[Any, Any], converse: Converse) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
    request_codec, reply_codec = method.request_codec, method.reply_codec

    async def decoded(stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in stream:
            yield request_codec.decode(data)

    async def serve(stream: AsyncIterator[bytes], context: Any) -> None:
        async def send(message: Any) -> None:
            await context.write(reply_codec.encode(message))

        try:
            await converse(decoded(stream), send)
        except Exception as error:
            await _abort(context, method.path, error)
            raise

    return serve


async def _abort(context: Any, path: str, error: BaseException) -> None:
    if not isinstance(error, MinireduceError):
        log.error("%s failed", path, exc_info=error)
    code, details, metadata = to_grpc(error)
    await context.abort(code, details, metadata)


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Every call passes here first: its protocol must be ours, and `admit` must let it in."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        try:
            self._admit(details.method, metadata.get(AUTHORIZATION_KEY))
            _check_protocol(metadata.get(PROTOCOL_KEY))
        except MinireduceError as error:
            return _refusal(details.method, error)
        return await continuation(details)


def _check_protocol(spoken: str | None) -> None:
    if spoken != str(PROTOCOL_VERSION):
        raise Refused(
            f"the caller speaks protocol {spoken or 'of no version'}, this master speaks {PROTOCOL_VERSION}",
            hint="install the same version of minireduce on both sides",
        )


def _refusal(path: str, error: MinireduceError) -> Any:
    # As a stream, whatever the method is: an answer to a stream does not wait for a first message.
    async def refuse(_stream: AsyncIterator[bytes], context: Any) -> None:
        await _abort(context, path, error)

    return grpc.stream_stream_rpc_method_handler(refuse)
