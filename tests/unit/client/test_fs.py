"""The file system as a client sees it, over the master's real state and without any worker's bytes."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from scenes.storage import StorageKit

from minireduce.client.connection import DoorPool, Gatherers, Reads
from minireduce.client.file_writing import FileWriter, new_file
from minireduce.client.fs import FileSystem
from minireduce.client.store_paths import is_store_path, parse_store_path
from minireduce.core.settings import ClusterSettings
from minireduce.core.storage.requests import AbandonFile, RenewLease
from minireduce.errors import AlreadyExists, NotFound, RequestError
from minireduce.wire import methods
from minireduce.wire.file_questions import GetBlocks, GetStatus, ListDirectory


class KitConnection:
    """Answers like a master, in this process."""

    reads = Reads()
    doors = DoorPool(None)
    gatherers = property(lambda self: Gatherers())

    authority = None

    def __init__(self, kit: StorageKit) -> None:
        self.kit = kit
        self.asked: list[object] = []
        self.renewed = threading.Event()

    def call(self, method, request):
        assert isinstance(request, method.request)
        self.asked.append(request)
        if isinstance(request, RenewLease):
            self.renewed.set()
        match request:
            case GetStatus(path):
                return self.kit.state.status(path)
            case ListDirectory(path, after):
                return self.kit.state.page(path, after)
            case GetBlocks(path, offset, length, machine_id):
                return self.kit.state.file_blocks(path, offset, length, machine_id)
        return self.kit.ask(request)


@pytest.fixture
def kit() -> StorageKit:
    return StorageKit(settings=ClusterSettings(lease_s=0.02))


@pytest.fixture
def files(kit) -> FileSystem:
    return FileSystem(KitConnection(kit))


def touch(files: FileSystem, *paths: str) -> None:
    for path in paths:
        files.write(path).close()


def test_paths_are_written_with_and_without_the_scheme():
    assert is_store_path("mr:///a")
    assert not is_store_path("/a")
    for text in ("mr:///a/b", "mr://a/b", "/a/b", "//a//b/"):
        assert parse_store_path(text) == "/a/b"
    assert parse_store_path("mr://") == "/"
    with pytest.raises(RequestError, match="/a/b"):
        parse_store_path("a/b")


def test_listings_longer_than_a_page_are_whole(files, monkeypatch):
    monkeypatch.setattr("minireduce.core.storage.state.ENTRIES_PER_PAGE", 3)
    names = [f"/d/{number}" for number in range(8)]
    touch(files, *names)
    assert [entry.path for entry in files.ls("/d")] == names


def test_globs_match_names_and_hidden_ones_only_when_the_dot_is_written(files):
    touch(files, "/a/one.txt", "/a/two.txt", "/a/.three.txt", "/b/four.txt", "/b/deep/five.txt")

    def matches(pattern: str) -> list[str]:
        return [entry.path for entry in files.glob(pattern)]

    assert matches("/*/*.txt") == ["/a/one.txt", "/a/two.txt", "/b/four.txt"]
    assert matches("mr:///a/t?o.*") == ["/a/two.txt"]
    assert matches("/a/.*") == ["/a/.three.txt"]
    assert matches("/a/[ot]*") == ["/a/one.txt", "/a/two.txt"]
    assert matches("/nothing/*") == []


def test_a_name_spelled_exactly_comes_before_what_it_would_match(files):
    touch(files, "/a[1].txt", "/a1.txt", "/*", "/d[x]/f")
    assert [entry.path for entry in files.glob("/a[1].txt")] == ["/a[1].txt"]
    assert [entry.path for entry in files.glob("/*")] == ["/*"]
    assert [entry.path for entry in files.glob("/d[x]/*")] == ["/d[x]/f"]


@pytest.mark.parametrize("name", ["x" * 255, "\U0001f4a5" * 63, "a b", "%2f", "-", "\u00fc\u2603"])
def test_names_as_long_as_they_may_be_are_written_to_the_local_disk(files, tmp_path, name):
    touch(files, f"/{name}")
    assert files.get(f"/{name}", tmp_path) == 0
    assert (tmp_path / name).read_bytes() == b""


def test_a_directory_is_checked_whole_before_any_of_it_is_stored(files, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").touch()
    (tmp_path / "tree" / "new\nline").touch()
    with pytest.raises(RequestError, match="control characters"):
        files.put(tmp_path / "tree", "/tree")
    assert not files.exists("/tree")


def test_walk_shows_all_below(files):
    touch(files, "/a/b/c", "/a/d")
    assert [entry.path for entry in files.walk("/a")] == ["/a/b", "/a/b/c", "/a/d"]


def test_mv_goes_into_a_directory_and_replaces_only_when_asked(files):
    touch(files, "/f", "/g", "/d/x")
    assert files.mv("/f", "/d").path == "/d/f"
    with pytest.raises(AlreadyExists):
        files.mv("/g", "/d/f")
    assert files.mv("/g", "/d", replace=True).path == "/d"
    assert not files.stat("/d").is_directory
    with pytest.raises(NotFound):
        files.mv("/missing", "/d")


def test_rm_says_how_many_went(files):
    touch(files, "/d/x", "/d/y")
    with pytest.raises(RequestError, match="not empty"):
        files.rm("/d")
    assert files.rm("/d", recursive=True).inodes == 3
    with pytest.raises(NotFound):
        files.rm("/d")


def test_a_writer_that_waits_long_for_its_bytes_keeps_its_lease(kit, files):
    writer = files.write("/slow")
    assert files._connection.renewed.wait(10)
    writer.close()
    assert writer.status is not None
    assert writer.status.path == "/slow"


def test_a_writer_left_by_an_exception_abandons_its_file_once(files):
    with pytest.raises(ZeroDivisionError):
        _fail_while_writing(files)
    assert not files.exists("/f")
    abandoned = [request for request in files._connection.asked if isinstance(request, AbandonFile)]
    assert len(abandoned) == 1


def _fail_while_writing(files: FileSystem) -> None:
    with files.write("/f") as writer:
        writer.write(b"never sent")
        raise ZeroDivisionError


def test_a_forgotten_writer_publishes_nothing(files):
    writer = files.write("/f")
    writer.write(b"half of it")
    writer.__del__()
    writer.close()
    assert not files.exists("/f")


def test_a_close_that_is_refused_abandons_the_file(kit):
    connection = KitConnection(kit)
    writer = FileWriter(connection, new_file("/f"), "machine")
    FileSystem(connection).write("/f").close()
    with pytest.raises(AlreadyExists):
        writer.close()
    assert isinstance(connection.asked[-1], AbandonFile)
    assert connection.call(methods.GET_STATUS, GetStatus("/f")).length == 0
    assert not [table for table, _ in kit.rows if table == "open_files"]


def test_modes_other_than_reading_and_writing_bytes_are_refused(files):
    with pytest.raises(RequestError, match="'rb', 'wb' or 'ab'"):
        files.open("/f", "r+")


@pytest.mark.parametrize("listed", ["/in/../../out", "/elsewhere/a", "/in", "in/a", "/in/a\0b"])
def test_a_listing_that_leads_elsewhere_is_not_written_to_the_local_disk(files, monkeypatch, tmp_path, listed):
    touch(files, "/in/a")
    (honest,) = files.walk("/in")
    monkeypatch.setattr(files, "walk", lambda path: [dataclasses.replace(honest, path=listed, is_directory=True)])
    with pytest.raises(RequestError):
        files.get("/in", tmp_path / "got")
    assert [path.name for path in tmp_path.rglob("*")] == ["got"]
