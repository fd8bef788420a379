"""A process that has many files and sockets open: what waits for one of them takes numbers that `select` does not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from minireduce.launch import child, local_cluster
from minireduce.launch.daemon import Daemon
from minireduce.launch.local_cluster import RunningCluster, RunningDaemon
from minireduce.worker.connections import Connection

FIRST = 1024
"""The least number that `select` does not take."""


@pytest.fixture(autouse=True)
def _crowded() -> Iterator[None]:
    """What is opened from here on has such a number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * FIRST:
        pytest.skip("this process may not open so many")
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * FIRST), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        opened = 0
        while opened < FIRST - 1:
            opened = os.open(os.devnull, os.O_RDONLY)
            stack.callback(os.close, opened)
        yield


def test_a_connection_is_known_to_rest_or_to_have_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Connection(f"127.0.0.1:{listening.getsockname()[1]}", None)
        connection.connect()
        assert connection.sock.fileno() >= FIRST
        there, _ = listening.accept()
        assert connection.is_usable
        there.close()
        heard = select.poll()
        heard.register(connection.sock, select.POLLIN)
        heard.poll()
        assert not connection.is_usable
        connection.close()


def test_a_daemon_is_heard_to_be_ready() -> None:
    reading, writing = os.pipe()
    assert reading >= FIRST
    child.announce(writing, address="here")
    assert Daemon("master", None, Path(), io.BytesIO(), reading).ready() == {"address": "here"}


def test_a_cluster_is_taken_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        one = RunningDaemon("worker-1", process.pid, local_cluster._started_ticks(process.pid))
        known = RunningCluster("127.0.0.1:1", "127.0.0.1:2", "token", (one,))
        (tmp_path / "minireduce").mkdir(0o700)
        (tmp_path / "minireduce" / local_cluster.STATE_NAME).write_text(json.dumps(asdict(known)))
        assert local_cluster.down() == known
        assert process.wait() == -signal.SIGTERM
