"""The master's machine: everything a cluster decides, as `advance(event, now) -> list[Action]`.

In come what workers said, what clients asked and the passing of time; out go messages, answers and rows to persist.
The shell performs the actions in order and holds one rule, the release watermark: whatever one `advance` sends leaves
only when every `Persist` of that call and of all calls before it is durable. So nobody ever sees what a crash undoes.

`now` is the master's monotonic time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minireduce.core.effects import Row
from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.core.requests import ComputeRequest
from minireduce.errors import MinireduceError
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
    body: ComputeRequest
    received_at: float  # wall clock, for people


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed; the shell sends one every `tick_interval_s`."""


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
