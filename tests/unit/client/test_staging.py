"""What is uploaded when no worker sees the files of this machine, and what of it stays when that goes wrong."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest

from minireduce.client import staging
from minireduce.client.inputs import Inputs, resolve
from minireduce.client.job_spec import must_be_uploaded
from minireduce.client.packing import SMALL_FILE_BYTES_MAX
from minireduce.client.splits import plan_input_splits
from minireduce.client.stored_inputs import StoredFile
from minireduce.core.spec import StoredFiles, StoredRange
from minireduce.core.storage.staged_paths import origin_of
from minireduce.core.views import ClusterView
from minireduce.errors import NotFound, RequestError

KEY = "0a1b"


class FakeFiles:
    """Keeps what is stored; `on_put` is called with each path before its bytes are taken."""

    def __init__(self, on_put=lambda path: None):
        self.held: dict[str, bytes] = {}
        self.packs: list[list[str]] = []
        self.replications: set[int] = set()
        self._on_put = on_put
        self._lock = threading.Lock()

    def put_stream(self, source, path, *, replication):
        self._on_put(path)
        data = b"".join(iter(lambda: source.read(1 << 20), b""))
        with self._lock:
            self.replications.add(replication)
            self.held[path] = data

    def put_many(self, files, *, replication):
        pack = dict(files)
        with self._lock:
            self.replications.add(replication)
            self.packs.append(list(pack))
            self.held.update(pack)

    def walk(self, path):
        for number, (name, data) in enumerate(sorted(self.held.items()), 1):
            if name.startswith(path + "/"):
                yield SimpleNamespace(path=name, length=len(data), inode=number, container=7)

    def rm(self, path, *, recursive, skip_trash):
        assert recursive
        assert skip_trash
        held = [name for name in self.held if name.startswith(path + "/")]
        if not held:
            raise NotFound(path)
        for name in held:
            del self.held[name]


def view(machines=("elsewhere",), workers=1):
    return ClusterView("c0ffee", 1, "0.1.0", workers, 4, 1 << 30, machines)


@pytest.fixture
def inputs(tmp_path):
    """Two small files, an empty one, a large one, and one of the store between them."""
    (tmp_path / "a.txt").write_bytes(b"one\n")
    (tmp_path / "b c.txt.gz").write_bytes(b"two\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(b"x" * (SMALL_FILE_BYTES_MAX + 1))
    found = resolve([tmp_path / "a.txt", tmp_path / "b c.txt.gz", tmp_path / "empty", tmp_path / "large"])
    stored = StoredFile("/logs", 5, 99)
    return Inputs((*found.files[:2], stored, *found.files[2:]), 0)


def test_only_files_that_no_worker_sees_are_uploaded(inputs, tmp_path):
    assert must_be_uploaded(inputs, view(), "here")
    assert not must_be_uploaded(inputs, view(("elsewhere", "here")), "here")
    assert not must_be_uploaded(inputs, view((), workers=0), "here")
    assert not must_be_uploaded(Inputs((StoredFile("/logs", 5, 99),), 0), view(), "here")
    assert not must_be_uploaded(resolve([tmp_path / "empty"]), view(), "here")


def test_everything_lands_under_its_own_name_in_reading_order(inputs, tmp_path):
    files, told = FakeFiles(), []
    placed = staging.upload(files, inputs, KEY, replication=2, on_upload=lambda *counts: told.append(counts))
    origins = [origin_of(file.path) for file in placed.files]
    assert origins == [f"{tmp_path}/a.txt", f"{tmp_path}/b c.txt.gz", "/logs", f"{tmp_path}/large"]
    assert all(isinstance(file, StoredFile) for file in placed.files)
    assert files.held[placed.files[1].path] == b"two\n"
    assert [len(pack) for pack in files.packs] == [2]
    assert files.replications == {2}
    total = 8 + SMALL_FILE_BYTES_MAX + 1
    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_splits_are_cut_as_those_of_the_local_files_are(inputs):
    local = Inputs(tuple(file for file in inputs.files if not isinstance(file, StoredFile)), 0)
    placed = staging.upload(FakeFiles(), local, KEY, replication=2)

    def cut(found):
        splits = plan_input_splits(found, 1000, "m")
        ranges = [(split,) if isinstance(split, StoredRange) else split.ranges for split in splits]
        return [[(origin_of(part.path), part.offset, part.length) for part in each] for each in ranges]

    assert cut(placed) == cut(local)
    assert isinstance(plan_input_splits(placed, 1000, "m")[0], StoredFiles)


def test_a_file_named_twice_is_uploaded_once_and_read_twice(tmp_path):
    (tmp_path / "a").write_bytes(b"one\n")
    files = FakeFiles()
    placed = staging.upload(files, resolve([tmp_path / "a", tmp_path / "a"]), KEY, replication=1)
    assert len(placed.files) == 2
    assert len(files.held) == 1


@pytest.mark.parametrize("how", ["rewritten", "longer", "gone"])
def test_a_file_that_changed_since_it_was_found_is_refused_and_nothing_stays(inputs, tmp_path, how):
    path = tmp_path / "large"
    if how == "gone":
        path.unlink()
    elif how == "longer":
        with path.open("ab") as file:
            file.write(b"more")
    else:
        path.write_bytes(b"y" * (SMALL_FILE_BYTES_MAX + 1))
        os.utime(path, ns=(1, 1))
    files = FakeFiles()
    with pytest.raises(RequestError, match="cannot be read" if how == "gone" else "changed while it was uploaded"):
        staging.upload(files, inputs, KEY, replication=2)
    assert not files.held


def test_a_file_that_changes_while_it_is_read_is_refused(inputs, tmp_path):
    def grow(path):
        if path.endswith("/large"):
            with (tmp_path / "large").open("ab") as file:
                file.write(b"more")

    files = FakeFiles(on_put=grow)
    with pytest.raises(RequestError, match="changed while it was uploaded"):
        staging.upload(files, inputs, KEY, replication=2)
    assert not files.held


def test_an_interrupted_upload_ends_and_leaves_nothing(inputs):
    files = FakeFiles()

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        staging.upload(files, inputs, KEY, replication=2, on_upload=interrupt)
    assert not files.held
