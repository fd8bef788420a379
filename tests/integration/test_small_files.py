"""Small files that share blocks, on a real cluster: put, read, appended to, removed, and safe when a worker is lost."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem
from minireduce.client.packing import SMALL_FILE_BYTES_MAX
from minireduce.client.storing import Wishes
from minireduce.errors import AlreadyExists, NotFound, RequestError

SETTINGS = {"MINIREDUCE_REPAIR_DELAY_S": "1", "MINIREDUCE_WORKER_LOST_S": "2"}
RNG = random.Random(9)
WAIT_S = 120.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ProcessCluster(tmp_path_factory.mktemp("small"), workers=3, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def files(cluster):
    with cluster.connect() as connection:
        yield FileSystem(connection)


def read(files: FileSystem, path: str) -> bytes:
    with files.open(path) as stream:
        return stream.read()


def blocks_of(files: FileSystem, paths) -> set[int]:
    return {block.source.replica.block_id for path in paths for block in files.blocks(path).blocks}


def test_a_directory_of_small_files_comes_back_as_it_was_and_shares_a_block(files, tmp_path):
    source, back = tmp_path / "tree", tmp_path / "back"
    contents = {f"{number % 7}/f{number}": RNG.randbytes(RNG.choice((0, 1, 1000, 70_000))) for number in range(60)}
    contents["large"] = RNG.randbytes(SMALL_FILE_BYTES_MAX + 1)
    for name, data in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    assert files.put(source, "/tree") == sum(map(len, contents.values()))
    small = [f"/tree/{name}" for name, data in contents.items() if data and name != "large"]
    assert len(blocks_of(files, small)) == 1
    assert files.get("/tree", back) == sum(map(len, contents.values()))
    for name, data in contents.items():
        assert (back / name).read_bytes() == data
    for stream, data in zip(files.open_many(small), (contents[path[6:]] for path in small), strict=True):
        with stream:
            stream.seek(len(data) // 2)
            assert stream.read() == data[len(data) // 2 :]


def test_files_that_do_not_fit_a_block_together_are_in_several(files):
    contents = {f"/several/f{number}": RNG.randbytes(400) for number in range(10)}
    contents["/several/more"] = RNG.randbytes(3000)
    assert files.put_many(contents.items(), block_size=1000) == 7000
    assert {path: read(files, path) for path in contents} == contents
    assert len(blocks_of(files, contents)) == 5 + 3


def test_none_of_the_files_is_there_when_one_exists_and_all_are_when_it_may_be_replaced(files):
    files.put_many([("/taken/b", b"old")])
    with pytest.raises(AlreadyExists):
        files.put_many([("/taken/a", b"new"), ("/taken/b", b"new")])
    assert [entry.path for entry in files.ls("/taken")] == ["/taken/b"]
    files.put_many([("/taken/a", b"new"), ("/taken/b", b"new")], overwrite=True)
    assert [read(files, entry.path) for entry in files.ls("/taken")] == [b"new", b"new"]


def test_what_is_appended_to_a_small_file_follows_what_it_held_and_leaves_the_others_alone(files):
    files.put_many([("/end/a", b"aaa"), ("/end/b", b"bbbb"), ("/end/c", b"cc")])
    with files.open("/end/b", "ab"):
        pass
    assert len(blocks_of(files, ["/end/a", "/end/b"])) == 1
    for piece in (b"12", b"345"):
        with files.open("/end/b", "ab") as stream:
            stream.write(piece)
    assert [read(files, f"/end/{name}") for name in "abc"] == [b"aaa", b"bbbb12345", b"cc"]
    assert len(blocks_of(files, ["/end/a", "/end/b"])) == 2


def test_a_file_replaced_after_its_directory_was_listed_is_not_taken_for_the_one_listed(files, tmp_path, monkeypatch):
    files.put_many([("/listed/a", b"first"), ("/listed/b", b"second")])
    listed = list(files.walk("/listed"))
    files.put_many([("/listed/b", b"another")], overwrite=True)
    monkeypatch.setattr(files, "walk", lambda path: iter(listed))
    with pytest.raises(NotFound, match="/listed/b was replaced"):
        files.get("/listed", tmp_path / "back")
    assert not (tmp_path / "back" / "b").exists()


def test_small_files_are_moved_under_their_readers_when_others_go_or_want_other_replicas(files):
    contents = {f"/move/f{number}": RNG.randbytes(150_000) for number in range(6)}
    files.put_many(contents.items(), replication=2)
    readers = dict(zip(contents, files.open_many(list(contents)), strict=True))
    (old,) = blocks_of(files, contents)
    files.setrep("/move/f1", 3)
    for number in (0, 2, 3):
        files.rm(f"/move/f{number}", skip_trash=True)
    left = [f"/move/f{number}" for number in (1, 4, 5)]
    deadline = time.monotonic() + WAIT_S
    while old in blocks_of(files, left):
        assert time.monotonic() < deadline, [files.health(path) for path in left]
    for path in left:
        assert readers[path].read() == read(files, path) == contents[path]
    assert len(blocks_of(files, left)) == 2
    assert {len(block.source.workers) for block in files.blocks("/move/f1").blocks} == {3}


def test_small_files_are_read_after_their_workers_were_lost_one_after_the_other(cluster, files):
    contents = {f"/safe/f{number}": RNG.randbytes(500) for number in range(20)}
    files.put_many(contents.items(), replication=2)
    streams = dict(zip(contents, files.open_many(list(contents)), strict=True))
    (block,) = files.blocks("/safe/f0").blocks
    cluster.kill(cluster.daemon_of(block.source.workers[0]))
    assert {path: stream.read() for path, stream in streams.items()} == contents


def test_files_that_are_opened_together_for_writing_are_stored_together_or_not_at_all(files):
    contents = {f"/together/f{number}": RNG.randbytes(900) for number in range(20)}
    with files.open_many(list(contents), "wb") as streams:
        for stream, data in zip(streams, contents.values(), strict=True):
            stream.write(data[:400])
            stream.write(data[400:])
            stream.close()
            assert files.exists("/together/f0") == (stream is streams[-1])
    assert {path: read(files, path) for path in contents} == contents
    assert len(blocks_of(files, contents)) == 1
    with contextlib.suppress(ZeroDivisionError), files.open_many(["/none/a", "/none/b"], "wb") as streams:
        streams[0].write(b"a")
        raise ZeroDivisionError
    assert not files.exists("/none")


def test_small_files_that_threads_store_at_the_same_time_share_blocks_and_fail_for_themselves(files):
    contents = {f"/threads/f{number}": RNG.randbytes(700) for number in range(40)}
    files.put_stream(io.BytesIO(b"taken"), "/threads/f7")

    def store(path: str) -> int | str:
        try:
            return files.put_stream(io.BytesIO(contents[path]), path).length
        except AlreadyExists:
            return path

    with ThreadPoolExecutor(8) as pool:
        stored = dict(zip(contents, pool.map(store, contents), strict=True))
    assert stored.pop("/threads/f7") == "/threads/f7"
    assert set(stored.values()) == {700}
    assert {path: read(files, path) for path in stored} == {path: contents[path] for path in stored}
    assert len(blocks_of(files, stored)) < len(stored)


def test_files_that_threads_open_together_share_blocks_and_are_refused_for_themselves(files):
    batches = [[f"/batches/{batch}/f{number}" for number in range(10)] for batch in range(16)]
    files.put_stream(io.BytesIO(b"taken"), batches[5][9])

    def store(batch: list[str]) -> bool:
        try:
            with files.open_many(batch, "wb") as streams:
                for path, stream in zip(batch, streams, strict=True):
                    stream.write(path.encode())
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(store, batches)) == [number != 5 for number in range(16)]
    stored = [path for number, batch in enumerate(batches) if number != 5 for path in batch]
    assert {path: read(files, path) for path in stored} == {path: path.encode() for path in stored}
    assert [entry.path for entry in files.ls("/batches/5")] == [batches[5][9]]
    assert len(blocks_of(files, stored)) < 15


def test_what_does_not_fit_one_block_is_not_stored_by_halves_with_others(files):
    """Those who were written together would find their own files there, and take them for somebody else's."""
    wishes = Wishes(overwrite=False, block_size=1000, replication=1)
    with pytest.raises(RequestError, match="does not fit the block"):
        files._storing.put_packs([("/halves/a", b"a" * 600), ("/halves/b", b"b" * 600)], wishes, in_one=True)
    assert not files.exists("/halves")

    def store(number: int) -> int:
        return files.put_stream(io.BytesIO(b"c" * 600), f"/halves/{number}", block_size=1000).length

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(store, range(32))) == [600] * 32


def test_a_writer_that_is_forgotten_renews_its_lease_no_longer(files):
    before = set(threading.enumerate())
    writer = files.write("/forgotten")
    writer.write(b"never closed")
    (renewing,) = [each for each in set(threading.enumerate()) - before if each.name == "lease"]
    del writer
    gc.collect()
    renewing.join(WAIT_S)
    assert not renewing.is_alive()
    assert not files.exists("/forgotten")


def test_files_that_threads_copy_here_have_the_rights_of_files_made_here(files, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number:03}").write_bytes(b"x")
    files.put(tmp_path / "in", "/rights")
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", None)  # of all threads together, so none may set it even for a moment
            files.get("/rights", tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}
