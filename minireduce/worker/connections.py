"""Connections to the block servers of other workers, each for the thread that asks by it and reads the answer.

A thread that reads from a socket and writes to a file lets go of the interpreter while it does either, so several
answers come in at once, and nothing of them passes through the event loop. An answer is read as it comes, into pieces
that are written as they are. A connection is kept for the next question to the same worker for `IDLE_S` or a bit more.

Not here: what is asked and what becomes of the answer (fetcher.py), and how many connections there are, which the
machine decides (`core.work.requests`).
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import time
from collections.abc import Mapping

from minireduce.auth import transport
from minireduce.auth.joining import split_address
from minireduce.errors import Unavailable

CONNECT_S = 5.0
SILENCE_S = 30.0
IDLE_S = 15.0
PIECE_BYTES = 256 << 10


class Connection(http.client.HTTPConnection):
    """To one worker, for one thread at a time; only `break_off` may be called by another."""

    def __init__(self, address: str, tls: tuple[ssl.SSLContext, str] | None) -> None:
        host, port = split_address(address)
        super().__init__(host, port)
        self.address = address
        self.idle_since_s = 0.0
        self._tls = tls
        self._plain: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._is_broken_off = False

    def connect(self) -> None:
        """Called by the first question. Raises OSError."""
        failed: OSError | None = None
        for family, kind, protocol, _, place in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            self._plain = plain = socket.socket(family, kind, protocol)
            try:
                self._check_that_it_is_wanted()
                plain.settimeout(CONNECT_S)
                plain.connect(place)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sock = plain if self._tls is None else self._seal(plain, *self._tls)
                self.sock.settimeout(SILENCE_S)
            except OSError as error:
                plain.close()
                failed = error
            else:
                return
        raise failed or ConnectionRefusedError("the address leads nowhere")

    def _seal(self, plain: socket.socket, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        self._plain = sealed = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
        try:
            self._check_that_it_is_wanted()
            sealed.do_handshake()
        except OSError:
            sealed.close()
            raise
        return sealed

    def _check_that_it_is_wanted(self) -> None:
        """Called once `break_off` can reach the socket, for one that came before."""
        if self._is_broken_off:
            raise ConnectionAbortedError("it is not wanted any more")

    def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Ask, and give back how the answer begins. Raises OSError and HTTPException."""
        self.request("POST", path, body, headers)
        self._answer = self.getresponse()
        return self._answer

    def read(self) -> bytes:
        """What comes next of the answer; nothing at its end, be it early. Raises OSError and HTTPException."""
        assert self._answer is not None
        piece = self._answer.read1(PIECE_BYTES)
        if not piece:
            self._answer.close()
        elif self._tls is not None:
            return self._joined(piece, self._answer)
        return piece

    def _joined(self, piece: bytes, answer: http.client.HTTPResponse) -> bytes:
        """With what else has come, since TLS gives out no more than 16 KiB at a time, and each piece costs a write."""
        pieces, size = [piece], len(piece)
        while piece and size < PIECE_BYTES and self._has_news:
            piece = answer.read1(PIECE_BYTES - size)
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close it, with an answer that was not read to its end."""
        super().close()
        if self._answer is not None:
            self._answer.close()

    def break_off(self) -> None:
        """End the wait of the thread that asks or reads, which then gets an error or the end of the answer."""
        self._is_broken_off = True
        if self._plain is not None:
            try:
                socket.socket.shutdown(self._plain, socket.SHUT_RDWR)  # not that of TLS, which another thread is using
            except OSError:
                return  # it is not connected, or not any more

    @property
    def is_usable(self) -> bool:
        """Whether one that rests may be asked again: it says nothing, not even that it has ended."""
        return self.sock is not None and not self._has_news

    @property
    def _has_news(self) -> bool:
        """Whether something has come, or the other side has ended. Not known once its last answer has the socket."""
        if self.sock is None:
            return False
        watching = select.poll()  # `select` knows no descriptor beyond 1023
        watching.register(self.sock, select.POLLIN)
        return bool(watching.poll(0))


class Connections:
    """Those that rest until the next question, by address. For the event loop's thread."""

    def __init__(self, authority_pem: bytes | None) -> None:
        self._authority_pem = authority_pem
        self._resting: dict[str, list[Connection]] = {}
        self._context: ssl.SSLContext | None = None
        self._names: dict[str, str] = {}  # what the certificate of a host must bear

    def take(self, address: str) -> Connection:
        """One to ask by. Raises Unavailable for an address beyond loopback where no authority is known."""
        resting = self._resting.get(address, [])
        while resting:
            connection = resting.pop()
            if connection.is_usable:
                return connection
            connection.close()
        return Connection(address, self._tls_to(address))

    def put_back(self, connection: Connection) -> None:
        """It has been answered to the end."""
        connection.idle_since_s = time.monotonic()
        self._resting.setdefault(connection.address, []).append(connection)

    def close_idle(self) -> bool:
        """Close those that have rested for `IDLE_S`; whether others still rest."""
        now_s = time.monotonic()
        for address in tuple(self._resting):
            fresh = [each for each in self._resting[address] if now_s - each.idle_since_s < IDLE_S]
            for each in self._resting[address]:
                if each not in fresh:
                    each.close()
            self._resting[address] = fresh
            if not fresh:
                del self._resting[address]
        return bool(self._resting)

    def close(self) -> None:
        """Close those that rest."""
        for resting in self._resting.values():
            for connection in resting:
                connection.close()
        self._resting.clear()

    def _tls_to(self, address: str) -> tuple[ssl.SSLContext, str] | None:
        host, _ = split_address(address)
        if not transport.needs_tls(host):
            return None
        if self._authority_pem is None:
            raise Unavailable(f"{address} is beyond loopback, and this worker knows no authority to trust")
        if self._context is None:
            self._context = transport.client_context(self._authority_pem)
        if host not in self._names:
            name = transport.expected_name(self._authority_pem, transport.BLOCK_SERVER_ROLE, host)
            self._names[host] = name
        return self._context, self._names[host]
