"""What a pack has room for, and packs that are opened ahead."""

from __future__ import annotations

import time

from minireduce.client import packing
from minireduce.client.packing import Ahead, PackRoom
from minireduce.core.storage.containers import FILES_PER_CONTAINER_MAX
from minireduce.core.storage.requests import CreateFile
from minireduce.core.storage.views import OpenedFile

REQUEST = CreateFile("", "lease", "key")
OPENED = OpenedFile(7, 100, 3, lease_s=60.0)


def test_a_file_for_which_there_is_no_room_takes_none():
    room = PackRoom(10)
    assert room.take("/a", 6)
    assert not room.take("/b", 5)
    assert room.take("/c", 4)
    assert room.take("/empty", 0)
    assert not room.take("/d", 1)


def test_a_pack_takes_so_many_files_and_no_more():
    room = PackRoom(10)
    assert all(room.take(f"/{number}", 0) for number in range(FILES_PER_CONTAINER_MAX))
    assert not room.take("/more", 0)


def test_names_take_room_too(monkeypatch):
    monkeypatch.setattr(packing, "PATHS_BYTES_MAX", 8)
    room = PackRoom(10)
    assert room.take("/äbc", 1)
    assert not room.take("/abc", 1)
    assert room.take("/ab", 1)


def test_what_was_opened_ahead_is_taken_once():
    ahead = Ahead()
    assert ahead.take() is None
    ahead.put(REQUEST, OPENED)
    assert ahead.take() == (REQUEST, OPENED)
    assert ahead.take() is None


def test_what_was_opened_ahead_is_left_when_its_lease_may_soon_be_over(monkeypatch):
    ahead = Ahead()
    now = time.monotonic()
    for after_s, taken in ((14.0, (REQUEST, OPENED)), (15.0, None)):
        monkeypatch.setattr(packing.time, "monotonic", lambda: now)
        ahead.put(REQUEST, OPENED)
        monkeypatch.setattr(packing.time, "monotonic", lambda after_s=after_s: now + after_s)
        assert ahead.take() == taken
