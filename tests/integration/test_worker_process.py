"""`minireduce-worker` as a process: how it joins, what keeps it from joining, and that it leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import urllib.request
from pathlib import Path

import psutil
import pytest
from scenes.cluster import ProcessCluster, watch

from minireduce.auth import tokens
from minireduce.errors import RequestError
from minireduce.launch import daemon
from minireduce.wire import methods
from minireduce.wire.questions import ListTasks
from minireduce.worker.block_server_process import listen

DEADLINE_S = 60


@pytest.fixture
def cluster(tmp_path: Path):
    """A master, and no worker yet."""
    with ProcessCluster(tmp_path, workers=0) as cluster:
        yield cluster


def worker(cluster: ProcessCluster, *arguments: str, name: str = "worker-1", **environment: str) -> daemon.Daemon:
    """A worker on the data directory `name`, ended with the cluster; later flags are stronger."""
    started = daemon.start(
        daemon.WORKER,
        ["--data-dir", str(cluster.root / name), "--token-file", str(cluster.token_file), *arguments],
        name=name,
        log=cluster.root / f"{len(cluster.daemons)}.log",
        environment={**cluster.environment, **environment},
    )
    cluster.daemons[f"{name} {len(cluster.daemons)}"] = started
    return started


def processes_of(started: daemon.Daemon, address: str) -> list[psutil.Process]:
    """The worker and all that it started, which are at least a zygote and, once it answers, a block server."""
    with urllib.request.urlopen(f"http://{address}/healthz", timeout=DEADLINE_S) as answer:
        assert answer.status == 200
    own = psutil.Process(started.process.pid)
    found = [own, *own.children(recursive=True)]
    assert len(found) >= 3
    return found


def assert_gone(found: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(found, timeout=DEADLINE_S)
    assert alive == []


def status_of(started: daemon.Daemon) -> int:
    return started.process.wait(DEADLINE_S)


def test_a_worker_joins_and_says_what_it_is(cluster: ProcessCluster):
    address = worker(cluster, "--slots", "3", "--rack", "/r1", "--weight", "2.5", cluster.address).ready()["address"]
    (seen,) = cluster.workers().values()
    assert (seen.state, seen.slots, seen.rack, seen.weight, seen.data_address) == ("live", 3, "/r1", 2.5, address)
    assert seen.memory_bytes > 1 << 20
    assert seen.free_bytes > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_ends_with_all_its_processes(cluster: ProcessCluster, number: int):
    started = worker(cluster, cluster.address)
    found = processes_of(started, started.ready()["address"])
    started.process.send_signal(number)
    assert status_of(started) == 0
    assert_gone(found)


def test_a_killed_worker_takes_all_its_processes_with_it(cluster: ProcessCluster):
    started = worker(cluster, cluster.address)
    found = processes_of(started, started.ready()["address"])
    started.process.kill()
    assert_gone(found)


def test_a_worker_that_starts_again_is_the_same_worker_in_another_life(cluster: ProcessCluster):
    for _ in range(2):
        started = worker(cluster, cluster.address)
        started.ready()
        assert len(cluster.workers()) == 1
        started.process.kill()
        status_of(started)


def test_a_worker_joins_a_master_that_starts_later(cluster: ProcessCluster):
    cluster.kill("master")
    started = worker(cluster, cluster.address)
    cluster.start_master()
    assert started.ready()["address"]


def test_a_worker_stays_when_its_master_starts_again(cluster: ProcessCluster):
    started = worker(cluster, cluster.address)
    address = started.ready()["address"]
    cluster.kill("master")
    cluster.start_master()
    while not [seen for seen in cluster.workers().values() if seen.state == "live"]:
        assert started.process.poll() is None
    assert [seen.data_address for seen in cluster.workers().values()] == [address]


def refusal(started: daemon.Daemon) -> RequestError:
    with pytest.raises(RequestError) as refused:
        started.ready()
    return refused.value


def test_a_wrong_token_is_refused_with_a_hint_and_status_4(cluster: ProcessCluster, tmp_path: Path):
    other = tmp_path / "other-token"
    tokens.store(other, tokens.generate())
    started = worker(cluster, "--token-file", str(other), cluster.address)
    refused = refusal(started)
    assert status_of(started) == 4
    assert "token" in refused.message
    assert refused.hint


def test_a_machine_without_a_worker_token_is_told_to_join(cluster: ProcessCluster, tmp_path: Path):
    client_only = tmp_path / "client-token"
    tokens.store(client_only, tokens.Tokens(client=cluster.tokens.client))
    started = worker(cluster, "--token-file", str(client_only), cluster.address)
    refused = refusal(started)
    assert status_of(started) == 4
    assert "minireduce token --join" in str(refused.hint)


def test_a_data_directory_that_another_worker_uses_is_refused(cluster: ProcessCluster):
    worker(cluster, cluster.address).ready()
    second = worker(cluster, cluster.address)
    assert "another worker uses" in refusal(second).message
    assert status_of(second) == 2


def test_a_port_that_is_taken_is_told_before_anything_is_started(cluster: ProcessCluster):
    with listen("127.0.0.1", 0) as taken:
        started = worker(cluster, "--port", str(taken.getsockname()[1]), cluster.address)
        refused = refusal(started)
    assert status_of(started) == 2
    assert "Address already in use" in refused.message
    assert "--port" in str(refused.hint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no master was named"),
        (("nowhere",), "no address"),
        (("--join", "mrj1,x", "127.0.0.1:1"), "join line"),
        (("--tls-cert", "c.pem", "127.0.0.1:1"), "belong together"),
        (("--config", "/nonexistent.toml", "127.0.0.1:1"), "does not exist"),
        (("--slots", "0", "127.0.0.1:1"), "slots cannot be 0"),
    ],
)
def test_a_mistake_in_the_flags_is_told_with_status_2(tmp_path: Path, arguments: tuple[str, ...], message: str):
    token_file = tmp_path / "token"
    tokens.store(token_file, tokens.generate())
    started = daemon.start(
        daemon.WORKER,
        ["--data-dir", str(tmp_path / "data"), "--token-file", str(token_file), *arguments],
        name="worker",
        log=tmp_path / "log",
        environment=dict(os.environ),
    )
    try:
        assert message in refusal(started).message
        assert status_of(started) == 2
    finally:
        daemon.stop([started])


def test_a_worker_beyond_loopback_gets_its_certificate_from_the_master(tmp_path: Path):
    host = address_beyond_loopback()
    with ProcessCluster(tmp_path, workers=0) as cluster:
        cluster.kill("master")
        cluster._start(daemon.MASTER, "master", "--host", host, "--port", "0", "--http-port", "0")
        cluster.address = str(cluster.daemons["master"].ready()["address"])
        assert worker(cluster, cluster.address).ready()["address"].startswith(f"{host}:")


def address_beyond_loopback() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


WAITING_JOB = """
import fcntl, pathlib
from minireduce import Job, Count

