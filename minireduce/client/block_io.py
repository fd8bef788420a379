"""Move bytes of blocks between this process and block servers, and verify every one of them.

`core.storage.writing` and `core.storage.reading` decide what is tried next; here it is done. Doors stay open between
calls, since a reader asks the same worker again and again. Not safe for several threads: each has its own `BlockDoors`.
"""

from __future__ import annotations

import http.client
import math
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from minireduce.checksums import PACKET_BYTES
from minireduce.client.asking import ANSWER_BYTES_MAX, READ_BYTES, Answer, Hedge, as_error, first_answer
from minireduce.client.doors import open_door
from minireduce.client.local_blocks import AskedAhead, LocalReplica, LocalReplicas, ask, is_same_host
from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.core.storage import reading, writing
from minireduce.core.storage.views import BlockTarget, PlacedBlock
from minireduce.errors import Corruption, MinireduceError, Unavailable
from minireduce.ids import WorkerId
from minireduce.wire.errors import from_http
from minireduce.wire.packets import seal, sealed_length
from minireduce.wire.pipeline import (
    BASE_HEADER,
    LENGTH_HEADER,
    PIPELINE_HEADER,
    Base,
    Written,
    silence_s_max,
    write_pipeline,
)

KEPT_BYTES_MAX = 16 << 20
"""Of a replica that stays open between readers: as large as a block that small files share."""
Pause = Callable[[float], None]


class BlockDoors:
    """Connections to block servers, one for each address, opened when needed. `authority` (PEM) is whom they trust."""

    def __init__(self, authority: bytes | None) -> None:
        self._authority = authority
        self._doors: dict[str, http.client.HTTPConnection] = {}
        self._local = LocalReplicas()
        self._ahead: dict[str, AskedAhead] = {}

    def close(self) -> None:
        """Close them all."""
        self._local.close()
        self._ahead.clear()
        for door in self._doors.values():
            door.close()
        self._doors.clear()

    def keep_little(self) -> None:
        """Forget large replicas that are open here: once removed they would take up room as long as they are."""
        self._local.keep_up_to(KEPT_BYTES_MAX)
        for address in self._ahead:
            door = self._doors.pop(address, None)
            if door is not None:
                door.close()
        self._ahead.clear()

    def _take_door(self, address: str) -> http.client.HTTPConnection | None:
        """The connection that is open to this worker, once it has answered what it was asked ahead."""
        door = self._doors.pop(address, None)
        asked = self._ahead.pop(address, None)
        if door is None or asked is None:
            return door
        try:
            if asked.is_old:
                door.getresponse().read()
            else:
                self._local.take(door, address, asked.replica)
        except (OSError, http.client.HTTPException) as error:
            door.close()
            if isinstance(error, TimeoutError):  # it is silent: asked anew it would be so once more
                raise
            return None
        return door

    def ask_ahead(self, source: BlockSource, token: str) -> None:
        """Have the worker that will be read next get ready to hand a descriptor over, if it is on this host."""
        address = source.addresses[0] if source.addresses else ""
        door = self._doors.get(address)
        if door is None or door.sock is None or address in self._ahead:
            return
        if not self._local.should_ask(address, source.replica) or not is_same_host(door.sock):
            return
        try:
            ask(door, source.replica, token)
        except (OSError, http.client.HTTPException):
            self._doors.pop(address).close()
        else:
            self._ahead[address] = AskedAhead(source.replica, time.monotonic())

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

        def put(door: http.client.HTTPConnection) -> Written:
            return self._put(door, first, path, data, headers)

        try:
            door = self._take_door(first.address)
            if door is not None:
                try:
                    if door.sock is not None:
                        door.sock.settimeout(silence_s)
                    return put(door)
                except (ConnectionError, ssl.SSLError):
                    pass  # the other side closed it meanwhile: it is opened anew, once
            return put(open_door(first.worker, first.address, self._authority, silence_s))
        except (OSError, http.client.HTTPException, ValueError) as cause:
            raise Unavailable(f"the worker {first.worker} at {first.address} did not take a block: {cause}") from cause

    def _put(
        self,
        door: http.client.HTTPConnection,
        target: BlockTarget,
        path: str,
        data: bytes | memoryview,
        headers: dict[str, str],
    ) -> Written:
        """Send a block through a door, which stays open when that went well."""
        is_kept = False
        try:
            door.request("PUT", path, body=_gathered(data), headers=headers)
            answer = door.getresponse()
            told = answer.read(ANSWER_BYTES_MAX)
            is_kept = answer.status == http.client.OK
        finally:
            if not is_kept:
                door.close()
        if not is_kept:
            raise from_http(answer.status, told, f"the worker {target.worker}")
        self._doors[target.address] = door
        return Written.from_json(told)

    def fetch(self, fetch: reading.Fetch, token: str, hedge: Hedge | None = None) -> Iterator[bytes]:
        """The bytes of a range of a replica, in pieces, each verified. Raises Corruption, Unavailable, NotFound.

        With a `hedge` another worker may be asked and read instead.
        """
        read = fetch
        try:
            answer = self._answer(fetch, token, hedge)
            read = answer.fetch
            if answer.local is not None:
                self._doors[read.address] = answer.door  # what it answered was taken whole
                rest = yield from self._read_here(answer.local, read)
                if rest is None:
                    return
                answer = self._ask(rest, token, self._take_door(rest.address))
            try:
                yield from answer.pieces()
            except BaseException:  # the reader stopped in the middle, too: what is left in there is nobody's
                answer.door.close()
                raise
            self._doors[read.address] = answer.door
        except (OSError, http.client.HTTPException) as cause:
            raise as_error(cause, read) from cause

    def _read_here(self, local: LocalReplica, fetch: reading.Fetch) -> Generator[bytes, None, reading.Fetch | None]:
        """The bytes of a replica that is open here; what is left where it proves damaged.

        The worker is asked for that: it looks itself, and tells of what it finds.
        """
        taken = 0
        try:
            for piece in local.pieces(fetch.offset, fetch.length):
                taken += len(piece)
                yield piece
        except Corruption:
            self._local.distrust(fetch.address, fetch.replica)
            return replace(fetch, offset=fetch.offset + taken, length=fetch.length - taken)
        return None

    def _answer(self, fetch: reading.Fetch, token: str, hedge: Hedge | None) -> Answer:
        if hedge is None:
            return self._ask(fetch, token, self._take_door(fetch.address))
        if fetch.hedge_after_s < math.inf:
            return first_answer(fetch, lambda each: self._ask(each, token, self._take_door(each.address)), hedge)
        began_s = time.monotonic()
        answer = self._ask(fetch, token, self._take_door(fetch.address))
        hedge.answered(fetch.worker, time.monotonic() - began_s)
        return answer

    def _ask(self, fetch: reading.Fetch, token: str, door: http.client.HTTPConnection | None) -> Answer:
        """Ask through the door; one that the other side closed meanwhile is opened anew, once.

        A door that fails is closed; whoever gets the answer has it after that.
        """
        is_new = door is None
        if door is None:
            door = open_door(fetch.worker, fetch.address, self._authority, fetch.silence_s)
        try:
            if door.sock is None:
                door.connect()
            door.sock.settimeout(fetch.silence_s)
            return self._ask_through(door, fetch, token)
        except (OSError, http.client.HTTPException):
            door.close()
            if is_new:
                raise
        except BaseException:
            door.close()
            raise
        return self._ask(fetch, token, None)

    def _ask_through(self, door: http.client.HTTPConnection, fetch: reading.Fetch, token: str) -> Answer:
        replica = fetch.replica
        local = self._local_replica(door, fetch, token)
        if local is not None:
            return Answer(fetch, door, local=local)
        path = f"/blocks/{replica.block_id}/{replica.generation}?offset={fetch.offset}&length={fetch.length}"
        door.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return Answer(fetch, door, response=door.getresponse())

    def _local_replica(self, door: http.client.HTTPConnection, fetch: reading.Fetch, token: str) -> LocalReplica | None:
        """The replica as a descriptor, where the worker is on this host and passes it."""
        replica = fetch.replica
        if not self._local.may_be_here(fetch.address, replica):
            return None
        found = self._local.get(fetch.address, replica)
        if found is not None:
            return found
        if not is_same_host(door.sock):
            self._local.is_elsewhere(fetch.address)
            return None
        ask(door, replica, token)
        return self._local.take(door, fetch.address, replica)


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


