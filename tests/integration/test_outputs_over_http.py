"""A block server as a process, and what other workers and clients get from it, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import time
from pathlib import Path

import pytest
from scenes.worker import JOB, OUTPUT, map_attempt, reduce_attempt

from minireduce.auth import certificates, scopes, tokens, transport
from minireduce.auth.policy import Authenticator
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads, Login
from minireduce.core.messages import AttemptSucceeded
from minireduce.core.replica_messages import RemoveReplica, Replica
from minireduce.core.task_data import OutputSource
from minireduce.core.work.fetches import PART, Fetched, Gone, StartFetch, Unreachable
from minireduce.disk import RealDisk
from minireduce.engine.index import encode_index
from minireduce.worker.block_routes import BlockRoutes
from minireduce.worker.block_server import make_app
from minireduce.worker.block_server_process import BlockServerProcess, listen
from minireduce.worker.fetcher import Fetcher
from minireduce.worker.orders import Orders
from minireduce.worker.outputs import Outputs

HELD = tokens.generate()
SECRET = scopes.cluster_secret(HELD.require_worker())
LATER = int(time.time()) + 86_400
"""After the longest run of all tests: this file is read when they are collected."""
READ = scopes.make(SECRET, JobReads(JOB, LATER))
DATA = os.urandom(3 << 20)
LENGTHS = [0, 1000, len(DATA) - 1000]

OTHER_TOKENS = {
    "none": None,
    "client": HELD.client,
    "worker": HELD.worker,
    "another job's": scopes.make(SECRET, JobReads("job-0000aa-2", LATER)),
    "expired": scopes.make(SECRET, JobReads(JOB, 1)),
    "another cluster's": scopes.make(scopes.cluster_secret("mrw_other"), JobReads(JOB, LATER)),
    "a block's": scopes.make(SECRET, BlockAccess(1, 1, BlockMode.READ, LATER)),
    "a login": scopes.make(SECRET, Login(LATER)),
    "cut": READ[:-1],
}


class Server:
    """A block server over a directory with a map output and a part."""

    def __init__(self, data_dir: Path, **tls: str) -> None:
        self.outputs = Outputs(data_dir, RealDisk())
        directory = self.outputs.prepare(map_attempt(0))
        (directory / "output.data").write_bytes(DATA)
        (directory / "output.index").write_bytes(encode_index(LENGTHS))
        (directory / "stdout").write_bytes(b"hello")
        self.outputs.keep(AttemptSucceeded(map_attempt(0), OUTPUT, ()))
        (self.outputs.prepare(reduce_attempt(0)) / "part").write_bytes(b"key\tvalue\n")
        self.outputs.keep(AttemptSucceeded(reduce_attempt(0), OUTPUT, ()))
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.process = BlockServerProcess(
            listening, Orders((str(data_dir),), "w1", HELD.require_worker(), **tls), lambda event: None
        )

    def get(self, path: str, token: str | None = READ, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            connection.request(headers.pop("method", "GET"), path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()


@pytest.fixture
def serve(tmp_path: Path):
    """Run a coroutine function on a running block server."""

    def run(body, **tls: str):
        async def live() -> None:
            server = Server(tmp_path / "data", **tls)
            await server.process.start()
            try:
                await asyncio.wait_for(body(server), 60)
            finally:
                await server.process.close()

        asyncio.run(live())

    return run


def asking(*requests):
    """A body that makes these requests, each `(check, path, arguments)`."""

    async def body(server: Server) -> None:
        for check, path, arguments in requests:
            status, answer = await asyncio.to_thread(server.get, path, **arguments)
            check(path, status, answer)

    return body


def answers(expected_status: int, expected: bytes | None = None):
    def check(path: str, status: int, answer: bytes) -> None:
        assert status == expected_status, (path, answer[:200])
        if expected is not None:
            assert answer == expected, path

    return check


MAP_0 = map_attempt(0)
MAP = f"/outputs/{map_attempt(0)}"


def test_partitions_parts_and_logs_come_whole_and_from_where_a_range_says(serve):
    serve(
        asking(
            (answers(200, b""), f"{MAP}/partitions/0", {}),
            (answers(200, DATA[:1000]), f"{MAP}/partitions/1", {}),
            (answers(200, DATA[1000:]), f"{MAP}/partitions/2", {}),
            (answers(206, DATA[1500:]), f"{MAP}/partitions/2", {"Range": "bytes=500-"}),
            (answers(416), f"{MAP}/partitions/1", {"Range": "bytes=1000-"}),
            (answers(200, DATA[:1000]), f"{MAP}/partitions/1", {"Range": "bytes=1-2"}),
            (answers(200, b"key\tvalue\n"), f"/outputs/{reduce_attempt(0)}/part", {}),
            (answers(200, b"hello"), f"/logs/{map_attempt(0)}/stdout", {}),
            (answers(200, b""), f"{MAP}/partitions/2", {"method": "HEAD"}),
            (answers(200), "/healthz", {"token": None}),
        )
    )


PLACES = {"attempt": map_attempt(0), "partition": 1, "name": "stdout", "block": 1, "generation": 1}
OPEN_BLOCKS = {"another job's", "a block's"}
"""A job may name any stored file as its input, so its token opens every block; outputs and logs it does not."""


def all_doors() -> list[tuple[str, str]]:
    """Method and path of each route that the block server has, as its router knows them."""
    app = make_app(Path(), Authenticator(HELD, time.time), BlockRoutes(None, "w1", None, None))
    doors = [(route.method, str(route.resource.canonical).format(**PLACES)) for route in app.router.routes()]
    return [door for door in doors if door[1] != "/healthz"]


def test_every_door_but_healthz_is_shut_to_every_other_token(serve):
    refused = [
        (answers(403), path, {"token": token, "method": method})
        for method, path in all_doors()
        for kind, token in OTHER_TOKENS.items()
        if not (path.startswith(("/blocks/", "/local/")) and method != "PUT" and kind in OPEN_BLOCKS)
    ]
    assert len({path for _, path, _ in refused}) >= 4
    assert len(refused) >= 9 * len(OTHER_TOKENS) - 2 * len(OPEN_BLOCKS)
    serve(asking(*refused))


def test_what_is_no_http_is_not_repeated_to_who_sent_it(serve):
    async def body(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x16\x03\x01" + b"\x01" * 100_000 + b"\r\n\r\n")
        told = await reader.read()
        assert told.startswith(b"HTTP/1.0 400 ")
        assert len(told) < 400
        writer.close()

    serve(body)


def test_what_is_no_door_opens_to_nobody(serve):
    shut = ["/", "/jobs", "/healthz/x", "/blocks"]
    missing = ["/outputs/x", f"{MAP}/partitions", f"{MAP}/output.data", f"{MAP}/partitions/0/x"]
    serve(
        asking(
            *[(answers(403), path, {}) for path in shut],
            *[(answers(403), path, {"token": None}) for path in shut + missing],
            *[(answers(404), path, {}) for path in missing],
            (answers(403), f"{MAP}/partitions/1", {"method": "PUT"}),
        )
    )


def told(expected_status: int):
    def check(path: str, status: int, answer: bytes) -> None:
        assert status == expected_status, (path, answer)
        assert json.loads(answer)["message"]

    return check


def test_what_is_not_there_is_told_and_no_name_leads_out_of_the_directory(serve):
    serve(
        asking(
            (told(404), f"{MAP}/partitions/3", {}),
            (told(404), f"{MAP}/partitions/-1", {}),
            (told(404), f"{MAP}/partitions/1e0", {}),
            (told(404), f"{MAP}/part", {}),
            (told(404), f"/outputs/{map_attempt(9)}/partitions/0", {}),
            (told(404), f"/logs/{map_attempt(0)}/stderr", {}),
            (told(404), f"/logs/{map_attempt(0)}/output.data", {}),
            (told(404), f"/logs/{map_attempt(0)}/..%2f..%2f..%2fworker.msgpack", {}),
            (told(400), "/outputs/..%2f..%2fetc/partitions/0", {}),
            (told(400), f"/outputs/{JOB}/part", {}),
        )
    )


def test_an_output_that_was_not_finished_is_not_served(serve):
    async def body(server: Server) -> None:
        server.outputs.remove(map_attempt(0))
        (server.outputs.prepare(map_attempt(0)) / "output.index").write_bytes(encode_index([0]))
        assert server.get(f"{MAP}/partitions/0")[0] == 404

    serve(body)


def test_a_damaged_output_is_gone_and_not_sent_short(serve):
    async def body(server: Server) -> None:
        directory = server.outputs.directory(map_attempt(0))
        index = (directory / "output.index").read_bytes()
        for data_bytes, damaged in ((len(DATA), index[:-1] + bytes([index[-1] ^ 1])), (5000, index)):
            os.truncate(directory / "output.data", data_bytes)
            (directory / "output.index").write_bytes(damaged)
            status, answer = await asyncio.to_thread(server.get, f"{MAP}/partitions/2")
            assert (status, json.loads(answer)["error"]) == (410, "Corruption")

    serve(body)


def test_a_server_that_was_killed_is_started_again_on_the_same_port(serve):
    async def body(server: Server) -> None:
        first = server.process.pid
        await asyncio.to_thread(server.get, "/healthz", None)
        os.kill(first, 9)
        assert (await asyncio.to_thread(server.get, f"{MAP}/partitions/1")) == (200, DATA[:1000])
        assert server.process.pid != first

    serve(body)


# ── fetching ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Fetching:
    """A worker that fetches from a server, one fetch at a time."""

    def __init__(self, tmp_path: Path, authority_pem: bytes | None = None) -> None:
        self.outputs = Outputs(tmp_path / "fetching", RealDisk())
        self.told: asyncio.Queue = asyncio.Queue()
        self.fetcher = Fetcher(self.outputs, self.told.put_nowait, authority_pem=authority_pem)
        self.numbers = 0
        self.path = self.outputs.fetched(reduce_attempt(0), map_attempt(0))

    def start(self, address: str, partition: int = 2, source=MAP_0, token: str = READ) -> int:
        self.numbers += 1
        found = OutputSource(source, "w2", address, len(DATA))
        self.fetcher.start(StartFetch(self.numbers, reduce_attempt(0), found, partition, token))
        return self.numbers

    async def outcome(self, *arguments, **options):
        number = self.start(*arguments, **options)
        event = await asyncio.wait_for(self.told.get(), 30)
        assert event.fetch == number
        return event.outcome


def fetching(tmp_path: Path, body, *, authority_pem: bytes | None = None):
    async def run(server: Server) -> None:
        fetching = Fetching(tmp_path, authority_pem)
        try:
            await body(fetching, f"127.0.0.1:{server.port}")
        finally:
            await fetching.fetcher.close()

    return run


def test_a_partition_and_a_part_are_fetched_into_their_places(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        assert await worker.outcome(address) == Fetched(len(DATA) - 1000)
        assert worker.path.read_bytes() == DATA[1000:]
        assert await worker.outcome(address, PART, reduce_attempt(0)) == Fetched(10)
        assert worker.outputs.fetched(reduce_attempt(0), reduce_attempt(0)).read_bytes() == b"key\tvalue\n"

    serve(fetching(tmp_path, body))


def test_a_fetch_that_broke_off_goes_on_where_it_was(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        for have in (1, 1 << 20, len(DATA) - 1001, len(DATA) - 1000):
            worker.outputs.open_fetched(reduce_attempt(0), map_attempt(0)).close()
            worker.path.write_bytes(DATA[1000 : 1000 + have])
            assert await worker.outcome(address) == Fetched(len(DATA) - 1000)
            assert worker.path.read_bytes() == DATA[1000:]

    serve(fetching(tmp_path, body))


def test_an_empty_partition_is_fetched_and_fetched_again(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        assert await worker.outcome(address, 0) == Fetched(0)
        assert await worker.outcome(address, 0) == Fetched(0)

    serve(fetching(tmp_path, body))


def test_what_is_missing_or_damaged_is_gone_and_a_door_that_stays_shut_is_out_of_reach(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        assert isinstance(await worker.outcome(address, 7), Gone)
        assert isinstance(await worker.outcome(address, source=map_attempt(9)), Gone)
        assert isinstance(await worker.outcome(address, token=OTHER_TOKENS["another job's"]), Unreachable)

    serve(fetching(tmp_path, body))


def test_nobody_at_the_address_is_out_of_reach(tmp_path: Path):
    async def body() -> None:
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        listening.close()
        worker = Fetching(tmp_path)
        outcome = await worker.outcome(f"127.0.0.1:{port}")
        await worker.fetcher.close()
        assert isinstance(outcome, Unreachable)
        assert f"w2 at 127.0.0.1:{port}" in outcome.reason

    asyncio.run(body())


async def broken_source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promises 1000 bytes and sends 10."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + DATA[1000:1010])
    await writer.drain()
    writer.close()


def test_an_answer_that_breaks_off_is_out_of_reach_and_what_came_is_kept_for_the_next_try(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        async with await asyncio.start_server(broken_source, "127.0.0.1", 0) as source:
            port = source.sockets[0].getsockname()[1]
            assert isinstance(await worker.outcome(f"127.0.0.1:{port}"), Unreachable)
        assert worker.path.read_bytes() == DATA[1000:1010]
        assert await worker.outcome(address) == Fetched(len(DATA) - 1000)
        assert worker.path.read_bytes() == DATA[1000:]

    serve(fetching(tmp_path, body))


def test_a_cancelled_fetch_tells_nothing_and_lets_the_next_one_write(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        for _ in range(5):
            worker.fetcher.cancel(worker.start(address))
            await asyncio.sleep(0)
        assert await worker.outcome(address) == Fetched(len(DATA) - 1000)
        assert worker.path.read_bytes() == DATA[1000:]

    serve(fetching(tmp_path, body))


def certified() -> tuple[bytes, dict[str, str]]:
    """An authority, and what a block server of its cluster shows."""
    authority = certificates.create_authority(time.time())
    key, request = certificates.make_request()
    shown = certificates.sign_request(authority, request, ["127.0.0.1"], time.time())
    return authority.certificate_pem, {"certificate_pem": shown.decode(), "key_pem": key.decode()}


def test_under_tls_a_partition_is_fetched_from_whom_our_authority_signed(serve, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transport, "needs_tls", lambda host: True)
    authority_pem, tls = certified()

    async def body(worker: Fetching, address: str) -> None:
        assert await worker.outcome(address) == Fetched(len(DATA) - 1000)
        assert worker.path.read_bytes() == DATA[1000:]

    serve(fetching(tmp_path, body, authority_pem=authority_pem), **tls)


def test_under_tls_nothing_is_sent_to_whom_another_authority_signed(serve, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transport, "needs_tls", lambda host: True)
    other_authority_pem, _ = certified()
    _, tls = certified()

    async def body(worker: Fetching, address: str) -> None:
        outcome = await worker.outcome(address)
        assert isinstance(outcome, Unreachable)
        assert "certificate" in outcome.reason.lower()

    serve(fetching(tmp_path, body, authority_pem=other_authority_pem), **tls)


def test_beyond_loopback_nothing_is_fetched_without_an_authority_to_trust(serve, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transport, "needs_tls", lambda host: True)

    async def body(worker: Fetching, address: str) -> None:
        assert isinstance(await worker.outcome(address), Unreachable)

    serve(fetching(tmp_path, body))


def test_a_server_that_waits_to_be_wanted_starts_for_the_first_caller(tmp_path: Path):
    async def live() -> None:
        server = Server(tmp_path / "data")
        starting = asyncio.create_task(server.process.start_when_wanted())
        try:
            await asyncio.sleep(0)  # lets it begin to wait
            assert server.process.pid is None
            status, answer = await asyncio.to_thread(server.get, f"/outputs/{reduce_attempt(0)}/part")
            assert (status, answer) == (200, b"key\tvalue\n")
            await starting
            assert server.process.pid is not None
        finally:
            await server.process.close()

    asyncio.run(asyncio.wait_for(live(), 60))


def test_a_server_that_waits_to_be_wanted_starts_for_an_order(tmp_path: Path):
    async def live() -> None:
        server = Server(tmp_path / "data")
        starting = asyncio.create_task(server.process.start_when_wanted())
        try:
            server.process.order(RemoveReplica(Replica(1, 1, 0)))
            await starting
            assert server.process.pid is not None
        finally:
            await server.process.close()

    asyncio.run(asyncio.wait_for(live(), 60))
