"""Ctrl-C while the command still loads: it ends without a traceback, or goes on where Ctrl-C is ignored."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.{answer})
sys.argv = ["minireduce", "--version"]
from minireduce.cli.entry import main
main()
"""


@pytest.mark.parametrize(
    ("answer", "status", "out", "err"),
    [("default_int_handler", 130, "", "interrupted\n"), ("SIG_IGN", 0, "minireduce 0.1.0\n", "")],
)
def test_ctrl_c_while_the_command_loads_ends_it_without_a_traceback(
    answer: str, status: int, out: str, err: str
) -> None:
    code = COMMAND.format(answer=answer)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)
