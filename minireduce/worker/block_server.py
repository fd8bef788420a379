"""Serve what a worker holds over HTTP: map outputs by partition and parts, what attempts printed, and blocks.

It is a process of its own, so that moving bytes never delays a heartbeat: `python -m minireduce.worker.block_server`,
started by its worker with the listening socket and, on standard input, one line of JSON (`Orders`). It ends when that
pipe does, however the worker ended. It shares no state with the worker but the directory: a map output or part is
served when its `output.meta` stands there. Replicas are its own: it alone writes and removes them (`block_routes`), as
lines that follow on standard input say, and it tells on standard output what became of them.

Who may read what is asked before anything else, in `gate`. In a path stand ids only, which are parsed; no text of a
request becomes part of a file name.

Workers fetch many outputs by one request (`output_sending`). Clients read parts and logs one by one: there a range
`bytes=N-` is understood, so that who was cut off goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web

from minireduce.attempt import linux
from minireduce.attempt.places import attempt_directory
from minireduce.auth import transport
from minireduce.auth.policy import Authenticator
from minireduce.auth.tokens import Tokens
from minireduce.clock import SystemClock
from minireduce.core.replica_messages import RemoveReplica, RepackBlock, ReplicateBlock, VerifyReplica
from minireduce.core.work.fetches import PART
from minireduce.core.worker import ReplicaFoundDamaged, ReplicaWritten
from minireduce.disk import RealDisk
from minireduce.errors import Corruption, NotFound, Refused, RequestError
from minireduce.wire.http_server import Runner
from minireduce.wire.many_outputs import decode_wanted
from minireduce.worker.block_messages import ReplicaEvent, command_from_line, to_line
from minireduce.worker.block_routes import BlockRoutes
from minireduce.worker.block_sending import BlockSender
from minireduce.worker.block_store import BLOCKS_NAME, BlockStore
from minireduce.worker.gate import attempt_named, gate
from minireduce.worker.local_reads import LocalReads
from minireduce.worker.orders import Orders
from minireduce.worker.output_sending import (
    SLICE_BYTES,
    Piece,
    breaking_off,
    copy,
    find_output,
    find_sections,
    send_sections,
    whole,
)
from minireduce.worker.outputs import LOG_NAMES
from minireduce.worker.scrubbing import STATE_NAME, Scrubber, ScrubLimits

log = logging.getLogger(__name__)

_OPEN_END = re.compile(r"bytes=([0-9]{1,18})-")


class Doors:
    """The routes over one data directory. `local_reads`: where descriptors are handed over, if they are."""

    def __init__(self, data_dir: Path, local_reads: LocalReads | None = None) -> None:
        self._data_dir = data_dir
        self._local_reads = local_reads

    async def many(self, request: web.Request) -> web.StreamResponse:
        """Partitions of map outputs and parts, as many as the body names."""
        wanted = decode_wanted(await request.read())
        if any(each.attempt.task.job != request.match_info["job"] for each in wanted):
            raise RequestError(f"this door opens to outputs of {request.match_info['job']} alone")
        return await send_sections(request, await asyncio.to_thread(find_sections, self._data_dir, wanted))

    async def part(self, request: web.Request) -> web.StreamResponse:
        """A part, whole."""
        piece = find_output(self._data_dir, attempt_named(request), PART)
        with _telling_missing(request):
            return await _send(request, piece)

    async def offer_part(self, request: web.Request) -> web.StreamResponse:
        """Offer a descriptor of a part to a reader on this host."""
        piece = find_output(self._data_dir, attempt_named(request), PART)
        if self._local_reads is None:
            raise Refused("this worker gives no descriptors of its parts", hint="ask for the bytes")
        with _telling_missing(request):
            file = piece.open()
        return web.Response(headers=self._local_reads.offer(file).to_headers())

    async def printed(self, request: web.Request) -> web.StreamResponse:
        """What an attempt printed so far."""
        name = request.match_info["name"]
        if name not in LOG_NAMES:
            raise NotFound(f"attempts print to {' and '.join(LOG_NAMES)}, not to {name!r}")
        with _telling_missing(request):
            return await _send(request, whole(attempt_directory(self._data_dir, attempt_named(request)) / name))

    async def healthz(self, _: web.Request) -> web.StreamResponse:
        """That this process serves."""
        return web.Response(text="ok\n")


def make_app(
    data_dir: Path,
    authenticator: Authenticator,
    blocks: BlockRoutes | None = None,
    local_reads: LocalReads | None = None,
) -> web.Application:
    """The application: its routes, behind the one middleware."""
    doors = Doors(data_dir, local_reads)
    app = web.Application(middlewares=[gate(authenticator)])
    app.router.add_get("/healthz", doors.healthz)
    app.router.add_post("/outputs/{job}", doors.many)
    app.router.add_get("/outputs/{attempt}/part", doors.part)
    app.router.add_get("/outputs/{attempt}/part/local", doors.offer_part)
    app.router.add_get("/logs/{attempt}/{name}", doors.printed)
    if blocks is not None:
        app.router.add_routes(blocks.routes())
    return app


@contextlib.contextmanager
def _telling_missing(request: web.Request) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no {request.path} here any more") from None


async def _send(request: web.Request, piece: Piece) -> web.StreamResponse:
    """Answer with a piece of a file, or the rest of it from where the request says."""
    start = _start(request)
    if start >= piece.length > 0 or start > piece.length:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{piece.length}"})
    length = piece.length - start
    response = web.StreamResponse(status=206 if start else 200)
    response.content_type = "application/octet-stream"
    response.content_length = length
    response.headers["Accept-Ranges"] = "bytes"
    if start:
        response.headers["Content-Range"] = f"bytes {start}-{piece.length - 1}/{piece.length}"
    with piece.open() as file:
        if file.seek(0, os.SEEK_END) < piece.offset + piece.length:
            raise Corruption(f"{piece.path} is shorter than its index says")
        await response.prepare(request)
        if length and request.method != "HEAD":
            with breaking_off(request):
                await copy(request, response, file, Piece(piece.path, piece.offset + start, length))
    await response.write_eof()
    return response


def _start(request: web.Request) -> int:
    """Where the answer begins: other ranges than `bytes=N-` are ignored, as the standard allows."""
    match = _OPEN_END.fullmatch(request.headers.get("Range", ""))
    return int(match[1]) if match else 0


async def serve(orders: Orders, reader: asyncio.StreamReader) -> None:
    """Serve until the worker's pipe ends."""
    authenticator = Authenticator(Tokens(worker=orders.worker_token), SystemClock().time)
    tls: ssl.SSLContext | None = None
    if orders.certificate_pem:
        tls = transport.server_context(orders.certificate_pem.encode(), orders.key_pem.encode())
    sender = BlockSender(orders.authority_pem.encode() or None)
    local_reads = LocalReads() if orders.gives_descriptors else None
    blocks = _open_blocks(orders, sender, local_reads)
    scrubber = _scrubber(orders, blocks)
    app = make_app(Path(orders.data_dirs[0]), authenticator, blocks, local_reads)
    runner = Runner(app, read_bufsize=SLICE_BYTES)
    await runner.setup()
    try:
        listening = socket.socket(fileno=orders.socket_fd)
        await web.SockSite(runner, listening, ssl_context=tls, shutdown_timeout=0).start()
        beside = [asyncio.create_task(blocks.watch_directories(), name="directories")]
        beside.append(asyncio.create_task(scrubber.run(), name="scrubber"))
        if local_reads is not None:
            beside.append(asyncio.create_task(local_reads.serve(), name="local reads"))
        try:
            await _obey(blocks, scrubber, reader)
        finally:
            for task in beside:
                task.cancel()
    finally:
        await runner.cleanup()
        await sender.close()


