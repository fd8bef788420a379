"""The real command, run as a user would run it, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scenes import audit

import minireduce as package

PACKAGE = Path(package.__file__).parent
TIMEOUT_S = 60


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)

    @property
    def pairs(self) -> dict[str, str]:
        """Text output by key."""
        return dict(line.split("\t") for line in self.out.splitlines())


@pytest.fixture(scope="session", autouse=True)
def audit_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every daemon that these tests start is aborted if it unpickles anything; see `scenes.audit`."""
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in audit.watch(folder, dict(os.environ)).items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(autouse=True)
def _no_daemon_unpickles(audit_folder: Path) -> Iterator[None]:
    yield
    assert audit.broken(audit_folder) == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    place = tmp_path / "home"
    place.mkdir()
    return place


@pytest.fixture
def environment(home: Path, tmp_path: Path) -> dict[str, str]:
    """What a command sees: nothing of this machine's settings, and a temporary directory that a test can look at."""
    (tmp_path / "temporary").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MINIREDUCE_")}
    return kept | {"HOME": str(home), "TMPDIR": str(tmp_path / "temporary"), "XDG_RUNTIME_DIR": str(home)}


@pytest.fixture
def minireduce(environment: dict[str, str], tmp_path: Path) -> Callable[..., Ran]:
    """Run `minireduce ARGUMENTS`; afterwards no process and no file of it may be left."""

    def command(*arguments: object, **variables: str) -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "minireduce.cli", *map(str, arguments)],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            cwd=tmp_path,
            env=environment | variables,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert list((tmp_path / "temporary").iterdir()) == [], "something was left behind"
        assert f'File "{PACKAGE}/' not in ran.stderr, f"a traceback of ours: {ran.stderr}"
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return command
