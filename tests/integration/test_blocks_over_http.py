"""Blocks between real block servers: the pipeline, what a failing worker costs, and damage on the way out."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from minireduce.auth import scopes
from minireduce.auth.scopes import BlockAccess, BlockMode
from minireduce.auth.tokens import generate
from minireduce.checksums import PACKET_BYTES
from minireduce.client.block_io import BlockDoors, read_range, write_block
from minireduce.client.local_blocks import AskedAhead, fetch_descriptor
from minireduce.core.replica_messages import (
    BlockSource,
    ByteRange,
    DirectoriesMeasured,
    RemoveReplica,
    RepackBlock,
    Replica,
    ReplicateBlock,
)
from minireduce.core.storage import reading
from minireduce.core.storage.views import BlockTarget, PlacedBlock
from minireduce.core.worker import (
    ReplicaDeleted,
    ReplicaFoundDamaged,
    ReplicationEnded,
    ReplicaWritten,
)
from minireduce.errors import Corruption, Refused, RequestError, Unavailable
from minireduce.wire.local_door import NONCE_HEADER, PROOF_HEADER, SOCKET_HEADER, read_offer
from minireduce.wire.packets import seal
from minireduce.worker.block_server_process import BlockServerProcess, listen
from minireduce.worker.data_directories import NO_ROOM_BYTES
from minireduce.worker.orders import Orders

HELD = generate()
SECRET = scopes.cluster_secret(HELD.require_worker())
LENGTH = 5 * (1 << 20) + 12345
DATA = random.Random(1).randbytes(LENGTH)


def token(block_id: int, generation: int, mode: BlockMode) -> str:
    return scopes.make(SECRET, BlockAccess(block_id, generation, mode, int(time.time()) + 600))


class Servers:
    """Block servers in processes of their own, watched from an event loop in a thread."""

    def __init__(self, folder: Path, *names: str, gives_descriptors: bool = True) -> None:
        self.gives_descriptors = gives_descriptors
        self.folder = folder
        self.names = names
        self.events: list[tuple[str, object]] = []
        self.addresses: dict[str, str] = {}
        self.processes: dict[str, BlockServerProcess] = {}
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        for name in self.names:
            listening = listen("127.0.0.1", 0)
            self.addresses[name] = f"127.0.0.1:{listening.getsockname()[1]}"
            orders = Orders(
                (str(self.folder / name),), name, HELD.require_worker(), gives_descriptors=self.gives_descriptors
            )
            self.processes[name] = BlockServerProcess(
                listening, orders, lambda event, name=name: self._heard(name, event)
            )
            self._call(self.processes[name].start())
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            self._call(process.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def order(self, name: str, command) -> None:
        self._loop.call_soon_threadsafe(self.processes[name].order, command)

    def _heard(self, name: str, event) -> None:
        with self._changed:
            self.events.append((name, event))
            self._changed.notify_all()

    def wait_for(self, name: str, kind: type, block_id: int | None = None, matches=lambda _: True):
        """The first event of this kind from this server, about this block if one is named, that `matches`."""

        def find():
            told = [event for by, event in self.events if by == name and isinstance(event, kind)]
            about = [event for event in told if block_id is None or event.replica.block_id == block_id]
            return next(filter(matches, about), None)

        with self._changed:
            assert self._changed.wait_for(lambda: find() is not None, 20), self.events
            found = find()
            self.events.remove((name, found))
            return found

    def stop(self, name: str) -> None:
        self._call(self.processes.pop(name).close())

    def placed(self, block_id: int, generation: int, *names: str) -> PlacedBlock:
        targets = tuple(BlockTarget(name, self.addresses[name]) for name in names)
        return PlacedBlock(block_id, generation, targets, token(block_id, generation, BlockMode.WRITE))

    def source(self, replica: Replica, *names: str) -> BlockSource:
        return BlockSource(replica, 0, names, tuple(self.addresses[name] for name in names))

    def data_file(self, name: str, replica: Replica) -> Path:
        folder = self.folder / name / "blocks" / f"{replica.block_id % 256:02x}"
        return folder / f"{replica.block_id}.{replica.generation}.data"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with Servers(tmp_path_factory.mktemp("servers"), "a", "b", "c") as running:
        yield running


@pytest.fixture
def doors():
    opened = BlockDoors(None)
    yield opened
    opened.close()


def read(
    doors: BlockDoors,
    source: BlockSource,
    offset: int = 0,
    length: int = LENGTH,
    damage=None,
    *,
    pace=None,
    failing=None,
) -> bytes:
    replica = source.replica
    opens = token(replica.block_id, replica.generation, BlockMode.READ)
    pieces = read_range(
        lambda fetch, hedge: doors.fetch(fetch, opens, hedge),
        source,
        offset,
        length,
        failing={} if failing is None else failing,
        pace=pace,
        locate=lambda: source,
        tell_damage=lambda replica, worker: damage.append(worker),
        pause=lambda _: None,
    )
    return b"".join(pieces)


def test_a_block_reaches_every_worker_of_the_pipeline_and_comes_back_from_each(servers, doors):
    written = doors.send(servers.placed(1, 1, "a", "b", "c"), DATA)
    assert written.workers == ("a", "b", "c")
    assert written.failed == ()
    replica = Replica(1, 1, LENGTH)
    for name in "abc":
        assert servers.wait_for(name, ReplicaWritten, 1).replica == replica
        assert servers.data_file(name, replica).read_bytes() == DATA
        assert read(doors, servers.source(replica, name)) == DATA
    for offset, length in ((0, 1), (PACKET_BYTES - 1, 2), (LENGTH - 1, 1), (1 << 20, 3 << 20)):
        assert read(doors, servers.source(replica, "b"), offset, length) == DATA[offset : offset + length]


def test_blocks_go_through_one_connection_which_is_opened_anew_where_the_other_side_closed_it(servers, doors):
    address = servers.addresses["a"]
    kept: list[tuple[str, int]] = []
    for block_id in (31, 32, 33, 34):
        assert doors.send(servers.placed(block_id, 1, "a"), DATA).workers == ("a",)
        kept.append(doors._doors[address].sock.getsockname())
        if block_id == 32:
            doors._doors[address].sock.shutdown(socket.SHUT_RDWR)
    assert kept[0] == kept[1] != kept[2] == kept[3]
    with pytest.raises(Refused):
        doors.send(replace(servers.placed(35, 1, "a"), block_id=36), b"x" * 100)
    assert address not in doors._doors  # what a refused block has left in there is nobody's


def test_a_worker_that_is_gone_is_left_out_and_the_write_goes_on(servers, doors, tmp_path):
    with Servers(tmp_path, "dead") as short:
        short.stop("dead")
        address = short.addresses["dead"]
        placed = servers.placed(2, 1, "a", "b")
        targets = (placed.targets[0], BlockTarget("dead", address), placed.targets[1])
        written = doors.send(PlacedBlock(2, 1, targets, placed.write_token), DATA)
        assert written.workers == ("a",)
        assert [worker for worker, _ in written.failed] == ["dead", "b"]
        with pytest.raises(Unavailable, match="dead"):
            doors.send(PlacedBlock(2, 1, targets[1:], placed.write_token), DATA)


def test_a_writer_begins_again_without_the_worker_that_failed(servers, doors, tmp_path):
    placed: list[tuple[str, ...]] = []
    committed: list[tuple[str, ...]] = []

    def place(excluded):
        placed.append(excluded)
        block = servers.placed(3, len(placed), "b", "c")
        if len(placed) == 1:
            block = PlacedBlock(3, 1, (BlockTarget("gone", "127.0.0.1:1"), *block.targets), block.write_token)
        return block

    def commit(replica, workers):
        committed.append(workers)
        return replica == Replica(3, 2, LENGTH)

    write_block(doors, len(DATA), lambda _: DATA, {}, place=place, commit=commit, pause=lambda _: None)
    assert placed == [(), ("gone",)]
    assert committed == [("b", "c")]


def test_a_token_opens_one_block_of_one_generation_and_one_way_only(servers, doors):
    doors.send(servers.placed(4, 2, "a"), b"x" * 100)
    good = servers.placed(4, 2, "a")
    for wrong in (
        token(4, 1, BlockMode.WRITE),
        token(5, 2, BlockMode.WRITE),
        token(4, 2, BlockMode.READ),
        HELD.require_worker(),
        HELD.require_client(),
    ):
        with pytest.raises(Refused):
            doors.send(PlacedBlock(4, 2, good.targets, wrong), b"y" * 100)
    fetch = reading.Fetch("a", servers.addresses["a"], Replica(4, 2, 100), 0, 100)
    for wrong in (token(4, 2, BlockMode.WRITE), token(4, 1, BlockMode.READ), HELD.require_client()):
        with pytest.raises(Refused):
            list(doors.fetch(fetch, wrong))
    assert b"".join(doors.fetch(fetch, token(4, 2, BlockMode.READ))) == b"x" * 100


def test_a_body_of_another_length_than_announced_is_refused(servers, doors):
    placed = servers.placed(6, 1, "a")
    door = http.client.HTTPConnection(servers.addresses["a"])
    door.request(
        "PUT",
        "/blocks/6/1",
        body=b"x" * 50,
        headers={"Authorization": f"Bearer {placed.write_token}", "Minireduce-Block-Length": "100"},
    )
    answer = door.getresponse()
    assert answer.status == 400
    assert b"sealed" in answer.read()
    door.close()
    assert not servers.data_file("a", Replica(6, 1, 100)).exists()


@pytest.mark.parametrize("place", [0, 70_000, 199_999])
def test_bytes_that_are_damaged_on_their_way_are_refused_by_the_worker_that_they_reach(servers, place):
    block_id, data = 700 + place, DATA[:200_000]
    sealed = bytearray(b"".join(seal(data)))
    sealed[place] ^= 1
    door = http.client.HTTPConnection(servers.addresses["a"])
    opens = {"Authorization": f"Bearer {token(block_id, 1, BlockMode.WRITE)}", "Minireduce-Block-Length": "200000"}
    for body, status in ((bytes(sealed), None), (b"".join(seal(data)), 200)):
        door.request("PUT", f"/blocks/{block_id}/1", body=body, headers=opens)
        answer = door.getresponse()
        said = answer.read()
        assert servers.data_file("a", Replica(block_id, 1, 200_000)).exists() == (status == 200)
        assert (answer.status == 200) == (status == 200)
        assert (b"arrived damaged" in said) == (status is None)
    door.close()


@pytest.mark.parametrize("place", [10, 3 << 20, LENGTH - 1])
def test_a_damaged_byte_is_never_delivered_and_both_sides_tell_of_it(servers, doors, place):
    block_id = 100 + place
    doors.send(servers.placed(block_id, 1, "a", "b"), DATA)
    replica = Replica(block_id, 1, LENGTH)
    path = servers.data_file("a", replica)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([DATA[place] ^ 1]))
    damage: list[str] = []
    assert read(doors, servers.source(replica, "a", "b"), damage=damage) == DATA
    found = servers.wait_for("a", ReplicaFoundDamaged, block_id)
    assert (found.replica.block_id, found.worker) == (block_id, "a")
    with pytest.raises(Corruption):
        read(doors, servers.source(replica, "a"), damage=damage)
    assert damage == ["a"] * len(damage)
    assert path.exists()  # until the master has it removed


def test_a_replica_is_copied_and_removed_as_the_master_orders(servers, doors):
    doors.send(servers.placed(8, 1, "a"), DATA)
    replica = Replica(8, 1, LENGTH)
    servers.order("a", ReplicateBlock(replica, "c", servers.addresses["c"], token(8, 1, BlockMode.WRITE)))
    assert servers.wait_for("a", ReplicationEnded, 8) == ReplicationEnded(replica)
    assert read(doors, servers.source(replica, "c")) == DATA
    servers.order("a", RemoveReplica(replica))
    assert servers.wait_for("a", ReplicaDeleted, 8).replica == replica
    assert not servers.data_file("a", replica).exists()
    servers.order("a", ReplicateBlock(replica, "b", servers.addresses["b"], token(8, 1, BlockMode.WRITE)))
    assert "not on this worker" in servers.wait_for("a", ReplicationEnded, 8).error
    servers.order("c", ReplicateBlock(replica, "x", "127.0.0.1:1", token(8, 1, BlockMode.WRITE)))
    assert "x" in servers.wait_for("c", ReplicationEnded, 8).error


def test_ranges_of_a_replica_become_a_block_of_their_own_and_damaged_ones_do_not(servers, doors):
    doors.send(servers.placed(21, 1, "a"), DATA)
    replica = Replica(21, 1, LENGTH)
    ranges = (ByteRange(5, 100_000), ByteRange(LENGTH - 70_000, 70_000), ByteRange(1, 1))
    expected = b"".join(DATA[part.offset :][: part.length] for part in ranges)
    for block_id, target in ((22, "a"), (23, "b")):
        packed = Replica(block_id, 1, len(expected))
        order = (target, servers.addresses[target], token(block_id, 1, BlockMode.WRITE))
        servers.order("a", RepackBlock(replica, ranges, packed, *order))
        assert servers.wait_for("a", ReplicationEnded, block_id) == ReplicationEnded(packed)
        assert read(doors, servers.source(packed, target), 0, len(expected)) == expected
    with servers.data_file("a", replica).open("r+b") as file:
        file.seek(LENGTH - 1)
        file.write(bytes([DATA[-1] ^ 1]))
    order = ("b", servers.addresses["b"], token(24, 1, BlockMode.WRITE))
    servers.order("a", RepackBlock(replica, ranges, Replica(24, 1, len(expected)), *order))
    assert servers.wait_for("a", ReplicaFoundDamaged, 21).replica == replica
    assert servers.wait_for("a", ReplicationEnded, 24).error
    assert not servers.data_file("b", Replica(24, 1, len(expected))).exists()


def test_a_server_that_was_killed_comes_back_with_all_that_it_acknowledged(tmp_path, doors):
    with Servers(tmp_path, "a") as servers:
        doors.send(servers.placed(1, 1, "a"), DATA)
        servers.wait_for("a", ReplicaWritten, 1)
        os.kill(servers.processes["a"].pid, signal.SIGKILL)
        assert servers.wait_for("a", ReplicaWritten, 1).replica == Replica(1, 1, LENGTH)
        assert read(doors, servers.source(Replica(1, 1, LENGTH), "a")) == DATA


def test_offsets_beyond_the_block_are_refused(servers, doors):
    doors.send(servers.placed(9, 1, "a"), b"x" * 100)
    fetch = reading.Fetch("a", servers.addresses["a"], Replica(9, 1, 1000), 50, 100)
    with pytest.raises(RequestError, match="100 bytes"):
        list(doors.fetch(fetch, token(9, 1, BlockMode.READ)))


def test_after_a_failed_write_a_worker_takes_no_more_blocks_says_so_and_is_still_read(tmp_path, doors):
    with Servers(tmp_path, "a") as servers:
        doors.send(servers.placed(1, 1, "a"), DATA)
        (tmp_path / "a" / "blocks" / "0c").touch()  # where the folder of block 12 would be
        for block_id in (12, 13):
            with pytest.raises(Unavailable):
                doors.send(servers.placed(block_id, 1, "a"), DATA)
        told = servers.wait_for("a", DirectoriesMeasured, matches=lambda event: event.directories[0].problem)
        assert told.free_bytes == NO_ROOM_BYTES
        assert read(doors, servers.source(Replica(1, 1, LENGTH), "a")) == DATA


@pytest.fixture
def stopped(servers):
    """Server `a`, which keeps its connections and says nothing."""
    process = servers.processes["a"].pid
    os.kill(process, signal.SIGSTOP)
    yield process
    os.kill(process, signal.SIGCONT)


def test_a_worker_that_hangs_is_left_for_the_next_after_its_silence(servers, doors, monkeypatch, request):
    monkeypatch.setattr(reading, "SILENCE_S", 0.3)
    doors.send(servers.placed(20, 1, "a", "b"), DATA)
    request.getfixturevalue("stopped")
    assert read(doors, servers.source(Replica(20, 1, LENGTH), "a", "b")) == DATA


def test_a_slow_worker_is_waited_for_when_there_is_no_other(servers, doors, monkeypatch, request):
    monkeypatch.setattr(reading, "SILENCE_S", 0.3)
    doors.send(servers.placed(21, 1, "a"), DATA)
    process = request.getfixturevalue("stopped")
    asked = []
    ask = http.client.HTTPConnection.request

    def wake_when_asked_again(*given, **named):
        asked.append(given)
        if len(asked) == 2:
            os.kill(process, signal.SIGCONT)
        return ask(*given, **named)

    monkeypatch.setattr(http.client.HTTPConnection, "request", wake_when_asked_again)
    assert read(doors, servers.source(Replica(21, 1, LENGTH), "a")) == DATA
    assert len(asked) >= 2


def opened_files(name: str, servers: Servers, replica: Replica) -> list[int]:
    """The descriptors that this process holds of a replica's file of bytes."""
    path = servers.data_file(name, replica)
    links = [(int(entry.name), entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [descriptor for descriptor, link in links if link == path]


def test_a_reader_on_the_same_host_reads_from_a_descriptor_and_asks_no_more(servers, doors, monkeypatch):
    doors.send(servers.placed(30, 1, "a"), DATA)
    replica = Replica(30, 1, LENGTH)
    assert read(doors, servers.source(replica, "a"), 5, 10) == DATA[5:15]
    assert len(opened_files("a", servers, replica)) == 1
    monkeypatch.setattr(http.client.HTTPConnection, "request", None)  # would raise
    assert read(doors, servers.source(replica, "a")) == DATA
    doors.close()
    assert opened_files("a", servers, replica) == []


def test_a_descriptor_can_be_read_only_and_outlives_the_removal_of_the_replica(servers, doors):
    doors.send(servers.placed(31, 1, "a"), DATA)
    replica = Replica(31, 1, LENGTH)
    assert read(doors, servers.source(replica, "a"), 0, 1) == DATA[:1]
    (held,) = opened_files("a", servers, replica)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(held, b"x")
    assert not os.get_inheritable(held)
    servers.order("a", RemoveReplica(replica))
    servers.wait_for("a", ReplicaDeleted, 31)
    assert read(doors, servers.source(replica, "a")) == DATA


def ask_ahead(servers, doors, replica: Replica) -> None:
    opens = token(replica.block_id, replica.generation, BlockMode.READ)
    doors.ask_ahead(servers.source(replica, "a"), opens)


def test_a_descriptor_that_was_asked_for_ahead_is_there_when_it_is_needed(servers, doors, monkeypatch):
    first, second = Replica(70, 1, LENGTH), Replica(71, 1, LENGTH)
    for replica in (first, second):
        doors.send(servers.placed(replica.block_id, 1, "a"), DATA)
    source = servers.source(first, "a")
    assert read(doors, source, 0, 10) == DATA[:10]
    ask_ahead(servers, doors, second)
    ask_ahead(servers, doors, second)  # asked once
    monkeypatch.setattr(http.client.HTTPConnection, "request", None)  # would raise
    assert read(doors, source) == DATA
    assert read(doors, servers.source(second, "a")) == DATA


@pytest.mark.parametrize("what", ["too old", "damaged", "door closed", "gone"])
def test_what_was_asked_ahead_in_vain_costs_nothing(servers, doors, monkeypatch, what):
    block_id = 72 + ["too old", "damaged", "door closed", "gone"].index(what)
    replica = Replica(block_id, 1, LENGTH)
    for names in ("a", "b"):
        doors.send(servers.placed(block_id, 1, names), DATA)
    path, source = servers.data_file("a", replica), servers.source(replica, "a", "b")
    if what == "damaged":
        damaged = bytearray(DATA)
        damaged[3 * PACKET_BYTES] ^= 1
        path.write_bytes(damaged)
    if what == "gone":
        servers.order("a", RemoveReplica(replica))
        servers.wait_for("a", ReplicaDeleted, block_id)
    ask_ahead(servers, doors, replica)
    assert list(doors._ahead) == [servers.addresses["a"]]
    if what == "too old":
        monkeypatch.setattr(AskedAhead, "is_old", True)
    if what == "door closed":
        doors._doors[servers.addresses["a"]].sock.shutdown(socket.SHUT_RDWR)
    assert read(doors, source, damage=[]) == DATA
    assert doors._ahead == {}


def test_who_stops_reading_leaves_no_answer_in_the_connection(servers, doors):
    replica = Replica(76, 1, LENGTH)
    doors.send(servers.placed(76, 1, "a"), DATA)
    ask_ahead(servers, doors, replica)
    doors.keep_little()
    assert doors._ahead == {}
    assert read(doors, servers.source(replica, "a")) == DATA


def offered(servers, doors, block_id: int):
    door = http.client.HTTPConnection(servers.addresses["a"])
    opens = {"Authorization": f"Bearer {token(block_id, 1, BlockMode.READ)}"}
    door.request("GET", f"/local/{block_id}/1", headers=opens)
    answer = door.getresponse()
    answer.read()
    door.close()
    return read_offer(*(answer.getheader(name) for name in (SOCKET_HEADER, NONCE_HEADER, PROOF_HEADER)))


def test_a_descriptor_goes_to_whoever_brings_the_nonce_once_and_to_nobody_else(servers, doors):
    doors.send(servers.placed(32, 1, "a"), DATA)
    offer = offered(servers, doors, 32)
    assert offer.nonce != offer.proof
    for wrong in (bytes(16), offer.proof, offer.nonce + b"x", b""):
        with pytest.raises((Unavailable, OSError)):
            fetch_descriptor(replace(offer, nonce=wrong))
    with pytest.raises(Unavailable, match="is not that worker"):
        fetch_descriptor(replace(offer, proof=bytes(16)))
    with pytest.raises(Unavailable):
        fetch_descriptor(offer)  # it was handed over already
    again = offered(servers, doors, 32)
    descriptor = fetch_descriptor(again)
    assert os.pread(descriptor, 10, 7) == DATA[7:17]
    os.close(descriptor)


def test_no_descriptor_without_a_token_for_reading_that_block(servers, doors):
    doors.send(servers.placed(33, 1, "a"), DATA)
    for wrong in (token(33, 1, BlockMode.WRITE), token(34, 1, BlockMode.READ), HELD.require_client(), ""):
        door = http.client.HTTPConnection(servers.addresses["a"])
        door.request("GET", "/local/33/1", headers={"Authorization": f"Bearer {wrong}"} if wrong else {})
        answer = door.getresponse()
        assert answer.status == 403
        assert SOCKET_HEADER not in answer.headers
        door.close()


def test_a_worker_that_gives_no_descriptors_is_read_over_http(tmp_path, doors):
    with Servers(tmp_path, "a", gives_descriptors=False) as servers:
        doors.send(servers.placed(1, 1, "a"), DATA)
        replica = Replica(1, 1, LENGTH)
        assert read(doors, servers.source(replica, "a")) == DATA
        assert opened_files("a", servers, replica) == []


def test_a_worker_that_is_slow_to_answer_is_read_no_more_once_another_has_answered(servers, doors, request):
    pace = reading.Pace(0.001)
    doors.send(servers.placed(40, 1, "a", "b"), DATA)
    replica = Replica(40, 1, LENGTH)
    request.getfixturevalue("stopped")
    failing = {}
    assert read(doors, servers.source(replica, "a", "b"), pace=pace, failing=failing) == DATA
    assert (pace.hedged, pace.won_by_second) == (1, 1)
    assert failing == {"a": None}
    assert read(doors, servers.source(replica, "a", "b"), pace=pace, failing=failing) == DATA
    assert pace.hedged == 1  # the one that was slow is asked last from now on
