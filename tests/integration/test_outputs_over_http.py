"""A block server as a process, and what other workers and clients get from it, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import select
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import pytest
import xxhash
from scenes.worker import JOB, OUTPUT, map_attempt, reduce_attempt

from minireduce.auth import certificates, scopes, tokens, transport
from minireduce.auth.policy import Authenticator
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads, Login
from minireduce.config import Compression
from minireduce.core.messages import AttemptSucceeded
from minireduce.core.replica_messages import RemoveReplica, Replica
from minireduce.core.task_data import OutputSource
from minireduce.core.work.fetches import PART, Fetched, FetchesEnded, Gone, NotReached, Unreachable
from minireduce.core.work.requests import Fetch, StartFetches
from minireduce.disk import RealDisk
from minireduce.engine.index import encode_index
from minireduce.wire.compression import ACCEPT_HEADER, ZSTD, Decompressor
from minireduce.wire.many_outputs import encode_head
from minireduce.worker import fetcher
from minireduce.worker.block_routes import BlockRoutes
from minireduce.worker.block_server import make_app
from minireduce.worker.block_server_process import BlockServerProcess, listen
from minireduce.worker.connections import SILENCE_S, Connection, Connections
from minireduce.worker.fetched_files import FetchedFiles
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

    def get(self, path: str, token: str | None = READ, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            connection.request(headers.pop("method", "GET"), path, body, headers)
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
PART_DOOR = f"/outputs/{reduce_attempt(0)}/part"
PART_BYTES = b"key\tvalue\n"
MANY = f"/outputs/{JOB}"


def test_parts_and_logs_come_whole_and_from_where_a_range_says(serve):
    serve(
        asking(
            (answers(200, PART_BYTES), PART_DOOR, {}),
            (answers(206, PART_BYTES[5:]), PART_DOOR, {"Range": "bytes=5-"}),
            (answers(416), PART_DOOR, {"Range": "bytes=10-"}),
            (answers(200, PART_BYTES), PART_DOOR, {"Range": "bytes=1-2"}),
            (answers(200, b"hello"), f"/logs/{map_attempt(0)}/stdout", {}),
            (answers(200, b""), PART_DOOR, {"method": "HEAD"}),
            (answers(200), "/healthz", {"token": None}),
        )
    )


PLACES = {"attempt": map_attempt(0), "job": JOB, "name": "stdout", "block": 1, "generation": 1}
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
    missing = ["/outputs/x/y", f"{MAP}/partitions/0", f"{MAP}/output.data", f"{PART_DOOR}/x"]
    serve(
        asking(
            *[(answers(403), path, {}) for path in shut],
            *[(answers(403), path, {"token": None}) for path in shut + missing],
            *[(answers(404), path, {}) for path in missing],
            (answers(403), PART_DOOR, {"method": "PUT"}),
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
            (told(404), f"{MAP}/part", {}),
            (told(404), f"/outputs/{map_attempt(9)}/part", {}),
            (told(404), f"/logs/{map_attempt(0)}/stderr", {}),
            (told(404), f"/logs/{map_attempt(0)}/output.data", {}),
            (told(404), f"/logs/{map_attempt(0)}/..%2f..%2f..%2fworker.msgpack", {}),
            (told(400), "/outputs/..%2f..%2fetc/part", {}),
            (told(400), f"/outputs/{JOB}/part", {}),
        )
    )


def sections(answer: bytes) -> list[tuple[int, bytes]]:
    """Status and bytes of each section of an answer, as docs/formats.md has it."""
    found = []
    while answer:
        status, length, check = struct.unpack_from("<HQQ", answer)
        assert xxhash.xxh3_64_intdigest(answer[:10]) == check
        found.append((status, answer[18 : 18 + length]))
        answer = answer[18 + length :]
    return found


def many(*rows: tuple[object, object, object], token: str | None = READ):
    """The arguments of a request for these outputs."""
    body = msgpack.packb([(str(attempt), partition, start) for attempt, partition, start in rows])
    return {"method": "POST", "body": body, "token": token}


def gives(*expected: tuple[int, bytes | str]):
    """That these are the sections; of an error its kind is told."""

    def check(path: str, status: int, answer: bytes) -> None:
        assert status == 200, answer
        found = [(code, data if code == 200 else json.loads(data)["error"]) for code, data in sections(answer)]
        assert found == list(expected)

    return check


def test_many_outputs_come_in_one_answer_and_what_is_missing_is_told_in_its_place(serve):
    rows = [
        (MAP_0, 0, 0),
        (MAP_0, 1, 0),
        (map_attempt(9), 0, 0),
        (MAP_0, 2, 0),
        (MAP_0, 3, 0),
        (MAP_0, -1, 0),
        (reduce_attempt(0), PART, 3),
        (MAP_0, 2, 5000),
        (MAP_0, 1, 1000),
        (MAP_0, 1, 1001),
    ]
    expected = [
        (200, b""),
        (200, DATA[:1000]),
        (404, "NotFound"),
        (200, DATA[1000:]),
        (404, "NotFound"),
        (404, "NotFound"),
        (200, PART_BYTES[3:]),
        (200, DATA[6000:]),
        (200, b""),
        (410, "Corruption"),
    ]
    serve(asking((gives(*expected), MANY, many(*rows)), (gives(), MANY, many())))


def test_a_compressed_answer_holds_what_another_does(serve):
    async def body(server: Server) -> None:
        text = b"".join(b"%d words of a line that repeats\n" % number for number in range(200_000))
        directory = server.outputs.directory(MAP_0)
        (directory / "output.data").write_bytes(text + DATA)
        (directory / "output.index").write_bytes(encode_index([len(text), 0, len(DATA)]))
        asked = many((MAP_0, 0, 0), (map_attempt(9), 0, 0), (MAP_0, 1, 0), (MAP_0, 2, 7), (MAP_0, 0, 5_000_000))
        plain = (await asyncio.to_thread(server.get, MANY, **asked))[1]
        asked[ACCEPT_HEADER] = ZSTD
        status, compressed = await asyncio.to_thread(server.get, MANY, **asked)
        assert status == 200
        assert len(compressed) < len(plain) - len(text) / 2
        assert b"".join(Decompressor().feed(compressed)) == plain

    serve(body)


def test_what_names_no_outputs_or_those_of_another_job_is_refused(serve):
    other = str(map_attempt(0)).replace(JOB, "job-0000aa-2")
    bodies = [b"", b"\x01", b"\xc1", msgpack.packb([1]), msgpack.packb([("x", 0, 0)]), msgpack.packb([[None] * 3])]
    rows = [(MAP_0, -2, 0), (MAP_0, 0, -1), (MAP_0, 1.5, 0), (MAP_0, 0, True), (MAP_0, "0", 0), (other, 0, 0)]
    serve(
        asking(
            *[(told(400), MANY, {"method": "POST", "body": body}) for body in bodies],
            *[(told(400), MANY, many(row)) for row in rows],
            (told(400), MANY, many(*[(MAP_0, 0, 0)] * 4097)),
            (told(403), "/outputs/job-0000aa-2", many((other, 0, 0))),
        )
    )


def test_an_output_that_was_not_finished_is_not_served(serve):
    async def body(server: Server) -> None:
        server.outputs.remove(map_attempt(0))
        (server.outputs.prepare(map_attempt(0)) / "output.index").write_bytes(encode_index([0]))
        gives((404, "NotFound"))(MANY, *await asyncio.to_thread(server.get, MANY, **many((MAP_0, 0, 0))))

    serve(body)


def test_a_damaged_output_is_gone_and_not_sent_short_and_those_beside_it_are_sent(serve):
    async def body(server: Server) -> None:
        directory = server.outputs.directory(map_attempt(0))
        index = (directory / "output.index").read_bytes()
        for data_bytes, damaged in ((len(DATA), index[:-1] + bytes([index[-1] ^ 1])), (5000, index), (500, index)):
            os.truncate(directory / "output.data", data_bytes)
            (directory / "output.index").write_bytes(damaged)
            asked = many((MAP_0, 2, 0), (MAP_0, 1, 0), (reduce_attempt(0), PART, 0))
            first = (200, DATA[:1000]) if data_bytes == 5000 else (410, "Corruption")
            check = gives((410, "Corruption"), first, (200, PART_BYTES))
            check(MANY, *await asyncio.to_thread(server.get, MANY, **asked))

    serve(body)


def test_what_disappears_while_it_is_sent_breaks_the_answer_off(serve, tmp_path: Path):
    async def body(server: Server) -> None:
        data = server.outputs.directory(MAP_0) / "output.data"
        os.truncate(data, 40 << 20)
        (data.parent / "output.index").write_bytes(encode_index([0, 1000, (40 << 20) - 1000]))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 16)
        asked = many((MAP_0, 2, 0), (reduce_attempt(0), PART, 0))["body"]
        head = (
            f"POST {MANY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {READ}\r\nContent-Length: {len(asked)}\r\n\r\n"
        )
        writer.write(head.encode() + asked)
        promised = await reader.readuntil(b"\r\n\r\n")
        os.truncate(data, 1000)
        came = 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                came += len(piece)
        assert came < int(re.search(rb"Content-Length: (\d+)", promised)[1])
        writer.close()

    serve(body)


def test_a_server_that_was_killed_is_started_again_on_the_same_port(serve):
    async def body(server: Server) -> None:
        first = server.process.pid
        await asyncio.to_thread(server.get, "/healthz", None)
        os.kill(first, 9)
        assert (await asyncio.to_thread(server.get, PART_DOOR)) == (200, PART_BYTES)
        assert server.process.pid != first

    serve(body)


# ── fetching ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Fetching:
    """A worker that fetches from a server, one fetch at a time."""

    def __init__(
        self,
        tmp_path: Path,
        authority_pem: bytes | None = None,
        compression: Compression = Compression.AUTO,
    ) -> None:
        self.outputs = Outputs(tmp_path / "fetching", RealDisk())
        self.told: asyncio.Queue = asyncio.Queue()
        self.fetcher = Fetcher(self.outputs, self.tell, authority_pem=authority_pem, compression=compression)
        self.numbers = 0
        self.path = self.outputs.fetched(reduce_attempt(0), map_attempt(0))

    def tell(self, event: FetchesEnded) -> None:
        for ended in event.ended:
            self.told.put_nowait(ended)

    def start(self, address: str, partition: int = 2, source=MAP_0, token: str = READ) -> int:
        self.numbers += 1
        found = OutputSource(source, "w2", address, len(DATA))
        self.fetcher.start(StartFetches((Fetch(self.numbers, reduce_attempt(0), found, partition, token),)))
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
        for _ in range(2):
            assert await worker.outcome(address, 0) == Fetched(0)
            assert worker.outputs.fetched_run(reduce_attempt(0), MAP_0)[2] == 0

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
    """Promises all and sends 10 bytes of it."""
    await reader.readuntil(b"\r\n\r\n")
    length = len(DATA) - 1000
    head = struct.pack("<HQ", 200, length)
    head += struct.pack("<Q", xxhash.xxh3_64_intdigest(head))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (18 + length) + head + DATA[1000:1010])
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


def silent(asked: asyncio.Event):
    """A source that takes questions, says so here, and answers nothing until the caller goes."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    return listen


