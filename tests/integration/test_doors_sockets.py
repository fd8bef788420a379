"""What our processes listen on: loopback and nothing else, unless somebody asked for more."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from minireduce import LocalCluster

DAEMONS_LISTEN_MIN = 3  # the master's gRPC and pages, a worker's block server
DEADLINE_S = 60

WAITING_JOB = """
import fcntl
from minireduce import Job, Count

def lines(line):
    with open("{gate}") as gate, open("{running}", "w") as running:
        fcntl.flock(gate, fcntl.LOCK_SH)
    yield line, 1

job = Job(lines, Count())
"""


def listening(processes: list[psutil.Process]) -> list[tuple[str, str]]:
    """Address and name of every listening socket of these processes and of all below them."""
    family = [each for process in processes for each in (process, *process.children(recursive=True))]
    return [
        (connection.laddr.ip, process.name())
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def assert_on_loopback(found: list[tuple[str, str]]) -> None:
    assert len(found) >= DAEMONS_LISTEN_MIN, found
    assert [each for each in found if not is_loopback(each[0])] == []


def is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def test_a_local_cluster_listens_on_loopback_only() -> None:
    with LocalCluster(workers=2) as cluster:
        assert cluster.address
        assert_on_loopback(listening(psutil.Process().children()))


def test_submit_listens_on_loopback_only(environment: dict[str, str], tmp_path: Path) -> None:
    gate, running, job = tmp_path / "gate", tmp_path / "running", tmp_path / "job.py"
    os.mkfifo(running)
    job.write_text(WAITING_JOB.format(gate=gate, running=running))
    (tmp_path / "in.txt").write_text("a\n")
    with gate.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = subprocess.Popen(
            [sys.executable, "-P", "-m", "minireduce.cli", "submit", str(job), str(tmp_path / "in.txt")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            with running.open():  # waits until a task writes there
                assert_on_loopback(listening([psutil.Process(command.pid)]))
        finally:
            fcntl.flock(held, fcntl.LOCK_UN)
            out, err = command.communicate(timeout=DEADLINE_S)
    assert (command.returncode, out) == (0, b"a\t1\n"), err


def test_cluster_up_listens_on_loopback_only(minireduce, home: Path) -> None:
    started = minireduce("cluster", "up", "-n", 1, "--port", 0, "--http-port", 0, "--json")
    assert started.status == 0, started.err
    try:
        (state,) = home.rglob("cluster.json")
        pids = [each["pid"] for each in json.loads(state.read_text())["daemons"]]
        assert_on_loopback(listening([psutil.Process(pid) for pid in pids]))
    finally:
        assert minireduce("cluster", "down").status == 0
