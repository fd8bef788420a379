"""Bytes of stored files for tasks, from our own disk."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import replace

import pytest

from minireduce.attempt.conversation import ReadRange
from minireduce.checksums import PACKET_BYTES, crc_of
from minireduce.core.replica_messages import BlockSource, Replica
from minireduce.core.task_data import StoredInput
from minireduce.core.worker import ReplicaFoundDamaged
from minireduce.disk import RealDisk
from minireduce.errors import NotFound, Unavailable
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.wire.packets import Unsealer, seal
from minireduce.worker.block_store import BLOCKS_NAME, BlockStore
from minireduce.worker.input_reader import IN_PLACE_BYTES_MIN, InputReader, OpenBlock

ATTEMPT = AttemptId(TaskId("job-abcdef-1", 0, TaskKind.MAP, 0), 0)
LENGTHS = (3 * PACKET_BYTES + 11, 2 * PACKET_BYTES)
DATA = random.Random(3).randbytes(sum(LENGTHS))


class Reading:
    """An attempt that reads a file of two blocks, both on this worker."""

    def __init__(self, tmp_path) -> None:
        self.told = []
        store = BlockStore(RealDisk(), (tmp_path / BLOCKS_NAME,))
        store.open()
        sources, begins = [], 0
        for number, block_length in enumerate(LENGTHS, 1):
            replica = Replica(number, 1, block_length)
            writer = store.create(replica)
            sealed = b"".join(seal(DATA[begins : begins + block_length]))
            writer.write(Unsealer(block_length, "it").feed(sealed))
            writer.commit()
            sources.append(BlockSource(replica, begins, ("w1",), ("127.0.0.1:1",)))
            begins += block_length
        self.stored = StoredInput("/f", 0, len(DATA), len(DATA), tuple(sources))
        self.reader = InputReader(RealDisk(), [tmp_path], "w1", None, self.told.append)

    def read(self, offset: int, length: int, path: str = "/f") -> bytes:
        async def ask() -> bytes:
            self.reader.begin(ATTEMPT, (self.stored,), "token")
            try:
                return await self.reader.read(ATTEMPT, ReadRange(path, offset, length))
            finally:
                self.reader.end(ATTEMPT)
                await asyncio.sleep(0)  # what was told from the thread is taken in

        return asyncio.run(ask())


LARGE = random.Random(6).randbytes(IN_PLACE_BYTES_MIN + 5)


class LargeFile(Reading):
    """A file with one block of a size that is worth handing over, between others' bytes in that block."""

    before = 100

    def __init__(self, tmp_path, *, hands_over: bool = True, file_bytes: int = IN_PLACE_BYTES_MIN) -> None:
        super().__init__(tmp_path)
        store = BlockStore(RealDisk(), (tmp_path / BLOCKS_NAME,))
        store.open()
        self.replica = Replica(9, 1, len(LARGE))
        writer = store.create(self.replica)
        writer.write(Unsealer(len(LARGE), "it").feed(b"".join(seal(LARGE))))
        writer.commit()
        source = BlockSource(self.replica, -self.before, ("w2", "w1"), ("127.0.0.1:1", "127.0.0.1:2"))
        file_bytes = min(file_bytes, len(LARGE) - self.before)
        self.stored = StoredInput("/f", 0, file_bytes, file_bytes, (source,))
        self.reader = InputReader(RealDisk(), [tmp_path], "w1", None, self.told.append, hands_over=hands_over)

    def ask(self, asked: ReadRange):
        async def read():
            self.reader.begin(ATTEMPT, (self.stored,), "token")
            return await self.reader.read(ATTEMPT, asked)

        return asyncio.run(read())


def test_a_block_of_this_worker_is_handed_over_with_its_checksums(tmp_path):
    file = LargeFile(tmp_path)
    file.before = 0
    file.stored = replace(file.stored, file_bytes=len(LARGE), blocks=(replace(file.stored.blocks[0], file_offset=0),))
    opened = file.ask(ReadRange("/f", 7, 10, in_place=True))
    assert isinstance(opened, OpenBlock)
    with opened.file:
        assert opened.file.read() == LARGE
    assert (opened.here.begin, opened.here.length) == (0, len(LARGE))
    crcs = [crc_of(LARGE[at : at + PACKET_BYTES]) for at in range(0, len(LARGE), PACKET_BYTES)]
    assert opened.here.crcs == b"".join(crcs)


