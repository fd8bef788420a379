from __future__ import annotations

from dataclasses import dataclass

import msgpack
import pytest

from minireduce.core.messages import AttemptSucceeded
from minireduce.core.plain import from_plain, to_plain
from minireduce.core.task_data import LargestKey, TaskOutput
from minireduce.errors import Corruption
from minireduce.ids import AttemptId, TaskId, TaskKind

ATTEMPT = AttemptId(TaskId("job-0000aa-1", 0, TaskKind.REDUCE, 0), 3)


@dataclass(frozen=True)
class Circle:
    radius: float


@dataclass(frozen=True)
class Square:
    side: float


@dataclass(frozen=True)
class Drawing:
    shape: Circle | Square | None
    title: str | None = None


@pytest.mark.parametrize("largest", [None, LargestKey("'the'", 10, 0.5)])
def test_a_report_comes_back_as_it_was_written(largest: LargestKey | None):
    report = AttemptSucceeded(ATTEMPT, TaskOutput(b"digest", 10, 1), (("g", "n", 1),), 10, largest)
    assert from_plain(AttemptSucceeded, msgpack.unpackb(msgpack.packb(to_plain(report)))) == report


@pytest.mark.parametrize("drawing", [Drawing(None), Drawing(Circle(1.0), "round"), Drawing(Square(2.0))])
def test_what_may_be_absent_comes_back_absent_or_as_the_class_that_it_was(drawing: Drawing):
    assert from_plain(Drawing, msgpack.unpackb(msgpack.packb(to_plain(drawing)))) == drawing


def test_a_field_that_is_missing_takes_its_default():
    assert from_plain(Drawing, {"": "Drawing", "shape": None}) == Drawing(None)


def test_what_is_of_another_class_is_corrupt():
    with pytest.raises(Corruption, match="Drawing"):
        from_plain(Drawing, {"": "Drawing", "shape": {"": "Triangle"}})