def _open_blocks(orders: Orders, sender: BlockSender, local_reads: LocalReads | None) -> BlockRoutes:
    roots = [Path(data_dir) / BLOCKS_NAME for data_dir in orders.data_dirs]
    missing = {Path(data_dir) / BLOCKS_NAME: why for data_dir, why in orders.missing.items()}
    store = BlockStore(RealDisk(), roots, missing=missing)
    store.open()
    if orders.lists_replicas:
        for replica in store.replicas():
            _tell(ReplicaWritten(replica))
    for replica in store.damaged():
        _tell(ReplicaFoundDamaged(replica, orders.worker))
    return BlockRoutes(store, orders.worker, sender, _tell, local_reads)


def _scrubber(orders: Orders, blocks: BlockRoutes) -> Scrubber:
    state_path = Path(orders.data_dirs[0]) / STATE_NAME
    limits = ScrubLimits(orders.scrub_period_s, orders.scrub_bytes_per_s)
    return Scrubber(blocks.store, RealDisk(), state_path, limits, SystemClock(), _tell, blocks.found_damaged)


def _tell(event: ReplicaEvent) -> None:
    """Tell the worker. A worker that is gone is noticed by its other pipe."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(to_line(event))
        sys.stdout.buffer.flush()


async def _obey(blocks: BlockRoutes, scrubber: Scrubber, reader: asyncio.StreamReader) -> None:
    """Do what the worker says, until it says no more."""
    doing: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        match command_from_line(line):
            case ReplicateBlock() as order:
                task = asyncio.create_task(blocks.replicate(order))
            case RepackBlock() as order:
                task = asyncio.create_task(blocks.repack(order))
            case RemoveReplica(replica):
                task = asyncio.create_task(blocks.delete(replica))
            case VerifyReplica(replica):
                task = asyncio.create_task(scrubber.verify(replica))
        doing.add(task)
        task.add_done_callback(doing.discard)
    for task in doing:
        task.cancel()


async def _main() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    line = await reader.readline()
    if not line:
        return  # the worker ended before it had said anything
    await serve(Orders.from_line(line), reader)


if __name__ == "__main__":
    linux.name_process("mr-blocks")
    logging.basicConfig(format="block server: %(levelname)s %(message)s", level=logging.WARNING)
    asyncio.run(_main())
