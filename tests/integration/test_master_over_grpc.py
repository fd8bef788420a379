"""A master in this process, spoken to over real gRPC: doors, versions, jobs, waits, and a worker's stream."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import time
from collections import deque

import grpc
import grpc.aio
import pytest

from minireduce.auth import scopes, tokens
from minireduce.auth.certificates import create_authority, issue_master, make_request, sign_request
from minireduce.auth.scopes import JobReads
from minireduce.auth.transport import MASTER_ROLE, server_context
from minireduce.clock import SystemClock
from minireduce.core.messages import (
    AttemptStarted,
    AttemptSucceeded,
    Down,
    DropJob,
    Hello,
    KillAttempt,
    LaunchAttempt,
    OpenJob,
    Up,
    Welcome,
    WorkerProfile,
)
from minireduce.core.requests import CloseResult, ConfirmPublished, KillJob, SubmitJob
from minireduce.core.settings import ClusterSettings
from minireduce.core.spec import JobSpec, LocalFiles, LocalRange, OutputKind, Program, StepSpec
from minireduce.core.task_data import TaskOutput
from minireduce.core.views import JobState
from minireduce.errors import NotFound, Refused, RequestError, Unavailable
from minireduce.master.server import Certificate, MasterOptions, start_master
from minireduce.proto import services_pb2
from minireduce.wire import methods
from minireduce.wire.calls import AsyncCalls, Credentials
from minireduce.wire.limits import PROGRAM_BYTES_MAX
from minireduce.wire.questions import (
    CertifyBlockServer,
    DescribeCluster,
    GetJob,
    GetResult,
    ListJobs,
    ListTasks,
    ListWorkers,
    WaitJob,
)

DEADLINE_S = 30
CALL_S = 10
HELD = tokens.generate()
BODY = b"job = None"


def spec(body=BODY, output=OutputKind.TEXT):
    program = Program("source", body, hashlib.sha256(body).hexdigest())
    files = LocalFiles("machine-1", (LocalRange("/data/a.txt", 0, 10, "10:1:1"),))
    return JobSpec("words", program, (StepSpec(0, 1 << 20, 60.0),), (files,), output, output_path="/out")


def hello(worker="w1", incarnation=1, **changes):
    profile = WorkerProfile(worker, incarnation, "h", "/r", 2, 4 << 20, "127.0.0.1:9", "machine-1", "0")
    return Hello(dataclasses.replace(profile, **changes), 0, 0, 0, 0)


@contextlib.asynccontextmanager
async def running_master(data_dir, certificate=None):
    options = MasterOptions(
        data_dir=data_dir,
        host="127.0.0.1",
        port=0,
        tokens=HELD,
        settings=ClusterSettings(),
        software_version="0.1.0",
        certificate=certificate,
    )
    master = await start_master(options, SystemClock())
    try:
        yield master
    finally:
        await master.stop()


@contextlib.asynccontextmanager
async def caller(master, token=HELD.client, **credentials):
    calls = AsyncCalls(f"127.0.0.1:{master.port}", Credentials(token, **credentials))
    try:
        yield calls
    finally:
        await calls.close()


def bare_channel(master):
    """As a stranger would come: with nothing of ours."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{master.port}")


def play(scenario):
    async def limited():
        async with asyncio.timeout(DEADLINE_S):
            await scenario()

    asyncio.run(limited())


class Worker:
    """Speaks a worker's part on a stream: takes commands in, says what it is told to."""

    def __init__(self, calls):
        self.stream = calls.open_stream(methods.CONNECT)
        self.session = 0
        self.number = 0
        self.ack = 0
        self.commands = deque()

    async def join(self, greeting):
        await self.stream.send(greeting)
        welcome = await self.stream.receive()
        assert isinstance(welcome, Welcome)
        self.session = welcome.session
        return welcome

    async def report(self, *reports):
        self.number += 1
        await self.stream.send(Up(self.session, self.number, self.ack, reports))

    async def command(self, *kinds):
        """The next command of one of these kinds; others are passed over."""
        while True:
            while self.commands:
                command = self.commands.popleft()
                if isinstance(command, kinds):
                    return command
            down = await self.stream.receive()
            assert isinstance(down, Down)
            if down.number == self.ack + 1:
                self.ack = down.number
                self.commands.extend(down.commands)

    async def listen(self):
        """Take in whatever comes until the stream ends; raises what ended it."""
        while await self.stream.receive() is not None:
            pass


# ── doors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def every_path():
    services = services_pb2.DESCRIPTOR.services_by_name.values()
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


