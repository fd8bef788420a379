"""Keep a worker in touch with its master: open streams, say hello, go on where the last stream broke off.

A session outlives its streams. When one breaks, the next is opened after a pause that doubles, and `Hello` asks to go
on with the session; a master that no longer knows it (it was restarted, or had given us up) says so, and we say `Hello`
again with all that we have. Reports that the old session did not see acknowledged are said again in the new one, so
that no end of an attempt is forgotten.

A master that has committed less than one that we followed before is an old one, woken up or restored: we do not follow
it. We try again at a slow pace, since the address may soon be the right one's.

Not here: what the lists in `Hello` hold and what becomes of commands (worker.py), numbers and repetition (link.py).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from random import Random

from minireduce.core.link import Link
from minireduce.core.messages import (
    AttemptProgressed,
    AttemptStarted,
    Command,
    Down,
    Hello,
    Report,
    Up,
    Welcome,
    WorkerProfile,
)
from minireduce.core.settings import WorkerSettings
from minireduce.errors import MinireduceError, Refused, RequestError
from minireduce.frozen import dataclass

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
    """Keep durably that the master has committed up to (epoch, txid): no older one may lead this worker, and none of
    another cluster.
    """

    epoch: int
    txid: int
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Warn:
    """Say this to whoever runs the worker."""

    message: str


@dataclass(frozen=True, slots=True)
class StopWorker:
    """End the worker's process: in good order when `error` is None."""

    error: MinireduceError | None


SessionAction = OpenStream | CloseStream | SendHello | SendUp | Remember | Warn | StopWorker


class Phase(StrEnum):
    """Where the worker stands with its master."""

    AWAY = "away"  # no stream; one is opened at `reopen_at`
    OPENING = "opening"
    GREETING = "greeting"  # `Hello` is on its way
    TALKING = "talking"


