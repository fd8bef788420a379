"""Keep a worker in touch with its master: open streams, say hello, go on where the last stream broke off."""

from __future__ import annotations

from dataclasses import dataclass

from minireduce.core.messages import Down, Hello, Up, Welcome
from minireduce.errors import MinireduceError

# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The stream that `OpenStream` asked for can carry messages."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """A stream could not be opened, broke, or was ended by the master, which may say why.

    `Refused` (token, version) ends the worker; anything else is tried again.
    """

    stream: int
    error: MinireduceError | None = None


@dataclass(frozen=True, slots=True)
class WelcomeReceived:
    """The master's answer to `Hello`."""

    stream: int
    welcome: Welcome


@dataclass(frozen=True, slots=True)
class DownReceived:
    """A message of the master."""

    stream: int
    down: Down


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Open a stream to the master; `StreamOpened` or `StreamClosed` follows. A number is never used twice."""

    stream: int


@dataclass(frozen=True, slots=True)
class CloseStream:
    """End a stream that is of no more use. Nothing need be said of it any more; if it is, it is ignored."""

    stream: int


@dataclass(frozen=True, slots=True)
class SendHello:
    """Send this on a stream; drop it silently when the stream is gone."""

    stream: int
    hello: Hello


@dataclass(frozen=True, slots=True)
class SendUp:
    """Send this on a stream; drop it silently when the stream is gone, for it will be sent again."""

    stream: int
    up: Up


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep durably that the master has committed up to (epoch, txid): no older one may lead this worker."""

    epoch: int
    txid: int


@dataclass(frozen=True, slots=True)
class Warn:
    """Say this to whoever runs the worker."""

    message: str
