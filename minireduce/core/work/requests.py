"""Gather fetches into requests, so that many small outputs of one worker cost one question and one answer.

A request names outputs of one worker, which answers with one after the other. It takes up fetches that are planned at
the same moment, of several attempts of a job too, until it holds `request_outputs_max` of them or is expected to bring
`request_bytes_max`: small outputs share a request, and a large one has its own. While all requests that are allowed are
under way, outputs that come to be wait, and go together into the next one: the busier a source is, the fewer requests
a byte takes.

Invariants: at most `fetches_max` requests under way, at most `fetches_per_source_max` to one address; a request is
under way until its last fetch has ended.
Not here: which output is fetched next, and what becomes of it (fetches.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from minireduce.core.settings import WorkerSettings
from minireduce.core.task_data import OutputSource
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring partition `partition` (or the part: `PART`) of `source` here, as an input of `attempt`.

    Fetches are numbered; a number is never used twice. A second fetch into the same place (attempt, source) may go on
    where the first broke off.
    """

    number: int
    attempt: AttemptId
    source: OutputSource
    partition: int
    read_token: str


@dataclass(frozen=True, slots=True)
class StartFetches:
    """Ask one worker for all of these at once. They share address and token; each ends by itself (`FetchesEnded`)."""

    fetches: tuple[Fetch, ...]


@dataclass(slots=True)
class Request:
    """What one worker is asked for at once. `left`: fetches that have not ended."""

    address: str
    read_token: str
    fetches: list[Fetch] = field(default_factory=list)
    bytes_expected: int = 0
    left: int = 0


class Requests:
    """The requests under way, and those that are being gathered."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._gathered: list[Request] = []
        self._open: dict[tuple[str, str], Request] = {}
        self._by_fetch: dict[int, Request] = {}
        self._by_address: Counter[str] = Counter()

    def has_room(self, address: str, read_token: str) -> bool:
        """Whether one more fetch from there may start now."""
        return (address, read_token) in self._open or self._may_ask(address)

    def add(self, fetch: Fetch, bytes_expected: int) -> None:
        """Start this fetch with the next request to its source, for which there is room."""
        key = fetch.source.address, fetch.read_token
        request = self._open.get(key)
        if request is None:
            request = self._open[key] = Request(*key)
            self._gathered.append(request)
            self._by_address[request.address] += 1
        request.fetches.append(fetch)
        request.bytes_expected += bytes_expected
        request.left += 1
        self._by_fetch[fetch.number] = request
        is_full = len(request.fetches) >= self._settings.request_outputs_max
        if is_full or request.bytes_expected >= self._settings.request_bytes_max:
            del self._open[key]

    def take_gathered(self) -> list[StartFetches]:
        """The requests to start now. What is added after goes into others."""
        gathered, self._gathered = self._gathered, []
        self._open.clear()
        return [StartFetches(tuple(request.fetches)) for request in gathered]

    def ended(self, number: int) -> None:
        """A fetch has ended, in whatever way."""
        request = self._by_fetch.pop(number)
        request.left -= 1
        if not request.left:
            self._by_address[request.address] -= 1
            if not self._by_address[request.address]:
                del self._by_address[request.address]

    def _may_ask(self, address: str) -> bool:
        is_room_in_all = self._by_address.total() < self._settings.fetches_max
        return is_room_in_all and self._by_address[address] < self._settings.fetches_per_source_max
