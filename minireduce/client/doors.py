"""Open a connection to a block server: plain on loopback, beyond it under TLS that trusts our own authority."""

from __future__ import annotations

import http.client

from minireduce.auth import transport
from minireduce.auth.joining import split_address
from minireduce.errors import Unavailable

SILENCE_S_MAX = 30.0
"""The other side counts as gone when it neither gives nor takes a byte for so long."""


def open_door(
    worker: str, address: str, authority: bytes | None, silence_s: float = SILENCE_S_MAX
) -> http.client.HTTPConnection:
    """The block server of `worker`. Nothing is sent yet. Raises Unavailable."""
    if not address:
        raise Unavailable(f"the worker {worker} has not said where it serves")
    host, port = split_address(address)
    if not transport.needs_tls(host):
        return http.client.HTTPConnection(host, port, timeout=silence_s)
    if authority is None:
        raise Unavailable(
            f"the worker at {address} lies beyond loopback, and the cluster's authority is not known here",
            hint="connect to the master beyond loopback, with its authority's certificate beside the token file",
        )
    return _TlsConnection(host, port, authority, silence_s)


class _TlsConnection(http.client.HTTPSConnection):
    """HTTPS to a block server, which is known by its role under our own authority rather than by its address."""

    def __init__(self, host: str, port: int, authority: bytes, silence_s: float) -> None:
        self._tls = transport.client_context(authority)
        self._name = transport.expected_name(authority, transport.BLOCK_SERVER_ROLE, host)
        super().__init__(host, port, timeout=silence_s, context=self._tls)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)
