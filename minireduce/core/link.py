"""Carry reports and commands over a stream that may break, so that each is taken in once and in order.

One `Link` stands at either end of a session. What is pushed is put into messages numbered from 1; each message also
says the highest number taken in from the other end without a gap (`ack`). Only the next number is taken in: repeated
messages and those behind a gap are dropped, since all that is not acknowledged is sent again (go-back-N). A message
with the number 0 only acknowledges, keeps the other end sure of us, and needs no acknowledgement itself.

Each repetition that brings no acknowledgement waits longer than the one before: an end that is merely busy would else
get the same messages again and again, and never be done with them.

    link.push(item)                                  it goes with the next message
    if link.received(number, ack, now): ...          only then are the items that came along new: act upon them
    for message in link.due(now): ...                while a stream is open, after each event and tick: send these

Invariants: a message is found new once, and messages are found new in the order in which they were first sent; at most
`window_messages_max` messages are under way, and what is pushed beyond waits here.
Not here: which session this is (a new session gets a new `Link`), and when the other end counts as lost.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from minireduce.frozen import dataclass

T = TypeVar("T")

RESEND_DOUBLINGS_MAX = 2
"""So often the time to the next repetition is doubled."""


@dataclass(frozen=True, slots=True)
class Message(Generic[T]):
    """What goes on the wire: becomes `Up` or `Down`."""

    number: int
    ack: int
    items: tuple[T, ...] = ()


class Link(Generic[T]):
    """This end of one session. `T` is what this end sends; what it takes in may be of another type."""

    def __init__(
        self,
        *,
        heartbeat_interval_s: float = 1.0,
        resend_after_s: float = 2.0,
        ack_after_s: float = 0.1,
        items_per_message_max: int = 256,
        window_messages_max: int = 64,
    ) -> None:
        self._heartbeat_interval_s = heartbeat_interval_s
        self._resend_after_s = resend_after_s
        self._ack_after_s = ack_after_s
        self._items_per_message_max = items_per_message_max
        self._window_messages_max = window_messages_max
        self._waiting: deque[T] = deque()
        self._under_way: deque[tuple[int, tuple[T, ...]]] = deque()
        self._sent_number = 0
        self._received_number = 0
        self._ack_owed_since: float | None = None
        self._sent_at: float | None = None
        self._resend_at: float | None = None
        self._resends = 0  # since the last acknowledgement of anything new
        self._heard_at: float | None = None

    @property
    def received_number(self) -> int:
        """The highest number taken in without a gap."""
        return self._received_number

    @property
    def unacknowledged(self) -> tuple[T, ...]:
        """What the other end has not acknowledged, sent or not, in order: a next session may have to say it again."""
        return (*(item for _, items in self._under_way for item in items), *self._waiting)

    def push(self, *items: T) -> None:
        """Send these with the next message."""
        self._waiting.extend(items)

    def received(self, number: int, ack: int, now: float) -> bool:
        """Take in a message's numbers and say whether the items that came with them are new."""
        is_back = self._heard_at is not None and now - self._heard_at > self._resend_after_s
        self._heard_at = now
        self._acknowledged(ack, now)
        if is_back and self._under_way:  # the way was cut, the other end is not slow: what waits goes now
            self._resend_at = now
            self._resends = 0
        if number == 0:
            return False
        if self._ack_owed_since is None:
            self._ack_owed_since = now
        if number != self._received_number + 1:
            return False  # repeated, or behind a gap: the other end sends it again
        self._received_number = number
        return True

    def resume(self, received: int, now: float) -> None:
        """A new stream carries this session on, and the other end has all up to `received`: the rest goes again now."""
        self._acknowledged(received, now)
        self._resend_at = now if self._under_way else None
        self._resends = 0
        self._sent_at = None

    def due(self, now: float) -> list[Message[T]]:
        """The messages that must leave now: repeated ones, new ones, or a bare acknowledgement or heartbeat."""
        messages: list[Message[T]] = []
        if self._resend_at is not None and now >= self._resend_at:
            messages.extend(Message(number, self._received_number, items) for number, items in self._under_way)
            self._resend_at = None
            self._resends += 1
        while self._waiting and len(self._under_way) < self._window_messages_max:
            messages.append(self._next_message())
        if not messages and self._is_silence_over(now):
            messages.append(Message(0, self._received_number))
        if messages:
            self._sent_at = now
            self._ack_owed_since = None
        if self._under_way and self._resend_at is None:
            wait_s = self._resend_after_s * 2 ** min(self._resends, RESEND_DOUBLINGS_MAX)
            self._resend_at = now + wait_s  # new messages do not put off the repetition of older ones
        return messages

    def _next_message(self) -> Message[T]:
        count = min(len(self._waiting), self._items_per_message_max)
        items = tuple(self._waiting.popleft() for _ in range(count))
        self._sent_number += 1
        self._under_way.append((self._sent_number, items))
        return Message(self._sent_number, self._received_number, items)

    def _is_silence_over(self, now: float) -> bool:
        if self._sent_at is None or now >= self._sent_at + self._heartbeat_interval_s:
            return True
        return self._ack_owed_since is not None and now >= self._ack_owed_since + self._ack_after_s

    def _acknowledged(self, ack: int, now: float) -> None:
        """Forget what the other end has. An acknowledgement of what was never sent can only be damage: ignored."""
        if ack > self._sent_number:
            return
        is_progress = False
        while self._under_way and self._under_way[0][0] <= ack:
            self._under_way.popleft()
            is_progress = True
        if is_progress:
            self._resends = 0
        if not self._under_way:
            self._resend_at = None
        elif is_progress:
            self._resend_at = now + self._resend_after_s
