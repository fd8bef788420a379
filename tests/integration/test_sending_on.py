"""Sending a block on to a worker that says nothing."""

from __future__ import annotations

import asyncio

import pytest

from minireduce.core.replica_messages import Replica
from minireduce.wire import pipeline
from minireduce.wire.pipeline import Written, silence_s_max
from minireduce.worker.block_sending import PIECES_WAITING_MAX, BlockSender

PIECE = bytes(1 << 20)


async def send_to_silence(count: int, reads: bool) -> Written:
    """Send pieces to a server that takes them, or does not, and never answers; the outcome."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while reads and await reader.read(1 << 20):
            pass
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = BlockSender(None)
    hops = (("silent", f"127.0.0.1:{port}"), ("behind", "127.0.0.1:1"))
    sending = sender.start(Replica(1, 1, 1 << 30), hops, "token")
    for _ in range(count):
        await sending.send(PIECE)
    written = await sending.result()
    await sending.abandon()
    ended.set()
    server.close()
    await sender.close()
    return written


@pytest.mark.parametrize(("count", "reads"), [(1, True), (1, False), (4 * PIECES_WAITING_MAX, False)])
def test_a_worker_that_hangs_is_left_out_with_all_behind_it(monkeypatch, count, reads):
    monkeypatch.setattr(pipeline, "SILENCE_S", 0.2)
    written = asyncio.run(asyncio.wait_for(send_to_silence(count, reads), 20))
    assert written.workers == ()
    assert [worker for worker, _ in written.failed] == ["silent", "behind"]


def test_whoever_is_nearer_to_the_hanging_worker_gives_up_first():
    waits = [silence_s_max(workers_behind) for workers_behind in (1, 2, 3)]
    assert waits == sorted(set(waits))
