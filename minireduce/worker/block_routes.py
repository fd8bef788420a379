"""The block server's doors to replicas: take a block in and send it on, give one out, and copy one to another worker.

    PUT /blocks/ID/GENERATION                     body: the whole block, sealed (see `wire.packets`)
        Minireduce-Block-Length: N                its bytes
        Minireduce-Block-Base: GENERATION,N       where a block becomes longer: its first N bytes are here already, and
                                                  the body begins with the packet in which they end
        Minireduce-Pipeline: [[WORKER, ADDRESS]…] who comes after this worker
    → {"workers": [who has it on disk], "failed": [[who has not, why]]}

    GET /blocks/ID/GENERATION?offset=N&length=N   the packets that cover the range, sealed; all without a range

    GET /local/ID/GENERATION                      for a reader on this host: the checksums, and where to fetch a
                                                  descriptor of the bytes (see `wire.local_door`)

A block is verified packet by packet as it comes in, written and sent on at once. The answer waits for our own disk
(file, checksums and directory synced) and for the next worker's answer. A next worker that fails is left out, and the
write goes on: the writer and the master judge whether enough have it. When our own disk fails the whole write fails,
and the writer begins again without us.

What is given out was verified here, and is verified again by whoever reads it. Damage that shows in the middle of an
answer breaks the connection off, so that nobody takes a part for the whole; the master hears of it from us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence

from aiohttp import web

from minireduce.checksums import widen
from minireduce.core.replica_messages import ByteRange, RepackBlock, Replica, ReplicateBlock
from minireduce.core.worker import (
    ReplicaDeleted,
    ReplicaFoundDamaged,
    ReplicationEnded,
    ReplicaWritten,
)
from minireduce.errors import MinireduceError, Refused, RequestError, Unavailable
from minireduce.failpoints import hit
from minireduce.ids import WorkerId
from minireduce.wire.errors import to_http
from minireduce.wire.packets import Packet, Unsealer, seal, sealed_length
from minireduce.wire.pipeline import (
    BASE_HEADER,
    LENGTH_HEADER,
    PIPELINE_HEADER,
    Base,
    Written,
    read_base,
    read_pipeline,
    sent_length,
)
from minireduce.worker.block_messages import ReplicaEvent
from minireduce.worker.block_sending import BlockSender, Sending
from minireduce.worker.block_store import BlockStore
from minireduce.worker.gate import PRINCIPAL
from minireduce.worker.local_reads import LocalReads
from minireduce.worker.replica_files import DamagedReplica
from minireduce.worker.replica_writing import ReplicaWriter

log = logging.getLogger(__name__)

BLOCK_BYTES_MAX = 1 << 40
WRITE_BYTES = 1 << 20
MEASURE_INTERVAL_S = 10.0
MEASURE_AGAIN_S = 1.0
"""So soon after a measure the next one may follow, where blocks came or went: people look whether there is room."""
_NUMBER = re.compile(r"[0-9]{1,18}")


class BlockRoutes:
    """The doors over one `BlockStore`. `tell` hears of everything that the worker's machine must know."""

    def __init__(
        self,
        store: BlockStore,
        worker: WorkerId,
        sender: BlockSender,
        tell: Callable[[ReplicaEvent], None],
        local_reads: LocalReads | None = None,
    ) -> None:
        self._local_reads = local_reads
        self.store = store
        self._worker = worker
        self._has_changed = asyncio.Event()
        self._sender = sender
        self._tell = tell

    def routes(self) -> list[web.RouteDef]:
        """What the block server mounts."""
        path = "/blocks/{block}/{generation}"
        local = "/local/{block}/{generation}"
        return [web.put(path, self.take_in), web.get(path, self.give_out), web.get(local, self.offer)]

    # ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def take_in(self, request: web.Request) -> web.StreamResponse:
        """Write a block here and send it on."""
        block_id, generation = _named(request)
        if not request[PRINCIPAL].may_write_block(block_id, generation):
            raise Refused(f"this token does not open block {block_id} of generation {generation} for writing")
        base = read_base(request.headers.get(BASE_HEADER, ""))
        replica = Replica(block_id, generation, _block_length(request, base))
        pipeline = read_pipeline(request.headers.get(PIPELINE_HEADER, "[]"))
        with self._telling_closure():
            if base is None:
                writer = self.store.create(replica)
            else:
                writer = self.store.append(replica, base.generation, base.length)
        sending: Sending | None = None
        if pipeline:
            token = request.headers["Authorization"].partition(" ")[2]
            sending = self._sender.start(replica, pipeline, token, base)
        try:
            with self._telling_closure():
                last = await self._receive(request, writer, sending, base)
                await asyncio.to_thread(writer.commit, last)
            self._tell(ReplicaWritten(replica))
            self._has_changed.set()
            after = await sending.result() if sending is not None else Written(())
        except BaseException as error:
            if isinstance(error, DamagedReplica):  # what was to become longer
                self.found_damaged(error.replica, error)
            await asyncio.to_thread(writer.discard)
            raise
        finally:
            if sending is not None:
                await sending.abandon()
        for worker, reason in after.failed:
            log.warning("block %d is not on %s: %s", block_id, worker, reason)
        written = Written((self._worker, *after.workers), after.failed)
        return web.Response(text=written.to_json(), content_type="application/json")

    @contextlib.contextmanager
    def _telling_closure(self) -> Iterator[None]:
        """After a failed write: have the master place no more blocks here."""
        try:
            yield
        except MinireduceError:
            for directory, reason in self.store.directories.closed.items():
                log.error("%s takes no more writes: %s", directory, reason)  # noqa: TRY400 - no fault of the code
            if self.store.directories.closed:
                self._tell(self.store.directories.measure())
            raise

    async def _receive(
        self, request: web.Request, writer: ReplicaWriter, sending: Sending | None, base: Base | None
    ) -> list[Packet]:
        """Send on all that comes and write it; the last packets are left to be written with the commit."""
        name = f"block {writer.replica.block_id}"
        unsealer = Unsealer(sent_length(writer.replica.length, base), name)
        batch: list[Packet] = []
        size = 0
        async for piece in request.content.iter_any():
            for packet in unsealer.feed(piece):
                batch.append(packet)
                size += len(packet.data)
            if size >= WRITE_BYTES and not unsealer.is_complete:
                await _send_on(batch, sending)
                await asyncio.to_thread(writer.write, batch)
                batch, size = [], 0
        if not unsealer.is_complete:
            raise Unavailable(f"{name} ended before its last byte")
        await _send_on(batch, sending)
        if sending is not None:
            await sending.send(None)
        return batch

    async def watch_directories(self) -> None:
        """Measure the directories again and again, and open those that were full and have room.

        A measure goes with the next heartbeat, so that what was stored shows a moment later.
        """
        directories = self.store.directories
        while True:
            if await asyncio.to_thread(directories.reopen):
                log.warning("there is room again: blocks are taken in")
            self._has_changed.clear()
            self._tell(await asyncio.to_thread(directories.measure))
            await asyncio.sleep(MEASURE_AGAIN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MEASURE_INTERVAL_S - MEASURE_AGAIN_S):
                    await self._has_changed.wait()

    # ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def give_out(self, request: web.Request) -> web.StreamResponse:
        """Send a replica, or the packets that cover a range of it."""
        block_id, generation = _readable(request)
        response: web.StreamResponse | None = None
        try:
            replica = self.store.find(block_id, generation)
            offset, length = _range(request, replica)
            pieces = self.store.read(block_id, generation, offset, length)
            piece = await asyncio.to_thread(next, pieces, b"")
            begin, end = widen(offset, length, replica.length)
            response = web.StreamResponse(headers={LENGTH_HEADER: str(replica.length)})
            response.content_type = "application/octet-stream"
            response.content_length = sealed_length(end - begin)
            await response.prepare(request)
            while piece:
                piece = await _write_and_read_on(response, piece, pieces)
            await response.write_eof()
        except DamagedReplica as damage:
            self.found_damaged(Replica(block_id, generation, 0), damage)
            if response is None:
                status, body = to_http(damage)
                return web.json_response(body, status=status)
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the answer was broken off") from damage
        return response

    async def offer(self, request: web.Request) -> web.StreamResponse:
        """Offer a descriptor to a reader on this host."""
        block_id, generation = _readable(request)
        if self._local_reads is None:
            raise Refused("this worker gives no descriptors of its replicas", hint="ask for the bytes")
        try:
            replica, data, crcs = await asyncio.to_thread(self.store.open_data, block_id, generation)
        except DamagedReplica as damage:
            self.found_damaged(Replica(block_id, generation, 0), damage)
            status, body = to_http(damage)
            return web.json_response(body, status=status)
        headers = {LENGTH_HEADER: str(replica.length), **self._local_reads.offer(data).to_headers()}
        return web.Response(body=crcs, headers=headers, content_type="application/octet-stream")

    def found_damaged(self, replica: Replica, damage: DamagedReplica) -> None:
        """A replica proved damaged: the worker hears of it, and of all that its directory took along."""
        log.warning("%s", damage)
        self._tell(ReplicaFoundDamaged(replica, self._worker))
        given_up = self.store.take_given_up()
        for lost in given_up:
            self._tell(ReplicaFoundDamaged(lost, self._worker))
        if given_up:
            log.error("%d more replicas are given up with their directory", len(given_up))
            self._tell(self.store.directories.measure())

    # ── what the master orders ──────────────────────────────────────────────────────────────────────────────────────

    async def replicate(self, order: ReplicateBlock) -> None:
        """Send our replica to another worker; `ReplicationEnded` is told."""
        held = order.replica

        def read() -> Iterator[bytes]:
            hit("copy.before_send")
            return self.store.read(held.block_id, held.generation)

        await self._send(order, held, read)

    async def repack(self, order: RepackBlock) -> None:
        """Send ranges of our replica as another block; `ReplicationEnded` is told, of that."""

        def read() -> Iterator[bytes]:
            hit("repack.before_send")
            return seal(b"".join(self._verified(order.replica, part) for part in order.ranges))

        await self._send(order, order.packed, read)

    def _verified(self, replica: Replica, part: ByteRange) -> bytes:
        begin, end = widen(part.offset, part.length, replica.length)
        unsealer = Unsealer(end - begin, f"block {replica.block_id}")
        pieces = self.store.read(replica.block_id, replica.generation, part.offset, part.length)
        data = b"".join(packet.data for piece in pieces for packet in unsealer.feed(piece))
        return data[part.offset - begin :][: part.length]

    async def _send(
        self, order: ReplicateBlock | RepackBlock, replica: Replica, read: Callable[[], Iterator[bytes]]
    ) -> None:
        """Send what `read` gives, sealed, from the replica that the order names, to be `replica` there."""
        held, error = order.replica, ""
        sending: Sending | None = None
        try:
            self.store.find(held.block_id, held.generation)
            pieces = await asyncio.to_thread(read)
            sending = self._sender.start(replica, ((order.target, order.target_address),), order.write_token)
            while piece := await asyncio.to_thread(next, pieces, b""):
                await sending.send(piece)
            await sending.send(None)
            written = await sending.result()
            error = "; ".join(reason for _, reason in written.failed)
        except DamagedReplica as damage:
            self.found_damaged(held, damage)
            error = damage.message
        except MinireduceError as raised:
            error = raised.message
        finally:
            if sending is not None:
                await sending.abandon()
        self._tell(ReplicationEnded(replica, error))

    async def delete(self, replica: Replica) -> None:
        """Remove a replica; `ReplicaDeleted` is told once it is gone."""
        try:
            await asyncio.to_thread(self.store.remove, replica.block_id, replica.generation)
        except OSError as error:
            log.warning("block %d cannot be removed: %s", replica.block_id, error)
            return
        self._tell(ReplicaDeleted(replica))
        self._has_changed.set()


