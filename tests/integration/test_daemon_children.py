"""Daemons as children: what they announce, why they did not start, and that none outlives its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from minireduce.errors import RequestError
from minireduce.launch import daemon

PREAMBLE = """
import argparse, asyncio, sys
from pathlib import Path
from minireduce.launch import child

parser = argparse.ArgumentParser()
child.add_options(parser)
parser.add_argument("master", nargs="?")
args = parser.parse_args()
"""

SERVES_UNTIL_ITS_PARENT_ENDS = """
async def serve():
    ended = asyncio.Event()
    child.when_parent_ends(ended.set)
    child.announce(args.ready_fd, address="127.0.0.1:1", master=child.master_address(args.master or "none"))
    await ended.wait()

asyncio.run(serve())
child.remove_root(args.embedded)
"""


def launch(tmp_path: Path, body: str, *arguments: str) -> daemon.Daemon:
    (tmp_path / "pretended_daemon.py").write_text(PREAMBLE + textwrap.dedent(body))
    return daemon.start(
        "pretended_daemon",
        arguments,
        name="pretender",
        log=tmp_path / "log",
        environment={**os.environ, "PYTHONPATH": str(tmp_path)},
    )


def test_a_daemon_announces_where_it_listens_and_ends_when_told(tmp_path: Path) -> None:
    started = launch(tmp_path, SERVES_UNTIL_ITS_PARENT_ENDS)
    assert started.ready() == {"address": "127.0.0.1:1", "master": "none"}
    daemon.stop([started])
    assert started.process.returncode is not None


def test_a_worker_learns_the_master_from_its_parent_after_it_started(tmp_path: Path) -> None:
    started = launch(tmp_path, SERVES_UNTIL_ITS_PARENT_ENDS, "-")
    started.tell("127.0.0.1:7070")
    assert started.ready()["master"] == "127.0.0.1:7070"
    daemon.stop([started])


def test_a_daemon_that_cannot_start_gives_its_own_error_and_hint(tmp_path: Path) -> None:
    started = launch(
        tmp_path,
        r"""
        sys.stderr.write("a warning\nerror: port 7070 is in use\n  hint: give another with --port\n")
        sys.exit(2)
        """,
    )
    with pytest.raises(RequestError) as refused:
        started.ready()
    assert refused.value.message == "port 7070 is in use"
    assert refused.value.hint == "give another with --port"
    daemon.stop([started])


def test_a_daemon_that_dies_without_a_word_is_noticed_at_once(tmp_path: Path) -> None:
    started = launch(tmp_path, "import os; os._exit(7)")
    with pytest.raises(RequestError, match="ended at its start with status 7: it said nothing"):
        started.ready()
    daemon.stop([started])


def test_a_daemon_that_ignores_its_orders_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "STOP_TIMEOUT_S", 0.05)
    started = launch(
        tmp_path,
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child.announce(args.ready_fd)
        while True:
            signal.pause()
        """,
    )
    started.ready()
    daemon.stop([started])
    assert started.process.returncode == -signal.SIGKILL


def test_killing_the_parent_ends_an_embedded_daemon_and_removes_its_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "leftover").write_text("x")
    (tmp_path / "pretended_daemon.py").write_text(PREAMBLE + SERVES_UNTIL_ITS_PARENT_ENDS)
    parent = f"""
import os, pathlib, signal, sys
from minireduce.launch import daemon
tmp = pathlib.Path({str(tmp_path)!r})
started = daemon.start("pretended_daemon", ["--embedded", str(tmp / "root")], name="x", log=tmp / "log",
                       environment={{**os.environ, "PYTHONPATH": str(tmp)}})
started.ready()
os.write(1, str(started.process.pid).encode())
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", parent], capture_output=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    # It is no child of ours, so it cannot be waited for; a descriptor of the process tells its end without a race.
    try:
        watched = os.pidfd_open(int(ran.stdout))
    except ProcessLookupError:
        pass
    else:
        assert select.select([watched], [], [], 30)[0], "the daemon outlived its parent"
        os.close(watched)
    assert not root.exists()
