"""A task reads the bytes that its job was planned for, or says that it cannot."""

from __future__ import annotations

import os
import random
import socket
import threading
from pathlib import Path

import pytest

from minireduce.attempt.conversation import BlockHere, FromTask, RangeBytes, RangeRefused, ReadRange, ToTask
from minireduce.attempt.framing import TaskSocket, to_frame
from minireduce.attempt.inputs import Unusable, open_local, open_part, open_stored
from minireduce.checksums import PACKET_BYTES, PIECE_BYTES_MAX, crc_of
from minireduce.core.spec import LocalRange
from minireduce.machine import fingerprint


def local_range(path) -> LocalRange:
    status = path.stat()
    return LocalRange(str(path), 0, status.st_size, fingerprint(status))


def test_an_unchanged_file_is_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    with open_local(local_range(path)) as file:
        assert file.read() == b"text"


def test_a_file_that_changed_before_it_was_opened_is_unusable(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    planned = local_range(path)
    path.write_bytes(b"other text")
    with pytest.raises(Unusable, match="changed after the job was submitted"), open_local(planned):
        pytest.fail("opened a file that had changed")


def test_a_file_that_changed_while_it_was_read_is_unusable(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    planned = local_range(path)
    with pytest.raises(Unusable, match="changed"), open_local(planned):
        os.utime(path, ns=(1, 1))


def test_a_missing_file_is_unusable(tmp_path):
    path = tmp_path / "a.txt"
    with (
        pytest.raises(Unusable, match="No such file"),
        open_local(LocalRange(str(path), 0, 1, "1:2:3")),
    ):
        pytest.fail("opened a missing file")
    with pytest.raises(Unusable, match="No such file"):
        open_part(str(path))


@pytest.fixture
def worker_and_task():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, TaskSocket(theirs, ToTask)


def answer(connection: socket.socket, content: bytes, bytes_max: int) -> list[ReadRange]:
    """Play the worker until the task hangs up; it hands out at most `bytes_max` at a time."""
    asked = []
    worker = TaskSocket(connection, FromTask)
    while (message := worker.receive()) is not None:
        asked.append(message)
        data = content[message.offset : message.offset + min(message.length, bytes_max)]
        connection.sendall(to_frame(RangeBytes(data) if data else RangeRefused("no such bytes")))
    return asked


def test_a_stored_file_is_read_through_the_worker_wherever_it_is_sought(worker_and_task):
    ours, task = worker_and_task
    content = bytes(range(256)) * 20
    worker = threading.Thread(target=answer, args=(ours, content, 1000))
    worker.start()
    with open_stored("/x", len(content), task) as file:
        assert file.read() == content
        file.seek(300)
        assert file.read(10) == content[300:310]
        assert file.seek(0, os.SEEK_END) == len(content)
        assert file.read() == b""
    task._connection.shutdown(socket.SHUT_RDWR)
    worker.join()


BLOCKS = (3 * PIECE_BYTES_MAX + 5, PACKET_BYTES, 2 * PACKET_BYTES + 1)
STORED = random.Random(4).randbytes(sum(BLOCKS))


class HandsOver:
    """Plays a worker that hands blocks over, whose files are `damaged` at these places; what it was asked."""

    def __init__(self, connection: socket.socket, folder: Path, damaged: tuple[int, ...] = ()) -> None:
        self.asked: list[ReadRange] = []
        self._connection = connection
        self._begins = [sum(BLOCKS[:number]) for number in range(len(BLOCKS))]
        changed = bytearray(STORED)
        for place in damaged:
            changed[place] ^= 1
        for begin, length in zip(self._begins, BLOCKS, strict=True):
            (folder / str(begin)).write_bytes(changed[begin : begin + length] + b"of a longer replica")
        self._folder = folder
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        worker = TaskSocket(self._connection, FromTask)
        while (asked := worker.receive()) is not None:
            self.asked.append(asked)
            number = max(at for at, begin in enumerate(self._begins) if begin <= asked.offset)
            begin, length = self._begins[number], BLOCKS[number]
            if not asked.in_place:
                count = min(asked.length, begin + length - asked.offset)
                self._connection.sendall(to_frame(RangeBytes(STORED[asked.offset : asked.offset + count])))
                continue
            block = STORED[begin : begin + length]
            crcs = b"".join(crc_of(block[at : at + PACKET_BYTES]) for at in range(0, length, PACKET_BYTES))
            with (self._folder / str(begin)).open("rb") as file:
                socket.send_fds(self._connection, [to_frame(BlockHere(begin, length, crcs))], [file.fileno()])

    def end(self, task: TaskSocket) -> None:
        task._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


def opened(below: Path) -> list[Path]:
    """The files in this directory that this process has open."""
    places = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [place for place in places if place.is_relative_to(below)]


def test_blocks_that_are_handed_over_are_read_wherever_they_are_sought(worker_and_task, tmp_path):
    ours, task = worker_and_task
    worker, chance = HandsOver(ours, tmp_path), random.Random(5)
    with open_stored("/x", len(STORED), task) as file:
        assert file.read() == STORED
        assert [asked.in_place for asked in worker.asked] == [True] * 3  # a question for each block
        for _ in range(200):
            offset, length = chance.randrange(len(STORED)), chance.choice([1, 100, PACKET_BYTES, len(STORED)])
            file.seek(offset)
            assert file.read(length) == STORED[offset : offset + length]
    worker.end(task)
    assert opened(tmp_path) == []


@pytest.mark.parametrize("place", [0, PACKET_BYTES, PIECE_BYTES_MAX + 7, BLOCKS[0] - 1, BLOCKS[0], len(STORED) - 1])
def test_a_block_that_proves_damaged_in_place_is_asked_of_the_worker(worker_and_task, tmp_path, place):
    ours, task = worker_and_task
    worker = HandsOver(ours, tmp_path, (place,))
    with open_stored("/x", len(STORED), task) as file:
        assert file.read() == STORED
    in_vain = [asked for asked in worker.asked if not asked.in_place]
    assert in_vain
    assert min(asked.offset for asked in in_vain) <= place
    worker.end(task)
    assert opened(tmp_path) == []


def test_a_range_that_the_worker_cannot_get_is_unusable(worker_and_task):
    ours, task = worker_and_task
    worker = threading.Thread(target=answer, args=(ours, b"", 1000))
    worker.start()
    with open_stored("/x", 10, task) as file, pytest.raises(Unusable, match="no such bytes"):
        file.read()
    task._connection.shutdown(socket.SHUT_RDWR)
    worker.join()
