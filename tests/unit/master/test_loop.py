"""The loop around the machine: events in order, answers when durable, and an end that answers nobody."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest

from minireduce.core.cluster import (
    CloseStream,
    HelloReceived,
    JobChanged,
    Persist,
    Refuse,
    Reply,
    RequestReceived,
    SendDown,
    SendWelcome,
    StopServing,
    StreamClosed,
    Ticked,
    UpReceived,
)
from minireduce.core.messages import Down, Hello, Up, Welcome, WorkerProfile
from minireduce.core.requests import CloseResult, ConfirmPublished, KillJob
from minireduce.errors import InvariantViolation, NotFound, Refused, Unavailable
from minireduce.master import loop as loop_module
from minireduce.master.loop import MasterLoop

DEADLINE_S = 30
JOB = "job-00000a-1"
HELLO = Hello(WorkerProfile("w1", 1, "h", "/r", 1, 1, "h:1", "m", "0"), 0, 0, 0, 0)
WELCOME = Welcome(1, 1, False, 0, 1.0, 10.0)


class FixedClock:
    def now(self):
        return 5.0

    def time(self):
        return 1000.0


class Script:
    """A machine that follows a table from events to actions, and remembers what it was told."""

    def __init__(self):
        self.events = []
        self.txid = 0
        self.error = None

    def persist(self):
        self.txid += 1
        return Persist(1, self.txid, ())

    def advance(self, event, now):
        if isinstance(event, Ticked):
            return []
        self.events.append(event)
        if self.error is not None:
            raise self.error
        match event:
            case RequestReceived(number, ConfirmPublished(), _):
                return [self.persist(), Reply(number, "confirmed"), JobChanged(JOB)]
            case RequestReceived(number, KillJob(), _):
                return [Refuse(number, NotFound("no such job"))]
            case RequestReceived(number, CloseResult(), _):
                return [Reply(number, None)]
            case HelloReceived(number, _):
                return [self.persist(), SendWelcome(number, WELCOME)]
            case UpReceived(number, up):
                if up.number == 99:
                    return [CloseStream(number, Refused("another stream"))]
                if up.number == 100:
                    return [StopServing(Refused("too old"))]
                return [SendDown(number, Down(1, up.number, 0)), SendDown(777, Down(1, 1, 0))]
        return []


@dataclass
class Disk:
    """Commits become durable one group at a time, when allowed."""

    gate: threading.Semaphore
    error: Exception | None = None

    def write(self, _group):
        assert self.gate.acquire(timeout=DEADLINE_S)
        if self.error is not None:
            raise self.error


class Scene:
    def __init__(self):
        self.machine = Script()
        self.disk = Disk(threading.Semaphore(0))
        self.loop = MasterLoop(self.machine, self.disk.write, FixedClock())


def play(scenario):
    async def run():
        scene = Scene()
        scene.loop.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await scenario(scene)
        finally:
            scene.disk.gate.release(100)
            await scene.loop.stop()

    asyncio.run(run())


async def settle():
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_request_is_answered_when_its_commit_is_durable_and_not_before():
    async def scenario(scene):
        answer = asyncio.create_task(scene.loop.request(ConfirmPublished(JOB)))
        await settle()
        assert not answer.done()
        scene.disk.gate.release()
        assert await answer == "confirmed"
        assert scene.machine.events[0].received_at == 1000.0

    play(scenario)


def test_a_read_waits_for_the_commits_that_it_rests_on():
    async def scenario(scene):
        assert await scene.loop.read(lambda now: now) == 5.0  # nothing is under way
        changing = asyncio.create_task(scene.loop.request(ConfirmPublished(JOB)))
        await settle()
        reading = asyncio.create_task(scene.loop.read(lambda _now: scene.machine.txid))
        await settle()
        assert not reading.done()
        scene.disk.gate.release()
        assert await reading == 1
        await changing

    play(scenario)


def test_the_answer_to_a_later_request_does_not_overtake_an_earlier_commit():
    async def scenario(scene):
        first = asyncio.create_task(scene.loop.request(ConfirmPublished(JOB)))
        await settle()
        second = asyncio.create_task(scene.loop.request(CloseResult(JOB)))  # needs no commit itself
        await settle()
        assert not second.done()
        scene.disk.gate.release()
        assert await first == "confirmed"
        assert await second is None

    play(scenario)


def test_refusals_and_errors_of_views_reach_who_asked():
    def view(_now):
        raise NotFound("no job")

    async def scenario(scene):
        with pytest.raises(NotFound, match="no such job"):
            await scene.loop.request(KillJob(JOB, "why"))
        with pytest.raises(NotFound, match="no job"):
            await scene.loop.read(view)

    play(scenario)


def test_a_welcome_leaves_when_the_worker_is_remembered():
    async def scenario(scene):
        stream = scene.loop.open_stream(HELLO)
        await settle()
        assert stream.outgoing.empty()
        scene.disk.gate.release()
        assert await stream.outgoing.get() == WELCOME
        scene.loop.take_message(stream, Up(1, 1, 0))
        assert await stream.outgoing.get() == Down(1, 1, 0)
        scene.loop.close_stream(stream)
        assert scene.machine.events[-1] == StreamClosed(stream.number)
        assert await stream.outgoing.get() is None

    play(scenario)


def test_a_stream_that_the_machine_ends_ends_with_its_error():
    async def scenario(scene):
        stream = scene.loop.open_stream(HELLO)
        scene.loop.take_message(stream, Up(1, 99, 0))
        scene.disk.gate.release()
        while not isinstance(message := await stream.outgoing.get(), Refused):
            assert message == WELCOME
        told = len(scene.machine.events)
        scene.loop.take_message(stream, Up(1, 2, 0))  # late words of a stream that is over
        scene.loop.close_stream(stream)
        assert len(scene.machine.events) == told

    play(scenario)


def test_a_stream_that_does_not_keep_up_loses_messages_and_not_the_master(monkeypatch):
    monkeypatch.setattr(loop_module, "STREAM_MESSAGES_MAX", 3)

    async def scenario(scene):
        stream = scene.loop.open_stream(HELLO)
        scene.disk.gate.release()
        await scene.loop.read(lambda _now: None)
        for number in range(1, 10):
            scene.loop.take_message(stream, Up(1, number, 0))
        assert stream.outgoing.qsize() == 3
        scene.loop.close_stream(stream)
        assert await stream.outgoing.get() is None

    play(scenario)


def test_streams_and_requests_never_share_a_number():
    async def scenario(scene):
        scene.disk.gate.release(10)
        first = scene.loop.open_stream(HELLO)
        await scene.loop.request(ConfirmPublished(JOB))
        second = scene.loop.open_stream(HELLO)
        numbers = [first.number, scene.machine.events[1].request, second.number]
        assert len(set(numbers)) == 3

    play(scenario)


def test_watchers_wake_when_the_change_is_durable():
    async def scenario(scene):
        watcher = scene.loop.watch(JOB)
        other = scene.loop.watch("job-00000a-2")
        change = asyncio.create_task(scene.loop.request(ConfirmPublished(JOB)))
        await settle()
        assert not watcher.done()
        scene.disk.gate.release()
        await watcher
        await change
        assert not other.done()
        scene.loop.unwatch(JOB, watcher)
        scene.loop.unwatch("job-00000a-2", other)
        assert not scene.loop._watchers

    play(scenario)


def test_a_commit_that_fails_ends_the_master_and_is_never_seen():
    async def scenario(scene):
        scene.disk.error = Unavailable("the disk is full")
        answer = asyncio.create_task(scene.loop.request(ConfirmPublished(JOB)))
        reading = asyncio.create_task(settle_and_read(scene))
        watcher = scene.loop.watch(JOB)
        stream = scene.loop.open_stream(HELLO)
        await settle()
        scene.disk.gate.release()
        with pytest.raises(Unavailable, match="the disk is full"):
            await scene.loop.ended
        for question in (answer, reading):
            with pytest.raises(Unavailable, match="the master is ending"):
                await question
        await watcher  # wakes, and asks again in vain
        assert isinstance(await stream.outgoing.get(), Unavailable)
        with pytest.raises(Unavailable):
            await scene.loop.request(CloseResult(JOB))
        with pytest.raises(Unavailable):
            await scene.loop.read(lambda _now: 1)
        scene.loop.close_stream(stream)  # what is over is over, without an error

    async def settle_and_read(scene):
        await settle()
        return await scene.loop.read(lambda _now: 1)

    play(scenario)


def test_an_invariant_that_does_not_hold_ends_the_master():
    async def scenario(scene):
        scene.machine.error = InvariantViolation("two winners")
        with pytest.raises(Unavailable):
            await scene.loop.request(CloseResult(JOB))
        with pytest.raises(InvariantViolation):
            await scene.loop.ended

    play(scenario)


def test_a_master_whose_metadata_is_too_old_ends():
    async def scenario(scene):
        stream = scene.loop.open_stream(HELLO)
        scene.disk.gate.release()
        scene.loop.take_message(stream, Up(1, 100, 0))
        with pytest.raises(Refused, match="too old"):
            await scene.loop.ended

    play(scenario)


def test_stopping_writes_what_was_decided():
    async def scenario(scene):
        answer = asyncio.create_task(scene.loop.request(ConfirmPublished(JOB)))
        await settle()
        scene.disk.gate.release()
        await scene.loop.stop()
        with pytest.raises(Unavailable):
            await answer
        assert scene.disk.gate.acquire(blocking=False) is False  # the commit has taken its turn

    play(scenario)
