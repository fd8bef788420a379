"""`-p NAME=VALUE` becomes an argument of the annotated type, or an error that names the parameter."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Literal

import pytest

from minireduce.attempt.parameters import convert_parameters
from minireduce.errors import RequestError


class Mode(Enum):
    FAST = 1
    EXACT = 2


def job(
    pattern: str,
    min_count: int = 1,
    ratio: float = 0.5,
    where: Path = Path(),
    limit: int | None = None,
    unit: Literal["byte", "line"] = "line",
    mode: Mode = Mode.FAST,
    *,
    fold: bool = False,
    plain=3,
) -> None:
    """Takes one of each."""


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("min_count", "3", 3),
        ("ratio", "1e3", 1000.0),
        ("where", "/tmp/x", Path("/tmp/x")),
        ("limit", "9", 9),
        ("unit", "byte", "byte"),
        ("mode", "EXACT", Mode.EXACT),
        ("fold", "yes", True),
        ("fold", "False", False),
        ("plain", "4", 4),
    ],
)
def test_a_text_is_converted_by_annotation_or_else_by_default(name, text, value):
    assert convert_parameters(job, [("pattern", "a"), (name, text)]) == {"pattern": "a", name: value}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], r"needs the parameter 'pattern'[\s\S]*-p pattern=VALUE"),
        ([("pattern", "a"), ("patern", "b")], r"no parameter 'patern'[\s\S]*did you mean 'pattern'"),
        ([("pattern", "a"), ("pattern", "b")], "given twice"),
        ([("pattern", "a"), ("min_count", "three")], r"cannot be 'three'[\s\S]*a whole number"),
        ([("pattern", "a"), ("limit", "x")], r"cannot be 'x'[\s\S]*a whole number"),
        ([("pattern", "a"), ("fold", "maybe")], "true or false"),
        ([("pattern", "a"), ("unit", "word")], "one of byte, line"),
        ([("pattern", "a"), ("mode", "SLOW")], "one of FAST, EXACT"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(texts, message):
    with pytest.raises(RequestError, match=message) as refused:
        convert_parameters(job, texts)
    assert refused.value.message


def test_a_type_that_no_text_can_give_is_named():
    def takes_list(words: list[str]) -> None: ...

    with pytest.raises(RequestError, match="no text can give"):
        convert_parameters(takes_list, [("words", "a")])