def test_whoever_is_cancelled_while_it_waits_for_another_to_write_goes_on_waiting(tmp_path: Path):
    """Else the next one would begin to write while the first still does."""
    asked = asyncio.Event()

    async def body() -> None:
        worker = Fetching(tmp_path)
        async with await asyncio.start_server(silent(asked), "127.0.0.1", 0) as source:
            address = f"127.0.0.1:{source.sockets[0].getsockname()[1]}"
            worker.start(address)
            await asked.wait()
            waiting = worker.start(address)
            await asyncio.sleep(0)
            worker.fetcher.cancel(waiting)
            for _ in range(10):
                await asyncio.sleep(0)
            alive = {task.get_name() for task in asyncio.all_tasks()}
            assert {"fetches from 1", "fetches from 2"} <= alive
            await worker.fetcher.close()
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("fetches from")]

    asyncio.run(body())


def one_request_of_three(worker: Fetching, address: str):
    """Of which two are cancelled. Gives back how that is done, and what goes on after."""
    worker.fetcher.start(fetches(address, *[(reduce_attempt(index), MAP_0, 2) for index in range(3)]))

    def cancel() -> None:
        worker.fetcher.cancel(2)
        worker.fetcher.cancel(3)

    return cancel, [[1, 2, 3], [1]]


