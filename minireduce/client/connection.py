"""A connection to a cluster: address, credentials, and calls that are tried again while the master cannot answer.

Repeating is safe, since every request of a client is idempotent by key or id. How long is `retry`'s to say: a master
that never answered is given up within seconds, one that answered is waited for through a restart.

The token goes to nobody but the master, and beyond loopback only under TLS that trusts the cluster's own authority; see
`auth.transport`. A master on this very machine may listen on loopback with or without TLS; where an authority lies
beside the token file, it is asked.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from minireduce import config
from minireduce.auth import tokens, transport
from minireduce.auth.joining import check_master, speaks_tls, split_address
from minireduce.client.retry import Retry
from minireduce.config import Configuration
from minireduce.core.storage.reading import Pace
from minireduce.errors import RequestError, Unavailable
from minireduce.wire.calls import Calls, Credentials
from minireduce.wire.methods import Method

if TYPE_CHECKING:
    from minireduce.client.block_io import BlockDoors
    from minireduce.client.fs import FileSystem
    from minireduce.client.gathering import Gatherer

Q = TypeVar("Q")
R = TypeVar("R")

CALL_TIMEOUT_S = 30.0
FIRST_WAIT_S = 3.0
DOORS_IDLE_MAX = 8


class Reads:
    """What the readers of one connection have seen of workers, for the next reader and for whoever asks."""

    def __init__(self) -> None:
        self.hedged = 0
        self.won_by_second = 0
        self._usual_s: float | None = None
        self._lock = threading.Lock()

    def new_pace(self) -> Pace:
        """For one reader."""
        return Pace(self._usual_s)

    def add(self, pace: Pace) -> None:
        """That reader is done."""
        with self._lock:
            self.hedged += pace.hedged
            self.won_by_second += pace.won_by_second
            self._usual_s = pace.usual_s


class DoorPool:
    """Connections to block servers, for one reader or writer at a time: the next one finds open what this one leaves.

    So files that share a block cost one question together, and a small file no connection of its own. `authority` (PEM)
    is whom they trust.
    """

    def __init__(self, authority: bytes | None) -> None:
        self._authority = authority
        self._idle: list[BlockDoors] = []
        self._is_closed = False

    @contextlib.contextmanager
    def borrow(self) -> Iterator[BlockDoors]:
        """Some that nobody else uses."""
        from minireduce.client.block_io import BlockDoors

        try:
            doors = self._idle.pop()
        except IndexError:
            doors = BlockDoors(self._authority)
        try:
            yield doors
        finally:
            if self._is_closed or len(self._idle) >= DOORS_IDLE_MAX:
                doors.close()
            else:
                doors.keep_little()
                self._idle.append(doors)

    def __del__(self) -> None:
        """With a connection that was forgotten without being closed go the sockets that it kept."""
        self.close()

    def close(self) -> None:
        """Close all that nobody uses now; the others are closed when they are given back."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()


class Gatherers:
    """Those of one connection, by what kind of small files they gather."""

    def __init__(self) -> None:
        self._by_kind: dict[Hashable, Gatherer] = {}
        self._lock = threading.Lock()

    def get(self, kind: Hashable, make: Callable[[], Gatherer]) -> Gatherer:
        """The one for this kind."""
        with self._lock:
            if kind not in self._by_kind:
                self._by_kind[kind] = make()
            return self._by_kind[kind]


class Connection:
    """A cluster as a client sees it. Connects on first use; safe for several threads."""

    def __init__(self, address: str, credentials: Credentials, *, master_wait_s: float = 600.0) -> None:
        self.address = address
        self.authority = credentials.authority
        self._calls = Calls(address, credentials)
        self._master_wait_s = master_wait_s
        self._has_answered = False
        self.is_closed = False
        self.reads = Reads()
        self.doors = DoorPool(credentials.authority)
        self.gatherers = Gatherers()
        self.on_wait: Callable[[Unavailable, float], None] | None = None

    def call(
        self, method: Method[Q, R], request: Q, *, timeout_s: float = CALL_TIMEOUT_S, wait_s: float | None = None
    ) -> R:
        """The master's answer. Raises its errors; Unavailable when it gave none for as long as is waited for.

        `timeout_s` is for one try; `wait_s` for all of them, in place of the connection's own patience.
        """
        if self.is_closed:
            raise RequestError(
                f"the connection to the master at {self.address} is closed", hint="ask before it ends, or open another"
            )
        patience_s = self._master_wait_s if wait_s is None else wait_s
        retry = Retry(FIRST_WAIT_S, patience_s, on_wait=self.on_wait, has_answered=self._has_answered)
        answer = retry.call(lambda: self._calls.call(method, request, timeout_s=timeout_s))
        self._has_answered = True
        return answer

    @property
    def fs(self) -> FileSystem:
        """The files of the cluster's block store."""
        from minireduce.client.fs import FileSystem

        return FileSystem(self)

    def close(self) -> None:
        """End the connection. Jobs go on."""
        self.is_closed = True
        self.doors.close()
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(address: str | None = None, *, token: str | None = None, **settings: object) -> Connection:
    """A connection to the master at `address`, else to that of `MINIREDUCE_MASTER` or the settings.

    Args:
        address: `HOST:PORT`.
        token: the client's token; looked for where every command looks for it if not given.
        settings: settings by name, such as `token_file`, as flags of a command would give them.

    Raises:
        RequestError: no address, or one that cannot be.
        Refused: no token is found. What a call raises comes when it is made.
    """
    return open_connection(config.load({"master": address, **settings}), token=token)


def open_connection(
    configuration: Configuration, *, token: str | None = None, environment: Mapping[str, str] | None = None
) -> Connection:
    """A connection to the master that these settings name."""
    address = configuration.settings.master
    if address is None:
        raise RequestError(
            "no cluster is named",
            hint="give --master HOST:PORT or set MINIREDUCE_MASTER; `minireduce cluster up` starts one here",
        )
    held = token or tokens.find(configuration, environment).require_client()
    return Connection(
        address, _credentials(address, held, configuration), master_wait_s=configuration.settings.master_wait_s
    )


def _credentials(address: str, token: str, configuration: Configuration) -> Credentials:
    host, _ = split_address(address)
    token_file = tokens.path_of(configuration)
    if not transport.needs_tls(host) and not (transport.authority_path(token_file).exists() and _speaks_tls(address)):
        return Credentials(token)
    authority = transport.load_authority(token_file)
    name = transport.expected_name(authority, transport.MASTER_ROLE, host)
    with contextlib.suppress(Unavailable):  # nobody is there, and the first call will say so
        check_master(address, authority, name)
    return Credentials(token, authority, name)


def _speaks_tls(address: str) -> bool:
    try:
        return speaks_tls(address)
    except Unavailable:
        return False  # nobody is there, and the first call will say so
