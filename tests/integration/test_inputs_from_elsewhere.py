"""Inputs at other addresses are copied here, read as files are, and leave nothing behind."""

from __future__ import annotations

import functools
import gc
import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from minireduce import Count, Job, LocalCluster
from minireduce.client.inputs import resolve
from minireduce.errors import NotFound, RequestError


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of files, of which some are packed."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "a.txt").write_text("x\ny\n")
    (served / "b.txt.gz").write_bytes(gzip.compress(b"x\n"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies are made."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def bucket() -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    for name in ("/logs/b.txt", "/logs/a.txt", "/logs/deep/c.txt", "/logs/_SUCCESS", "/logs/.hidden/d.txt"):
        memory.pipe(name, f"{name[-5]}\n".encode())
    yield "memory://logs"
    memory.rm("/logs", recursive=True)


def words(line: str) -> list[tuple[str, None]]:
    return [(word, None) for word in line.split()]


def left(copies: Path) -> list[Path]:
    gc.collect()
    return list(copies.glob("minireduce-input-*"))


def test_addresses_are_read_inline_and_by_clusters_and_copies_go(address: str, copies: Path, bucket: str) -> None:
    job = Job(words, Count())
    expected = [("a", 1), ("b", 1), ("c", 1), ("x", 2), ("y", 1)]
    inputs = [f"{address}/a.txt", f"{address}/b.txt.gz?version=2", bucket]
    assert list(job.run(*inputs, inline=True)) == expected
    assert list(job.run(*inputs)) == expected
    with LocalCluster(workers=1) as cluster:
        assert list(job.run(inputs, master=cluster)) == expected
    assert left(copies) == []


def test_the_command_line_takes_them_too(address: str, minireduce: Any, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("from minireduce import *\njob = Job(lambda line: [(line, 1)], Count())\n")
    for flags in (["--inline"], []):
        ran = minireduce("submit", tmp_path / "job.py", f"{address}/a.txt", *flags)
        assert (ran.status, ran.out) == (0, "x\t1\ny\t1\n"), ran.err
    ran = minireduce("submit", tmp_path / "job.py", f"{address}/none.txt")
    assert (ran.status, f"input {address}/none.txt does not exist" in ran.err) == (2, True)


def test_directories_and_globs_are_listed_as_those_of_this_machine_are(bucket: str, copies: Path) -> None:
    found = resolve([bucket])
    assert [Path(file.path).name for file in found.files] == ["a.txt", "b.txt", "c.txt"]
    assert found.passed_over == 2
    assert [Path(file.path).name for file in resolve([f"{bucket}/*.txt"]).files] == ["a.txt", "b.txt"]
    assert [Path(file.path).name for file in resolve([f"{bucket}/_SUCCESS"]).files] == ["_SUCCESS"]
    del found
    assert left(copies) == []


def test_what_is_not_there_or_of_no_known_kind_is_refused(bucket: str) -> None:
    with pytest.raises(NotFound, match="memory://logs/none does not exist"):
        resolve([f"{bucket}/none"])
    with pytest.raises(NotFound, match="does not exist"):
        resolve([f"{bucket}/none*"])
    with pytest.raises(RequestError, match="nosuch://a cannot be read"):
        resolve(["nosuch://a"])
