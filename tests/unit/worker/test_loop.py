"""The worker's loop, with a machine that is played."""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import Future

import pytest

from minireduce.core.messages import Welcome
from minireduce.core.work.session import OpenStream, StopWorker, StreamOpened, Warn, WelcomeReceived
from minireduce.core.worker import StopRequested, Ticked
from minireduce.errors import InvariantViolation, Refused
from minireduce.testing.clock import ManualClock
from minireduce.worker.loop import WorkerLoop, _log_failure

WELCOME = WelcomeReceived(1, Welcome(1, 1, False, 0, 1.0, 10.0))


class PlayedMachine:
    """Answers each event with what was set for its kind."""

    def __init__(self, **answers) -> None:
        self.answers = answers
        self.seen = []
        self.is_joined = False

    def advance(self, event, now):
        self.seen.append((event, now))
        answer = self.answers.get(type(event).__name__, [])
        if isinstance(answer, Exception):
            raise answer
        self.is_joined = isinstance(event, WelcomeReceived)
        return answer


def play(machine: PlayedMachine, events, *, perform=print, on_joined=print) -> None:
    """Run a loop over these events and a request to stop."""

    async def act() -> None:
        loop = WorkerLoop(machine, ManualClock(), tick_interval_s=60.0, on_joined=on_joined)
        loop.perform_with({OpenStream: perform})
        for event in events:
            loop.tell(event)
        loop.request_stop()
        try:
            await asyncio.wait_for(loop.run(), 10)
        finally:
            loop.close()

    asyncio.run(act())


STOPS = {"StopRequested": [StopWorker(None)]}


def test_what_a_disk_refused_is_told_in_a_line_and_what_is_a_mistake_with_its_traceback(caplog):
    for error in (OSError(errno.ENOSPC, "No space left on device"), KeyError("x")):
        failed: Future[None] = Future()
        failed.set_exception(error)
        _log_failure(failed)
    refused, mistaken = caplog.records
    assert "No space left on device" in refused.getMessage()
    assert refused.exc_info is None
    assert mistaken.exc_info is not None


def test_events_are_handled_in_order_and_a_tick_comes_without_being_asked():
    machine = PlayedMachine(**STOPS)
    play(machine, [StreamOpened(1), StreamOpened(2)])
    assert [event for event, _ in machine.seen if event != Ticked()] == [
        StreamOpened(1),
        StreamOpened(2),
        StopRequested(),
    ]


def test_actions_are_performed_in_order():
    machine = PlayedMachine(StreamOpened=[OpenStream(7), OpenStream(8)], **STOPS)
    performed = []
    play(machine, [StreamOpened(1)], perform=performed.append)
    assert performed == [OpenStream(7), OpenStream(8)]


def test_whoever_waits_for_the_worker_hears_once_that_it_has_joined():
    told = []
    play(PlayedMachine(**STOPS), [StreamOpened(1), WELCOME, WELCOME], on_joined=lambda: told.append("joined"))
    assert told == ["joined"]


def test_a_refusal_ends_the_loop_with_its_error():
    with pytest.raises(Refused, match="wrong token"):
        play(PlayedMachine(StreamOpened=[StopWorker(Refused("wrong token"))]), [StreamOpened(1)])


def test_what_the_machine_cannot_explain_ends_the_loop():
    with pytest.raises(InvariantViolation, match="what happened"):
        play(PlayedMachine(StreamOpened=InvariantViolation("what happened")), [StreamOpened(1)])


def test_warnings_reach_the_log(caplog: pytest.LogCaptureFixture):
    play(PlayedMachine(StreamOpened=[Warn("an old master")], **STOPS), [StreamOpened(1)])
    assert "an old master" in caplog.text


def test_the_disk_is_used_in_one_thread_in_order_and_its_refusals_are_told(caplog: pytest.LogCaptureFixture):
    done = []

    def write(number: int) -> None:
        done.append((number, threading.current_thread().name))
        if number == 1:
            raise OSError("full")

    async def act() -> None:
        loop = WorkerLoop(PlayedMachine(), ManualClock(), tick_interval_s=60.0)
        for number in range(3):
            loop.on_disk(write, number)
        loop.close()

    asyncio.run(act())
    assert [number for number, _ in done] == [0, 1, 2]
    assert len({name for _, name in done}) == 1
    assert "the disk refused" in caplog.text