def three_into_one_place(worker: Fetching, address: str):
    """Of which each but the last is cancelled."""
    first = worker.start(address)

    def cancel() -> None:
        worker.fetcher.cancel(first)
        worker.fetcher.cancel(worker.start(address))
        worker.start(address)

    return cancel, [[1], [3]]


@pytest.mark.parametrize("begin", [one_request_of_three, three_into_one_place])
def test_after_two_cancels_in_one_turn_nobody_begins_while_the_first_still_writes(tmp_path: Path, monkeypatch, begin):
    asked, is_over = asyncio.Event(), asyncio.Event()
    begun: list[list[int]] = []
    called_off: list[list[int]] = []

    class Noted(FetchedFiles):
        def __init__(self, outputs, wanted) -> None:
            super().__init__(outputs, wanted)
            self.numbers = [fetch.number for fetch in wanted]
            begun.append(self.numbers)

        def call_off(self) -> None:
            super().call_off()
            called_off.append(self.numbers)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await is_over.wait()
        writer.close()

    async def body() -> None:
        worker = Fetching(tmp_path)
        async with await asyncio.start_server(listen, "127.0.0.1", 0) as source:
            cancel, expected = begin(worker, f"127.0.0.1:{source.sockets[0].getsockname()[1]}")
            try:
                await asked.wait()
                cancel()
                for _ in range(20):
                    await asyncio.sleep(0)
                assert begun == called_off == expected[:1]
                is_over.set()
                assert list(await outcomes(worker, 1)) == expected[1]
                assert (begun, called_off) == (expected, expected[:1])
            finally:
                is_over.set()
                await worker.fetcher.close()
        assert worker.told.empty()

    monkeypatch.setattr(fetcher, "FetchedFiles", Noted)
    monkeypatch.setattr(Connection, "break_off", lambda _: None)  # as to a thread that writes: it ends when it has
    asyncio.run(body())


