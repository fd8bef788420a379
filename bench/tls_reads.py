"""Read a block from a block server under TLS, beside a bare TLS loop that sends the same bytes in slices of 1 MiB.

    python bench/tls_reads.py [--mib 256] [--rounds 5]

Both servers are processes of their own on loopback, with certificates of one authority; readers take pieces of 1 MiB.
The block server verifies the checksums of the block, and so does its reader; the bare loop computes one CRC32C
of each 64 KiB on each side, so that both do the same work. Printed are medians of MB/s.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import os
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import google_crc32c

from minireduce.auth import certificates, scopes, tokens, transport
from minireduce.auth.scopes import BlockAccess, BlockMode
from minireduce.checksums import PACKET_BYTES
from minireduce.core.replica_messages import Replica
from minireduce.disk import RealDisk
from minireduce.wire.packets import Unsealer, seal
from minireduce.worker.block_server_process import BlockServerProcess, listen
from minireduce.worker.block_store import BLOCKS_NAME, BlockStore
from minireduce.worker.orders import Orders

SLICE_BYTES = 1 << 20
HELD = tokens.generate()
Identity = certificates.Identity


def check(data: bytes) -> None:
    for begin in range(0, len(data), PACKET_BYTES):
        google_crc32c.value(data[begin : begin + PACKET_BYTES])


def serve_bare(path: Path, certificate_pem: bytes, key_pem: bytes, tell: Connection) -> None:
    """For each caller the whole file, until the process is ended."""
    context = transport.server_context(certificate_pem, key_pem)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tell.send(listening.getsockname()[1])
        while True:
            plain, _ = listening.accept()
            with context.wrap_socket(plain, server_side=True) as caller, path.open("rb", buffering=0) as file:
                while data := file.read(SLICE_BYTES):
                    check(data)
                    caller.sendall(data)
                caller.recv(1)  # that it has all


def read_bare(port: int, context: ssl.SSLContext, name: str, length: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as server,
    ):
        buffer, got = bytearray(PACKET_BYTES), 0
        while got < length:
            count = server.recv_into(buffer, min(PACKET_BYTES, length - got))
            google_crc32c.value(bytes(buffer[:count]))
            got += count
        server.send(b"x")


def read_block(port: int, context: ssl.SSLContext, name: str, replica: Replica) -> None:
    secret = scopes.cluster_secret(HELD.require_worker())
    token = scopes.make(secret, BlockAccess(replica.block_id, 1, BlockMode.READ, int(time.time()) + 600))
    door = http.client.HTTPConnection("127.0.0.1", port)
    door.connect()
    door.sock = context.wrap_socket(door.sock, server_hostname=name)
    door.request("GET", f"/blocks/{replica.block_id}/1", headers={"Authorization": f"Bearer {token}"})
    answer = door.getresponse()
    unsealer = Unsealer(replica.length, "the block")
    while piece := answer.read(SLICE_BYTES):
        unsealer.feed(piece)
    assert unsealer.is_complete, answer.status
    door.close()


def keep_block(data_dir: Path, data: bytes) -> Replica:
    store = BlockStore(RealDisk(), (data_dir / BLOCKS_NAME,))
    store.open()
    replica = Replica(1, 1, len(data))
    writer = store.create(replica)
    unsealer = Unsealer(len(data), "the block")
    for piece in seal(data):
        writer.write(unsealer.feed(piece))
    writer.commit()
    return replica


async def measure(root: Path, data: bytes, rounds: int) -> None:
    authority = certificates.create_authority(time.time())
    key_pem, request_pem = certificates.make_request()
    certificate_pem = certificates.sign_request(authority, request_pem, ["127.0.0.1"], time.time())
    context = transport.client_context(authority.certificate_pem)
    name = transport.expected_name(authority.certificate_pem, transport.BLOCK_SERVER_ROLE, "127.0.0.1")
    replica = keep_block(root / "data", data)
    (root / "bare").write_bytes(data)

    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    orders = Orders(
        (str(root / "data"),),
        "w1",
        HELD.require_worker(),
        certificate_pem=certificate_pem.decode(),
        key_pem=key_pem.decode(),
    )
    served = BlockServerProcess(listening, orders, lambda _: None)
    await served.start()
    here, there = multiprocessing.Pipe()
    bare = multiprocessing.get_context("spawn").Process(
        target=serve_bare, args=(root / "bare", certificate_pem, key_pem, there), daemon=True
    )
    bare.start()
    bare_port = await asyncio.to_thread(here.recv)
    works: dict[str, Callable[[], None]] = {
        "bare TLS loop": lambda: read_bare(bare_port, context, name, len(data)),
        "block server": lambda: read_block(port, context, name, replica),
    }
    taken_s: dict[str, list[float]] = {each: [] for each in works}
    try:
        for number in range(rounds + 1):
            for what, read in works.items():
                began = time.perf_counter()
                await asyncio.to_thread(read)
                if number:  # the first is a warm-up
                    taken_s[what].append(time.perf_counter() - began)
    finally:
        bare.kill()
        await served.close()
    mb = len(data) / 1e6
    median = {what: statistics.median(each) for what, each in taken_s.items()}
    for what, seconds in median.items():
        print(f"{what:<16}{mb / seconds:>8.0f} MB/s   {median['bare TLS loop'] / seconds:>5.2f} of the bare loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tls-reads-") as folder:
        asyncio.run(measure(Path(folder), os.urandom(options.mib << 20), options.rounds))


if __name__ == "__main__":
    main()
