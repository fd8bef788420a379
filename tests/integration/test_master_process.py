"""`minireduce-master` as a process: how it starts, what keeps it from starting, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from minireduce import failpoints
from minireduce.auth import tokens
from minireduce.auth.transport import MASTER_ROLE, load_authority
from minireduce.core.requests import SubmitJob
from minireduce.core.spec import JobSpec, LocalFiles, LocalRange, OutputKind, Program, StepSpec
from minireduce.core.views import JobState
from minireduce.errors import RequestError, Unavailable
from minireduce.launch import daemon
from minireduce.wire import methods
from minireduce.wire.calls import Calls, Credentials
from minireduce.wire.questions import DescribeCluster, GetJob

DEADLINE_S = 60
CALL_S = 10


class Place:
    """Where masters of one test live; whatever still runs is ended with it."""

    def __init__(self, path):
        self.path = path
        self.token_file = path / "token"
        self.started = []

    def start(self, *arguments, module=daemon.MASTER, **environment):
        place = ("--data-dir", str(self.path / "data"), "--token-file", str(self.token_file))
        ports = ("--port", "0", "--http-port", "0")
        master = daemon.start(
            module,
            [*place, *ports, *arguments],
            name="master",
            log=self.path / f"{len(self.started)}.log",
            environment={**os.environ, "HOME": str(self.path), **environment},
        )
        self.started.append(master)
        return master

    def end(self):
        daemon.stop([], at_once=self.started)

    def calls(self, announced, **credentials):
        held = tokens.load(self.token_file)
        return Calls(announced["address"], Credentials(held.require_client(), **credentials))


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.end()


def submission():
    program = Program("source", b"job", "0" * 64)
    files = LocalFiles("machine-1", (LocalRange("/data/a.txt", 0, 10, "10:1:1"),))
    spec = JobSpec("words", program, (StepSpec(1, 1 << 20, 60.0),), (files,), OutputKind.TEXT, output_path="/out")
    return SubmitJob(uuid.uuid4().hex, spec)


def say_goodbye(master, number=signal.SIGTERM):
    master.process.send_signal(number)
    return master.process.wait(DEADLINE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_master_makes_its_tokens_serves_and_ends_in_order(place, number):
    master = place.start()
    announced = master.ready()
    assert place.token_file.stat().st_mode & 0o777 == 0o600
    calls = place.calls(announced)
    assert calls.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S).epoch == 1
    calls.close()
    assert say_goodbye(master, number) == 0
    line = f"minireduce-master listens on {announced['address']}, pages on {announced['http_address']}"
    assert line in master.log.read_text()


def test_a_killed_master_comes_back_with_all_it_acknowledged(place):
    master = place.start()
    calls = place.calls(master.ready())
    job = calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)
    assert say_goodbye(master, signal.SIGKILL) == -signal.SIGKILL
    with pytest.raises(Unavailable, match="cannot be reached"):
        calls.call(methods.GET_JOB, GetJob(job), timeout_s=CALL_S)
    calls.close()
    again = place.calls(place.start().ready())
    assert again.call(methods.GET_JOB, GetJob(job), timeout_s=CALL_S).state is JobState.RUNNING
    assert again.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S).epoch == 2
    again.close()


@pytest.mark.parametrize(
    ("site", "is_kept"), [("store.before_rows", False), ("store.before_commit", False), ("store.after_commit", True)]
)
def test_a_master_killed_around_a_commit_has_all_of_it_or_nothing(place, site, is_kept):
    strikes = place.path / "strikes"
    strikes.mkdir()
    armed = {"MINIREDUCE_FAILPOINTS": f"{site}=kill", "MINIREDUCE_FAILPOINTS_DIR": str(strikes)}
    master = place.start(**armed)
    calls = place.calls(master.ready())
    asked = submission()
    with pytest.raises(Unavailable):  # the answer never left
        calls.call(methods.SUBMIT_JOB, asked, timeout_s=CALL_S)
    calls.close()
    assert master.process.wait(DEADLINE_S) == -signal.SIGKILL
    assert failpoints.strikes(strikes) == {site: 1}
    again = place.calls(place.start().ready())
    seen = again.call(methods.LIST_JOBS, methods.LIST_JOBS.request(), timeout_s=CALL_S)
    assert len(seen) == (1 if is_kept else 0)
    job = again.call(methods.SUBMIT_JOB, asked, timeout_s=CALL_S)  # repeated with its key: one job, either way
    assert [view.job for view in again.call(methods.LIST_JOBS, methods.LIST_JOBS.request(), timeout_s=CALL_S)] == [job]
    again.close()


def submitted_to(place, *arguments, **armed):
    """Start a master, submit a job, and stop the master in order; the job."""
    master = place.start(*arguments, **armed)
    calls = place.calls(master.ready())
    job = calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)
    calls.close()
    assert say_goodbye(master) == 0
    return job


def test_a_master_killed_while_it_opens_its_epoch_has_seen_none_of_it(place):
    job = submitted_to(place)
    strikes = place.path / "strikes"
    strikes.mkdir()
    armed = {"MINIREDUCE_FAILPOINTS": "store.before_epoch=kill", "MINIREDUCE_FAILPOINTS_DIR": str(strikes)}
    with pytest.raises(RequestError, match="status -9"):
        place.start(**armed).ready()
    assert failpoints.strikes(strikes) == {"store.before_epoch": 1}
    calls = place.calls(place.start().ready())
    assert calls.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S).epoch == 2
    assert calls.call(methods.GET_JOB, GetJob(job), timeout_s=CALL_S).job == job
    calls.close()


@pytest.mark.parametrize("site", ["mirror.before_replacing", "mirror.before_naming"])
def test_a_master_killed_while_it_mends_a_copy_mends_it_when_it_starts_again(place, site):
    mirrored = ("--metadata-mirror", str(place.path / "mirror"))
    job = submitted_to(place, *mirrored)
    database = place.path / "data" / "metadata.sqlite"
    bad = bytearray(database.read_bytes())
    bad[4096 + 100 :: 4096] = bytes(len(bad[4096 + 100 :: 4096]))
    bad[4096:4200] = b"x" * 104
    database.write_bytes(bad)
    strikes = place.path / "strikes"
    strikes.mkdir()
    armed = {"MINIREDUCE_FAILPOINTS": f"{site}=kill", "MINIREDUCE_FAILPOINTS_DIR": str(strikes)}
    with pytest.raises(RequestError, match="status -9"):
        place.start(*mirrored, **armed).ready()
    assert failpoints.strikes(strikes) == {site: 1}
    again = place.start(*mirrored)
    calls = place.calls(again.ready())
    assert calls.call(methods.GET_JOB, GetJob(job), timeout_s=CALL_S).state is JobState.RUNNING
    assert calls.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S).epoch == 2
    calls.close()
    assert f"It has been made anew from {place.path / 'mirror'}, up to commit" in again.log.read_text()
    say_goodbye(again)
    calls = place.calls(place.start().ready())  # and it serves without the mirror, too
    assert calls.call(methods.GET_JOB, GetJob(job), timeout_s=CALL_S).job == job
    calls.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "minireduce-test", str(path)]
    if os.getuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def shown_by_workers(place, address):
    command = [sys.executable, "-m", "minireduce.cli", "cluster", "workers", "--master", address]
    asked = subprocess.run(
        [*command, "--token-file", str(place.token_file)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
        env={**os.environ, "HOME": str(place.path)},
    )
    return asked.stdout


def test_a_mirror_whose_disk_is_full_is_shown_and_made_up_for_at_the_next_start(small_disk, place):
    mirrored = ("--metadata-mirror", str(small_disk / "mirror"))
    master = place.start(*mirrored)
    address = master.ready()["address"]
    calls = place.calls({"address": address})
    assert "mirror" not in shown_by_workers(place, address)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    jobs = [calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)]
    while not calls.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S).problems:
        jobs.append(calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S))  # until its log must grow
    assert f"master: the mirror of the metadata in {small_disk / 'mirror'} failed" in shown_by_workers(place, address)
    calls.close()
    say_goodbye(master)
    assert master.log.read_text().count("THE MIRROR OF THE METADATA FAILED") == 1
    ballast.unlink()
    master = place.start(*mirrored)
    address = master.ready()["address"]
    assert "mirror" not in shown_by_workers(place, address)
    say_goodbye(master)
    place.path = small_disk  # the mirror alone has it all
    (small_disk / "mirror").rename(small_disk / "data")
    calls = place.calls(place.start().ready())
    kept = [view.job for view in calls.call(methods.LIST_JOBS, methods.LIST_JOBS.request(), timeout_s=CALL_S)]
    assert sorted(kept) == sorted(jobs)
    calls.close()
    place.end()


def copy_metadata(place, verb):
    command = [sys.executable, "-m", daemon.MASTER, verb, str(place.path / "backup"), "--data-dir"]
    ended = subprocess.run(
        [*command, str(place.path / "data")], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_a_backup_of_a_running_master_brings_it_back_in_an_epoch_of_its_own(place):
    master = place.start()
    calls = place.calls(master.ready())
    job = calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)
    status, told, _ = copy_metadata(place, "backup")
    assert status == 0
    assert f"copied to {place.path / 'backup'}" in told
    later = calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)
    calls.close()
    status, _, said = copy_metadata(place, "restore")
    assert status == 2
    assert "another master" in said
    assert say_goodbye(master) == 0
    status, told, _ = copy_metadata(place, "restore")
    assert status == 0
    assert "in epoch 2000" in told
    calls = place.calls(place.start().ready())
    assert calls.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S).epoch == 2001
    assert [view.job for view in calls.call(methods.LIST_JOBS, methods.LIST_JOBS.request(), timeout_s=CALL_S)] == [job]
    again = calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)
    assert again not in {job, later}
    calls.close()


def test_a_commit_that_fails_ends_the_master_with_the_reason(place):
    strikes = place.path / "strikes"
    strikes.mkdir()
    armed = {"MINIREDUCE_FAILPOINTS": "store.before_commit=full", "MINIREDUCE_FAILPOINTS_DIR": str(strikes)}
    master = place.start(**armed)
    calls = place.calls(master.ready())
    with pytest.raises(Unavailable):
        calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)
    calls.close()
    assert master.process.wait(DEADLINE_S) == 1
    said = master.log.read_text()
    assert f"error: the master cannot go on: the metadata in {place.path / 'data'} cannot be written" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("nth", [1, 4, 9])
def test_a_master_whose_disk_fails_at_a_call_stops_with_the_reason_and_has_lost_nothing_acknowledged(place, nth):
    failing = {"PYTHONPATH": str(Path(__file__).parents[1]), "FAILING_CALL": str(nth)}
    master = place.start(module="scenes.faulty_master", **failing)
    calls = place.calls(master.ready())
    acknowledged = []
    with suppress(Unavailable):
        while len(acknowledged) < 10 * nth:
            acknowledged.append(calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S))
    calls.close()
    assert master.process.wait(DEADLINE_S) == 1
    said = master.log.read_text()
    assert f"error: the master cannot go on: the metadata in {place.path / 'data'} cannot be written" in said
    assert "Traceback" not in said
    calls = place.calls(place.start().ready())
    kept = [view.job for view in calls.call(methods.LIST_JOBS, methods.LIST_JOBS.request(), timeout_s=CALL_S)]
    assert set(acknowledged) <= set(kept)
    assert len(kept) <= len(acknowledged) + 1, "but for the one that was not answered"
    calls.close()


def test_a_second_master_on_the_same_directory_is_refused(place):
    place.start().ready()
    second = place.start()
    with pytest.raises(RequestError, match=r"another master .* uses the data directory") as raised:
        second.ready()
    assert raised.value.hint
    assert second.process.returncode == 2


@pytest.mark.parametrize("flag", ["--port", "--http-port"])
def test_a_port_in_use_is_found_out_before_anything_is_touched(place, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        master = place.start(flag, str(taken.getsockname()[1]))
        with pytest.raises(RequestError, match="cannot listen on") as raised:
            master.ready()
    assert flag in raised.value.hint
    assert master.process.returncode == 2
    assert master.log.read_text().startswith("error: ")  # and not with what a library says
    assert not (place.path / "data").exists()


def test_a_data_directory_that_cannot_be_made_is_reported(place):
    (place.path / "data").write_text("a file")
    master = place.start()
    with pytest.raises(RequestError, match=r"data directory .* cannot be used") as raised:
        master.ready()
    assert "--data-dir" in raised.value.hint
    assert master.process.returncode == 2


def test_a_token_file_that_others_can_read_is_refused(place):
    tokens.store(place.token_file, tokens.generate())
    place.token_file.chmod(0o644)
    master = place.start()
    with pytest.raises(RequestError, match="0644"):
        master.ready()
    assert master.process.returncode == 4


@pytest.mark.parametrize(
    "arguments",
    [("--no-such-flag",), ("--port", "x"), ("--port", "70000"), ("--tls-cert", "c.pem"), ("--config", "/no/such")],
)
def test_wrong_usage_ends_with_status_2(place, arguments):
    command = [sys.executable, "-m", daemon.MASTER, "--data-dir", str(place.path / "data"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 2
    assert "error: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_beyond_loopback_everything_is_encrypted_without_being_asked(place):
    master = place.start("--host", "0.0.0.0", "--advertise", "127.0.0.1")
    announced = master.ready()
    authority = load_authority(place.token_file)
    trusting = place.calls(announced, authority=authority, server_name=MASTER_ROLE)
    assert trusting.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S).epoch == 1
    trusting.close()
    in_the_clear = place.calls(announced)
    with pytest.raises(Unavailable):
        in_the_clear.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S)
    in_the_clear.close()
    import http.client
    import ssl

    context = ssl.create_default_context(cadata=authority.decode())
    host, _, port = announced["http_address"].rpartition(":")
    pages = http.client.HTTPSConnection(host, int(port), timeout=CALL_S, context=context)
    pages.request("GET", "/healthz")
    assert pages.getresponse().read() == b"ok\n"
    pages.close()


def test_an_embedded_master_ends_with_its_parent_and_leaves_nothing(place):
    root = place.path / "root"
    root.mkdir()
    master = place.start("--embedded", str(root), "--data-dir", str(root / "master"))
    calls = place.calls(master.ready())
    calls.call(methods.SUBMIT_JOB, submission(), timeout_s=CALL_S)
    calls.close()
    master.process.stdin.close()
    assert master.process.wait(DEADLINE_S) == 0
    assert not root.exists()


def test_help_shows_an_example_and_loads_nothing_heavy():
    script = "import sys\nfrom minireduce.launch.master_main import _parser\nprint(_parser().format_help())\n"
    script += "print([name for name in ('grpc', 'sqlalchemy', 'aiohttp', 'pyarrow') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "example: minireduce-master" in shown.stdout
    assert shown.stdout.strip().endswith("[]")