def test_a_connection_is_used_again_unless_the_other_side_has_ended_it():
    connections = Connections(None)

    def answer(listening: socket.socket) -> socket.socket:
        caller, _ = listening.accept()
        caller.recv(1 << 16)
        caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return caller

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        answered = threads.submit(answer, listening)
        first = connections.take(address)
        assert first.ask("/outputs", b"", {}).status == 200
        assert (first.read(), first.read()) == (b"ok", b"")
        connections.put_back(first)
        assert connections.take(address) is first
        connections.put_back(first)
        answered.result().close()
        select.select([first.sock], [], [])  # until it has heard of that
        other = connections.take(address)
        assert other is not first
        connections.put_back(other)
        connections.close()


def test_a_connection_that_nobody_needs_again_is_closed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("minireduce.worker.connections.IDLE_S", 0.0)
    monkeypatch.setattr(fetcher, "IDLE_S", 0.0)
    is_over = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + encode_head(200, 0))
        while await reader.read(1 << 16):
            pass  # what is asked for
        is_over.set()
        writer.close()

    async def body() -> None:
        worker = Fetching(tmp_path)
        async with await asyncio.start_server(listen, "127.0.0.1", 0) as source:
            assert await worker.outcome(f"127.0.0.1:{source.sockets[0].getsockname()[1]}") == Fetched(0)
            await asyncio.wait_for(is_over.wait(), 30)
            await worker.fetcher.close()

    asyncio.run(body())


def test_closing_waits_for_no_source_that_is_silent(tmp_path: Path):
    asked = asyncio.Event()

    async def body() -> None:
        worker = Fetching(tmp_path)
        async with await asyncio.start_server(silent(asked), "127.0.0.1", 0) as source:
            worker.start(f"127.0.0.1:{source.sockets[0].getsockname()[1]}")
            await asked.wait()
            await asyncio.wait_for(worker.fetcher.close(), SILENCE_S / 2)
        assert worker.told.empty()

    asyncio.run(body())


def fetches(address: str, *wanted: tuple[object, object, int]) -> StartFetches:
    """A request: for whom, of whom, which partition."""
    return StartFetches(
        tuple(
            Fetch(number, attempt, OutputSource(source, "w2", address, 100), partition, READ)
            for number, (attempt, source, partition) in enumerate(wanted, 1)
        )
    )


async def outcomes(worker: Fetching, count: int) -> dict[int, object]:
    events = [await asyncio.wait_for(worker.told.get(), 30) for _ in range(count)]
    return {event.fetch: event.outcome for event in events}


