"""Write what one request brings into the files of the attempts that need it, one output after the other.

A large run has a file of its own, and what came of one that broke off stays there for the next try, which goes on with
it. Runs of less than `TOGETHER_BYTES` that one request brings for an attempt lie together in one file, as creating a
file would cost more than all else of a small one; such a one that broke off is fetched anew. Length is checked here;
what the bytes are is checked frame by frame when a task reads them.

For one thread at a time, but for `call_off`. Which outputs ended, and how, is given back as they do.
Not here: the connection (fetcher.py), how an answer is cut (wire.many_outputs).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from minireduce.core.work.fetches import PART, Fetched, FetchOutcome, Gone, NotReached, Unreachable
from minireduce.core.work.requests import Fetch
from minireduce.errors import Corruption, MinireduceError, NotFound, RequestError
from minireduce.ids import AttemptId
from minireduce.wire.compression import Decompressor
from minireduce.wire.errors import from_http
from minireduce.wire.many_outputs import OK, Head, Sections, Wanted
from minireduce.worker.outputs import Outputs

TOGETHER_BYTES = 1 << 20
Ended = list[tuple[Fetch, FetchOutcome]]


class CalledOff(Exception):
    """Nobody wants any more what comes."""


@dataclass(slots=True)
class _Together:
    """A file in which small runs lie one after the other, and how long it is."""

    file: BinaryIO
    path: str
    length: int


class FetchedFiles:
    """The files of one request, in the order in which it names them."""

    def __init__(self, outputs: Outputs, fetches: Sequence[Fetch]) -> None:
        self._outputs = outputs
        self._waiting = deque(fetches)
        self._begun_before: set[int] = set()  # fetches of which a file of their own has a beginning
        self._sections = Sections()
        self._decompressor: Decompressor | None = None
        self.bytes_taken = 0  # of the answer, decompressed
        self._has_begun = False
        self._together: dict[AttemptId, _Together] = {}
        self._file: BinaryIO | None = None
        self._status = OK
        self._length = 0  # of the output at hand
        self._left = 0
        self._told = b""
        self._shared: _Together | None = None  # where the output at hand goes, if it is small
        self._untold: Ended = []
        self._is_called_off = False

    def wanted(self) -> list[Wanted]:
        """What to ask for: what is not here yet."""
        wanted = []
        for fetch in self._waiting:
            start = self._outputs.fetched_bytes(fetch.attempt, fetch.source.attempt)
            if start:
                self._begun_before.add(fetch.number)
            wanted.append(Wanted(fetch.source.attempt, fetch.partition, start))
        return wanted

    def expect_compressed(self) -> None:
        """What will come is compressed."""
        self._decompressor = Decompressor()

    @property
    def are_complete(self) -> bool:
        """Whether all outputs have ended."""
        return not self._waiting and not self._untold

    def call_off(self) -> None:
        """Have no more places made: those that there are may be removed after this. For any thread."""
        self._is_called_off = True

    def write(self, pieces: Sequence[bytes]) -> Ended:
        """Take in a part of the answer. Raises OSError, Corruption for one that cannot be understood, and CalledOff."""
        for piece in self._decompressed(pieces):
            self.bytes_taken += len(piece)
            for part in self._sections.feed(piece):
                self._has_begun = True
                if isinstance(part, Head):
                    self._begin(part)
                else:
                    self._go_on(part)
                if not self._left:
                    self._untold.append(self._end())
        for shared in self._together.values():
            shared.file.flush()  # what is told of is there
        ended, self._untold = self._untold, []
        return ended

    def break_off(self, reason: str) -> Ended:
        """Nothing more comes: what became of the outputs that have not ended. None of them is known to be gone.

        What ended in a piece that could not be written to its end may not be there, and is asked for again.
        """
        self.close()
        outcome = Unreachable(reason)
        behind: FetchOutcome = NotReached() if self._has_begun else outcome
        ended: Ended = [(fetch, behind if self._waiting else outcome) for fetch, _ in self._untold]
        ended += [(fetch, behind if number else outcome) for number, fetch in enumerate(self._waiting)]
        self._waiting.clear()
        self._untold.clear()
        return ended

    def close(self) -> None:
        """Let go of all files."""
        files = [shared.file for shared in self._together.values()]
        if self._file is not None and self._shared is None:
            files.append(self._file)
        self._together, self._file, self._shared = {}, None, None
        for file in files:
            with contextlib.suppress(OSError):  # what was not told of is fetched again
                file.close()

    def _decompressed(self, pieces: Sequence[bytes]) -> Iterable[bytes]:
        if self._decompressor is None:
            return pieces
        return chain.from_iterable(map(self._decompressor.feed, pieces))

    def _begin(self, head: Head) -> None:
        if not self._waiting:
            raise Corruption("the answer tells of more outputs than were asked for")
        self._status, self._left, self._told = head.status, head.length, b""
        if head.status != OK:
            return
        fetch = self._waiting[0]
        with self._outputs.fetching:
            self._check_that_it_is_wanted()
            self._file = self._open(fetch, head)
        if self._shared is None and fetch.number not in self._begun_before and self._file.tell():  # all of it comes
            self._file.seek(0)
            self._file.truncate()
        self._length = head.length

    def _check_that_it_is_wanted(self) -> None:
        if self._is_called_off:
            raise CalledOff

    def _open(self, fetch: Fetch, head: Head) -> BinaryIO:
        if not self._is_small(fetch, head):
            return self._outputs.open_fetched(fetch.attempt, fetch.source.attempt)
        self._shared = self._together.get(fetch.attempt)
        if self._shared is None:
            file, path = self._outputs.open_together(fetch.attempt, fetch.number)
            self._shared = self._together[fetch.attempt] = _Together(file, path, file.tell())
        return self._shared.file

    def _is_small(self, fetch: Fetch, head: Head) -> bool:
        is_begun = fetch.number in self._begun_before
        return fetch.partition != PART and head.length < TOGETHER_BYTES and not is_begun

    def _go_on(self, data: memoryview) -> None:
        if self._file is not None:
            self._file.write(data)
        else:
            self._told += data
        self._left -= len(data)

    def _end(self) -> tuple[Fetch, FetchOutcome]:
        fetch = self._waiting[0]
        if self._file is None:
            outcome = _outcome_of(from_http(self._status, self._told, f"the worker {fetch.source.worker}"))
        else:
            outcome = Fetched(self._put_away(fetch, self._file))
        self._waiting.popleft()
        return fetch, outcome

    def _put_away(self, fetch: Fetch, file: BinaryIO) -> int:
        """Be done with the file at hand; gives back the length of the run."""
        shared, self._shared = self._shared, None
        if shared is None:
            length = file.tell()
            file.close()
        else:
            length = self._length
            with self._outputs.fetching:
                self._check_that_it_is_wanted()
                self._outputs.keep_together(fetch.attempt, fetch.source.attempt, shared.path, shared.length, length)
            shared.length += length
        self._file = None
        return length


def _outcome_of(error: MinireduceError) -> FetchOutcome:
    """What an error says of an output: that it is no more, or that nobody knows."""
    if isinstance(error, NotFound | Corruption | RequestError):
        return Gone(error.message)
    return Unreachable(error.message)