def lines(line):
    pathlib.Path("{begun}").touch()
    with open("{gate}") as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    yield line, 1

job = Job(lines, Count())
"""


def test_what_ran_on_a_worker_that_stops_is_given_back_and_runs_elsewhere(tmp_path: Path):
    gate, begun, job, text = (tmp_path / name for name in ("gate", "begun", "job.py", "in.txt"))
    job.write_text(WAITING_JOB.format(gate=gate, begun=begun))
    text.write_text("a\n")
    with (
        gate.open("w") as held,
        ProcessCluster(tmp_path, workers=1) as cluster,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        command = cluster.command("submit", str(job), str(text), "-o", str(tmp_path / "out"))
        said = b""
        while b"job-" not in said:
            said += command.stderr.readline()
            assert command.poll() is None, said
        with cluster.connect() as connection:
            # The master says "running" before the worker has forked the task's process.
            watch(connection, "@", lambda _, tasks: begun.exists() and tasks[0].attempts[0].state == "running")
            found = processes_of(cluster.daemons["worker-1"], cluster._addresses["worker-1"])
            assert len(found) > 3
            cluster.daemons["worker-1"].process.terminate()
            assert_gone(found)
            shown = watch(connection, "@", lambda _, tasks: tasks[0].attempts[0].state != "running")
            first = connection.call(methods.LIST_TASKS, ListTasks(shown.job))[0].attempts[0]
            assert (first.state, first.message) == ("lost", "its worker was told to stop")
        cluster.start_worker("worker-2")
        cluster.await_worker("worker-2")
        fcntl.flock(held, fcntl.LOCK_UN)
        out, err = command.communicate(timeout=DEADLINE_S)
        assert command.returncode == 0, (out, err)
    assert (tmp_path / "out" / "part-00000").read_text() == "a\t1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only a worker of root runs tasks as somebody else")
def test_a_data_directory_that_tasks_cannot_reach_is_told_at_the_start(cluster: ProcessCluster):
    started = worker(cluster, cluster.address, MINIREDUCE_TASK_USER="nobody")
    refused = refusal(started)
    assert status_of(started) == 2
    assert "nobody" in refused.message
    assert "--data-dir" in str(refused.hint)