async def _send_on(batch: Sequence[Packet], sending: Sending | None) -> None:
    if sending is not None:
        await sending.send(b"".join([part for packet in batch for part in (packet.crc, packet.data)]))


async def _write_and_read_on(response: web.StreamResponse, piece: bytes, pieces: Iterator[bytes]) -> bytes:
    """Send a piece while the next one is read and verified; that one, empty at the end."""
    following = asyncio.create_task(asyncio.to_thread(next, pieces, b""))
    try:
        await response.write(piece)
    except BaseException:
        await asyncio.wait([following])  # what is being read cannot be closed
        following.exception()  # it is nobody's any more
        raise
    return await following


def _named(request: web.Request) -> tuple[int, int]:
    block, generation = request.match_info["block"], request.match_info["generation"]
    return _number(block, "block id"), _number(generation, "generation")


def _readable(request: web.Request) -> tuple[int, int]:
    """The replica that is named. Raises Refused where the token does not open it."""
    block_id, generation = _named(request)
    if not request[PRINCIPAL].may_read_block(block_id, generation):
        raise Refused(f"this token does not open block {block_id} of generation {generation} for reading")
    return block_id, generation


def _number(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise RequestError(f"{text[:40]!r} is no {name}")
    return int(text)


def _block_length(request: web.Request, base: Base | None) -> int:
    length = _number(request.headers.get(LENGTH_HEADER, ""), "length of a block")
    if not 0 < length <= BLOCK_BYTES_MAX:
        raise RequestError(f"a block cannot have {length} bytes")
    if base is not None and not 0 < base.length <= length:
        raise RequestError(f"a block of {length} bytes cannot begin with {base.length}")
    sealed = sealed_length(sent_length(length, base))
    if request.content_length != sealed:
        raise RequestError(f"{length} bytes take {sealed} when sealed, not {request.content_length}")
    return length


def _range(request: web.Request, replica: Replica) -> tuple[int, int]:
    offset = _number(request.query.get("offset", "0"), "offset")
    length = _number(request.query.get("length", str(max(0, replica.length - offset))), "length")
    if offset + length > replica.length:
        raise RequestError(f"block {replica.block_id} has {replica.length} bytes, so none up to {offset + length}")
    return offset, length