def wrong_tokens():
    secret = scopes.cluster_secret(HELD.worker)
    future = int(time.time()) + 3600
    return {
        "none": None,
        "of another cluster": f"Bearer {tokens.generate().client}",
        "one job's reads": f"Bearer {scopes.make(secret, JobReads('job-00000a-1', future))}",
        "no bearer": f"Basic {HELD.client}",
    }


def test_every_method_is_shut_without_a_token_and_with_each_wrong_one(tmp_path):
    async def scenario():
        tried = 0
        async with running_master(tmp_path) as master, bare_channel(master) as channel:
            for path in [*every_path(), "/minireduce.Jobs/NoSuchMethod", "/grpc.health.v1.Health/Check"]:
                right = HELD.worker if path.startswith("/minireduce.Workers/") else HELD.client
                other = HELD.client if path.startswith("/minireduce.Workers/") else HELD.worker
                for header in [*wrong_tokens().values(), f"Bearer {other}"]:
                    metadata = [("minireduce-protocol", "1"), *([("authorization", header)] if header else [])]
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        await channel.unary_unary(path)(b"", metadata=metadata, timeout=CALL_S)
                    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED, (path, header)
                    assert right not in (raised.value.details() or "")
                    tried += 1
        assert tried >= 10 * 5

    play(scenario)


def test_a_caller_of_another_version_is_refused_with_a_hint(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, bare_channel(master) as channel:
            for spoken in ([], [("minireduce-protocol", "999")]):
                metadata = [("authorization", f"Bearer {HELD.client}"), *spoken]
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await channel.unary_unary(methods.LIST_JOBS.path)(b"", metadata=metadata, timeout=CALL_S)
                assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
                assert "protocol" in raised.value.details()
            async with caller(master) as calls:
                assert await calls.call(methods.LIST_JOBS, ListJobs(), timeout_s=CALL_S) == ()

    play(scenario)


def test_beyond_loopback_the_authority_is_what_is_trusted(tmp_path):
    async def scenario():
        now = time.time()
        authority, stranger = create_authority(now), create_authority(now)
        identity = issue_master(authority, ["node1"], now)
        certificate = Certificate(identity.certificate_pem, identity.key_pem)
        async with running_master(tmp_path, certificate) as master:
            trusted = {"authority": authority.certificate_pem, "server_name": MASTER_ROLE}
            async with caller(master, **trusted) as calls:
                assert (await calls.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S)).epoch == 1
            for wrong in ({"authority": stranger.certificate_pem, "server_name": MASTER_ROLE}, {}):
                async with caller(master, **wrong) as calls:
                    with pytest.raises(Unavailable):
                        await calls.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S)

    play(scenario)


def test_a_worker_that_holds_the_token_gets_its_block_servers_certificate_signed(tmp_path):
    async def scenario():
        now = time.time()
        authority = create_authority(now)
        identity = issue_master(authority, ["node1"], now)

        def sign(request_pem, hosts):
            return sign_request(authority, request_pem, hosts, now)

        shown = Certificate(identity.certificate_pem, identity.key_pem, sign)
        key_pem, request_pem = make_request()
        asked = CertifyBlockServer(request_pem, ("node2",))
        trusted = {"authority": authority.certificate_pem, "server_name": MASTER_ROLE}
        async with running_master(tmp_path, shown) as master, caller(master, HELD.worker, **trusted) as calls:
            signed = await calls.call(methods.CERTIFY_BLOCK_SERVER, asked, timeout_s=CALL_S)
            server_context(signed, key_pem)  # certificate and key belong together
            nonsense = CertifyBlockServer(b"nonsense", ())
            with pytest.raises(RequestError, match="not signed"):
                await calls.call(methods.CERTIFY_BLOCK_SERVER, nonsense, timeout_s=CALL_S)
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            with pytest.raises(RequestError, match="no authority"):
                await calls.call(methods.CERTIFY_BLOCK_SERVER, asked, timeout_s=CALL_S)

    play(scenario)


# ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_from_submit_to_published(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master) as client, caller(master, HELD.worker) as calls:
            job = await client.call(methods.SUBMIT_JOB, SubmitJob("key", spec()), timeout_s=CALL_S)
            assert await client.call(methods.SUBMIT_JOB, SubmitJob("key", spec()), timeout_s=CALL_S) == job
            waiting = asyncio.create_task(
                client.call(methods.WAIT_JOB, WaitJob(job, JobState.RUNNING, 20.0), timeout_s=25)
            )
            worker = Worker(calls)
            welcome = await worker.join(hello())
            assert (welcome.epoch, welcome.resumed) == (1, False)
            opened = await worker.command(OpenJob)
            assert (opened.job, opened.program.body) == (job, BODY)
            assert opened.read_token.startswith(scopes.PREFIX)
            launched = await worker.command(LaunchAttempt)
            assert launched.input == spec().splits[0]
            await worker.report(AttemptStarted(launched.attempt))
            counters = (("g", "n\udc80", 3),)
            output = TaskOutput(b"digest", 100, 7)
            await worker.report(AttemptSucceeded(launched.attempt, output, counters))
            assert (await waiting).state is JobState.PUBLISHING
            result = await client.call(methods.GET_RESULT, GetResult(job), timeout_s=CALL_S)
            assert [part.attempt for part in result.parts] == [launched.attempt]
            assert (result.parts[0].address, result.records, result.is_text) == ("127.0.0.1:9", (7,), True)
            state = await client.call(methods.CONFIRM_PUBLISHED, ConfirmPublished(job), timeout_s=CALL_S)
            assert state is JobState.SUCCEEDED
            view = await client.call(methods.GET_JOB, GetJob("@"), timeout_s=CALL_S)
            assert (view.job, view.state) == (job, JobState.SUCCEEDED)
            assert counters[0] in view.counters
            assert await client.call(methods.CLOSE_RESULT, CloseResult(job), timeout_s=CALL_S) is None
            assert [view.job for view in await client.call(methods.LIST_JOBS, ListJobs(), timeout_s=CALL_S)] == [job]

    play(scenario)


def test_a_killed_job_takes_its_attempt_along_and_wakes_who_waits(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master) as client, caller(master, HELD.worker) as calls:
            worker = Worker(calls)
            await worker.join(hello())
            (seen,) = await client.call(methods.LIST_WORKERS, ListWorkers(), timeout_s=CALL_S)
            assert (seen.worker, seen.state, seen.slots) == ("w1", "live", 2)
            job = await client.call(methods.SUBMIT_JOB, SubmitJob("key", spec()), timeout_s=CALL_S)
            launched = await worker.command(LaunchAttempt)
            tasks = await client.call(methods.LIST_TASKS, ListTasks(job), timeout_s=CALL_S)
            assert [attempt.attempt for task in tasks for attempt in task.attempts] == [launched.attempt]
            waiting = asyncio.create_task(
                client.call(methods.WAIT_JOB, WaitJob("@", JobState.RUNNING, 20.0), timeout_s=25)
            )
            state = await client.call(methods.KILL_JOB, KillJob(job, "no longer wanted"), timeout_s=CALL_S)
            assert state is JobState.KILLED
            assert (await waiting).reason == "no longer wanted"
            assert await worker.command(KillAttempt, DropJob) in {
                KillAttempt(launched.attempt, "no longer wanted"),
                DropJob(job),
            }

    play(scenario)


def test_waiting_ends_when_its_time_is_over_and_shows_the_job_as_it_is(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master) as client:
            job = await client.call(methods.SUBMIT_JOB, SubmitJob("key", spec()), timeout_s=CALL_S)
            for timeout_s in (0.05, 0.0, -1.0):
                view = await client.call(methods.WAIT_JOB, WaitJob(job, JobState.RUNNING, timeout_s), timeout_s=CALL_S)
                assert view.state is JobState.RUNNING
            seen_other = WaitJob(job, JobState.PUBLISHING, 20.0)
            assert (await client.call(methods.WAIT_JOB, seen_other, timeout_s=CALL_S)).job == job
            assert not master.loop._watchers

    play(scenario)


def test_what_does_not_exist_is_said_with_a_hint(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master) as client:
            for method, request in (
                (methods.GET_JOB, GetJob("job-00000a-9")),
                (methods.GET_JOB, GetJob("@")),
                (methods.WAIT_JOB, WaitJob("job-00000a-9", JobState.RUNNING, 5.0)),
                (methods.GET_RESULT, GetResult("job-00000a-9")),
                (methods.LIST_TASKS, ListTasks("job-00000a-9")),
                (methods.KILL_JOB, KillJob("job-00000a-9", "")),
            ):
                with pytest.raises(NotFound) as raised:
                    await client.call(method, request, timeout_s=CALL_S)
                assert raised.value.hint

    play(scenario)


