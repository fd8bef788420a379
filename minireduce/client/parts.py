"""Fetch the parts of a finished job from the workers that hold them, and believe nothing that is not verified.

A part comes over HTTP from its worker's block server, opened by the token of the job's result. It is written to a file
and held against the length and the digest that the master recorded when the part was committed; only then is it used.

A worker may be gone, or its part with it. Then the master has the part made again, by itself, and says so in a fresh
result; so a part that cannot be had now is asked for again with a fresh result, as long as a master is waited for.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import xxhash

from minireduce.client import jobs
from minireduce.client.connection import Connection
from minireduce.client.doors import open_door
from minireduce.client.retry import Retry
from minireduce.core.views import JobView, ResultView
from minireduce.errors import Corruption, NotFound, Unavailable
from minireduce.ids import JobId
from minireduce.wire import methods
from minireduce.wire.errors import from_http
from minireduce.wire.questions import GetResult

FETCH_BYTES = 1 << 20
DAMAGED_MAX = 3


class PartsOfJob:
    """The parts of one job, fetched one at a time. `on_view` sees the job while a part is made again."""

    def __init__(
        self, connection: Connection, job: JobId, *, wait_s: float, on_view: Callable[[JobView], None] | None = None
    ) -> None:
        self._connection = connection
        self._job = job
        self._wait_s = wait_s
        self._on_view = on_view
        self._result = self._fresh_result()

    @property
    def count(self) -> int:
        return len(self._result.parts)

    @property
    def is_text(self) -> bool:
        return self._result.is_text

    @property
    def records(self) -> int:
        return sum(self._result.records)

    def fetch(self, index: int, target: Path) -> None:
        """Write part `index` to `target`, verified. Raises Unavailable or Corruption once waiting is of no use."""
        damaged = 0

        def attempt() -> None:
            nonlocal damaged
            try:
                _fetch_verified(self._result, index, target, self._connection.authority)
            except (Unavailable, Corruption, NotFound) as error:
                damaged += isinstance(error, Corruption)
                if damaged == DAMAGED_MAX:
                    raise
                self._result = self._fresh_result()
                raise Unavailable(error.message, hint=error.hint) from error

        Retry(self._wait_s, self._wait_s).call(attempt)

    def _fresh_result(self) -> ResultView:
        """Where the parts are now, once all are made."""

        def attempt() -> ResultView:
            shown = jobs.follow(self._connection, self._job, on_view=self._on_view)
            jobs.raise_for_state(shown)
            return self._connection.call(methods.GET_RESULT, GetResult(self._job))

        return Retry(self._wait_s, self._wait_s).call(attempt)


def _fetch_verified(result: ResultView, index: int, target: Path, authority: bytes | None) -> None:
    source = result.parts[index]
    if not source.bytes_total:
        target.write_bytes(b"")  # nobody keeps what has no bytes
        return
    digest = xxhash.xxh3_128()
    undigested = 0 if result.is_text else _magic_bytes()
    length = 0
    with closing(open_door(source.worker, source.address, authority)) as door, target.open("wb") as file:
        try:
            door.request(
                "GET", f"/outputs/{source.attempt}/part", headers={"Authorization": f"Bearer {result.read_token}"}
            )
            answer = door.getresponse()
            if answer.status != http.client.OK:
                raise from_http(answer.status, answer.read(FETCH_BYTES), f"the worker {source.worker}")
            while piece := answer.read(FETCH_BYTES):
                file.write(piece)
                digest.update(memoryview(piece)[max(0, undigested - length) :])
                length += len(piece)
        except (OSError, http.client.HTTPException) as cause:
            raise Unavailable(
                f"the part of {source.attempt} cannot be fetched from {source.worker} at {source.address}: {cause}"
            ) from cause
    if length != source.bytes_total or digest.digest() != result.digests[index]:
        raise Corruption(f"the part of {source.attempt} that {source.worker} sent is not the one that was committed")


def _magic_bytes() -> int:
    """How many bytes of a typed part precede what its digest covers; its reader looks at those."""
    from minireduce.engine.frames import PART_MAGIC

    return len(PART_MAGIC)