@pytest.mark.parametrize("why", ["not asked for", "hands nothing over", "others' bytes", "elsewhere"])
def test_a_block_is_not_handed_over_but_sent(tmp_path, why):
    """Where it may not be, or where the file has little of it. `others' bytes`: most of it is not this file's."""
    file_bytes = 1000 if why == "others' bytes" else len(LARGE)
    file = LargeFile(tmp_path, hands_over=why != "hands nothing over", file_bytes=file_bytes)
    file.stored = replace(file.stored, file_bytes=file_bytes)
    if why == "elsewhere":
        source = replace(file.stored.blocks[0], workers=("w2",), addresses=("127.0.0.1:1",))
        file.stored = replace(file.stored, blocks=(source,))
        file.reader.fetch = lambda doors, fetch, token, hedge: iter([LARGE[fetch.offset : fetch.offset + fetch.length]])
    asked = ReadRange("/f", 7, 10, in_place=why != "not asked for")
    assert file.ask(asked) == LARGE[file.before + 7 : file.before + 17]


def test_a_block_that_cannot_be_opened_is_told_of_and_read_elsewhere(tmp_path):
    file = LargeFile(tmp_path)
    (tmp_path / BLOCKS_NAME / "09" / "9.1.sums").write_bytes(b"")
    own, asked_own = file.reader.fetch, []

    def fetch(doors, wanted, token, hedge):
        if wanted.worker == "w1":
            asked_own.append(wanted)
            return own(doors, wanted, token, hedge)
        if not asked_own:
            raise Unavailable("not yet")
        return iter([LARGE[wanted.offset : wanted.offset + wanted.length]])

    file.reader.fetch = fetch
    assert file.ask(ReadRange("/f", 7, 10, in_place=True)) == LARGE[file.before + 7 : file.before + 17]
    assert file.told == [ReplicaFoundDamaged(file.replica, "w1")]


def test_ranges_end_with_their_block_at_the_latest(tmp_path):
    reading = Reading(tmp_path)
    assert reading.read(0, 10) == DATA[:10]
    assert reading.read(PACKET_BYTES - 1, 2) == DATA[PACKET_BYTES - 1 : PACKET_BYTES + 1]
    assert reading.read(LENGTHS[0] - 5, 100) == DATA[LENGTHS[0] - 5 : LENGTHS[0]]
    assert reading.read(LENGTHS[0], 1 << 20) == DATA[LENGTHS[0] :]


def test_a_damaged_replica_is_told_and_its_bytes_are_not_given(tmp_path):
    reading = Reading(tmp_path)
    path = tmp_path / BLOCKS_NAME / "01" / "1.1.data"
    with path.open("r+b") as file:
        file.write(bytes([DATA[0] ^ 1]))
    with pytest.raises(Unavailable, match="cannot be read from w1"):
        reading.read(0, 10)
    assert reading.told == [ReplicaFoundDamaged(Replica(1, 1, LENGTHS[0]), "w1")]


def test_a_replica_that_went_meanwhile_is_not_called_damaged(tmp_path):
    reading = Reading(tmp_path)
    (tmp_path / BLOCKS_NAME / "01" / "1.1.data").unlink()
    with pytest.raises(Unavailable):
        reading.read(0, 10)
    assert reading.told == []


def test_an_attempt_reads_nothing_but_its_own_input(tmp_path):
    reading = Reading(tmp_path)
    with pytest.raises(Unavailable, match="not given"):
        reading.read(0, 10, "/other")
    with pytest.raises(Unavailable, match="beyond"):
        reading.read(len(DATA), 10)


def test_a_file_that_has_been_removed_is_not_an_empty_one(tmp_path):
    reader = InputReader(RealDisk(), [tmp_path], "w1", None, print)
    with pytest.raises(NotFound, match="removed"):
        asyncio.run(_begin(reader, StoredInput("/f", 0, 10, 0, ())))


async def _begin(reader: InputReader, stored: StoredInput) -> None:
    reader.begin(ATTEMPT, (stored,), "token")


def test_an_attempt_that_ends_in_the_middle_of_a_read_waits_for_nothing(tmp_path):
    reading = Reading(tmp_path)
    entered, released, closed = threading.Event(), threading.Event(), threading.Event()

    class HangingDoors:
        def close(self) -> None:
            assert released.is_set(), "closed under a read"
            closed.set()

    def hang(doors, fetch, token, hedge):
        entered.set()
        released.wait(20)
        yield DATA[: fetch.length]

    reading.reader.doors = HangingDoors
    reading.reader.fetch = hang

    async def end_while_reading() -> None:
        reading.reader.begin(ATTEMPT, (reading.stored,), "token")
        asked = asyncio.create_task(reading.reader.read(ATTEMPT, ReadRange("/f", 0, 10)))
        assert await asyncio.to_thread(entered.wait, 20)
        reading.reader.end(ATTEMPT)  # it would hang here, and with it the loop
        assert not closed.is_set()
        released.set()
        assert await asked == DATA[:10]

    asyncio.run(asyncio.wait_for(end_while_reading(), 20))
    assert closed.is_set()
