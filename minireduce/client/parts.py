"""Fetch the parts of a finished job from the workers that hold them, and believe nothing that is not verified.

A part comes over HTTP from its worker's block server, opened by the token of the job's result, or from a worker on this
host as a file (`local_parts`). It is held against the length and the digest that the master recorded when the part was
committed; only then is it used. The one exception is a part on a worker of one's own that is not copied, that nobody
has touched since that worker kept it or read since it was written, and that the kernel still holds: that is as its
writer left it, the digest was taken of those very bytes, and to read them again would tell nothing of the disk. What
the kernel cannot tell of that, `page_cache` says.

A worker may be gone, or its part with it. Then the master has the part made again, by itself, and says so in a fresh
result; so a part that cannot be had now is asked for again with a fresh result, as long as a master is waited for.
Where a part of one's own is damaged, the next copy that lies here is taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import xxhash

from minireduce.client import jobs, local_parts
from minireduce.client.connection import Connection
from minireduce.client.retry import Retry
from minireduce.core.views import JobView, ResultView
from minireduce.errors import Corruption, NotFound, Unavailable
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, JobId
from minireduce.wire import methods
from minireduce.wire.questions import GetResult

DAMAGED_MAX = 3


@dataclass(frozen=True, slots=True)
class OwnPart:
    """A descriptor of a part on a worker of one's own, and when that worker kept it. Whoever asked for it closes it."""

    descriptor: int
    kept_at_ns: int

    def close(self) -> None:
        """Let go of the part."""
        os.close(self.descriptor)


OpenOwn = Callable[[AttemptId, int], OwnPart | None]
"""Opens a copy of the part that an attempt made, past so many that were damaged; None where no other lies here."""


class PartsOfJob:
    """The parts of one job, fetched one at a time; where they are is asked when that is first needed.

    `on_view` sees the job while a part is made again. `is_made`: the caller has seen that all parts are there, and need
    not wait for them. `open_own` opens a part that lies on a worker of the caller's own.
    """

    def __init__(
        self,
        connection: Connection,
        job: JobId,
        *,
        wait_s: float,
        is_made: bool = False,
        open_own: OpenOwn | None = None,
        on_view: Callable[[JobView], None] | None = None,
    ) -> None:
        self._connection = connection
        self._job = job
        self._wait_s = wait_s
        self._is_made = is_made
        self._open_own = open_own
        self._on_view = on_view
        self._known: ResultView | None = None

    @property
    def _result(self) -> ResultView:
        if self._known is None:
            self._known = self._fresh_result()
        return self._known

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
                _fetch_verified(self._result, index, target, self._connection.authority, self._open_own, damaged)
            except (Unavailable, Corruption, NotFound) as error:
                damaged += isinstance(error, Corruption)
                if damaged == DAMAGED_MAX:
                    raise
                self._known = self._fresh_result()
                raise Unavailable(error.message, hint=error.hint) from error

        Retry(self._wait_s, self._wait_s).call(attempt)

    def _fresh_result(self) -> ResultView:
        """Where the parts are now, once all are made."""

        def attempt() -> ResultView:
            if not self._is_made:
                jobs.raise_for_state(jobs.follow(self._connection, self._job, on_view=self._on_view))
            self._is_made = False  # what is missing now was lost since, and is made again
            return self._connection.call(methods.GET_RESULT, GetResult(self._job))

        return Retry(self._wait_s, self._wait_s).call(attempt)


def _fetch_verified(
    result: ResultView, index: int, target: Path, authority: bytes | None, open_own: OpenOwn | None, damaged: int
) -> None:
    source = result.parts[index]
    target.unlink(missing_ok=True)  # it may be another part's second name, through which nothing must be written
    if not source.bytes_total:
        target.write_bytes(b"")  # nobody keeps what has no bytes
        return
    found = Found(undigested=0 if result.is_text else _magic_bytes())
    try:
        own = open_own(source.attempt, damaged) if open_own is not None else None
        if own is not None:
            with closing(own):
                if take_unread(own, source.bytes_total, target):
                    return
                take_file(own.descriptor, target, found)
        else:
            from minireduce.client.part_doors import take_from_worker  # HTTP: not for parts of one's own

            take_from_worker(source, result.read_token, target, authority, found)
    except OSError as cause:
        raise Unavailable(
            f"the part of {source.attempt} cannot be fetched from {source.worker} at {source.address}: {cause}"
        ) from cause
    if (found.length, found.digest.digest()) != (source.bytes_total, result.digests[index]):
        target.unlink()
        raise Corruption(f"the part of {source.attempt} that {source.worker} sent is not the one that was committed")


class Found:
    """What was read of a part so far; its digest leaves out the bytes that it begins with, `undigested` of them."""

    def __init__(self, undigested: int) -> None:
        self.digest = xxhash.xxh3_128()
        self.length = 0
        self._undigested = undigested

    def add(self, piece: bytes) -> None:
        self.digest.update(memoryview(piece)[max(0, self._undigested - self.length) :])
        self.length += len(piece)


def take_unread(own: OwnPart, size_bytes: int, target: Path) -> bool:
    """Give the file of a part the name `target` too, if it is sure to be what its writer took the digest of. Else it is
    still to be taken.
    """
    is_sure = local_parts.is_as_written(own.descriptor, size_bytes, own.kept_at_ns)
    return is_sure and local_parts.link(own.descriptor, target)


def take_file(descriptor: int, target: Path, found: Found) -> None:
    """Have a part that lies on this host under the name `target`: the same file, or else a copy."""
    if local_parts.link(descriptor, target):
        for piece in local_parts.pieces(descriptor):
            found.add(piece)
        return
    with target.open("xb") as file:
        for piece in local_parts.pieces(descriptor):
            file.write(piece)
            found.add(piece)


def _magic_bytes() -> int:
    """How many bytes of a typed part precede what its digest covers; its reader looks at those."""
    from minireduce.engine.frames import PART_MAGIC

    return len(PART_MAGIC)
