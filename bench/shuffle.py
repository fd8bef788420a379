"""Fetch one reducer's share of many map outputs from another worker, beside a raw loop that moves as many bytes.

    python bench/shuffle.py [--mib 512] [--maps 64 1024 8192] [--rounds 5]
    python bench/shuffle.py --link-mbit 200 [--mib 64] [--maps 128]

The block server is a process of its own, the fetcher runs in this one, as in a worker; both are on this machine, and no
descriptor is handed over. What goes into one request, and how many are under way, a worker's machine decides. In the
clear they meet on loopback, under TLS at the machine's own address, which is as far as TLS needs. The raw loops are two
processes: one sends a file by `sendfile`, or through `ssl` in pieces of 1 MiB, the other writes what comes to a file,
as the fetcher does; "read only" is the same with a receiver that drops it. Printed are medians.

With `--link-mbit` (as root) all that runs in a network namespace whose loopback is so slow, in the clear, over sorted
words with counts and over chance, with each setting of `shuffle_compression`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shlex
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NoReturn

from minireduce.auth import certificates, scopes, tokens, transport
from minireduce.auth.scopes import JobReads
from minireduce.config import Compression
from minireduce.core.messages import AttemptSucceeded
from minireduce.core.settings import WorkerSettings
from minireduce.core.task_data import OutputSource, TaskOutput
from minireduce.core.work.fetches import Fetched, Fetches, FetchesEnded
from minireduce.disk import RealDisk
from minireduce.engine.index import DATA_NAME, INDEX_NAME, encode_index
from minireduce.ids import AttemptId, JobId, TaskId, TaskKind, WorkerId
from minireduce.worker.block_server_process import BlockServerProcess, listen
from minireduce.worker.fetcher import Fetcher
from minireduce.worker.orders import Orders
from minireduce.worker.outputs import Outputs

PIECE_BYTES = 1 << 20
RAW = ("raw loop", "raw loop, read only")
PARTITIONS = 8
FETCHED = 3  # which partition
JOB = JobId("job-0000ab-1")
HELD = tokens.generate()


def attempt_of(kind: TaskKind, index: int) -> AttemptId:
    return AttemptId(TaskId(JOB, 0, kind, index), 0)


def own_address() -> str:
    """This machine's address beyond loopback, or loopback when it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the system looks up the way
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def words(length: int) -> bytes:
    """Sorted lines of a word and a count, as a word count would leave them."""
    chance = Random(length)
    lines = [f"{''.join(chance.choices('etaoinshrdlu', k=7))}\t{chance.randrange(1000)}\n" for _ in range(length // 10)]
    return "".join(sorted(lines)).encode().ljust(length, b"\n")[:length]


def keep_outputs(data_dir: Path, maps: int, share_bytes: int, *, is_text: bool = False) -> None:
    """As `maps` tasks leave them, of which only one partition has bytes of any number."""
    outputs = Outputs(data_dir, RealDisk())
    lengths = [share_bytes if number == FETCHED else 64 for number in range(PARTITIONS)]
    data = words(sum(lengths)) if is_text else os.urandom(sum(lengths))
    for index in range(maps):
        attempt = attempt_of(TaskKind.MAP, index)
        directory = outputs.prepare(attempt)
        (directory / DATA_NAME).write_bytes(data)
        (directory / INDEX_NAME).write_bytes(encode_index(lengths))
        outputs.keep(AttemptSucceeded(attempt, TaskOutput(b"digest", len(data), 1, bytes(PARTITIONS)), ()))


# ── the raw loops ───────────────────────────────────────────────────────────────────────────────────────────────────


def serve_raw(path: Path, host: str, certificate: tuple[bytes, bytes] | None, tell: Connection) -> None:
    """For each caller the whole file, until the process is ended."""
    context = transport.server_context(*certificate) if certificate is not None else None
    with socket.create_server((host, 0)) as listening:
        tell.send(listening.getsockname()[1])
        while True:
            plain, _ = listening.accept()
            with plain, path.open("rb", buffering=0) as file:
                if context is None:
                    plain.sendfile(file)
                    plain.shutdown(socket.SHUT_WR)
                    plain.recv(1)
                else:
                    with context.wrap_socket(plain, server_side=True) as sealed:
                        while piece := file.read(PIECE_BYTES):
                            sealed.sendall(piece)
                        sealed.recv(1)  # that it has all


def read_raw(address: tuple[str, int], tls: tuple[ssl.SSLContext, str] | None, length: int, target: Path) -> None:
    with socket.create_connection(address) as plain, target.open("wb", buffering=0) as file:
        link = plain if tls is None else tls[0].wrap_socket(plain, server_hostname=tls[1])
        buffer, got = memoryview(bytearray(PIECE_BYTES)), 0
        while got < length:
            count = link.recv_into(buffer)
            file.write(buffer[:count])
            got += count
        link.send(b"x")
        link.close()


# ── ours ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Receiver:
    """A worker that fetches as it would for a reduce, with its limits; it learns how fast its source is."""

    def __init__(self, data_dir: Path, authority_pem: bytes | None, compression: Compression) -> None:
        self._ended: asyncio.Queue[FetchesEnded] = asyncio.Queue()
        outputs = Outputs(data_dir, RealDisk())
        self.fetcher = Fetcher(outputs, self._ended.put_nowait, authority_pem=authority_pem, compression=compression)

    async def fetch_all(self, reduce: AttemptId, sources: list[OutputSource], token: str) -> int:
        """The bytes that came."""
        fetches = Fetches(worker=WorkerId("w2"), own_outputs={}, settings=WorkerSettings(), rng=Random(0))
        tasks = tuple(source.attempt.task for source in sources)
        fetches.expect(reduce, tasks, partition=FETCHED, shares=1, read_token=token)
        fetches.announce(reduce, tuple(sources))
        got = 0
        while not fetches.is_complete(reduce):
            for order in fetches.plan(0.0, 1):
                self.fetcher.start(order)
            for event in (await self._ended.get()).ended:
                assert isinstance(event.outcome, Fetched), event
                fetches.ended(event, 0.0)
                got += event.outcome.bytes_total
        return got


async def measure(
    root: Path,
    mib: int,
    maps: int,
    rounds: int,
    *,
    is_tls: bool,
    compressions: Sequence[Compression] = (),
    is_text: bool = False,
) -> None:
    host = own_address() if is_tls else "127.0.0.1"
    if is_tls and not transport.needs_tls(host):
        print("SKIPPED under TLS: this machine has no address but loopback")
        return
    certificate, authority_pem, tls = None, None, None
    if is_tls:
        authority = certificates.create_authority(time.time())
        key_pem, request_pem = certificates.make_request()
        certificate = certificates.sign_request(authority, request_pem, [host], time.time()), key_pem
        authority_pem = authority.certificate_pem
        name = transport.expected_name(authority_pem, transport.BLOCK_SERVER_ROLE, host)
        tls = transport.client_context(authority_pem), name
    share_bytes = (mib << 20) // maps
    length = share_bytes * maps
    keep_outputs(root / "source", maps, share_bytes, is_text=is_text)
    (root / "raw").write_bytes(os.urandom(length))

    listening = listen(host, 0)
    address = f"{host}:{listening.getsockname()[1]}"
    told = (
        {} if certificate is None else {"certificate_pem": certificate[0].decode(), "key_pem": certificate[1].decode()}
    )
    served = BlockServerProcess(
        listening, Orders((str(root / "source"),), "w1", HELD.require_worker(), **told), lambda _: None
    )
    await served.start()
    here, there = multiprocessing.Pipe()
    raw = multiprocessing.get_context("spawn").Process(
        target=serve_raw, args=(root / "raw", host, certificate, there), daemon=True
    )
    raw.start()
    raw_address = host, await asyncio.to_thread(here.recv)
    token = scopes.make(scopes.cluster_secret(HELD.require_worker()), JobReads(JOB, int(time.time()) + 3600))
    receivers = {
        f"shuffle, {choice}" if compressions else "shuffle": Receiver(root / "target" / choice, authority_pem, choice)
        for choice in compressions or (Compression.AUTO,)
    }
    taken: dict[str, list[float]] = {what: [] for what in (*RAW[: 1 if compressions else 2], *receivers)}
    try:
        for number in range(rounds + 1):
            reduce = attempt_of(TaskKind.REDUCE, number)
            sources = [
                OutputSource(attempt_of(TaskKind.MAP, index), WorkerId("w1"), address, share_bytes)
                for index in range(maps)
            ]
            for what, seconds in taken.items():
                began_s = time.perf_counter()
                if what in receivers:
                    got = await receivers[what].fetch_all(reduce, sources, token)
                    assert got == length, (got, length)
                else:
                    target = Path(os.devnull) if "only" in what else root / "taken"
                    await asyncio.to_thread(read_raw, raw_address, tls, length, target)
                if number:  # the first is a warm-up
                    seconds.append(time.perf_counter() - began_s)
            shutil.rmtree(root / "target")
    finally:
        for receiver in receivers.values():
            await receiver.fetcher.close()
        raw.kill()
        await served.close()
    median = {what: statistics.median(each) for what, each in taken.items()}
    outputs = f"{'words' if is_text else 'TLS' if is_tls else 'plain':<6}{maps:>5} maps of {share_bytes >> 10:>6} KiB"
    for what, middle_s in median.items():
        ratio = median["raw loop"] / middle_s
        print(f"{outputs}  {what:<20}{length / 1e6 / middle_s:>7.0f} MB/s{ratio:>6.2f} of the raw loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--maps", type=int, nargs="+", default=[64, 1024, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--link-mbit", type=int, default=0)
    parser.add_argument("--is-slow", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.link_mbit and not options.is_slow:
        measure_behind_a_slow_link(options.link_mbit)
    for is_tls in (False,) if options.is_slow else (False, True):
        for maps in options.maps:
            for is_text in (True, False) if options.is_slow else (False,):
                with tempfile.TemporaryDirectory(prefix="shuffle-") as folder:
                    compressions = tuple(Compression) if options.is_slow else ()
                    asyncio.run(
                        measure(
                            Path(folder),
                            options.mib,
                            maps,
                            options.rounds,
                            is_tls=is_tls,
                            compressions=compressions,
                            is_text=is_text,
                        )
                    )


def measure_behind_a_slow_link(mbit: int) -> NoReturn:
    """Become the same command in a network of its own, whose loopback passes so many million bits a second."""
    slow = f"tc qdisc add dev lo root tbf rate {mbit}mbit burst 512kb latency 50ms"
    again = shlex.join([sys.executable, *sys.argv, "--is-slow"])
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", f"ip link set lo up && {slow} && exec {again}"])


if __name__ == "__main__":
    main()