def test_a_request_that_is_no_such_message_is_refused_behind_the_gate(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, bare_channel(master) as channel:
            metadata = [("authorization", f"Bearer {HELD.client}"), ("minireduce-protocol", "1")]
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary(methods.SUBMIT_JOB.path)(b"\xff", metadata=metadata, timeout=CALL_S)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    play(scenario)


def test_a_program_of_the_largest_size_passes_and_a_larger_one_is_refused(tmp_path):
    async def scenario():
        async with running_master(None) as master, caller(master) as client, caller(master, HELD.worker) as calls:
            worker = Worker(calls)
            await worker.join(hello())
            large = spec(b"#" * PROGRAM_BYTES_MAX)
            await client.call(methods.SUBMIT_JOB, SubmitJob("key", large), timeout_s=DEADLINE_S)
            assert (await worker.command(OpenJob)).program.sha256 == large.program.sha256
            larger = spec(b"#" * (PROGRAM_BYTES_MAX + 1))
            with pytest.raises(RequestError, match="64 MiB is the limit"):
                await client.call(methods.SUBMIT_JOB, SubmitJob("other", larger), timeout_s=DEADLINE_S)

    play(scenario)


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_goes_on_with_its_session_on_another_stream(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            first = Worker(calls)
            welcome = await first.join(hello())
            second = Worker(calls)
            again = await second.join(dataclasses.replace(hello(), session=welcome.session))
            assert (again.resumed, again.session) == (True, welcome.session)
            with pytest.raises(Refused, match="opened another stream"):
                await first.listen()

    play(scenario)


def test_a_broken_stream_is_noticed_and_its_number_forgotten(tmp_path, monkeypatch):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            worker = Worker(calls)
            await worker.join(hello())
            assert len(master.loop._streams) == 1
            closed = asyncio.Event()
            close_stream = master.loop.close_stream
            monkeypatch.setattr(master.loop, "close_stream", lambda stream: (close_stream(stream), closed.set()))
            worker.stream.cancel()
            await closed.wait()
            assert not master.loop._streams

    play(scenario)


def test_a_stream_that_does_not_begin_with_hello_is_ended(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            stream = calls.open_stream(methods.CONNECT)
            await stream.send(Up(1, 1, 1))
            with pytest.raises(RequestError, match="begins with its hello"):
                await stream.receive()

    play(scenario)


def test_a_worker_with_another_protocol_is_told_so(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            stream = calls.open_stream(methods.CONNECT)
            await stream.send(hello(protocol_version=99))
            with pytest.raises(Refused, match="protocol 99") as raised:
                await stream.receive()
            assert raised.value.hint

    play(scenario)


def test_a_master_that_stops_tells_its_workers(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            worker = Worker(calls)
            await worker.join(hello())
            stopping = asyncio.create_task(master.loop.stop())
            with pytest.raises(Unavailable):
                await worker.listen()
            await stopping

    play(scenario)


def test_a_worker_whose_session_is_over_says_hello_anew_on_the_same_stream(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            worker = Worker(calls)
            unknown = await worker.join(dataclasses.replace(hello(), session=41))
            assert not unknown.resumed
            anew = unknown if unknown.session else await worker.join(hello())
            assert (anew.session > 0, anew.resumed) == (True, False)
            await worker.report()
            async with caller(master) as client:
                (seen,) = await client.call(methods.LIST_WORKERS, ListWorkers(), timeout_s=CALL_S)
            assert seen.state == "live"

    play(scenario)


# ── restarts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_answered_is_there_after_a_restart(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master) as client:
            job = await client.call(methods.SUBMIT_JOB, SubmitJob("key", spec()), timeout_s=CALL_S)
            before = await client.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S)
        async with running_master(tmp_path) as master, caller(master) as client:
            after = await client.call(methods.DESCRIBE_CLUSTER, DescribeCluster(), timeout_s=CALL_S)
            assert (after.cluster_id, after.epoch) == (before.cluster_id, before.epoch + 1)
            assert await client.call(methods.SUBMIT_JOB, SubmitJob("key", spec()), timeout_s=CALL_S) == job
            assert (await client.call(methods.GET_JOB, GetJob(job), timeout_s=CALL_S)).state is JobState.RUNNING

    play(scenario)


def test_a_master_on_an_old_copy_of_its_metadata_stops_serving(tmp_path):
    async def scenario():
        async with running_master(tmp_path) as master, caller(master, HELD.worker) as calls:
            stream = calls.open_stream(methods.CONNECT)
            await stream.send(dataclasses.replace(hello(), highest_epoch=7, highest_txid=70))
            with pytest.raises((Refused, Unavailable)):
                await stream.receive()
            with pytest.raises(Refused, match="epoch 7, commit 70"):
                await master.loop.ended

    play(scenario)
