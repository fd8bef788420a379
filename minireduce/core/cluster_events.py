"""What goes into the master's machine (cluster.py), and what comes out of it: events, then actions."""

from __future__ import annotations

from typing import Any

from minireduce.core.effects import Row
from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.core.requests import ComputeRequest, DrainWorker
from minireduce.core.storage.requests import FileRequest
from minireduce.errors import MinireduceError
from minireduce.frozen import dataclass
from minireduce.ids import JobId

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """A worker opened a stream. The shell numbers streams; a number is never used twice."""

    stream: int
    hello: Hello


@dataclass(frozen=True, slots=True)
class UpReceived:
    """A worker's message came in on a stream."""

    stream: int
    up: Up


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """A stream broke or was ended by the worker. The worker is not lost by that: it may open another."""

    stream: int


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A client asked for a change. The shell numbers requests and answers each by its number."""

    request: int
    body: ComputeRequest | DrainWorker | FileRequest
    received_at: float  # wall clock, for people


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed; the shell sends one every `tick_interval_s`. `at` is the wall clock's time, if it is known."""

    at: float = 0.0


Event = HelloReceived | UpReceived | StreamClosed | RequestReceived | Ticked


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Persist:
    """Write these rows in one transaction, marked (epoch, txid); txids grow by one."""

    epoch: int
    txid: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class SendWelcome:
    """Answer a `Hello` on its stream."""

    stream: int
    welcome: Welcome


@dataclass(frozen=True, slots=True)
class SendDown:
    """Send a message on a stream; drop it silently when the stream is gone, for it will be sent again."""

    stream: int
    down: Down


@dataclass(frozen=True, slots=True)
class CloseStream:
    """End a stream: an older one of the same worker, or one that is refused. `error` goes to the worker."""

    stream: int
    error: MinireduceError


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request."""

    request: int
    value: Any


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer a request with an error."""

    request: int
    error: MinireduceError


@dataclass(frozen=True, slots=True)
class JobChanged:
    """Wake those who wait for this job: its state changed."""

    job: JobId


@dataclass(frozen=True, slots=True)
class StopServing:
    """This master must not go on: its metadata is older than what a worker remembers."""

    error: MinireduceError


Action = Persist | SendWelcome | SendDown | CloseStream | Reply | Refuse | JobChanged | StopServing
