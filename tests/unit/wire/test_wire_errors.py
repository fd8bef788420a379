"""Errors cross the wire with class, message and hint, and answers of strangers become the right family."""

from __future__ import annotations

import grpc
import pytest

from minireduce import errors
from minireduce.errors import Corruption, MinireduceError, NotFound, Refused, RequestError, Unavailable
from minireduce.wire.errors import TEXT_CHARACTERS_MAX, from_grpc, from_http, to_grpc, to_http

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MinireduceError) and kind is not errors.InvariantViolation
]


class Failure:
    """What grpc raises, as far as it is looked at."""

    def __init__(self, code, details, metadata=()):
        self.code = lambda: code
        self.details = lambda: details
        self.trailing_metadata = lambda: metadata


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_over_grpc_as_it_was_raised(kind):
    raised = from_grpc(Failure(*to_grpc(kind("job-1 is ünknown\n\udc80", hint="list them"))), "the master")
    assert type(raised) is kind
    assert raised.message == "job-1 is ünknown\n\\udc80"
    assert raised.hint == "list them"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_over_http_as_it_was_raised(kind):
    import json

    status, body = to_http(kind("gone", hint=None))
    raised = from_http(status, json.dumps(body).encode(), "the worker")
    assert (type(raised), raised.message, raised.hint) == (kind, "gone", None)
    assert status >= 400


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), errors.InvariantViolation("secret")])
def test_our_own_faults_do_not_show_their_text(error):
    code, details, _ = to_grpc(error)
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in details
    assert type(error).__name__ in details
    assert "secret" not in to_http(error)[1]["message"]


def test_a_long_message_is_cut_to_fit_a_header():
    _, details, _ = to_grpc(RequestError("x" * 100_000))
    assert len(details) == TEXT_CHARACTERS_MAX + 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", Unavailable),
        ("UNIMPLEMENTED", Refused),
        ("UNAUTHENTICATED", Refused),
        ("RESOURCE_EXHAUSTED", RequestError),
        ("UNKNOWN", MinireduceError),
    ],
)
def test_a_code_without_our_metadata_becomes_its_family(code, kind):
    raised = from_grpc(Failure(grpc.StatusCode[code], "words", None), "the master at h:1")
    assert type(raised) is kind
    assert "the master at h:1" in raised.message
    assert raised.hint


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (401, Refused), (403, Refused), (503, Unavailable), (410, Corruption), (418, MinireduceError)],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "x"}', b"\xff"])
def test_a_status_without_our_body_becomes_its_family(status, body, kind):
    assert type(from_http(status, body, "a proxy")) is kind
