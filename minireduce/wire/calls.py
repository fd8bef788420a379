"""Call the master: one class for code that blocks (clients), one for code that awaits (workers).

Both take a `Method` of the table and its request, send who calls and which protocol it speaks, and raise the errors
that the master raised. They connect on first use and reconnect by themselves, as channels do. Trying again after
`Unavailable` is `client.retry`'s; a call is never repeated here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import field
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from minireduce.core.messages import PROTOCOL_VERSION
from minireduce.frozen import dataclass
from minireduce.wire.errors import from_grpc
from minireduce.wire.limits import channel_options
from minireduce.wire.methods import Method

Q = TypeVar("Q")
R = TypeVar("R")

AUTHORIZATION_KEY = "authorization"
PROTOCOL_KEY = "minireduce-protocol"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows and whom it trusts. `authority` is the cluster's certificate (PEM); None: no TLS.

    `server_name` is the name that the master's certificate must hold where that is not the host of the address.
    """

    token: str = field(repr=False)
    authority: bytes | None = None
    server_name: str | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (AUTHORIZATION_KEY, f"Bearer {self.token}"), (PROTOCOL_KEY, str(PROTOCOL_VERSION))

    def options(self) -> list[tuple[str, Any]]:
        options = channel_options()
        if self.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return options


class Calls:
    """The master at `address`, for code that blocks. Safe for several threads."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self.address = address
        self._metadata = credentials.metadata()
        self._callables: dict[str, Any] = {}  # by path of method: making one costs as much as encoding a request
        self._channel: Any
        if credentials.authority is None:
            self._channel = grpc.insecure_channel(address, credentials.options())
        else:
            tls = grpc.ssl_channel_credentials(credentials.authority)
            self._channel = grpc.secure_channel(address, tls, credentials.options())

    def call(self, method: Method[Q, R], request: Q, *, timeout_s: float) -> R:
        """The master's answer. Raises what the master raised; Unavailable when none came within `timeout_s`."""
        data = method.request_codec.encode(request)
        call = self._callables.get(method.path)
        if call is None:
            call = self._callables[method.path] = self._channel.unary_unary(method.path)
        try:
            answer = call(data, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_grpc(error, f"the master at {self.address}") from None
        reply: R = method.reply_codec.decode(answer)
        return reply

    def close(self) -> None:
        """End the connection; calls under way fail as Unavailable."""
        self._channel.close()


class AsyncCalls:
    """The master at `address`, for code that awaits. Belongs to the event loop that runs when it is made."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self.address = address
        self._metadata = credentials.metadata()
        self._channel: Any
        if credentials.authority is None:
            self._channel = grpc.aio.insecure_channel(address, credentials.options())
        else:
            tls = grpc.ssl_channel_credentials(credentials.authority)
            self._channel = grpc.aio.secure_channel(address, tls, credentials.options())

    async def call(self, method: Method[Q, R], request: Q, *, timeout_s: float) -> R:
        """The master's answer. Raises what the master raised; Unavailable when none came within `timeout_s`."""
        data = method.request_codec.encode(request)
        try:
            answer = await self._channel.unary_unary(method.path)(data, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_grpc(error, f"the master at {self.address}") from None
        reply: R = method.reply_codec.decode(answer)
        return reply

    def open_stream(self, method: Method[Q, R]) -> Stream[Q, R]:
        """A new stream of `method`; the connection is made when it is first used."""
        call = self._channel.stream_stream(method.path)(metadata=self._metadata)
        return Stream(method, call, f"the master at {self.address}")

    async def close(self) -> None:
        """End the connection with all that is under way on it."""
        await self._channel.close()


class Stream(Generic[Q, R]):
    """A two-way stream: `send` what goes up, iterate over what comes down until the other side ends it.

    One coroutine may send while another receives; both meet the same error when the stream breaks.
    """

    def __init__(self, method: Method[Q, R], call: Any, peer: str) -> None:
        self._encode = method.request_codec.encode
        self._decode = method.reply_codec.decode
        self._call = call
        self._peer = peer

    async def send(self, message: Q) -> None:
        """Send a message; returns when the transport has taken it, so that a slow peer slows the sender."""
        try:
            await self._call.write(self._encode(message))
        except grpc.RpcError as error:
            raise from_grpc(error, self._peer) from None

    async def receive(self) -> R | None:
        """The next message, or None when the other side has ended the stream."""
        try:
            data = await self._call.read()
        except grpc.RpcError as error:
            raise from_grpc(error, self._peer) from None
        if not isinstance(data, bytes):  # grpc.aio.EOF
            return None
        message: R = self._decode(data)
        return message

    async def __aiter__(self) -> AsyncIterator[R]:
        while (message := await self.receive()) is not None:
            yield message

    def cancel(self) -> None:
        """End the stream at once."""
        self._call.cancel()