def test_of_one_request_what_is_missing_is_gone_and_the_others_are_fetched_small_ones_together(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        one, other = reduce_attempt(0), reduce_attempt(1)
        asked = [(one, MAP_0, 1), (one, map_attempt(9), 1), (other, MAP_0, 2), (other, reduce_attempt(0), 0)]
        worker.fetcher.start(fetches(address, *asked, (one, reduce_attempt(0), PART)))
        found = await outcomes(worker, 5)
        assert (found[1], found[3], found[5]) == (Fetched(1000), Fetched(len(DATA) - 1000), Fetched(10))
        assert (type(found[2]), type(found[4])) == (Gone, Gone)
        path, offset, length = worker.outputs.fetched_run(one, MAP_0)
        together = worker.outputs.fetched(one, MAP_0).with_name("1.runs")
        assert path == str(together)
        assert together.read_bytes()[offset:][:length] == DATA[:1000]
        assert worker.outputs.fetched(other, MAP_0).read_bytes() == DATA[1000:]
        assert worker.outputs.fetched(one, reduce_attempt(0)).read_bytes() == PART_BYTES

    serve(fetching(tmp_path, body))


@pytest.mark.parametrize("choice", list(Compression))
def test_the_same_is_fetched_compressed_or_not(serve, tmp_path: Path, choice: Compression):
    async def body(server: Server) -> None:
        worker = Fetching(tmp_path, compression=choice)
        address = f"127.0.0.1:{server.port}"
        asked = [(reduce_attempt(0), MAP_0, 2), (reduce_attempt(1), map_attempt(9), 1), (reduce_attempt(2), MAP_0, 1)]
        worker.fetcher.start(fetches(address, *asked))
        found = await outcomes(worker, 3)
        await worker.fetcher.close()
        assert (found[1], found[3]) == (Fetched(len(DATA) - 1000), Fetched(1000))
        assert isinstance(found[2], Gone)
        assert worker.path.read_bytes() == DATA[1000:]

    serve(body)


def test_what_a_broken_answer_did_not_reach_says_nothing_about_its_source(tmp_path: Path):
    async def body() -> None:
        worker = Fetching(tmp_path)
        async with await asyncio.start_server(broken_source, "127.0.0.1", 0) as source:
            address = f"127.0.0.1:{source.sockets[0].getsockname()[1]}"
            worker.fetcher.start(fetches(address, *[(reduce_attempt(0), map_attempt(index), 2) for index in range(3)]))
            found = await outcomes(worker, 3)
        await worker.fetcher.close()
        assert isinstance(found[1], Unreachable)
        assert (found[2], found[3]) == (NotReached(), NotReached())

    asyncio.run(body())


def test_of_one_request_one_fetch_is_cancelled_and_the_others_come(serve, tmp_path: Path):
    async def body(worker: Fetching, address: str) -> None:
        asked = [(reduce_attempt(index), MAP_0, 2) for index in range(4)]
        worker.fetcher.start(fetches(address, *asked))
        worker.fetcher.cancel(2)
        worker.fetcher.cancel(1)
        assert await outcomes(worker, 2) == {3: Fetched(len(DATA) - 1000), 4: Fetched(len(DATA) - 1000)}
        for index in (2, 3):
            assert worker.outputs.fetched(reduce_attempt(index), MAP_0).read_bytes() == DATA[1000:]
        assert worker.told.empty()

    serve(fetching(tmp_path, body))


def test_an_answer_with_a_flipped_bit_in_a_head_is_gone_and_the_rest_not_reached(tmp_path: Path):
    async def damaged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + struct.pack("<HQQ", 200, 8, 1))
        await writer.drain()
        writer.close()

    async def body() -> None:
        worker = Fetching(tmp_path)
        async with await asyncio.start_server(damaged, "127.0.0.1", 0) as source:
            address = f"127.0.0.1:{source.sockets[0].getsockname()[1]}"
            worker.fetcher.start(fetches(address, (reduce_attempt(0), MAP_0, 2), (reduce_attempt(1), MAP_0, 2)))
            found = await outcomes(worker, 2)
        await worker.fetcher.close()
        assert isinstance(found[1], Unreachable)
        assert "damaged" in found[1].reason

    asyncio.run(body())


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


def test_an_answer_with_which_the_connection_ends_is_read_to_its_end_under_tls(monkeypatch):
    monkeypatch.setattr(transport, "needs_tls", lambda host: True)
    authority_pem, tls = certified()
    context = transport.server_context(tls["certificate_pem"].encode(), tls["key_pem"].encode())
    data = DATA[:100_000]

    def answer(listening: socket.socket) -> None:
        caller, _ = listening.accept()
        with context.wrap_socket(caller, server_side=True) as sealed:
            sealed.recv(1 << 16)
            sealed.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(data) + data)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:
        answered = threads.submit(answer, listening)
        connections = Connections(authority_pem)
        connection = connections.take(f"127.0.0.1:{listening.getsockname()[1]}")
        assert connection.ask("/outputs", b"", {}).status == 200
        assert b"".join(iter(connection.read, b"")) == data
        answered.result()
        assert not connection.is_usable
        connection.close()


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
