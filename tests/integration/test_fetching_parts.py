"""Fetching the parts of a job from workers that are damaged, gone, or lying, and from those on this host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import xxhash

from minireduce.attempt.places import META_NAME, PART_NAME, attempt_directory
from minireduce.client import local_parts
from minireduce.client.parts import DAMAGED_MAX, OwnPart, PartsOfJob
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import OutputSource
from minireduce.core.views import JobState, JobView, ResultView
from minireduce.errors import Corruption, JobFailed, RequestError
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.launch.embedded import EmbeddedCluster
from minireduce.wire.local_door import LocalOffer
from minireduce.worker.local_reads import LocalReads

JOB = "job-3f9a01-1"
CONTENT = b"a\t1\n" * 1000
TASK = TaskId(JOB, 0, TaskKind.REDUCE, 0)


class Worker(ThreadingHTTPServer):
    """A block server whose answers are given; it remembers the tokens that were shown. `file`: what it hands over."""

    def __init__(self, *answers: tuple[int, bytes], file: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.answers = list(answers)
        self.file = file
        self.handing = Handing() if file is not None else None
        self.seen: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Door(BaseHTTPRequestHandler):
    server: Worker

    def do_GET(self) -> None:
        if self.path.endswith("/local"):
            self.offer()
            return
        self.server.seen.append((self.path, self.headers["Authorization"]))
        status, body = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(CONTENT) if status == 200 else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def offer(self) -> None:
        self.send_response(403 if self.server.handing is None else 200)
        if self.server.handing is not None:
            for name, value in self.server.handing.offer(self.server.file).to_headers().items():
                self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


class Handing:
    """The worker's socket for descriptors, which lives on an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._reads = LocalReads()
        self._serving = asyncio.run_coroutine_threadsafe(self._reads.serve(), self._loop)

    def offer(self, file: Path) -> LocalOffer:
        async def made() -> LocalOffer:
            return self._reads.offer(file.open("rb"))

        return asyncio.run_coroutine_threadsafe(made(), self._loop).result()

    def stop(self) -> None:
        async def ended() -> None:
            self._serving.cancel()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(ended(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Connection:
    """A master that knows one job, whose part lies on each of `addresses` in turn."""

    authority = None

    def __init__(self, *addresses: str, state: JobState = JobState.PUBLISHING) -> None:
        self.addresses = list(addresses)
        self.results = 0
        self.state = state

    def call(self, method: Any, _request: object, **_options: object) -> Any:
        if method.name == "Result":
            self.results += 1
            source = OutputSource(AttemptId(TASK, self.results - 1), "worker-1", self.addresses.pop(0), len(CONTENT))
            return ResultView(
                JOB, self.state, (source,), (1000,), (xxhash.xxh3_128_digest(CONTENT),), True, "mrs_secret"
            )
        if self.results and self.state is JobState.FAILED:
            return JobView(
                JOB, "x", self.state, OutputKind.TEXT, "/out", 0.0, 0.0, 0.0, (), (), reason="lost too often"
            )
        return JobView(JOB, "x", JobState.PUBLISHING, OutputKind.TEXT, "/out", 0.0, 0.0, 1.0, (), ())


@pytest.fixture
def worker() -> Iterator[Any]:
    started: list[Worker] = []

    def start(*answers: tuple[int, bytes], file: Path | None = None) -> Worker:
        started.append(Worker(*answers, file=file))
        return started[-1]

    yield start
    for each in started:
        each.shutdown()
        each.server_close()
        if each.handing is not None:
            each.handing.stop()


def fetch(connection: Connection, target: Path, wait_s: float = 30.0) -> bytes:
    PartsOfJob(connection, JOB, wait_s=wait_s).fetch(0, target)
    return target.read_bytes()


def test_a_part_is_asked_for_by_its_attempt_with_the_token_of_the_result(worker, tmp_path: Path) -> None:
    good = worker((200, CONTENT))
    assert fetch(Connection(good.address), tmp_path / "part") == CONTENT
    assert good.seen == [(f"/outputs/{AttemptId(TASK, 0)}/part", "Bearer mrs_secret")]


@pytest.mark.parametrize(
    "answer",
    [(200, CONTENT[:-1] + b"x"), (200, CONTENT[:-100]), (404, b"{}"), (503, b"")],
    ids=["damaged", "cut off", "gone", "busy"],
)
def test_a_part_that_is_not_the_committed_one_is_asked_for_anew(worker, tmp_path: Path, answer: Any) -> None:
    bad, good = worker(answer), worker((200, CONTENT))
    connection = Connection(bad.address, good.address)
    assert fetch(connection, tmp_path / "part") == CONTENT
    assert connection.results == 2
    assert good.seen[0][0] == f"/outputs/{AttemptId(TASK, 1)}/part"


def test_a_worker_that_is_gone_is_replaced_by_the_one_that_made_the_part_again(worker, tmp_path: Path) -> None:
    gone = worker()
    gone.shutdown()
    gone.server_close()
    good = worker((200, CONTENT))
    assert fetch(Connection(gone.address, good.address), tmp_path / "part") == CONTENT


def test_damage_that_does_not_go_away_is_told_and_not_delivered(worker, tmp_path: Path) -> None:
    bad = worker(*[(200, b"x" * len(CONTENT))] * DAMAGED_MAX)
    with pytest.raises(Corruption, match="is not the one that was committed"):
        fetch(Connection(*[bad.address] * DAMAGED_MAX), tmp_path / "part")
    assert bad.answers == []


def test_a_job_that_fails_while_its_part_is_made_again_is_told(worker, tmp_path: Path) -> None:
    bad = worker((404, b"{}"))
    with pytest.raises(JobFailed, match="lost too often"):
        fetch(Connection(bad.address, state=JobState.FAILED), tmp_path / "part")


def test_a_refusal_is_not_tried_again(worker, tmp_path: Path) -> None:
    strict = worker((400, b"{}"))
    with pytest.raises(RequestError):
        fetch(Connection(strict.address), tmp_path / "part")


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A part as its worker holds it."""
    held = tmp_path / "worker" / "part"
    held.parent.mkdir(0o700)
    held.write_bytes(CONTENT)
    held.chmod(0o600)
    return held


def test_a_part_on_this_host_gets_a_second_name_with_the_rights_of_a_file_made_there(
    worker, part: Path, tmp_path: Path
) -> None:
    there = tmp_path / "out"
    there.mkdir(0o755)
    here = worker(file=part)
    assert fetch(Connection(here.address), there / "part") == CONTENT
    assert (there / "part").samefile(part)
    assert stat.S_IMODE((there / "part").stat().st_mode) == 0o644
    assert here.seen == []


def test_what_is_fetched_under_the_same_name_leaves_the_part_of_the_worker_as_it_is(
    worker, part: Path, tmp_path: Path
) -> None:
    fetch(Connection(worker(file=part).address), tmp_path / "part")
    elsewhere = worker((200, CONTENT))
    fetch(Connection(elsewhere.address), tmp_path / "part")
    assert not (tmp_path / "part").samefile(part)
    (tmp_path / "part").write_bytes(b"else")
    assert part.read_bytes() == CONTENT


def test_a_part_that_cannot_have_a_second_name_is_copied(
    worker, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert fetch(Connection(worker(file=part).address), tmp_path / "part") == CONTENT
    assert not (tmp_path / "part").samefile(part)


def test_a_part_on_this_host_that_is_not_the_committed_one_is_asked_for_anew(
    worker, part: Path, tmp_path: Path
) -> None:
    part.write_bytes(CONTENT[:-1] + b"x")
    bad, good = worker(file=part), worker((200, CONTENT))
    assert fetch(Connection(bad.address, good.address), tmp_path / "part") == CONTENT
    assert good.seen
    assert part.read_bytes() == CONTENT[:-1] + b"x"


def fetch_own(part: Path, target: Path, addresses: tuple[str, ...], kept_at_ns: int | None = None) -> bytes:
    """Fetch a part of which the first attempt lies on a worker of our own."""
    kept_ns = part.stat().st_ctime_ns + 1 if kept_at_ns is None else kept_at_ns

    def open_own(attempt: AttemptId, _damaged: int) -> OwnPart | None:
        return None if attempt.number else OwnPart(os.open(part, os.O_RDONLY), kept_ns)

    PartsOfJob(Connection("", *addresses), JOB, wait_s=30.0, open_own=open_own).fetch(0, target)
    return target.read_bytes()


def test_a_part_of_our_own_that_is_as_it_was_written_is_not_read(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_parts, "is_all_in_memory", lambda *_: True)
    monkeypatch.setattr(local_parts, "is_unread", lambda _: True)
    monkeypatch.delattr(local_parts, "pieces")
    assert fetch_own(part, tmp_path / "part", ()) == CONTENT
    assert (tmp_path / "part").samefile(part)


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_damage_to_a_part_of_our_own_is_found_where_it_was_touched_or_comes_from_the_disk(
    worker: Any, part: Path, tmp_path: Path, is_in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_parts, "is_all_in_memory", lambda *_: is_in_memory)
    monkeypatch.setattr(local_parts, "is_unread", lambda _: True)
    part.write_bytes(CONTENT[:-1] + b"x")
    good = worker((200, CONTENT))
    kept_ns = part.stat().st_ctime_ns + (0 if is_in_memory else 1)
    assert fetch_own(part, tmp_path / "part", (good.address,), kept_ns) == CONTENT
    assert good.seen


def test_a_part_of_our_own_that_cannot_have_a_second_name_is_read(
    worker: Any, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(local_parts, "is_all_in_memory", lambda *_: True)
    monkeypatch.setattr(local_parts, "is_unread", lambda _: True)
    monkeypatch.setattr(os, "link", refuse)
    part.write_bytes(CONTENT[:-1] + b"x")
    good = worker((200, CONTENT))
    assert fetch_own(part, tmp_path / "part", (good.address,)) == CONTENT
    assert good.seen


def test_a_part_of_our_own_that_cannot_be_looked_at_is_let_go_of(
    worker: Any, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local_parts, "is_as_written", refuse)
    good = worker((200, CONTENT))
    assert fetch_own(part, tmp_path / "part", (good.address,)) == CONTENT
    assert good.seen
    assert str(part) not in opened_files()


def opened_files() -> set[str]:
    """What this process has open."""
    found: set[str] = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of this very question
            found.add(str(each.readlink()))
    return found


class OneAttempt(Connection):
    """The attempt that made the part stays the same, whatever became of its file."""

    def call(self, method: Any, request: object, **options: object) -> Any:
        self.results, self.addresses = 0, ["127.0.0.1:1"]
        return super().call(method, request, **options)


def test_of_two_copies_of_our_own_the_one_that_is_not_damaged_is_taken(part: Path, tmp_path: Path) -> None:
    attempt = AttemptId(TASK, 0)
    copies = [attempt_directory(tmp_path / name, attempt) for name in ("worker-1", "worker-3")]
    for directory, content in zip(copies, (CONTENT[:-1] + b"x", CONTENT), strict=True):
        directory.mkdir(parents=True)
        (directory / META_NAME).touch()
        (directory / PART_NAME).write_bytes(content)
        os.utime(directory / PART_NAME, ns=(1, 1))  # touched since it was kept, so it is read
    cluster = object.__new__(EmbeddedCluster)
    cluster._root = tmp_path
    cluster._workers = [SimpleNamespace(name=f"worker-{number}") for number in (1, 2, 3)]  # type: ignore[misc]
    parts = PartsOfJob(OneAttempt(""), JOB, wait_s=30.0, open_own=cluster.open_part)
    parts.fetch(0, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
