"""No daemon unpickles: all of them run under a hook that would abort them, while jobs do all that needs pickle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from scenes import audit

from minireduce import Job, LocalCluster, Sum

ALL = {"master", "worker", "block server", "zygote"}
PLANTED = "import pickle\npickle.loads(b'cbuiltins\\nlist\\n.')\n"
IMPORTED = {
    "minireduce.launch.master_main": "logging",
    "minireduce.launch.worker_main": "socket",
    "minireduce.worker.block_server": "secrets",
    "minireduce.attempt.zygote": "msgpack",
}
"""A module that each daemon imports, in whose place one that unpickles is planted."""


def halves(line: str) -> Iterator[tuple[str, Fraction]]:
    """Values that only pickle can carry."""
    for word in line.split():
        yield word, Fraction(1, 2)


def total(word: str, found: Iterable[Fraction]) -> Iterator[tuple[str, Fraction]]:
    yield word, sum(found, Fraction())


def words(line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


@pytest.mark.parametrize("module", IMPORTED)
def test_the_hook_aborts_each_daemon_that_unpickles(module: str, tmp_path: Path) -> None:
    watching, planted = tmp_path / "audit", tmp_path / "planted"
    watching.mkdir()
    planted.mkdir()
    (planted / f"{IMPORTED[module]}.py").write_text(PLANTED)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= audit.watch(watching, {"PYTHONPATH": str(planted)})
    command = [sys.executable, "-P", "-m", module, "--help"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGABRT, ended.stderr
    (told,) = audit.broken(watching)
    assert told == f"{audit.DAEMONS[module]}: ('builtins', 'list')"


def test_the_hook_leaves_commands_and_forks_of_a_daemon_alone(tmp_path: Path) -> None:
    script = f"import os, sys\nif os.fork() == 0:\n    exec({PLANTED!r})\n    os._exit(7)\n"
    script += "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    for arguments, is_watched in ((["minireduce.attempt.zygote"], True), (["a command"], False)):
        folder = tmp_path / str(is_watched)
        folder.mkdir()
        environment = os.environ | audit.watch(folder, {})
        command = [sys.executable, "-c", script, *arguments]
        assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 7
        assert audit.watched(folder) == ({"zygote"} if is_watched else set())
        assert audit.broken(folder) == []


def test_the_hook_aborts_a_master_that_a_worker_has_forked(tmp_path: Path) -> None:
    script = f"import os, sys\nif os.fork() == 0:\n    exec({PLANTED!r})\n    os._exit(7)\n"
    script += "sys.exit(-os.waitstatus_to_exitcode(os.wait()[1]))\n"
    environment = os.environ | audit.watch(tmp_path, {})
    command = [sys.executable, "-c", script, audit.BOTH]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == signal.SIGABRT
    assert audit.watched(tmp_path) == {"worker", "master"}
    assert audit.broken(tmp_path) == ["master: ('builtins', 'list')"]


def test_a_cluster_runs_jobs_full_of_pickles_and_no_daemon_loads_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    for name, value in audit.watch(folder, {}).items():
        monkeypatch.setenv(name, value)
    text = tmp_path / "in.txt"
    text.write_text("a b a\nb a\nc\n")
    with LocalCluster(workers=2, slots=1) as cluster:
        counted = Job(words, Sum()).run(text, master=cluster, reducers=2)
        assert dict(counted) == {"a": 3, "b": 2, "c": 1}
        added = Job(halves, total).run(text, master=cluster, reducers=2)
        assert dict(added) == {"a": Fraction(3, 2), "b": Fraction(1), "c": Fraction(1, 2)}
        counted.close()
        added.close()
    assert audit.watched(folder) == ALL
    assert audit.broken(folder) == []