class _Hedging:
    """What the machine says of a second worker."""

    def __init__(self, machine: reading.RangeReading, tell: Callable[[reading.Action], None]) -> None:
        self._machine = machine
        self._tell = tell

    def another(self) -> reading.Fetch | None:
        found = self._machine.advance(reading.ReplicaSlow())
        return found[0] if found and isinstance(found[0], reading.Fetch) else None

    def answered(self, worker: WorkerId, after_s: float) -> None:
        self._machine.advance(reading.ReplicaAnswered(worker, after_s))

    def failed(self, worker: WorkerId, error: MinireduceError) -> None:
        for action in self._machine.advance(reading.ReplicaFailed(error, worker)):
            self._tell(action)


def read_range(
    fetch: Callable[[reading.Fetch, Hedge], Iterator[bytes]],
    source: BlockSource,
    offset: int,
    length: int,
    *,
    failing: dict[WorkerId, None],
    locate: Callable[[], BlockSource],
    tell_damage: Callable[[Replica, WorkerId], None],
    pause: Pause = time.sleep,
    pace: reading.Pace | None = None,
) -> Iterator[bytes]:
    """The bytes of a range of a block, verified, from whichever replica has them. Raises MinireduceError.

    `failing` and `pace` are kept from range to range of one reader, who leaves them alone.
    """
    if length <= 0:
        return
    machine = reading.RangeReading(source, offset, length, failing, pace)

    def tell(action: reading.Action) -> None:
        if isinstance(action, reading.TellDamage):
            tell_damage(action.replica, action.worker)

    hedging = _Hedging(machine, tell)
    actions = machine.begin()
    while actions:
        action = actions.pop(0)
        match action:
            case reading.Fetch():
                failed: MinireduceError = Unavailable("it ended early")
                taken = 0
                try:
                    for piece in fetch(action, hedging):
                        taken += len(piece)
                        yield piece
                except MinireduceError as error:
                    failed = error
                if taken:  # once for all pieces: there may be very many
                    actions = machine.advance(reading.BytesRead(taken))
                if not actions:
                    actions = machine.advance(reading.ReplicaFailed(failed))
            case reading.TellDamage():
                tell(action)
            case reading.LocateAgain(pause_s):
                pause(pause_s)
                actions = machine.advance(reading.BlockLocated(locate()))
            case reading.GiveUp(error):
                raise error
            case reading.RangeDone():
                return
