"""How a daemon lives as the child of a command: embedded in `submit`, part of a LocalCluster or of `cluster up`.

Three needs, met without polling, ports guessed in advance or files watched:

- the parent must learn where the daemon listens: the daemon writes one JSON line to the pipe `--ready-fd` once it
  serves (or, for a worker, once the master took it in), and closes it. A daemon that dies first closes it too, so the
  parent never waits in vain.
- a worker is started beside its master, to import while the master does the same, and gets the master's address when
  that is known: the address `-` means the first line of standard input.
- nothing may outlive a parent that was killed: with `--embedded ROOT` the daemon ends when its standard input does,
  which the kernel closes however the parent went, and removes ROOT. Both daemons do so; the last one finds it quiet.

`add_options` gives both daemons these options; they are no part of the command line that users see.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

LATER = "-"
"""The address of a master that is told on standard input."""

_STDIN_FD = 0


def add_options(parser: ArgumentParser) -> None:
    """Add `--ready-fd`, `--embedded`, `--alone` and `--once` to a daemon's parser, out of sight."""
    parser.add_argument("--ready-fd", type=int, default=None, help=SUPPRESS)
    parser.add_argument("--embedded", type=Path, default=None, metavar="ROOT", help=SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=SUPPRESS)  # the only worker of an embedded cluster
    parser.add_argument("--once", action="store_true", help=SUPPRESS)  # of a cluster that ends after one job


def announce(ready_fd: int | None, **facts: object) -> None:
    """Tell the parent that this daemon serves: `address`, and whatever else it must know. Says so once."""
    if ready_fd is None:
        return
    with contextlib.suppress(BrokenPipeError), os.fdopen(ready_fd, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(facts) + "\n")


def read_announcement(ready_fd: int) -> dict[str, Any] | None:
    """What the daemon at the other end said, or None when it ended without a word. Waits for one of the two."""
    with os.fdopen(ready_fd, encoding="utf-8") as pipe:
        line = pipe.readline()
    return json.loads(line) if line.endswith("\n") else None


def master_address(argument: str) -> str:
    """`argument`, or the line that the parent sends when that is `-`. An empty answer means that the parent gave up."""
    if argument != LATER:
        return argument
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(_STDIN_FD, 1)  # unbuffered: what follows belongs to `when_parent_ends`
        if not byte:
            sys.exit(0)
        line += byte
    return line.decode().strip()


def when_parent_ends(call: Callable[[], None]) -> None:
    """Have the running event loop call `call` once, when standard input ends."""
    import asyncio  # a daemon's; the parent starts its daemons sooner without it

    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(_STDIN_FD, 4096):
            loop.remove_reader(_STDIN_FD)
            call()

    loop.add_reader(_STDIN_FD, readable)


def remove_root(root: Path | None) -> None:
    """The last act of an embedded daemon. What another one still holds there, that one removes."""
    if root is not None:
        shutil.rmtree(root, ignore_errors=True)
