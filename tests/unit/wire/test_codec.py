"""The codec: every dataclass of the wire comes back as it went, and what is no such value is refused."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minireduce.core.messages import AttemptProgressed, LaunchAttempt, Up
from minireduce.core.requests import SubmitJob
from minireduce.core.spec import JobSpec, LocalFiles, LocalRange, OutputKind, Program, StepSpec
from minireduce.core.task_data import PartitionInput, TaskError
from minireduce.errors import RequestError
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.wire import codec
from minireduce.wire.codec import decode, encode

KINDS = sorted(codec._registered(), key=lambda kind: kind.__name__)

TASKS = st.builds(
    TaskId,
    job=st.from_regex(r"job-[0-9a-f]{6}-[0-9]{1,9}", fullmatch=True),
    step=st.integers(0, 9999),
    kind=st.sampled_from(TaskKind),
    index=st.integers(0, 10**9 - 1),
)
SCALARS: dict[Any, st.SearchStrategy] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    TaskId: TASKS,
    AttemptId: st.builds(AttemptId, TASKS, st.integers(0, 10**9 - 1)),
}


def values_of(kind: Any) -> st.SearchStrategy:
    """Any value that the annotation `kind` allows."""
    if kind in SCALARS:
        return SCALARS[kind]
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            return st.lists(values_of(kinds[0]), max_size=3).map(tuple)
        return st.tuples(*map(values_of, kinds))
    if get_args(kind):
        return st.one_of(*map(values_of, get_args(kind)))
    if kind is NoneType:
        return st.none()
    if issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: values_of(hints[field.name]) for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_dataclass_comes_back_as_it_went(kind):
    @settings(max_examples=15, deadline=None)
    @given(values_of(kind))
    def comes_back(value):
        again = decode(kind, encode(value))
        assert again == value
        assert repr(again) == repr(value)  # -0.0 and 0.0, 1 and True are equal, but not the same

    comes_back()


def test_the_wire_knows_every_class_that_core_sends():
    assert len(KINDS) >= 50


SOURCE = Program(kind="source", body=b"job = 1", sha256="0" * 64)


def test_text_of_user_code_may_hold_what_utf8_cannot():
    error = TaskError("raised", "ValueError", "bad \udc80", path="/data/\udcff.txt", record="\ud800")
    assert decode(TaskError, encode(error)) == error
    files = LocalFiles("machine", (LocalRange("/\udce9t\udce9", 0, 1, "1:2:3"),))
    spec = JobSpec("n", SOURCE, (StepSpec(1, 1, 1.0),), (files,), OutputKind.RESULT)
    assert decode(SubmitJob, encode(SubmitJob("k", spec))).spec == spec


def test_text_that_must_be_plain_is_refused_when_it_is_not():
    with pytest.raises(RequestError, match="SubmitJob"):
        encode(SubmitJob("\udc80", JobSpec("n", SOURCE, (), (), OutputKind.RESULT)))


@pytest.mark.parametrize(
    "value",
    [
        AttemptProgressed("no attempt", 0.5, 1, status=3),  # type: ignore[arg-type]
        AttemptProgressed(None, 0.5, 2**63),  # type: ignore[arg-type]
        Up(1, 1, 1, reports=(SOURCE,)),  # type: ignore[arg-type]
        Up(1, "1", 1),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_does_not_fit_its_type_is_refused(value):
    with pytest.raises(RequestError, match="does not fit"):
        encode(value)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x03abc", encode(Up(1, 2, 3)) + b"\x22\x00"])
def test_bytes_that_are_no_such_message_are_refused(data):
    with pytest.raises(RequestError, match="is no "):
        decode(LaunchAttempt if data[0] != 8 else Up, data)


def test_a_nested_message_that_is_missing_is_refused():
    launch = LaunchAttempt(AttemptId(TaskId("job-00000a-1", 0, TaskKind.REDUCE, 1), 0), PartitionInput(1, 2))
    attempt_alone = encode(launch)[: -len(b"\x12\x06\x22\x04\x08\x01\x10\x02")]
    with pytest.raises(RequestError, match=r"LaunchAttempt\.input is missing"):
        decode(LaunchAttempt, attempt_alone)


@dataclasses.dataclass(frozen=True)
class _Replica:
    block_id: int
    length: int


def test_a_field_that_only_one_side_has_is_found_when_the_pair_is_compiled():
    message = codec._registered()[next(kind for kind in KINDS if kind.__name__ == "Replica")]
    with pytest.raises(TypeError, match="differ in generation"):
        codec.codec_of(_Replica, message)
