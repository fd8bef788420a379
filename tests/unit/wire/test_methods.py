"""The table of methods: complete, joined with messages that hold its types, and known to the table of doors."""

from __future__ import annotations

import pytest

from minireduce.auth.policy import RPCS
from minireduce.core.messages import Hello, Up, Welcome, WorkerProfile
from minireduce.core.views import JobState
from minireduce.errors import RequestError
from minireduce.proto import services_pb2
from minireduce.wire import methods
from minireduce.wire.methods import METHODS


def described():
    return {
        f"/{service.full_name}/{method.name}"
        for service in services_pb2.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_the_table_holds_every_method_that_the_protos_describe():
    assert {method.path for method in METHODS} == described()
    assert len(METHODS) >= 10


def test_every_method_has_its_row_in_the_table_of_doors():
    assert described() == set(RPCS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_the_messages_of_a_method_hold_its_types(method):
    assert method.request_codec.message.DESCRIPTOR.name
    assert method.reply_codec.message.DESCRIPTOR.name


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        (methods.SUBMIT_JOB, "job-00000a-1"),
        (methods.KILL_JOB, JobState.KILLED),
        (methods.LIST_JOBS, ()),
        (methods.CLOSE_RESULT, None),
        (methods.CONNECT, Welcome(1, 2, True, 3, 1.0, 10.0)),
    ],
)
def test_replies_that_are_no_dataclass_are_wrapped(method, reply):
    codec = method.reply_codec
    again = codec.decode(codec.encode(reply))
    assert again == reply
    assert type(again) is type(reply)


def test_a_stream_takes_its_alternatives_and_nothing_else():
    codec = methods.CONNECT.request_codec
    hello = Hello(WorkerProfile("w", 1, "h", "/r", 1, 1, "h:1", "m", "0"), 0, 0, 0, 0)
    assert codec.decode(codec.encode(hello)) == hello
    assert codec.decode(codec.encode(Up(1, 2, 3))) == Up(1, 2, 3)
    with pytest.raises(RequestError):
        codec.encode(Welcome(1, 2, True, 3, 1.0, 10.0))
    with pytest.raises(RequestError):
        codec.decode(b"")
