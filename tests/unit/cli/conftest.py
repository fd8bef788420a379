"""A command line without processes: commands run here, and a master is a table of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from minireduce.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Master:
    """Answers each method from a table by its name, and remembers what was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []

    def call(self, method: Any, request: Any, **_waits: float | None) -> Any:
        self.asked.append((method.name, request))
        answer = self.answers[method.name]
        if isinstance(answer, Exception):
            raise answer
        return answer.pop(0) if isinstance(answer, list) else answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ran]:
    """Run a command in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("MINIREDUCE_MASTER", "MINIREDUCE_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, shown.out, shown.err)

    return command


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Master]:
    """Put a master with these answers behind every connection."""

    def made(**answers: Any) -> Master:
        fake = Master(answers)
        monkeypatch.setattr("minireduce.client.connection.open_connection", lambda _configuration: fake)
        return fake

    return made
