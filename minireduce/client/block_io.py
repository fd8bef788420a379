"""Move bytes of blocks between this process and block servers, and verify every one of them.

`core.storage.writing` and `core.storage.reading` decide what is tried next; here it is done. Doors stay open between
calls, since a reader asks the same worker again and again. Not safe for several threads: each has its own `BlockDoors`.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from minireduce.client.doors import open_door
from minireduce.core.messages import BlockSource, Replica
from minireduce.core.storage import reading, writing
from minireduce.core.storage.views import PlacedBlock
from minireduce.errors import Corruption, MinireduceError, Unavailable
from minireduce.ids import WorkerId
from minireduce.wire.errors import from_http
from minireduce.wire.packets import PACKET_BYTES, Unsealer, seal, sealed_length, widen
from minireduce.wire.pipeline import (
    BASE_HEADER,
    LENGTH_HEADER,
    PIPELINE_HEADER,
    Base,
    Written,
    silence_s_max,
    write_pipeline,
)

READ_BYTES = 1 << 20
ANSWER_BYTES_MAX = 64 << 10
Pause = Callable[[float], None]


class BlockDoors:
    """Connections to block servers, one for each address, opened when needed. `authority` (PEM) is whom they trust."""

    def __init__(self, authority: bytes | None) -> None:
        self._authority = authority
        self._doors: dict[str, http.client.HTTPConnection] = {}

    def close(self) -> None:
        """Close them all."""
        for door in self._doors.values():
            door.close()
        self._doors.clear()

    def send(self, placed: PlacedBlock, data: bytes | memoryview) -> Written:
        """Send a block down its pipeline; who has it on disk. Raises MinireduceError when the first did not take it.

        Where there is a base, `data` begins with the packet in which that ends.
        """
        length = placed.base_length // PACKET_BYTES * PACKET_BYTES + len(data)
        first, *rest = placed.targets
        headers = {
            "Authorization": f"Bearer {placed.write_token}",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(sealed_length(len(data))),
            LENGTH_HEADER: str(length),
            PIPELINE_HEADER: write_pipeline([(target.worker, target.address) for target in rest]),
        }
        if placed.base_generation:
            headers[BASE_HEADER] = Base(placed.base_generation, placed.base_length).to_text()
        path = f"/blocks/{placed.block_id}/{placed.generation}"
        silence_s = silence_s_max(len(placed.targets))
        with closing(open_door(first.worker, first.address, self._authority, silence_s)) as door:
            try:
                door.request("PUT", path, body=_gathered(data), headers=headers)
                answer = door.getresponse()
                told = answer.read(ANSWER_BYTES_MAX)
                if answer.status != http.client.OK:
                    raise from_http(answer.status, told, f"the worker {first.worker}")
                return Written.from_json(told)
            except (OSError, http.client.HTTPException, ValueError) as cause:
                raise Unavailable(
                    f"the worker {first.worker} at {first.address} did not take a block: {cause}"
                ) from cause

    def fetch(self, fetch: reading.Fetch, token: str) -> Iterator[bytes]:
        """The bytes of a range of a replica, in pieces, each verified. Raises Corruption, Unavailable, NotFound."""
        try:
            yield from self._fetch(fetch, token)
        except (OSError, http.client.HTTPException) as cause:
            self._drop(fetch.address)
            raise Unavailable(f"the worker {fetch.worker} at {fetch.address} broke off: {cause!r}") from cause
        except BaseException:  # the reader stopped in the middle, too: what is left in the connection is nobody's
            self._drop(fetch.address)
            raise

    def _fetch(self, fetch: reading.Fetch, token: str) -> Iterator[bytes]:
        replica = fetch.replica
        begin, end = widen(fetch.offset, fetch.length, replica.length)
        answer = self._ask(fetch, token)
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

    def _ask(self, fetch: reading.Fetch, token: str) -> http.client.HTTPResponse:
        """Ask through the open door; a door that the other side closed meanwhile is opened anew, once."""
        replica = fetch.replica
        path = f"/blocks/{replica.block_id}/{replica.generation}?offset={fetch.offset}&length={fetch.length}"
        for is_last in (False, True):
            is_new = fetch.address not in self._doors
            if is_new:
                self._doors[fetch.address] = open_door(fetch.worker, fetch.address, self._authority, fetch.silence_s)
            door = self._doors[fetch.address]
            if door.sock is not None:
                door.sock.settimeout(fetch.silence_s)
            try:
                door.request("GET", path, headers={"Authorization": f"Bearer {token}"})
                return door.getresponse()
            except (OSError, http.client.HTTPException):
                self._drop(fetch.address)
                if is_new or is_last:
                    raise
        raise AssertionError("the second try answers or raises")

    def _drop(self, address: str) -> None:
        door = self._doors.pop(address, None)
        if door is not None:
            door.close()


def _gathered(data: bytes | memoryview) -> Iterator[bytes]:
    """`data` sealed, in pieces of about 1 MiB: each goes out with one system call."""
    batch: list[bytes] = []
    size = 0
    for piece in seal(data):
        batch.append(piece)
        size += len(piece)
        if size >= READ_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def write_block(
    doors: BlockDoors,
    length: int,
    data_for: Callable[[PlacedBlock], bytes | memoryview],
    excluded: dict[WorkerId, None],
    *,
    place: Callable[[tuple[WorkerId, ...]], PlacedBlock],
    commit: Callable[[Replica, tuple[WorkerId, ...]], bool],
    pause: Pause = time.sleep,
) -> None:
    """Get a block onto enough disks. `place` and `commit` ask the master, `data_for` gives what a placement needs.

    Raises Unavailable when it cannot be done.
    """
    machine = writing.BlockWriting(length, excluded)
    action = machine.begin()
    while True:
        match action:
            case writing.PlaceBlock(excluded_now, pause_s):
                if pause_s:
                    pause(pause_s)
                event: writing.Event = writing.BlockPlaced(place(excluded_now))
            case writing.SendBlock(placed):
                event = _sent(doors, placed, data_for(placed))
            case writing.CommitToMaster(replica, workers):
                event = writing.BlockCommitted() if commit(replica, workers) else writing.CommitRefused()
            case writing.BlockDone():
                return
            case writing.GiveUp(error):
                raise error
        action = machine.advance(event)


def _sent(doors: BlockDoors, placed: PlacedBlock, data: bytes | memoryview) -> writing.Event:
    try:
        written = doors.send(placed, data)
    except MinireduceError as error:
        return writing.SendingFailed(error)
    return writing.BlockSent(written.workers, tuple(worker for worker, _ in written.failed))


def read_range(
    fetch: Callable[[reading.Fetch], Iterator[bytes]],
    source: BlockSource,
    offset: int,
    length: int,
    *,
    failing: dict[WorkerId, None],
    locate: Callable[[], BlockSource],
    tell_damage: Callable[[Replica, WorkerId], None],
    pause: Pause = time.sleep,
) -> Iterator[bytes]:
    """The bytes of a range of a block, verified, from whichever replica has them. Raises MinireduceError.

    `failing` is kept from range to range of one reader, who leaves it alone.
    """
    if length <= 0:
        return
    machine = reading.RangeReading(source, offset, length, failing)
    actions = machine.begin()
    while actions:
        action = actions.pop(0)
        match action:
            case reading.Fetch():
                try:
                    for piece in fetch(action):
                        yield piece
                        actions = machine.advance(reading.BytesRead(len(piece)))
                    if not actions:
                        actions = machine.advance(reading.ReplicaFailed(Unavailable("it ended early")))
                except MinireduceError as error:
                    actions = machine.advance(reading.ReplicaFailed(error))
            case reading.TellDamage(replica, worker):
                tell_damage(replica, worker)
            case reading.LocateAgain(pause_s):
                pause(pause_s)
                actions = machine.advance(reading.BlockLocated(locate()))
            case reading.GiveUp(error):
                raise error
            case reading.RangeDone():
                return