class Session:
    """One worker's side. `list_all` gives a `Hello` with everything that the worker has, as `session` 0 asks for."""

    def __init__(
        self,
        *,
        profile: WorkerProfile,
        settings: WorkerSettings,
        highest: tuple[int, int],
        list_all: Callable[[Hello], Hello],
        rng: Random,
        cluster: str = "",
    ) -> None:
        self._profile = profile
        self._settings = settings
        self._list_all = list_all
        self._rng = rng
        self._highest = self._remembered = highest
        self._cluster = cluster
        self._remembered_at = 0.0
        self._phase = Phase.AWAY
        self._stream = 0
        self._session = 0
        self._asked_session = 0
        self._link = Link[Report]()
        self._worker_lost_s = settings.welcome_wait_s
        self._pause_s = settings.reconnect_s_min
        self._reopen_at = 0.0
        self._heard_at: float | None = None
        self._in_touch_at: float | None = None
        self.free_bytes = 0

    @property
    def is_talking(self) -> bool:
        """Whether the master has welcomed us on the stream at hand."""
        return self._phase is Phase.TALKING

    @property
    def number(self) -> int:
        """Which session this is; 0: none yet, or none any more."""
        return self._session

    @property
    def unacknowledged(self) -> tuple[Report, ...]:
        """The reports that the master may not have."""
        return self._link.unacknowledged

    def away_s(self, now: float) -> float:
        """How long the master has been out of reach."""
        if self._in_touch_at is None:
            self._in_touch_at = now
        return now - self._in_touch_at

    def push(self, report: Report) -> None:
        """Send this as soon as there is a stream."""
        self._link.push(report)

    def forget(self) -> None:
        """The session is not worth going on with: what it spoke of has been given up."""
        self._session = 0
        self._link = Link()

    # ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, stream: int, now: float) -> list[SessionAction]:
        """Say hello on a stream that can carry it."""
        if stream != self._stream or self._phase is not Phase.OPENING:
            return []  # an answer about a stream that was given up meanwhile
        self._phase = Phase.GREETING
        self._heard_at = now
        return [self._hello()]

    def closed(self, stream: int, error: MinireduceError | None, now: float) -> list[SessionAction]:
        """Plan the next stream, unless the master's answer will never be another."""
        if stream != self._stream or self._phase is Phase.AWAY:
            return []  # a stream that was given up meanwhile
        if isinstance(error, Refused | RequestError):
            return [StopWorker(error)]
        self._go_away(now)
        return []

    def ticked(self, now: float) -> list[SessionAction]:
        """Open a stream when it is time, and give up one on which the master is silent."""
        actions: list[SessionAction] = []
        if self._phase is Phase.AWAY and now >= self._reopen_at:
            self._stream += 1
            self._phase = Phase.OPENING
            self._heard_at = now
            actions.append(OpenStream(self._stream))
        elif self._phase is not Phase.AWAY and self._heard_at is not None:
            patience_s = self._worker_lost_s if self.is_talking else self._settings.welcome_wait_s
            if now - self._heard_at > patience_s:
                actions.append(CloseStream(self._stream))
                self._go_away(now)
        if self._highest != self._remembered and now >= self._remembered_at + self._settings.remember_interval_s:
            actions.append(self._remember(now))
        return actions

    def _go_away(self, now: float) -> None:
        self._phase = Phase.AWAY
        self._reopen_at = now + self._pause_s * self._rng.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, self._settings.reconnect_s_max)

    def _hello(self) -> SendHello:
        epoch, txid = self._highest
        self._asked_session = self._session
        received = self._link.received_number if self._session else 0
        hello = Hello(self._profile, self._session, received, epoch, txid, cluster=self._cluster)
        return SendHello(self._stream, hello if self._session else self._list_all(hello))

    # ── what the master says ────────────────────────────────────────────────────────────────────────────────────────

    def welcomed(self, stream: int, welcome: Welcome, now: float) -> list[SessionAction]:
        """Begin to talk, in the old session or in a new one. `is_talking` tells whether it came to that."""
        if stream != self._stream or self._phase in {Phase.AWAY, Phase.OPENING}:
            return []
        if welcome.epoch < self._highest[0]:
            return self._leave_old_master(welcome.epoch, now)
        self._heard_at = self._in_touch_at = now
        if self.is_talking and welcome.session <= self._session:
            return []  # repeated on the way
        if self.is_talking:  # our `Hello` was repeated on the way, and the master began anew: so must we
            self._phase, self._session = Phase.GREETING, 0
            return [self._hello()]
        if welcome.resumed and welcome.session == self._asked_session == self._session != 0:
            self._link.resume(welcome.received, now)
        elif self._asked_session:
            self._session = 0
            return [self._hello()]
        elif not welcome.session:
            return []  # the answer to our last `Hello`, repeated on the way; that to this one follows
        else:
            self._begin_session(welcome)
        self._phase = Phase.TALKING
        self._worker_lost_s = welcome.worker_lost_s
        self._pause_s = self._settings.reconnect_s_min
        is_first = not self._cluster and bool(welcome.cluster)
        self._cluster = self._cluster or welcome.cluster
        return self._note(welcome.epoch, 0, now) or ([self._remember(now)] if is_first else [])

    def took(self, stream: int, down: Down, now: float) -> tuple[tuple[Command, ...], list[SessionAction]]:
        """The commands of a message that are new, and what to do besides."""
        if stream != self._stream or not self.is_talking or down.session != self._session:
            return (), []  # of a stream or session that is over
        if 0 < down.epoch < self._highest[0]:
            return (), self._leave_old_master(down.epoch, now)
        self._heard_at = self._in_touch_at = now
        is_new = self._link.received(down.number, down.ack, now)
        return down.commands if is_new else (), self._note(down.epoch, down.txid, now)

    def due(self, now: float) -> list[SessionAction]:
        """The messages that must leave now."""
        if not self.is_talking:
            return []
        return [
            SendUp(self._stream, Up(self._session, message.number, message.ack, message.items, self.free_bytes))
            for message in self._link.due(now)
        ]

    def _begin_session(self, welcome: Welcome) -> None:
        """What the master has just been told in the lists is left out; how attempts ended is not in the lists."""
        unsaid = self._link.unacknowledged
        self._session = welcome.session
        self._link = Link(
            heartbeat_interval_s=welcome.heartbeat_interval_s, resend_after_s=self._settings.resend_after_s
        )
        self._link.push(*(report for report in unsaid if not isinstance(report, AttemptStarted | AttemptProgressed)))

    def _leave_old_master(self, epoch: int, now: float) -> list[SessionAction]:
        self._pause_s = self._settings.reconnect_s_max
        self._go_away(now)
        return [
            CloseStream(self._stream),
            Warn(
                f"the master that answers is of epoch {epoch}, but this worker has followed epoch {self._highest[0]}; "
                "it is not followed. Stop the old master, or start this worker with the address of the new one"
            ),
        ]

    def _note(self, epoch: int, txid: int, now: float) -> list[SessionAction]:
        is_new_epoch = epoch > self._highest[0]
        self._highest = max(self._highest, (epoch, txid))
        return [self._remember(now)] if is_new_epoch else []

    def _remember(self, now: float) -> Remember:
        self._remembered, self._remembered_at = self._highest, now
        return Remember(*self._highest, self._cluster)
