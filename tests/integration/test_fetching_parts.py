"""Fetching the parts of a job from workers that are damaged, gone, or lying."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import xxhash

from minireduce.client.parts import DAMAGED_MAX, PartsOfJob
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import OutputSource
from minireduce.core.views import JobState, JobView, ResultView
from minireduce.errors import Corruption, JobFailed, RequestError
from minireduce.ids import AttemptId, TaskId, TaskKind

JOB = "job-3f9a01-1"
CONTENT = b"a\t1\n" * 1000
TASK = TaskId(JOB, 0, TaskKind.REDUCE, 0)


class Worker(ThreadingHTTPServer):
    """A block server whose answers are given; it remembers the tokens that were shown."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.answers = list(answers)
        self.seen: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Door(BaseHTTPRequestHandler):
    server: Worker

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Authorization"]))
        status, body = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(CONTENT) if status == 200 else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


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

    def start(*answers: tuple[int, bytes]) -> Worker:
        started.append(Worker(*answers))
        return started[-1]

    yield start
    for each in started:
        each.shutdown()
        each.server_close()


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
