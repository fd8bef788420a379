"""A task reads the bytes that its job was planned for, or says that it cannot."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from minireduce.attempt.conversation import FromTask, RangeBytes, RangeRefused, ReadRange, ToTask
from minireduce.attempt.framing import TaskSocket, to_frame
from minireduce.attempt.inputs import Unusable, open_local, open_part, open_stored
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


def test_a_range_that_the_worker_cannot_get_is_unusable(worker_and_task):
    ours, task = worker_and_task
    worker = threading.Thread(target=answer, args=(ours, b"", 1000))
    worker.start()
    with open_stored("/x", 10, task) as file, pytest.raises(Unusable, match="no such bytes"):
        file.read()
    task._connection.shutdown(socket.SHUT_RDWR)
    worker.join()
