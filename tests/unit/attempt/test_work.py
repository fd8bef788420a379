"""Whose fault an error is decides whether it counts against a task."""

from __future__ import annotations

import errno

import pytest

from minireduce.attempt.conversation import FromTask, InputUnusable, Raised
from minireduce.attempt.framing import decode, encode
from minireduce.attempt.inputs import Unusable
from minireduce.attempt.work import answer_to, rounded_log2
from minireduce.engine.errors import UserCodeError
from minireduce.errors import Corruption, RequestError


@pytest.mark.parametrize(
    "error",
    [
        Unusable("changed"),
        Corruption("run 3 is damaged"),
        OSError(errno.ENOSPC, "No space left on device"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/output.data"),
    ],
)
def test_what_user_code_has_no_part_in_loses_the_attempt(error):
    answer = answer_to(error)
    assert isinstance(answer, InputUnusable)
    assert str(error) in answer.reason


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserCodeError("bad", exception_type="builtins.ValueError"), "raised"),
        (UserCodeError("much", exception_type="builtins.MemoryError"), "memory"),
        (UserCodeError("left", exception_type="builtins.SystemExit"), "exited"),
        (MemoryError(), "memory"),
        (RequestError("no job"), "raised"),
        (ZeroDivisionError("ours"), "raised"),
    ],
)
def test_what_user_code_did_fails_it(error, kind):
    answer = answer_to(error)
    assert isinstance(answer, Raised)
    assert answer.error.kind == kind
    assert answer.error.message


def test_the_place_and_traceback_of_user_code_are_handed_on():
    answer = answer_to(
        UserCodeError("bad", traceback_text="line 3", exception_type="E", path="/a", offset=7, record="'x'")
    )
    assert isinstance(answer, Raised)
    assert (answer.error.path, answer.error.offset, answer.error.record) == ("/a", 7, "'x'")
    assert (answer.error.type_name, answer.error.traceback) == ("E", "line 3")


def test_a_message_of_any_length_and_any_characters_can_travel():
    answer = answer_to(UserCodeError("a" * 100_000 + "\udcff", exception_type="E"))
    assert isinstance(answer, Raised)
    assert len(answer.error.message) < 30_000
    assert answer.error.message.endswith("a\\udcff")
    assert decode(FromTask, encode(answer)) == answer


@pytest.mark.parametrize(("size", "log2"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 40, 40)])
def test_a_size_is_told_by_its_rounded_up_logarithm_and_zero_means_empty(size, log2):
    assert rounded_log2(size) == log2
