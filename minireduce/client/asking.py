"""Ask one block server for a range of a replica, beside others where the first is slow.

An answer is a descriptor (`local_blocks`) or an HTTP response; either way its bytes are verified as they are taken.
Where two workers may be asked at a time, each is asked in a thread that does nothing else. Whoever is not read in the
end closes its connection itself, whenever it gets so far, and nobody waits for it.
"""

from __future__ import annotations

import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from minireduce.checksums import widen
from minireduce.client.local_blocks import LocalReplica
from minireduce.core.storage import reading
from minireduce.errors import Corruption, MinireduceError, Unavailable
from minireduce.ids import WorkerId
from minireduce.wire.errors import from_http
from minireduce.wire.packets import Unsealer, sealed_length

READ_BYTES = 1 << 20
ANSWER_BYTES_MAX = 64 << 10


class Hedge(Protocol):
    """Says whether a second worker is asked, and hears who answered."""

    def another(self) -> reading.Fetch | None:
        """The first is slow: what to ask beside it."""

    def answered(self, worker: WorkerId, after_s: float) -> None:
        """This worker is read."""

    def failed(self, worker: WorkerId, error: MinireduceError) -> None:
        """This one cannot be, and another is still asked."""


class Answer:
    """A block server that has begun to answer: a replica that is open here, or a response on a connection."""

    def __init__(
        self,
        fetch: reading.Fetch,
        door: http.client.HTTPConnection,
        response: http.client.HTTPResponse | None = None,
        local: LocalReplica | None = None,
    ) -> None:
        self.fetch = fetch
        self.door = door
        self.local = local
        self._response = response

    def pieces(self) -> Iterator[bytes]:
        """The bytes, each verified. Raises Corruption, Unavailable, OSError, HTTPException and what the worker told."""
        if self.local is not None:
            return self.local.pieces(self.fetch.offset, self.fetch.length)
        assert self._response is not None
        return _received(self._response, self.fetch)


def _received(answer: http.client.HTTPResponse, fetch: reading.Fetch) -> Iterator[bytes]:
    replica = fetch.replica
    begin, end = widen(fetch.offset, fetch.length, replica.length)
    if answer.status != http.client.OK:
        raise from_http(answer.status, answer.read(ANSWER_BYTES_MAX), f"the worker {fetch.worker}")
    if answer.length != sealed_length(end - begin):
        raise Corruption(f"the worker {fetch.worker} has another length of block {replica.block_id}")
    unsealer = Unsealer(end - begin, f"block {replica.block_id} from {fetch.worker}")
    at, last = begin, fetch.offset + fetch.length
    while piece := answer.read(READ_BYTES):
        data = b"".join([packet.data for packet in unsealer.feed(piece)])
        wanted = data[max(0, fetch.offset - at) : max(0, last - at)]
        at += len(data)
        if wanted:
            yield wanted
    if not unsealer.is_complete:
        raise Unavailable(f"the worker {fetch.worker} broke off in the middle of block {replica.block_id}")


Ask = Callable[[reading.Fetch], Answer]


class _Asked:
    """One question in a thread."""

    def __init__(self, fetch: reading.Fetch, ask: Ask, done: queue.SimpleQueue[_Asked]) -> None:
        self.fetch = fetch
        self.began_s = time.monotonic()
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self._ask = ask
        self._done = done
        self._lock = threading.Lock()
        self._is_left = False
        threading.Thread(target=self._run, name="asking", daemon=True).start()

    def _run(self) -> None:
        try:
            self.answer = self._ask(self.fetch)
        except Exception as error:
            self.error = error
        with self._lock:
            if self._is_left:
                self._close()
        self._done.put(self)

    def leave(self) -> None:
        """Nobody reads this."""
        with self._lock:
            self._is_left = True
            self._close()

    def _close(self) -> None:
        if self.answer is not None:
            self.answer.door.close()


def first_answer(fetch: reading.Fetch, ask: Ask, hedge: Hedge) -> Answer:
    """The answer of whoever answers first. Raises what `ask` raises when nobody does."""
    done: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
    asked = [_Asked(fetch, ask, done)]
    wait_s: float | None = fetch.hedge_after_s
    while True:
        try:
            found = done.get(timeout=wait_s)
        except queue.Empty:
            wait_s = None  # each question ends by itself, by its own silence
            also = hedge.another()
            if also is not None:
                asked.append(_Asked(also, ask, done))
            continue
        asked.remove(found)
        if found.answer is not None:
            for left in asked:
                left.leave()
            hedge.answered(found.fetch.worker, time.monotonic() - found.began_s)
            return found.answer
        assert found.error is not None
        if not asked:
            raise found.error
        hedge.failed(found.fetch.worker, as_error(found.error, found.fetch))


def as_error(error: Exception, fetch: reading.Fetch) -> MinireduceError:
    """What it means that asking failed."""
    if isinstance(error, MinireduceError):
        return error
    return Unavailable(f"the worker {fetch.worker} at {fetch.address} broke off: {error!r}")
