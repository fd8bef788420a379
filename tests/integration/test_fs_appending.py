"""Appending to files of a real cluster: many times, across blocks, through lost workers and a master that restarts."""

from __future__ import annotations

import random

import pytest
from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem
from minireduce.core.storage.views import FileStatus
from minireduce.errors import NotFound, RequestError

SETTINGS = {"MINIREDUCE_REPAIR_DELAY_S": "1", "MINIREDUCE_WORKER_LOST_S": "2", "MINIREDUCE_BLOCK_SIZE": "256KiB"}
RNG = random.Random(9)
BLOCK_BYTES = 256 << 10


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("append"), workers=3, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def files(cluster):
    with cluster.connect() as connection:
        yield FileSystem(connection)


def read(files: FileSystem, path: str) -> bytes:
    with files.open(path) as stream:
        return stream.read()


def append(files: FileSystem, path: str, data: bytes) -> None:
    with files.open(path, "ab") as stream:
        stream.write(data)


def test_what_is_appended_follows_what_there_was_whatever_the_sizes(files):
    expected = b""
    for size in (1, 10, 65536, 65525, 70_000, 256 << 10, 5, 0, 300_000, 100):
        data = RNG.randbytes(size)
        append(files, "/f", data)
        expected += data
        assert files.stat("/f").length == len(expected)
    assert read(files, "/f") == expected
    lengths = [block.source.replica.length for block in files.blocks("/f").blocks]
    assert lengths[:-1] == [256 << 10] * (len(lengths) - 1)


@pytest.mark.parametrize("first", [0, 1, 65537, BLOCK_BYTES - 1, BLOCK_BYTES])
def test_one_write_may_end_a_block_fill_others_and_begin_the_next(files, first):
    data = RNG.randbytes(8 * BLOCK_BYTES)
    with files.write("/whole", overwrite=True, replication=1) as stream:
        stream.write(data[:first])
        piece = bytearray(data[first : 3 * BLOCK_BYTES + 5])
        assert stream.write(piece) == len(piece)
        piece[:] = bytes(len(piece))  # its owner uses it for something else
        stream.write(data[3 * BLOCK_BYTES + 5 : 4 * BLOCK_BYTES])
    with files.append("/whole") as stream:
        stream.write(data[4 * BLOCK_BYTES : 6 * BLOCK_BYTES + 7])
        stream.write(data[6 * BLOCK_BYTES + 7 :])
    assert read(files, "/whole") == data


def test_one_stream_shows_what_it_flushed_and_its_readers_go_on(cluster, files):
    with cluster.connect() as connection, files.open("/log", "ab") as stream:
        other, expected = FileSystem(connection), b""
        stream.write(b"first\n")
        stream.close()
        with files.open("/log", "ab") as again, other.open("/log") as reader:
            for number in range(5):
                line = f"line {number} {'x' * 20_000}\n".encode()
                again.write(line)
                again.flush()
                expected += line
                assert read(other, "/log") == b"first\n" + expected
            assert reader.read() == b"first\n"  # of when it was opened, though those replicas are gone
            with pytest.raises(RequestError, match="another writer"):
                other.append("/log")


def test_an_append_goes_on_without_a_worker_that_died_and_through_a_new_master(cluster, files):
    data = [RNG.randbytes(50_000) for _ in range(6)]
    append(files, "/g", data[0])
    with files.open("/g", "ab") as stream:
        stream.write(data[1])
        stream.flush()
        cluster.kill("worker-1")
        stream.write(data[2])
        stream.flush()
        cluster.kill("master")
        cluster.start_master()
        stream.write(data[3])
        stream.flush()
        cluster.start_worker("worker-1")
        stream.write(data[4])
    append(files, "/g", data[5])
    assert read(files, "/g") == b"".join(data)


def test_what_was_flushed_to_a_file_that_appending_made_is_there_for_all_at_once(cluster, files):
    with cluster.connect() as other, FileSystem(other).open("/new", "ab") as end:
        end.write(b"flushed")
        end.flush()
        assert read(files, "/new") == b"flushed"  # whatever becomes of its writer


def test_who_begins_to_append_when_another_has_just_made_the_file_goes_on_behind_it(files, monkeypatch):
    append(files, "/both", b"first, ")
    look = files.stat
    answers = iter([NotFound("/both does not exist")])  # as it was a moment ago

    def stat(path: str) -> FileStatus:
        for late in answers:
            raise late
        return look(path)

    monkeypatch.setattr(files, "stat", stat)
    append(files, "/both", b"second")
    assert read(files, "/both") == b"first, second"


@pytest.mark.parametrize("mode", ["wb", "ab"])
@pytest.mark.parametrize("end", ["close", "abandon"])
def test_nothing_can_be_written_to_a_file_that_is_closed(files, mode, end):
    stream = files.open(f"/closed-{mode}-{end}", mode)
    stream.write(b"x")
    getattr(stream, end)()
    with pytest.raises(ValueError, match="closed"):
        stream.write(b"lost")


def test_there_is_no_place_before_the_first_byte(files):
    append(files, "/short", b"four")
    with files.open("/short") as stream:
        for offset, whence in ((-1, 0), (-1, 1), (-5, 2)):
            with pytest.raises(OSError, match="before the file's first byte"):
                stream.seek(offset, whence)
        assert stream.seek(-1, 2) == 3
        assert stream.read() == b"r"


def test_the_command_appends_files_and_standard_input(cluster, files, tmp_path):
    (tmp_path / "a").write_bytes(b"a\n")
    for arguments, stdin in (((str(tmp_path / "a"), "/c"), None), (("-", "/c"), b"b\n")):
        process = cluster.command("fs", "append", *arguments)
        _, err = process.communicate(stdin, timeout=60)
        assert process.returncode == 0, err
    assert read(files, "/c") == b"a\nb\n"
